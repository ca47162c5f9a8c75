"""The measured columns of one activated layer, taken while the forward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness.diagnosis.grouped_convolutions import grouped_variance_law
from harness.networks.tracing.origins import Held
from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Activated
from harness.probes.measurement import FULL, measure
from harness.probes.readings import LayerReading, too_few_for_intervals
from harness.probes.statistic import Statistic

# With fewer samples a variance over samples is mostly noise.
FEW_SAMPLES = 64
# Numbers of one layer's pre-activations that are read: of larger layers, evenly spread samples.
_MOST_PRE_ACTIVATIONS = 2**23
# Numbers of one layer's weights that are read: of larger layers, evenly spread units.
_MOST_WEIGHTS = 2**23


class LayerMeasurements:
    """Measures every activated layer of a forward pass; keeps columns and reasons, no tensors.

    Args:
        statistics: what is measured, all statistics by default.
        is_chosen: whether a layer is measured, all of them by default.

    Attributes:
        columns: measured columns of each layer, in the order of the activations.
        absent: reasons why some of them have no number.
        partly: layers of which not all samples or units are read.
    """

    def __init__(
        self,
        statistics: Sequence[Statistic] = FULL,
        is_chosen: Callable[[Layer], bool] = lambda layer: True,
    ) -> None:
        self._statistics = statistics
        self._is_chosen = is_chosen
        self.columns: list[dict[str, float]] = []
        self.absent: list[list[str]] = []
        self.partly: list[str] = []

    def __call__(self, activated: Activated) -> None:
        """Measures one layer; one that is not chosen has no columns."""
        if not self._is_chosen(activated.layer):
            self.columns.append({})
            self.absent.append([])
            return
        columns, absent = layer_columns(activated, self._statistics)
        part = partly_read(activated)
        if part is not None:
            self.partly.append(part)
        self.columns.append(columns)
        self.absent.append(absent)


def layer_columns(
    activated: Activated, statistics: Sequence[Statistic] = FULL
) -> tuple[dict[str, float], list[str]]:
    """Returns the columns of one activated layer, and reasons why some are absent."""
    finite = torch.isfinite(activated.pre_activation)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        total = activated.pre_activation.numel()
        return {}, [f"{bad} of {total} pre-activations are not finite"]
    layer = activated.layer
    if activated.overwritten:
        return {}, ["its inputs were overwritten before the activation"]
    reading = layer_reading(activated)
    samples = reading.pre_activation.shape[1]
    measured = measure([reading], statistics)[0]
    columns = {name: float(values[0]) for name, values in measured.items()}
    reasons: list[str] = []
    if layer.groups > 1:
        if reading.geometry is not None:
            columns |= grouped_variance_law(reading, layer.groups)
        reasons.append("units of a grouped convolution see different inputs")
    if not layer.direct:
        reasons.append(
            f"{_between(layer)} stands between the weights and the activation, so that the map g "
            "says nothing of it"
        )
    reasons += too_few_for_intervals(reading)
    if samples < FEW_SAMPLES:
        reasons.append(f"only {samples} samples")
    columns["samples"] = samples
    return columns, reasons


def layer_reading(activated: Activated) -> LayerReading:
    """Returns the reading of one layer, cut to the bounds of this module."""
    layer = activated.layer
    z = activated.pre_activation
    units = _read_units(layer, z.device)
    count = len(activated.inputs)
    samples = _read_positions(count, z, activated.inputs)
    all_units = len(units) == layer.units

    def cut(tensor: Tensor) -> Tensor:
        axis = z.dim() - 1 if layer.kind == "linear" else 1
        selected = _selected_samples(tensor, samples, count)
        return _shaped(selected if all_units else selected.index_select(axis, units), layer)

    same_map = activated.outputs.shape[1:] == z.shape[1:]
    weight = layer.weight if all_units else layer.weight[units]
    sequence = layer.kind == "linear" and z.dim() > 2
    module = _pointwise(layer) if sequence else layer.convolution
    return LayerReading(
        name=layer.label,
        kind="linear" if layer.kind == "linear" and not sequence else "conv2d",
        activation_module=activated.module,
        inputs=_shaped(_selected_samples(activated.inputs, samples, count), layer),
        pre_activation=cut(z),
        activation=cut(activated.activation),
        gradient=None,
        weight=weight.flatten(1).float().unsqueeze(0),
        weight_gradient=None,
        update=None,
        bias=None if layer.bias is None else layer.bias[units].float().unsqueeze(0),
        weights_module=module if same_map else None,
        weights_output=None if layer.direct else cut(activated.outputs),
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


def _between(layer: Layer) -> str:
    """Returns in words all that stands between a layer's weights and its activation."""
    parts = [f"a {kind} normalization" for kind in layer.normalizations]
    if layer.residual:
        parts.append("a residual sum")
    if layer.pools_before_activation:
        parts.append("pooling")
    return " and ".join(dict.fromkeys(parts)) or "arithmetic"
