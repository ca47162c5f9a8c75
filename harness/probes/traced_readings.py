"""The reading of a layer that a traced forward pass has run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.networks.tracing.origins import Held
from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Activated
from harness.probes.readings import LayerReading

# Numbers of one layer's pre-activations that are read: of larger layers, evenly spread samples.
_MOST_PRE_ACTIVATIONS = 2**23
# Numbers of one layer's weights that are read: of larger layers, evenly spread units.
_MOST_WEIGHTS = 2**23


@dataclass(frozen=True)
class Cut:
    """The samples and units of a large layer that are read.

    Attributes:
        layer: the layer.
        samples: indices of the samples, (samples read,).
        units: indices of the units, (units read,).
        count: the number of all samples.
        axis: the dimension of the units in what leaves the weights.
    """

    layer: Layer
    samples: Tensor
    units: Tensor
    count: int
    axis: int

    @classmethod
    def of(cls, activated: Activated) -> Cut:
        """Returns the cut of an activated layer."""
        layer, z = activated.layer, activated.pre_activation
        count = len(activated.inputs)
        samples = _read_positions(count, z, activated.inputs)
        axis = z.dim() - 1 if layer.kind == "linear" else 1
        return cls(layer, samples, _read_units(layer, z.device), count, axis)

    def outputs(self, tensor: Tensor) -> Tensor:
        """Returns what is read of a tensor of the shape of what leaves the weights.

        Its shape is that of a reading of one trial, (1, samples, ...).
        """
        selected = _selected_samples(tensor, self.samples, self.count)
        if len(self.units) < self.layer.units:
            selected = selected.index_select(self.axis, self.units)
        return _shaped(selected, self.layer)

    def inputs(self, tensor: Tensor) -> Tensor:
        """Returns the same of a tensor that enters the weights."""
        return _shaped(_selected_samples(tensor, self.samples, self.count), self.layer)

    def rows(self, weight: Tensor) -> Tensor:
        """Returns what is read of the weights (units, ...), as (1, units, fan_in)."""
        read = weight if len(self.units) == self.layer.units else weight[self.units]
        return read.flatten(1).float().unsqueeze(0)


def layer_reading(activated: Activated) -> LayerReading:
    """Returns the reading of one layer, cut to the bounds of this module."""
    layer, z = activated.layer, activated.pre_activation
    cut = Cut.of(activated)
    same_map = activated.outputs.shape[1:] == z.shape[1:]
    sequence = layer.kind == "linear" and z.dim() > 2
    module = _pointwise(layer) if sequence else layer.convolution
    return LayerReading(
        name=layer.label,
        kind="linear" if layer.kind == "linear" and not sequence else "conv2d",
        activation_module=activated.module,
        inputs=cut.inputs(activated.inputs),
        pre_activation=cut.outputs(z),
        activation=cut.outputs(activated.activation),
        gradient=None,
        weight=cut.rows(layer.weight),
        weight_gradient=None,
        update=None,
        bias=None if layer.bias is None else layer.bias[cut.units].float().unsqueeze(0),
        weights_module=module if same_map else None,
        weights_output=None if layer.direct else cut.outputs(activated.outputs),
    )


def read_samples(z: Tensor, held: Held) -> Tensor:
    """Returns the samples of a layer's pre-activations that statistics read."""
    return z[_read_positions(len(z), z, held.inputs)]


def partly_read(activated: Activated) -> str | None:
    """Returns in words what of a large layer is not read, or None."""
    layer = activated.layer
    count = len(activated.inputs)
    samples = len(_read_positions(count, activated.pre_activation, activated.inputs))
    units = len(_read_units(layer, activated.inputs.device))
    parts = []
    if samples < count:
        parts.append(f"{samples} of {count} samples")
    if units < layer.units:
        parts.append(f"{units} of {layer.units} units")
    return f"{layer.label} ({' and '.join(parts)})" if parts else None


def _pointwise(layer: Layer) -> nn.Conv2d:
    """Returns a linear layer over a sequence as a convolution of one tap, without values."""
    return nn.Conv2d(layer.fan_in, layer.units, 1, bias=False, device="meta")


def _read_positions(count: int, z: Tensor, inputs: Tensor) -> Tensor:
    """Returns the indices of the samples that are read, (samples read,)."""
    numbers = max(1, z[0].numel(), inputs[0].numel())
    return _evenly_spread(count, max(2, _MOST_PRE_ACTIVATIONS // numbers), z.device)


def _read_units(layer: Layer, device: torch.device) -> Tensor:
    """Returns the indices of the units that are read; of a grouped convolution all of them."""
    most = layer.units if layer.groups > 1 else max(1, _MOST_WEIGHTS // layer.columns)
    return _evenly_spread(layer.units, most, device)


def _evenly_spread(count: int, most: int, device: torch.device) -> Tensor:
    return torch.linspace(0, count - 1, min(count, most), device=device).round().long()


def _selected_samples(tensor: Tensor, samples: Tensor, count: int) -> Tensor:
    """Returns the rows that are read, of a tensor with all `count` rows or with only these."""
    detached = tensor.detach()
    return detached[samples] if len(detached) == count > len(samples) else detached


def _shaped(tensor: Tensor, layer: Layer) -> Tensor:
    """Returns a tensor as a reading of one trial holds it, (1, samples, ...).

    Positions of a sequence become those of a map, because they are no independent samples. Maps of
    one dimension get a height of 1, and maps of three dimensions are flattened to two.
    """
    if layer.kind == "linear" and tensor.dim() > 2:
        tensor = tensor.flatten(1, -2).movedim(-1, 1).unsqueeze(2)
    elif layer.kind.endswith("1d"):
        tensor = tensor.unsqueeze(2)
    elif layer.kind.endswith("3d"):
        tensor = tensor.flatten(3)
    return tensor.float().unsqueeze(0)
