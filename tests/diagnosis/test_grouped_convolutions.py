"""The variance law of grouped convolutions, against single groups and against measurements."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.diagnosis import grouped_convolutions
from harness.diagnosis.diagnose import diagnose

from .models import labelled


def images(channels: int, samples: int = 512) -> torch.Tensor:
    """Smooth images with channels of different scale and mean."""
    noise = torch.randn(samples, channels, 8, 8, generator=torch.Generator().manual_seed(7))
    smooth = nn.functional.avg_pool2d(noise, 3, 1, 1) + 0.3 * noise
    scales = torch.linspace(0.5, 2, channels).view(-1, 1, 1)
    means = torch.linspace(-0.5, 0.5, channels).view(-1, 1, 1)
    return smooth * scales + means


def convolution(
    channels: int, units: int, groups: int, normalization: nn.Module | None = None
) -> nn.Sequential:
    """A SELU convolution and a readout, for images of 8 x 8 pixels."""
    torch.manual_seed(1)
    layer = nn.Conv2d(channels, units, 3, padding=1, groups=groups)
    nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    between = [] if normalization is None else [normalization]
    return nn.Sequential(layer, *between, nn.SELU(), nn.Flatten(), nn.Linear(units * 64, 4))


def test_the_participation_ratio_is_the_mean_over_groups_alone():
    x = images(12)
    model = convolution(12, 24, 3)
    row = diagnose(model, x).layers.iloc[0]
    ratios = []
    variations = []
    for group in range(3):
        units = slice(8 * group, 8 * group + 8)
        alone = convolution(4, 8, 1)
        alone[0].weight.data = model[0].weight.data[units]
        alone[0].bias.data = model[0].bias.data[units]
        layer = diagnose(alone, x[:, 4 * group : 4 * group + 4]).layers.iloc[0]
        ratios.append(layer["input_participation_ratio"])
        variations.append(layer["predicted_unit_variance_cv"])
    assert row["input_participation_ratio"] == pytest.approx(sum(ratios) / 3, rel=1e-4)
    # The scale of the groups' inputs differs, which no group by itself shows.
    assert row["predicted_unit_variance_cv"] > 1.1 * max(variations)


@pytest.mark.parametrize(
    "channels, units, groups", [(256, 256, 256), (128, 512, 32)], ids=["depthwise", "grouped"]
)
@pytest.mark.parametrize("normalized", [False, True], ids=["direct", "normalized"])
def test_the_variances_of_units_differ_as_predicted(channels, units, groups, normalized):
    normalization = nn.BatchNorm2d(units) if normalized else None
    model = convolution(channels, units, groups, normalization)
    row = diagnose(model, images(channels)).layers.iloc[0]
    assert row["predicted_unit_variance_cv"] == pytest.approx(row["unit_variance_cv"], rel=0.15)
    assert row["predicted_mean_drive"] == pytest.approx(row["mean_drive"], rel=0.25)
    assert "units of a grouped convolution see different inputs" in row["absent"]


def test_groups_of_constant_inputs_do_not_hide_the_others():
    x = images(8)
    x[:, 3] = 0.25
    row = diagnose(convolution(8, 8, 8), x).layers.iloc[0]
    assert math.isfinite(row["input_participation_ratio"])
    assert math.isfinite(row["predicted_unit_variance_cv"])


def test_a_convolution_of_one_group_lacks_nothing():
    row = diagnose(convolution(8, 8, 1), images(8)).layers.iloc[0]
    assert row["absent"] == ""
    assert row["input_participation_ratio"] > 1


def test_what_is_absent_in_a_group_is_no_zero(monkeypatch):
    def absent(reading):
        nothing = torch.full((2,), math.nan, dtype=torch.float64)
        names = ("predicted_unit_variance_cv", "predicted_mean_drive", "input_participation_ratio")
        return dict.fromkeys(names, nothing)

    monkeypatch.setattr(grouped_convolutions, "variance_law", absent)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.SELU(), nn.Flatten(), nn.Linear(288, 4))
    row = diagnose(model, labelled(4, 8, 8)).layers.iloc[0]
    assert math.isnan(row["predicted_unit_variance_cv"])
    assert math.isnan(row["predicted_mean_drive"])
