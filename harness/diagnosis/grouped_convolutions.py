"""The variance law of a grouped convolution, whose units see different inputs.

Each group is a convolution of its own.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from harness.probes.readings import LayerReading, unit_moments
from harness.probes.statistics.dependence import variance_law


def grouped_variance_law(reading: LayerReading, groups: int) -> dict[str, float]:
    """Returns the columns of the variance law, over all units of all groups.

    `input_participation_ratio` is the mean over groups whose inputs vary. For independent weights
    of one law, a unit of group g has a variance of mean s^2 t_g, where t_g is the trace of the
    group's input covariance, and of the group's own CV. Over all units therefore
    CV^2 = mean_g t_g^2 (1 + CV_g^2) / (mean_g t_g)^2 - 1 (`predicted_unit_variance_cv`), and the
    drive is mean_g |m_g|^2 / mean_g t_g (`predicted_mean_drive`).

    Args:
        reading: of one trial, with a convolution of known geometry; its units and input channels
            are in the order of the groups.
        groups: number of groups.
    """
    separate = _groups_as_trials(reading, groups)
    law = variance_law(separate)
    inputs = separate.rows.inputs
    assert inputs is not None
    trace = unit_moments(inputs).variance.sum(1)
    # A group of constant inputs has no CV and no drive, and a trace of 0; any other absent number
    # stays absent.
    constant = trace <= 0
    cv = torch.where(constant, 0.0, law["predicted_unit_variance_cv"])
    drive = torch.where(constant, 0.0, law["predicted_mean_drive"])
    mean_square = (trace.square() * (1 + cv.square())).mean()
    squared_cv = mean_square / trace.mean().square() - 1
    return {
        "input_participation_ratio": float(torch.nanmean(law["input_participation_ratio"])),
        "predicted_unit_variance_cv": float(squared_cv.clamp(min=0).sqrt()),
        "predicted_mean_drive": float((trace * drive).mean() / trace.mean()),
    }


def _groups_as_trials(reading: LayerReading, groups: int) -> LayerReading:
    """Returns the groups of one trial as trials of one convolution.

    Each of them gets all weights of the layer, because their kurtosis belongs to the law and a
    group has few weights.
    """

    def split(tensor: Tensor) -> Tensor:
        return tensor[0].unflatten(1, (groups, -1)).transpose(0, 1)

    module = copy.copy(reading.weights_module)
    assert isinstance(module, nn.Conv2d)
    module.groups = 1
    output = reading.weights_output
    return LayerReading(
        name=reading.name,
        kind=reading.kind,
        activation_module=reading.activation_module,
        inputs=split(reading.inputs),
        pre_activation=split(reading.pre_activation),
        activation=split(reading.activation),
        gradient=None,
        weight=reading.weight.expand(groups, -1, -1),
        weight_gradient=None,
        update=None,
        weights_module=module,
        weights_output=None if output is None else split(output),
    )
