"""What a probe sees of one activated layer; statistics are functions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.probes.nulls import fewest_samples
from harness.probes.positions import Geometry, spread


class Moments(NamedTuple):
    """Means and population variances, float64."""

    mean: Tensor
    variance: Tensor


class Rows(NamedTuple):
    """A bounded sample: what enters the weights (trials, rows, fan_in), what leaves them and z, both (trials, rows, units).

    `inputs` is None where units differ in what they see (grouped convolutions, or weights that are no known module).
    """

    inputs: Tensor | None
    outputs: Tensor
    pre_activation: Tensor


# Dependence and Gaussianity read at most so many rows, and at most so many numbers of inputs.
MOST_ROWS = 1024
_MOST_INPUTS = 2**21
_FEWEST_ROWS = 256
# Intervals are drawn from no fewer units, or numbers (of a convolution: channels) that enter.
FEWEST_UNITS = 8
_BLOCK_NUMBERS = 2**17
# Vectors no longer than this, with lengths within this range, have their squares summed in float32.
_SHORT = 4096
_SAFE = (1e-12, 1e12)
# Of so many rows, or as many as a block has, the mean is the origin of a one-pass variance.
_FIRST = 64


@dataclass(frozen=True)
class LayerReading:
    """Tensors of one activated layer, for all trials of a pack. Units of a convolution are its channels.

    Attributes:
        name: the layer's module name.
        kind: "linear" or "conv2d".
        activation_module: the elementwise activation.
        inputs: what enters the weights: (trials, samples, ...).
        pre_activation: z, what enters the activation: (trials, samples, units[, height, width]).
        activation: y = phi(z), the same shape.
        gradient: of each sample's own loss with respect to z, the same shape; None where there is no loss.
        weight: (trials, units, fan_in), the one that acts.
        weight_gradient: of the mean loss, (trials, units, fan_in), or None.
        update: the last optimizer step's change of the weight, or None before the first.
        bias: (trials, units), or None.
        weights_module: the module of the weights, which says how a convolution walks over its input.
        weights_output: what leaves the weights where that is not z, because a normalization or a sum stands between; else None.
    """

    name: str
    kind: str
    activation_module: nn.Module
    inputs: Tensor
    pre_activation: Tensor
    activation: Tensor
    gradient: Tensor | None
    weight: Tensor
    weight_gradient: Tensor | None
    update: Tensor | None
    bias: Tensor | None = None
    weights_module: nn.Module | None = None
    weights_output: Tensor | None = None

    @property
    def direct(self) -> bool:
        """Whether z = W x + b: what SELU's map g is about."""
        return self.weights_output is None

    @cached_property
    def geometry(self) -> Geometry | None:
        """How a convolution walks over its input; None for a dense layer."""
        module = self.weights_module
        return (
            Geometry(module, self.inputs.shape[3], self.inputs.shape[4])
            if isinstance(module, nn.Conv2d) and self.inputs.dim() == 5
            else None
        )

    @cached_property
    def pre_activation_entry_moments(self) -> Moments:
        """Of every entry of z, a unit at a position, over samples: (trials, units, positions); a dense layer has one position."""
        return entry_moments(self.pre_activation)

    @cached_property
    def activation_entry_moments(self) -> Moments:
        """Of every entry of y over samples, (trials, units, positions)."""
        return entry_moments(self.activation)

    @cached_property
    def pre_activation_moments(self) -> Moments:
        """Of every unit over samples and positions, (trials, units)."""
        return pooled(self.pre_activation_entry_moments)

    @cached_property
    def activation_moments(self) -> Moments:
        """Of every unit over samples and positions, (trials, units)."""
        return pooled(self.activation_entry_moments)

    @cached_property
    def input_unit_moments(self) -> Moments:
        """Of every number that enters over samples, (trials, numbers)."""
        return unit_moments(self.inputs.flatten(2))

    @cached_property
    def input_moments(self) -> Moments:
        """Pooled over samples and all that enters, (trials,): mu and nu of the map g."""
        return pooled(self.input_unit_moments)

    @cached_property
    def omega(self) -> Tensor:
        """Sum of each unit's weights, (trials, units)."""
        return self.weight.sum(2).double()

    @cached_property
    def tau(self) -> Tensor:
        """Sum of the squares of each unit's weights, (trials, units)."""
        return torch.cat(
            [
                torch.linalg.vector_norm(part, dim=2, dtype=torch.float64)
                for part in blocks(self.weight, 1)
            ],
            1,
        ).square()

    @cached_property
    def biases(self) -> Tensor:
        """Each unit's bias, zeros where there is none, (trials, units)."""
        return torch.zeros_like(self.tau) if self.bias is None else self.bias.double()

    @cached_property
    def rows(self) -> Rows:
        """Evenly spread samples; of a convolution one position of each, an interior one where there is any.

        One position, because positions of one image are not independent: a row then is an independent draw.
        """
        samples, fan_in = self.pre_activation.shape[1], self.weight.shape[2]
        count = min(samples, MOST_ROWS, max(_FEWEST_ROWS, _MOST_INPUTS // fan_in))
        chosen = (
            torch.linspace(0, samples - 1, count, device=self.pre_activation.device).round().long()
        )
        output = self.pre_activation if self.weights_output is None else self.weights_output
        if self.pre_activation.dim() == 3:
            z = self._taken(self.pre_activation, chosen)
            return Rows(
                self._taken(self.inputs.flatten(2), chosen),
                z if self.direct else self._taken(output, chosen),
                z,
            )
        if self.geometry is None:
            positions = self.pre_activation.flatten(3)
            where = spread(count, positions.shape[3], chosen.device)
            z = positions[:, chosen, :, where].movedim(0, 1)
            return Rows(
                None, z if self.direct else output.flatten(3)[:, chosen, :, where].movedim(0, 1), z
            )
        row, column = self.geometry.sampled(count, chosen.device)
        z = self.pre_activation[:, chosen, :, row, column].movedim(0, 1)
        inputs = (
            self.geometry.patches(self.inputs, chosen, row, column)
            if self.weights_module.groups == 1
            else None
        )
        return Rows(
            inputs, z if self.direct else output[:, chosen, :, row, column].movedim(0, 1), z
        )

    @cached_property
    def row_moments(self) -> Moments:
        """Of every unit's z over `rows`, (trials, units)."""
        return (
            self.pre_activation_moments
            if self.rows.pre_activation is self.pre_activation
            else unit_moments(self.rows.pre_activation)
        )

    @cached_property
    def constant(self) -> Tensor:
        """Units whose z does not vary over `rows` beyond rounding, (trials, units)."""
        mean, variance = self.row_moments
        return variance <= torch.finfo(torch.float32).eps ** 2 * (mean.square() + variance)

    @cached_property
    def standard_rows(self) -> Tensor:
        """Z of `rows` with every unit's mean 0 and variance 1, zeros for constant units: (trials, rows, units), float32."""
        mean, variance = self.row_moments
        scale = torch.where(self.constant, 0.0, variance.rsqrt())
        return (self.rows.pre_activation - mean.float().unsqueeze(1)).mul_(
            scale.float().unsqueeze(1)
        )

    def _taken(self, tensor: Tensor, chosen: Tensor) -> Tensor:
        return tensor if len(chosen) == tensor.shape[1] else tensor.index_select(1, chosen)


def why_absent(reading: LayerReading) -> str:
    """Why columns of this layer are NaN whatever its numbers; "" where none is."""
    reasons = []
    if not reading.direct:
        reasons.append(
            "a normalization or a sum stands between the weights and the activation, of which the map g says nothing"
        )
    if isinstance(reading.weights_module, nn.Conv2d) and reading.weights_module.groups > 1:
        reasons.append("units of a grouped convolution see different inputs")
    elif reading.rows.inputs is None:
        reasons.append("it is not known which inputs a position sees")
    if reading.rows.pre_activation.shape[1] < fewest_samples():
        reasons.append(
            f"{reading.rows.pre_activation.shape[1]} samples are fewer than the {fewest_samples()} that a distribution's shape needs"
        )
    reasons += too_few_for_intervals(reading)
    if reading.gradient is None:
        reasons.append("no loss, so no gradient")
    return "; ".join(reasons)


def too_few_for_intervals(reading: LayerReading) -> list[str]:
    """Why a layer has no intervals over units, or over what enters."""
    counts = {
        "units": reading.weight.shape[1],
        "inputs" if reading.inputs.dim() == 3 else "input channels": reading.inputs.shape[2],
    }
    return [
        f"no interval from {count} {what}, which are fewer than {FEWEST_UNITS}"
        for what, count in counts.items()
        if count < FEWEST_UNITS
    ]


def unit_moments(rows: Tensor) -> Moments:
    """Mean and variance over rows of (trials, rows, units), in one pass in float64 over differences from the mean of the first rows.

    Those k rows are part of the variance, which is at least about d^2 k / rows where their mean lies d from that of all: cancellation
    costs rows / k roundings at most.
    """
    count = rows.shape[1]
    shift = blocks(rows, 1)[0][:, :_FIRST].mean(1, keepdim=True, dtype=torch.float64)
    total = torch.zeros_like(shift[:, 0])
    square = torch.zeros_like(total)
    for part in blocks(rows, 1):
        difference = part.to(torch.float64, copy=True).sub_(shift)
        total += difference.sum(1)
        square += difference.square_().sum(1)
    mean = total / count
    return Moments(shift[:, 0] + mean, (square / count - mean.square()).clamp(min=0))


def entry_moments(tensor: Tensor) -> Moments:
    """Over samples of (trials, samples, units[, height, width]) -> (trials, units, positions): entries lie in memory as they are read."""
    return Moments(
        *(part.unflatten(1, (tensor.shape[2], -1)) for part in unit_moments(tensor.flatten(2)))
    )


def blocks(tensor: Tensor, dimension: int) -> Sequence[Tensor]:
    """The tensor cut along a dimension: on a CPU into parts whose intermediates stay in the cache and are not fetched anew from the system."""
    length = tensor.shape[dimension]
    size = (
        max(1, _BLOCK_NUMBERS * length // max(1, tensor.numel()))
        if tensor.device.type == "cpu"
        else length
    )
    return tensor.split(size, dimension)


def norms(vectors: Tensor) -> Tensor:
    """Euclidean norms over the last dimension, float64; summed in float32 where that keeps six digits, at a fifth of the cost.

    Float32 squares leave its range below 1e-19 and above 1e19, and its sums lose digits over long vectors.
    """
    if vectors.device.type == "cpu" and vectors.shape[-1] <= _SHORT:
        found = torch.linalg.vector_norm(vectors, dim=-1)
        low, high = torch.aminmax(found) if found.numel() else (found.sum(), found.sum())
        if low > _SAFE[0] and high < _SAFE[1]:
            return found.double()
    return torch.cat(
        [
            torch.linalg.vector_norm(part, dim=-1, dtype=torch.float64)
            for part in blocks(vectors, 1)
        ],
        1,
    )


def pooled(moments: Moments) -> Moments:
    """Of all entries of the last dimension together, from those of each over equally many rows: (trials, units) -> (trials,)."""
    return Moments(
        moments.mean.mean(-1), moments.variance.mean(-1) + moments.mean.var(-1, correction=0)
    )


def at(module: nn.Module, points: Tensor) -> Tensor:
    """An activation at float64 points; computed in float32 where numbers of its own take nothing else."""
    try:
        return module(points)
    except RuntimeError:
        return module(points.float()).double()


@torch.enable_grad()
def slope(module: nn.Module, pre_activation: Tensor) -> Tensor:
    """phi'(z), entry by entry, for any elementwise activation."""
    z = pre_activation.detach().requires_grad_()
    return torch.autograd.grad(at(module, z).sum(), z)[0]
