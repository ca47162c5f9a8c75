"""The measured columns of one activated layer, taken while the forward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.diagnosis.grouped_convolutions import grouped_variance_law
from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Activated
from harness.probes.measurement import FULL, measure
from harness.probes.readings import too_few_for_intervals
from harness.probes.statistic import Statistic
from harness.probes.traced_readings import layer_reading, partly_read

# With fewer samples a variance over samples is mostly noise.
FEW_SAMPLES = 64


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


def _between(layer: Layer) -> str:
    """Returns in words all that stands between a layer's weights and its activation."""
    parts = [f"a {kind} normalization" for kind in layer.normalizations]
    if layer.residual:
        parts.append("a residual sum")
    if layer.pools_before_activation:
        parts.append("pooling")
    return " and ".join(dict.fromkeys(parts)) or "arithmetic"
