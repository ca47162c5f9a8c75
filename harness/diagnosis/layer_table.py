"""The layer table of a model: measured columns, gradients and predictions put together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pandas
import torch

from harness.diagnosis.gradient_pass import GradientMeasurements
from harness.diagnosis.layer_columns import LayerMeasurements
from harness.networks.tracing.structure import Structure
from harness.probes.statistics.gradients import add_gradient_ratios


def add_gradients(
    measurements: LayerMeasurements, gradients: GradientMeasurements, structure: Structure
) -> None:
    """Adds the columns of each layer's own gradients, NaN with the reason where there are none."""
    uses = Counter(layer.name for layer in structure.layers if not layer.repeats)
    for index, layer in enumerate(structure.activated):
        columns = measurements.columns[index]
        reasons = measurements.absent[index]
        columns["gradient_square"] = gradients.square[index]
        columns["weight_gradient_norm"] = gradients.weight_norm(layer)
        if gradients.reason is not None:
            reasons.append(f"no gradient: {gradients.reason}")
        elif math.isnan(gradients.square[index]):
            reasons.append("no gradient: the loss does not reach this layer")
        if uses[layer.name] > 1:
            columns["weight_gradient_norm"] = math.nan
            reasons.append("weights used several times have one gradient, that of all uses")


def add_ratios(measurements: LayerMeasurements) -> None:
    """Adds the ratios of squared gradients from layer to layer."""
    squares = [
        {"gradient_square": torch.tensor([columns["gradient_square"]], dtype=torch.float64)}
        for columns in measurements.columns
    ]
    add_gradient_ratios(squares)
    for columns, tensors in zip(measurements.columns, squares, strict=True):
        for name, tensor in tensors.items():
            columns[name] = float(tensor[0])


def layer_table(
    structure: Structure,
    measurements: LayerMeasurements,
    predicted: Sequence[dict[str, float]],
    step: int = 0,
    phase: str = "diagnosis",
) -> pandas.DataFrame:
    """Returns one row for each activated layer, with the columns of a trial's layer table."""
    rows = []
    for index, layer in enumerate(structure.activated):
        description = {
            "step": step,
            "phase": phase,
            "layer": index + 1,
            "name": layer.label,
            "kind": layer.kind,
            "units": layer.units,
            "fan_in": layer.fan_in,
            "activation": layer.activation,
            "normalization": ", ".join(layer.normalizations) or "none",
            "absent": "; ".join(measurements.absent[index]),
        }
        rows.append(description | predicted[index] | measurements.columns[index])
    return pandas.DataFrame(rows)
