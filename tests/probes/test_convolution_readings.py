"""Readings of convolutions: the inputs of a position, padding, groups and evenly spread rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.probes.measurement import FULL, measure
from harness.probes.positions import Geometry, spread
from harness.probes.readings import why_absent
from harness.probes.statistics.dependence import correlations
from harness.probes.statistics.moments import edges

CPU = torch.device("cpu")
CONVOLUTIONS = {
    "padded": {"kernel_size": 3, "padding": 1},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "oblong": {"kernel_size": (5, 3), "padding": (2, 0), "stride": (1, 2)},
    "same": {"kernel_size": 4, "padding": "same"},
    "inside": {"kernel_size": 3},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolutions_rows_are_what_its_positions_see(convolution, normal, case):
    torch.manual_seed(0)
    module = nn.Conv2d(4, 6, **CONVOLUTIONS[case])
    reading = convolution(normal(1, 50, 4, 9, 8), module, nn.SELU())
    rows = reading.rows
    assert rows.inputs.shape == (1, 50, reading.weight.shape[2])
    outputs = rows.inputs @ reading.weight.transpose(1, 2) + reading.bias.unsqueeze(1)
    torch.testing.assert_close(outputs, rows.pre_activation, atol=1e-5, rtol=1e-4)
    assert reading.geometry.outputs == tuple(reading.pre_activation.shape[3:])


@pytest.fixture
def padded(convolution, normal):
    """A 3x3 convolution with one ring of zeros on a 9x8 map, LeCun's weights, no bias."""
    torch.manual_seed(0)
    module = nn.Conv2d(16, 400, 3, padding=1)
    nn.init.normal_(module.weight, 0.0, (1 / 144) ** 0.5)
    nn.init.zeros_(module.bias)
    return convolution(normal(1, 60, 16, 9, 8), module, nn.SELU())


def test_the_outer_ring_of_a_padded_convolution_is_its_border(padded):
    """The tau that acts is 6/9 of the whole on edges and 4/9 in corners."""
    interior = padded.geometry.interior.view(9, 8)
    assert interior[1:-1, 1:-1].all()
    assert interior.sum() == 7 * 6
    columns = edges(padded)
    border = (2 * (7 + 6) * 6 / 9 + 4 * 4 / 9) / (2 * 13 + 4)
    tau = float(padded.tau.mean())
    assert float(columns["interior_tau_mean"]) == pytest.approx(tau, rel=1e-9)
    assert float(columns["border_tau_mean"]) == pytest.approx(border, rel=0.02)
    assert float(columns["border_pre_activation_variance"]) == pytest.approx(border, rel=0.03)
    inner = padded.pre_activation[0][..., 1:-1, 1:-1].double()
    expected = float(inner.var(correction=0))
    assert float(columns["interior_pre_activation_variance"]) == pytest.approx(expected, rel=1e-9)


def test_rows_are_taken_at_interior_positions(padded):
    interior = padded.geometry.interior.view(9, 8)
    row, column = padded.geometry.sampled(500, CPU)
    assert interior[row, column].all()
    assert len(set(zip(row.tolist(), column.tolist(), strict=True))) == 42


def test_circular_padding_has_no_border(convolution, normal):
    module = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    columns = edges(convolution(normal(1, 40, 2, 6, 6), module, nn.SELU()))
    absent = {name for name, values in columns.items() if bool(torch.isnan(values).all())}
    assert absent == {name for name in columns if name.startswith("border_")}
    assert absent


def test_a_map_without_interior_uses_its_border(convolution, normal):
    reading = convolution(normal(1, 40, 2, 2, 2), nn.Conv2d(2, 3, 3, padding=1), nn.SELU())
    assert torch.isnan(edges(reading)["interior_tau_mean"]).all()
    assert torch.isfinite(correlations(reading)["participation_ratio"]).all()


def test_units_of_a_grouped_convolution_see_different_inputs(convolution, normal):
    reading = convolution(normal(1, 64, 4, 6, 6), nn.Conv2d(4, 8, 3, groups=2), nn.SELU())
    columns = measure([reading], FULL)[0]
    assert torch.isnan(columns["predicted_unit_variance_cv"]).all()
    assert torch.isnan(columns["input_participation_ratio"]).all()
    assert torch.isfinite(columns["unit_variance_cv"]).all()
    assert torch.isfinite(columns["normalized_wasserstein"]).all()
    assert "grouped" in why_absent(reading)


def test_positions_are_evenly_spread():
    counts = torch.bincount(spread(1000, 25, CPU), minlength=25)
    assert counts.min() >= 38
    assert counts.max() <= 42


def test_a_kernel_wider_than_its_input_has_no_output():
    assert Geometry(nn.Conv2d(1, 1, 5), 4, 9).outputs == (0, 5)
