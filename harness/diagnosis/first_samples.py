"""The first samples of a loader, as inputs and labels on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnosis.undisturbed import same_random_numbers
from harness.errors import RequestError

# The keys of a batch that is a mapping, in order of preference.
_INPUT_KEYS = (
    "image",
    "images",
    "pixel_values",
    "input_ids",
    "input_values",
    "input_features",
    "inputs_embeds",
    "input",
    "inputs",
    "x",
    "data",
)
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


@dataclass(frozen=True)
class Samples:
    """The first samples of a loader.

    Attributes:
        inputs: (samples, ...).
        labels: classes (samples,), or None.
        labels_reason: why labels that the loader gives are not used, or None.
    """

    inputs: Tensor
    labels: Tensor | None
    labels_reason: str | None = None


def first_samples(loader: Any, samples: int) -> Samples:
    """Returns the first samples of a loader.

    Args:
        loader: an iterable of batches, a tensor, or (inputs, labels).
        samples: number of samples to take.

    Raises:
        RequestError: the loader gives no such samples, or values that are not finite.
    """
    batches: list[tuple[Tensor, Tensor | None]] = []
    with same_random_numbers():
        for inputs, labels in _batches(loader):
            batches.append((inputs, labels))
            if sum(len(part) for part, _ in batches) >= samples:
                break
    inputs = _joined_inputs([part for part, _ in batches])[:samples]
    if len(inputs) < 2:
        raise RequestError("the loader gave one sample; at least 2 are needed for a variance")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise RequestError(
            "the inputs hold a value that is not a finite number (NaN or infinite); mend the data"
        )
    labels, reason = _joined_labels(batches)
    return Samples(inputs, None if labels is None else labels[:samples], reason)


def placed(inputs: Tensor, model: nn.Module) -> Tensor:
    """Returns inputs on the model's device and, unless they are integers, in its precision."""
    parameters = model.parameters()
    floating = next((tensor for tensor in parameters if tensor.is_floating_point()), None)
    if floating is not None:
        inputs = inputs.to(floating.device)
    if inputs.dtype in (torch.int64, torch.int32):
        return inputs
    return inputs.to(torch.float32 if floating is None else floating.dtype)


def _batches(loader: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
    batches = [loader] if isinstance(loader, Tensor) or _is_pair(loader) else loader
    if isinstance(loader, Mapping):
        batches = [loader]
    if not isinstance(batches, Iterable):
        raise RequestError(
            f"the loader is a {type(loader).__name__}; expected an iterable of batches, a tensor, "
            "or (inputs, labels)"
        )
    for batch in batches:
        yield _inputs_and_labels(batch)


def _is_pair(loader: Any) -> bool:
    """Returns True for (inputs, labels), False for two batches."""
    if not isinstance(loader, (tuple, list)) or len(loader) != 2:
        return False
    if not all(isinstance(part, Tensor) for part in loader):
        return False
    inputs, labels = loader
    column = labels.dim() == 2 and labels.shape[1] == 1 and inputs.shape[1:] != labels.shape[1:]
    are_labels = labels.dim() == 1 or column
    return are_labels and inputs.dim() > 1 and len(inputs) == len(labels)


def _inputs_and_labels(batch: Any) -> tuple[Tensor, Tensor | None]:
    inputs: Any = batch
    labels: Any = None
    if isinstance(batch, Mapping):
        inputs = next((batch[key] for key in _INPUT_KEYS if key in batch), None)
        labels = _labels_of(batch)
    elif isinstance(batch, (tuple, list)) and batch:
        inputs = batch[0]
        labels = batch[1] if len(batch) > 1 and isinstance(batch[1], Tensor) else None
    if not isinstance(inputs, Tensor) or inputs.dim() < 2:
        shape = f" of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else ""
        raise RequestError(
            f"a batch of the loader holds a {type(inputs).__name__}{shape} where a tensor "
            "(samples, ...) is expected; give batches of inputs, (inputs, labels), or a mapping "
            "with 'image', 'inputs' or 'input_ids'"
        )
    return inputs.detach(), labels


def _labels_of(batch: Mapping[str, Any]) -> Tensor | None:
    candidates = [batch.get(key) for key in _LABEL_KEYS]
    return next((labels for labels in candidates if isinstance(labels, Tensor)), None)


def _joined_inputs(parts: list[Tensor]) -> Tensor:
    if sum(len(part) for part in parts) == 0:
        raise RequestError("the loader gave no sample")
    shapes = sorted({tuple(part.shape[1:]) for part in parts})
    if len(shapes) > 1:
        raise RequestError(
            f"the loader gives inputs of different shapes ({', '.join(map(str, shapes[:3]))}); "
            "resize them to one"
        )
    return torch.cat(parts)


def _joined_labels(
    batches: list[tuple[Tensor, Tensor | None]],
) -> tuple[Tensor | None, str | None]:
    """Returns the class labels of all batches, or the reason why those that exist are not used."""
    without = sum(labels is None for _, labels in batches)
    if without == len(batches):
        return None, None
    if without:
        return None, f"{without} of {len(batches)} batches have no labels"
    parts: list[Tensor] = []
    for inputs, labels in batches:
        assert labels is not None  # as counted above
        classes = _as_classes(labels, len(inputs))
        if classes is None:
            shape = " x ".join(map(str, labels.shape)) or "one number"
            return None, f"labels of shape {shape} and type {labels.dtype} are no classes"
        parts.append(classes)
    return torch.cat(parts), None


def _as_classes(labels: Tensor, samples: int) -> Tensor | None:
    """Returns labels as classes (samples,), None where they are none."""
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.dim() != 1 or len(labels) != samples:
        return None
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        return None
    return labels.long()
