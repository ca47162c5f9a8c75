"""A backward pass over small batches: gradients of a loss by pre-activations and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.tracing.structure import Layer, Structure
from harness.networks.tracing.trace import Listeners
from harness.networks.tracing.tracer import run_traced

# Numbers that the autograd graph of one batch may hold.
_MOST_GRAPH_NUMBERS = 2**26
# A mean of squared gradients over more samples is no better.
_MOST_SAMPLES = 256
# Weights whose gradients are measured, all layers together.
_MOST_WEIGHTS = 2**24


class GradientMeasurements:
    """Gradients of the loss, as means over samples of each sample's own loss.

    Attributes:
        square: |dL/dz|^2 of each activated layer, in the order of the activations; NaN where the
            loss does not reach it.
        weights: gradients of the weights, by the names of the parameters.
        reason: why there are no gradients, or None.
        weights_reason: why there are no gradients of weights, or None.
        loss: the loss in words.
    """

    def __init__(self, activations: int) -> None:
        self.square = [math.nan] * activations
        self.weights: dict[str, Tensor] = {}
        self.reason: str | None = None
        self.weights_reason: str | None = None
        self.loss = ""

    def weight_norm(self, layer: Layer) -> float:
        """Returns the Euclidean norm of a layer's weight gradient, NaN where there is none."""
        for name in (layer.name, f"{layer.name}.weight"):
            if name in self.weights:
                return _norm(self.weights[name])
        return math.nan


class _Reached:
    """The sum over samples of |dL/dz|^2 of one pre-activation, NaN until a gradient arrives."""

    def __init__(self) -> None:
        self.square = math.nan

    def __call__(self, gradient: Tensor) -> None:
        """Adds the gradient of a batch."""
        known = 0.0 if math.isnan(self.square) else self.square
        self.square = known + _norm(gradient) ** 2


@dataclass
class _Sums:
    """Sums over the batches so far."""

    squares: list[float]
    weights: dict[str, Tensor]
    samples: int = 0


class _NotMeasured(Exception):
    """There are no gradients, for the reason in the message."""


def measure_gradients(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    numbers_per_sample: int,
    structure: Structure,
) -> GradientMeasurements:
    """Runs forward and backward passes over small batches of the first samples.

    Args:
        model: any module.
        inputs: (samples, ...).
        labels: classes (samples,), or None.
        numbers_per_sample: size of the autograd graph of one sample.
        structure: what a forward pass over all samples showed.

    Returns:
        The gradients, or the reason why there are none.
    """
    measurements = GradientMeasurements(len(structure.activated))
    batch = max(2, min(len(inputs), _MOST_GRAPH_NUMBERS // max(1, numbers_per_sample)))
    inputs = inputs[:_MOST_SAMPLES]
    labels = None if labels is None else labels[:_MOST_SAMPLES]
    weights = _trained_weights(model)
    if sum(weight.numel() for weight in weights.values()) > _MOST_WEIGHTS:
        weights = {}
        measurements.weights_reason = (
            f"the model has more than {_MOST_WEIGHTS} weights, whose gradients would fill the "
            "memory"
        )
    sums = _Sums([0.0] * len(structure.activated), {})
    try:
        for start in range(0, len(inputs), batch):
            part = slice(start, start + batch)
            if len(inputs[part]) < 2 and start:
                # A batch's own statistics need two samples.
                continue
            loss = _Loss(labels, part)
            _add_batch(model, inputs[part], loss, structure, sums, weights)
            measurements.loss = loss.words
    except _NotMeasured as error:
        measurements.reason = str(error)
        return measurements
    measurements.square = [square / sums.samples for square in sums.squares]
    measurements.weights = {
        name: gradient / sums.samples for name, gradient in sums.weights.items()
    }
    return measurements


def _trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    weights: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            weights[name] = parameter
    return weights


def _add_batch(
    model: nn.Module,
    inputs: Tensor,
    loss: _Loss,
    structure: Structure,
    sums: _Sums,
    weights: Mapping[str, nn.Parameter],
) -> None:
    """Adds the sums over one batch.

    Raises:
        _NotMeasured: there are no gradients.
    """

    def before_activation(layer: Layer, z: Tensor) -> _Reached:
        reached = _Reached()
        if z.requires_grad:
            z.register_hook(reached)
        return reached

    sources: list[Tensor] = list(weights.values())
    values = inputs.clone()
    if inputs.is_floating_point():
        leaf = values.requires_grad_()
        sources.insert(0, leaf)
        # A copy, because a model may work in place on its inputs.
        values = leaf.clone()
    elif not sources:
        sources += [parameter for parameter in model.parameters() if parameter.requires_grad][:1]
    with torch.enable_grad():
        trace = run_traced(model, values, Listeners(before_activation=before_activation))
        labels_seen = [layer.label for layer in trace.structure.activated]
        if labels_seen != [layer.label for layer in structure.activated]:
            raise _NotMeasured("the model takes another way through its layers for other samples")
        total = loss.summed(trace.output, len(inputs))
        if not sources:
            raise _NotMeasured("the inputs are whole numbers, and no parameter is trained")
        gradients = _gradients(total, sources)
    if inputs.is_floating_point():
        gradients = gradients[1:]
    for index, reached in enumerate(trace.tokens):
        sums.squares[index] += reached.square
    for name, gradient in zip(weights, gradients, strict=False):
        if gradient is not None:
            known = sums.weights.get(name)
            sums.weights[name] = gradient if known is None else known + gradient
    sums.samples += len(inputs)


def _gradients(total: Tensor, sources: list[Tensor]) -> Sequence[Tensor | None]:
    """Returns the gradients of a loss.

    Graphs are kept, because a model may hold a part of one from an earlier pass.
    """
    try:
        return torch.autograd.grad(total, sources, retain_graph=True, allow_unused=True)
    except Exception as error:
        # Autograd passes on whatever a user's own backward raises.
        text = " ".join(str(error).split()) or type(error).__name__
        first = text.split(". ")[0].rstrip(".")
        raise _NotMeasured(f"autograd refuses: {first}") from error


class _Loss:
    """The loss of a batch; `words` says which one it was."""

    def __init__(self, labels: Tensor | None, part: slice) -> None:
        self.labels = labels
        self.part = part
        self.words = ""

    def summed(self, output: Any, samples: int) -> Tensor:
        """Returns the sum over samples of each one's loss.

        Raises:
            _NotMeasured: the output has no gradient, or the loss is not finite.
        """
        tensors = [tensor for tensor in floating_tensors(output) if tensor.requires_grad]
        if not tensors:
            raise _NotMeasured(
                "the model gives no tensor that depends on its inputs or parameters through "
                "torch's functions"
            )
        total = self._cross_entropy(tensors, samples)
        if total is None:
            total = self._projection(tensors)
        if not bool(torch.isfinite(total)):
            raise _NotMeasured("the loss is not a finite number")
        return total

    def _cross_entropy(self, tensors: list[Tensor], samples: int) -> Tensor | None:
        """Returns the cross-entropy of the first output that the labels fit, or None."""
        if self.labels is None:
            return None
        for output in tensors:
            # All labels decide, so that every batch has the same loss.
            if _are_classes_of(output, self.labels, samples):
                labels = self.labels[self.part].to(output.device)
                self.words = "cross-entropy with the labels of the data"
                return functional.cross_entropy(output.float(), labels, reduction="sum")
        return None

    def _projection(self, tensors: list[Tensor]) -> Tensor:
        """Returns a fixed random projection of all outputs, each of them with its own."""
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros((), device=tensors[0].device)
        for output in tensors:
            direction = torch.randn(output.shape[1:], generator=generator).to(output)
            total = total + (output * direction).sum().to(total.device)
        count = "the output" if len(tensors) == 1 else f"all {len(tensors)} outputs"
        self.words = f"a fixed random projection of {count} stands in for a loss"
        if self.labels is not None:
            self.words += ", because the labels do not fit the output"
        return total


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _are_classes_of(output: Tensor, labels: Tensor, samples: int) -> bool:
    """Returns True where the output has one number a class, and the labels are such classes."""
    if output.dim() != 2 or len(output) != samples:
        return False
    return int(labels.min()) >= 0 and int(labels.max()) < output.shape[1]


def floating_tensors(output: Any) -> list[Tensor]:
    """Returns the tensors of floating point numbers in a model's output, in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        members = list(output.values())
    elif isinstance(output, (tuple, list)):
        members = list(output)
    elif is_dataclass(output) and not isinstance(output, type):
        members = [getattr(output, field.name) for field in fields(output)]
    else:
        return []
    tensors: list[Tensor] = []
    for member in members:
        tensors += floating_tensors(member)
    return tensors
