"""The first samples of a loader, as inputs and labels on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnosis.undisturbed import same_random_numbers
from harness.errors import RequestError

# The keys of a batch that is a mapping, in order of preference.
_INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "data")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def first_samples(loader: Any, samples: int) -> tuple[Tensor, Tensor | None]:
    """Returns the first samples of a loader.

    Args:
        loader: an iterable of batches, a tensor, or (inputs, labels).
        samples: number of samples to take.

    Returns:
        Inputs (samples, ...), and labels (samples,) where every batch has class labels, or None.

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
    joined_labels = []
    for part, labels in batches:
        if labels is None or not _are_class_labels(labels, len(part)):
            return inputs, None
        joined_labels.append(labels)
    return inputs, torch.cat(joined_labels)[:samples].long()


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
    return labels.dim() == 1 and inputs.dim() > 1 and len(inputs) == len(labels)


def _inputs_and_labels(batch: Any) -> tuple[Tensor, Tensor | None]:
    inputs: Any = batch
    labels: Any = None
    if isinstance(batch, dict):
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
            "with 'image' or 'inputs'"
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


def _are_class_labels(labels: Tensor | None, samples: int) -> bool:
    if labels is None or labels.is_floating_point():
        return False
    return labels.dim() == 1 and len(labels) == samples
