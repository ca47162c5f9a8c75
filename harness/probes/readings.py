"""The tensors that a probe reads of one activated layer; statistics are functions of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.probes.nulls import fewest_samples
from harness.probes.positions import Geometry, spread
from harness.probes.reductions import Moments, blocks, entry_moments, pooled, unit_moments

# Dependence and Gaussianity read at most this many rows, and at most this many input entries.
MOST_ROWS = 1024
_MOST_INPUT_ENTRIES = 2**21
_FEWEST_ROWS = 256
# Intervals need at least this many units, and inputs (of a convolution: input channels).
FEWEST_UNITS = 8


class Rows(NamedTuple):
    """A bounded sample of a layer's tensors, whose rows are independent draws.

    Attributes:
        inputs: what enters the weights, (trials, rows, fan_in). None where units see different
            inputs (grouped convolutions, or weights of an unknown module).
        outputs: what leaves the weights, (trials, rows, units).
        pre_activation: z, (trials, rows, units).
    """

    inputs: Tensor | None
    outputs: Tensor
    pre_activation: Tensor


@dataclass(frozen=True)
class LayerReading:
    """Tensors of one activated layer, for all trials of a pack.

    The units of a convolution are its channels.

    Attributes:
        name: the layer's module name.
        kind: "linear" or "conv2d".
        activation_module: the elementwise activation phi.
        inputs: what enters the weights, (trials, samples, ...).
        pre_activation: z, what enters the activation: (trials, samples, units[, height, width]).
        activation: y = phi(z), the same shape.
        gradient: of each sample's own loss with respect to z, the same shape; None where there is
            no loss.
        weight: the weight that acts, (trials, units, fan_in).
        weight_gradient: of the mean loss, (trials, units, fan_in), or None.
        update: the last optimizer step's change of the weight, or None before the first.
        bias: (trials, units), or None.
        weights_module: the module of the weights, which defines a convolution's windows.
        weights_output: what leaves the weights where that is not z, because a normalization or a
            sum stands between; else None.
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
        """True where z = W x + b, which SELU's map g assumes."""
        return self.weights_output is None

    @cached_property
    def geometry(self) -> Geometry | None:
        """The windows of a convolution; None for a dense layer."""
        module = self.weights_module
        if not isinstance(module, nn.Conv2d) or self.inputs.dim() != 5:
            return None
        return Geometry(module, self.inputs.shape[3], self.inputs.shape[4])

    @cached_property
    def pre_activation_entry_moments(self) -> Moments:
        """Moments over samples of every entry of z: (trials, units, positions).

        A dense layer has one position.
        """
        return entry_moments(self.pre_activation)

    @cached_property
    def activation_entry_moments(self) -> Moments:
        """Moments over samples of every entry of y: (trials, units, positions)."""
        return entry_moments(self.activation)

    @cached_property
    def pre_activation_moments(self) -> Moments:
        """Moments of every unit's z over samples and positions: (trials, units)."""
        return pooled(self.pre_activation_entry_moments)

    @cached_property
    def activation_moments(self) -> Moments:
        """Moments of every unit's y over samples and positions: (trials, units)."""
        return pooled(self.activation_entry_moments)

    @cached_property
    def input_unit_moments(self) -> Moments:
        """Moments over samples of every input entry: (trials, entries)."""
        return unit_moments(self.inputs.flatten(2))

    @cached_property
    def input_moments(self) -> Moments:
        """Moments over samples and input entries together, (trials,): mu and nu of the map g."""
        return pooled(self.input_unit_moments)

    @cached_property
    def omega(self) -> Tensor:
        """Sum of each unit's weights, (trials, units)."""
        return self.weight.sum(2).double()

    @cached_property
    def tau(self) -> Tensor:
        """Sum of the squares of each unit's weights, (trials, units)."""
        lengths = [
            torch.linalg.vector_norm(part, dim=2, dtype=torch.float64)
            for part in blocks(self.weight, 1)
        ]
        return torch.cat(lengths, 1).square()

    @cached_property
    def biases(self) -> Tensor:
        """Each unit's bias, zeros where there is none, (trials, units)."""
        return torch.zeros_like(self.tau) if self.bias is None else self.bias.double()

    @cached_property
    def rows(self) -> Rows:
        """Evenly spread samples; of a convolution one position of each.

        One position, an interior one where there is any, because positions of one image are not
        independent: a row then is an independent draw.
        """
        samples = self._row_samples()
        if self.pre_activation.dim() == 3:
            return self._dense_rows(samples)
        if self.geometry is None:
            return self._unknown_rows(samples)
        return self._convolution_rows(samples)

    def _row_samples(self) -> Tensor:
        """Indices of the samples that `rows` takes."""
        samples = self.pre_activation.shape[1]
        fan_in = self.weight.shape[2]
        most = max(_FEWEST_ROWS, _MOST_INPUT_ENTRIES // fan_in)
        count = min(samples, MOST_ROWS, most)
        device = self.pre_activation.device
        return torch.linspace(0, samples - 1, count, device=device).round().long()

    def _dense_rows(self, samples: Tensor) -> Rows:
        z = _taken(self.pre_activation, samples)
        inputs = _taken(self.inputs.flatten(2), samples)
        outputs = z if self.direct else _taken(self.weights_output, samples)
        return Rows(inputs, outputs, z)

    def _unknown_rows(self, samples: Tensor) -> Rows:
        """Rows of maps whose windows are unknown: one position each, inputs absent."""
        maps = self.pre_activation.flatten(3)
        position = spread(len(samples), maps.shape[3], samples.device)
        z = _taken_at(maps, samples, position)
        if self.direct:
            return Rows(None, z, z)
        return Rows(None, _taken_at(self.weights_output.flatten(3), samples, position), z)

    def _convolution_rows(self, samples: Tensor) -> Rows:
        row, column = self.geometry.sampled(len(samples), samples.device)
        z = _taken_at(self.pre_activation, samples, row, column)
        inputs = None
        if self.weights_module.groups == 1:
            inputs = self.geometry.patches(self.inputs, samples, row, column)
        outputs = z if self.direct else _taken_at(self.weights_output, samples, row, column)
        return Rows(inputs, outputs, z)

    @cached_property
    def row_moments(self) -> Moments:
        """Moments of every unit's z over `rows`, (trials, units)."""
        if self.rows.pre_activation is self.pre_activation:
            return self.pre_activation_moments
        return unit_moments(self.rows.pre_activation)

    @cached_property
    def constant(self) -> Tensor:
        """True for units whose z does not vary over `rows` beyond rounding, (trials, units)."""
        mean, variance = self.row_moments
        return variance <= torch.finfo(torch.float32).eps ** 2 * (mean.square() + variance)

    @cached_property
    def standard_rows(self) -> Tensor:
        """The z of `rows` with every unit's mean 0 and variance 1: (trials, rows, units), float32.

        Zeros for constant units.
        """
        mean, variance = self.row_moments
        scale = torch.where(self.constant, 0.0, variance.rsqrt())
        centred = self.rows.pre_activation - mean.float().unsqueeze(1)
        return centred.mul_(scale.float().unsqueeze(1))


def why_absent(reading: LayerReading) -> str:
    """Reasons why columns of this layer are NaN whatever its numbers; "" where there are none."""
    reasons = []
    if not reading.direct:
        reasons.append(
            "a normalization or a sum stands between the weights and the activation, "
            "of which the map g says nothing"
        )
    if isinstance(reading.weights_module, nn.Conv2d) and reading.weights_module.groups > 1:
        reasons.append("units of a grouped convolution see different inputs")
    elif reading.rows.inputs is None:
        reasons.append("it is not known which inputs a position sees")
    rows = reading.rows.pre_activation.shape[1]
    if rows < fewest_samples():
        reasons.append(
            f"{rows} samples are fewer than the {fewest_samples()} "
            "that a distribution's shape needs"
        )
    reasons += too_few_for_intervals(reading)
    if reading.gradient is None:
        reasons.append("no loss, so no gradient")
    return "; ".join(reasons)


def too_few_for_intervals(reading: LayerReading) -> list[str]:
    """Reasons why a layer has no intervals over units, or over its inputs."""
    entering = "inputs" if reading.inputs.dim() == 3 else "input channels"
    counts = {"units": reading.weight.shape[1], entering: reading.inputs.shape[2]}
    return [
        f"no interval from {count} {counted}, which are fewer than {FEWEST_UNITS}"
        for counted, count in counts.items()
        if count < FEWEST_UNITS
    ]


def _taken(tensor: Tensor, samples: Tensor) -> Tensor:
    """The given samples of (trials, samples, units); the tensor itself where that is all."""
    if len(samples) == tensor.shape[1]:
        return tensor
    return tensor.index_select(1, samples)


def _taken_at(maps: Tensor, samples: Tensor, *position: Tensor) -> Tensor:
    """The given samples, each at its own position: (trials, rows, units)."""
    return maps[:, samples, :, *position].movedim(0, 1)
