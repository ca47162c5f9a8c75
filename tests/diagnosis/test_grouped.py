"""The variance law of grouped convolutions: each group as a network of its own, and prediction against measurement."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.diagnosis.diagnose import diagnose


def images(channels: int, samples: int = 512) -> torch.Tensor:
    """Channels of different scale and mean, neighbours alike."""
    noise = torch.randn(samples, channels, 8, 8, generator=torch.Generator().manual_seed(7))
    smooth = nn.functional.avg_pool2d(noise, 3, 1, 1) + 0.3 * noise
    return smooth * torch.linspace(0.5, 2, channels).view(-1, 1, 1) + torch.linspace(
        -0.5, 0.5, channels
    ).view(-1, 1, 1)


def convolution(
    channels: int, units: int, groups: int, behind: nn.Module | None = None
) -> nn.Sequential:
    torch.manual_seed(1)
    layer = nn.Conv2d(channels, units, 3, padding=1, groups=groups)
    nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return nn.Sequential(
        layer, *([behind] if behind else []), nn.SELU(), nn.Flatten(), nn.Linear(units * 64, 4)
    )


def test_a_groups_ratio_is_that_of_a_convolution_of_its_own():
    x, model = images(12), convolution(12, 24, 3)
    row = diagnose(model, x).layers.iloc[0]
    alone = []
    for group in range(3):
        part = convolution(4, 8, 1)
        part[0].weight.data, part[0].bias.data = (
            model[0].weight.data[8 * group : 8 * group + 8],
            model[0].bias.data[8 * group : 8 * group + 8],
        )
        alone.append(diagnose(part, x[:, 4 * group : 4 * group + 4]).layers.iloc[0])
    assert row["input_participation_ratio"] == pytest.approx(
        sum(one["input_participation_ratio"] for one in alone) / 3, rel=1e-4
    )
    # The scale of the groups' inputs differs, which no group by itself shows.
    assert row["predicted_unit_variance_cv"] > 1.1 * max(
        one["predicted_unit_variance_cv"] for one in alone
    )


@pytest.mark.parametrize(
    "channels, units, groups", [(256, 256, 256), (128, 512, 32)], ids=["depthwise", "grouped"]
)
@pytest.mark.parametrize("behind", [None, nn.BatchNorm2d], ids=["direct", "normalized"])
def test_units_variances_differ_as_predicted(channels, units, groups, behind):
    row = diagnose(
        convolution(channels, units, groups, behind(units) if behind else None), images(channels)
    ).layers.iloc[0]
    assert row["predicted_unit_variance_cv"] == pytest.approx(row["unit_variance_cv"], rel=0.15)
    assert row["predicted_mean_drive"] == pytest.approx(row["mean_drive"], rel=0.25)
    assert "units of a grouped convolution see different inputs" in row["absent"]


def test_groups_of_constant_inputs_do_not_hide_the_others():
    x = images(8)
    x[:, 3] = 0.25
    row = diagnose(convolution(8, 8, 8), x).layers.iloc[0]
    assert math.isfinite(row["input_participation_ratio"])
    assert math.isfinite(row["predicted_unit_variance_cv"])


def test_one_group_is_what_it_was():
    row = diagnose(convolution(8, 8, 1), images(8)).layers.iloc[0]
    assert row["absent"] == ""
    assert row["input_participation_ratio"] > 1
