"""A backward pass over small batches: gradients of a loss by pre-activations and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnosis.structure import Layer, Structure
from harness.diagnosis.trace import Listeners
from harness.diagnosis.tracer import run_traced

# Numbers that the autograd graph of one batch may hold.
_MOST_GRAPH_NUMBERS = 2**26
# A mean of squared gradients over more samples is no better.
_MOST_SAMPLES = 256
# Weights whose gradients are measured, all layers together.
_MOST_WEIGHTS = 2**24


class GradientMeasurements:
    """Gradients of the loss, as means over samples of each sample's own loss.

    Attributes:
        square: |dL/dz|^2 of each activated layer, in the order of the activations.
        weights: gradients of the weights, by the ids of the parameters.
        reason: why there are no gradients, or None.
        weights_reason: why there are no gradients of weights, or None.
        loss: the loss in words.
    """

    def __init__(self, activations: int) -> None:
        self.square = [0.0] * activations
        self.weights: dict[int, Tensor] = {}
        self.reason: str | None = None
        self.weights_reason: str | None = None
        self.loss = ""

    def weight_norm(self, model: nn.Module, layer: Layer) -> float:
        """Returns the Euclidean norm of a layer's weight gradient, NaN where there is none."""
        names = (layer.name, f"{layer.name}.weight")
        for name, parameter in model.named_parameters():
            if name in names:
                gradient = self.weights.get(id(parameter))
                return numpy.nan if gradient is None else _norm(gradient)
        return numpy.nan


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
    if not inputs.is_floating_point():
        measurements.reason = "the inputs are whole numbers, through which no gradient passes"
        return measurements
    batch = max(2, min(len(inputs), _MOST_GRAPH_NUMBERS // numbers_per_sample))
    inputs = inputs[:_MOST_SAMPLES]
    labels = None if labels is None else labels[:_MOST_SAMPLES]
    weights = _trained_weights(model)
    if sum(weight.numel() for weight in weights.values()) > _MOST_WEIGHTS:
        weights = {}
        measurements.weights_reason = (
            f"the model has more than {_MOST_WEIGHTS} weights, whose gradients would fill the "
            "memory"
        )
    used = 0
    for start in range(0, len(inputs), batch):
        part = slice(start, start + batch)
        if len(inputs[part]) < 2 and start:
            # A batch's own statistics need two samples.
            continue
        batch_inputs = inputs[part].clone().requires_grad_()
        batch_labels = None if labels is None else labels[part]
        _add_batch(model, batch_inputs, batch_labels, structure, measurements, weights)
        if measurements.reason is not None:
            return measurements
        used += len(batch_inputs)
    measurements.square = [square / used for square in measurements.square]
    for key in measurements.weights:
        measurements.weights[key] = measurements.weights[key] / used
    return measurements


def _trained_weights(model: nn.Module) -> dict[int, nn.Parameter]:
    weights: dict[int, nn.Parameter] = {}
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            weights[id(parameter)] = parameter
    return weights


def _add_batch(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    structure: Structure,
    measurements: GradientMeasurements,
    weights: Mapping[int, nn.Parameter],
) -> None:
    """Adds the sums over one batch to the measurements, or gives the reason why there are none."""
    layers: list[Layer] = []

    def before_activation(layer: Layer, z: Tensor) -> None:
        index = len(layers)
        layers.append(layer)
        if z.requires_grad and index < len(measurements.square):
            z.register_hook(_adding_square(measurements.square, index))

    with torch.enable_grad():
        trace = run_traced(model, inputs, Listeners(before_activation=before_activation))
        labels_seen = [layer.label for layer in layers]
        if labels_seen != [layer.label for layer in structure.activated]:
            measurements.reason = "the model takes another way through its layers for other samples"
            return
        output = _first_floating_tensor(trace.output)
        if output is None or not output.requires_grad:
            measurements.reason = (
                "the model gives no tensor that depends on its inputs through torch's functions"
            )
            return
        loss, measurements.loss = _summed_loss(output, labels, len(inputs))
        if not bool(torch.isfinite(loss)):
            measurements.reason = "the loss is not a finite number"
            return
        parameters = list(weights.values())
        _, *gradients = torch.autograd.grad(loss, [inputs, *parameters], allow_unused=True)
    totals = measurements.weights
    for key, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            totals[key] = totals[key] + gradient if key in totals else gradient


def _adding_square(squares: list[float], index: int) -> Callable[[Tensor], None]:
    """Returns a hook that adds a gradient's squared norm to one entry of `squares`."""

    def add(gradient: Tensor) -> None:
        squares[index] += _norm(gradient) ** 2

    return add


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _summed_loss(output: Tensor, labels: Tensor | None, samples: int) -> tuple[Tensor, str]:
    """Returns the sum over samples of each one's loss, and the loss in words."""
    if labels is not None and _are_classes_of(output, labels, samples):
        loss = functional.cross_entropy(output.float(), labels.to(output.device), reduction="sum")
        return loss, "cross-entropy with the labels of the data"
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(output.shape[1:], generator=generator).to(output)
    words = "a fixed random projection of the output stands in for a loss"
    if labels is not None:
        words += ", because the labels do not fit the output"
    return (output * direction).sum(), words


def _are_classes_of(output: Tensor, labels: Tensor, samples: int) -> bool:
    """Returns True where the output has one number a class, and the labels are such classes."""
    if output.dim() != 2 or len(output) != samples:
        return False
    return int(labels.min()) >= 0 and int(labels.max()) < output.shape[1]


def _first_floating_tensor(output: Any) -> Tensor | None:
    """Returns the first tensor of floating point numbers in a model's output."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, dict):
        members = list(output.values())
    elif isinstance(output, (tuple, list)):
        members = list(output)
    else:
        return None
    tensors = [_first_floating_tensor(member) for member in members]
    return next((tensor for tensor in tensors if tensor is not None), None)
