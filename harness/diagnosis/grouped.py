"""The variance law of a grouped convolution, whose units see different inputs: each group is a convolution of its own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from harness.probes.readings import LayerReading, unit_moments
from harness.probes.statistics.dependence import variance_law


def grouped_variance_law(reading: LayerReading, groups: int) -> dict[str, float]:
    """`input_participation_ratio`, `predicted_unit_variance_cv` and `predicted_mean_drive` of a grouped convolution.

    The participation ratio is the mean over groups whose inputs vary. For independent weights of one law, unit i of group g has a
    variance of mean s^2 t_g, t_g the trace of the group's input covariance, and of the group's own CV, so that over all units
    CV^2 = mean_g t_g^2 (1 + CV_g^2) / (mean_g t_g)^2 - 1; the drive is mean_g |m_g|^2 / mean_g t_g.

    Args:
        reading: of one trial, with a convolution that has a known walk; its units and input channels in the order of the groups.
    """
    apart = _apart(reading, groups)
    law = variance_law(apart)
    trace = unit_moments(apart.rows.inputs).variance.sum(1)
    cv, drive = (
        torch.nan_to_num(law[name])
        for name in ("predicted_unit_variance_cv", "predicted_mean_drive")
    )  # of groups with nothing to say
    squared = (trace.square() * (1 + cv.square())).mean() / trace.mean().square() - 1
    return {
        "input_participation_ratio": float(torch.nanmean(law["input_participation_ratio"])),
        "predicted_unit_variance_cv": float(squared.clamp(min=0).sqrt()),
        "predicted_mean_drive": float((trace * drive).mean() / trace.mean()),
    }


def _apart(reading: LayerReading, groups: int) -> LayerReading:
    """The groups as trials of one convolution. Each gets all weights of the layer: their kurtosis belongs to the law, and a group has few."""

    def split(tensor: Tensor) -> Tensor:
        return tensor[0].unflatten(1, (groups, -1)).transpose(0, 1)

    module = copy.copy(reading.weights_module)
    module.groups = 1
    output = reading.weights_output
    return LayerReading(
        reading.name,
        reading.kind,
        reading.activation_module,
        split(reading.inputs),
        split(reading.pre_activation),
        split(reading.activation),
        None,
        reading.weight.expand(groups, -1, -1),
        None,
        None,
        weights_module=module,
        weights_output=None if output is None else split(output),
    )
