"""What probes promise about any layer: exact rungs, convolutions, normalizations, absences, layers measured together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.networks.activations import activations
from harness.probes.bootstrap import bands
from harness.probes.contraction import contraction, empirical_slope
from harness.probes.dependence import correlations, variance_law
from harness.probes.gaussianity import pooled_gaussianity, unit_gaussianity
from harness.probes.gradients import flat_parts, saturation
from harness.probes.measurement import FULL, QUICK, STANDARD, chosen, measure
from harness.probes.moments import between_unit_share, edges, inputs, lengths
from harness.probes.positions import Geometry, spread
from harness.probes.readings import why_absent
from harness.probes.weights import theorem, theorem_shares
from harness.theory.selu import moment_map as selu


@pytest.mark.parametrize("name", activations.names())
def test_the_last_rung_is_exact_for_every_activation(dense, normal, name):
    columns = contraction(
        dense(0.3 + normal(2, 200, 30), normal(2, 20, 30, seed=1) / 5, activations[name]())
    )
    assert float(columns["ladder_empirical"].abs().max()) < 1e-6
    for rung in ("map", "weights", "moments", "empirical"):
        total = (
            columns[f"ladder_mean_{rung}"].square() + columns[f"ladder_variance_{rung}"].square()
        )
        torch.testing.assert_close(columns[f"ladder_{rung}"].square(), total)


def test_each_rung_pays_for_its_assumption(dense, normal):
    """Break one assumption at a time: the error falls where that assumption is given up, and stays small from there on."""
    w = normal(1, 60, 400, seed=1)
    exact = (w - w.mean(2, keepdim=True)) / w.std(2, correction=0, keepdim=True) / 20.0
    x = normal(1, 4000, 400, seed=2)
    noise = 0.02  # of a mean and a variance over 4,000 samples, root mean square
    good = contraction(dense(x, exact, nn.SELU()))
    assert float(good["ladder_map"]) < 2.5 * noise
    unequal = contraction(dense(x, exact * torch.linspace(0.7, 1.3, 60).view(1, -1, 1), nn.SELU()))
    assert float(unequal["ladder_map"]) > 0.2
    assert float(unequal["ladder_weights"]) < 2.5 * noise
    dependent = contraction(
        dense(
            x @ (normal(400, 400, seed=3) @ torch.diag(torch.linspace(2, 0, 400) ** 4)) / 20,
            exact,
            nn.SELU(),
        )
    )
    assert float(dependent["ladder_weights"]) > 5 * float(dependent["ladder_moments"])
    sparse = torch.zeros(1, 60, 400)
    sparse[..., :2] = 0.5**0.5 * torch.tensor([1.0, -1.0])
    heavy = contraction(dense(x.pow(3) / 15**0.5, sparse, nn.SELU()))
    assert float(heavy["ladder_moments"]) > 0.15
    assert float(heavy["ladder_empirical"]) < 1e-6


def test_the_empirical_slope_is_that_of_the_map(dense, normal):
    reading = dense(normal(1, 3000, 300), normal(1, 300, 300, seed=1) / 300**0.5, nn.SELU())
    assert float(empirical_slope(reading)["empirical_slope"]) == pytest.approx(
        float(selu.jacobian(0.0, 1.0, 0.0, 1.0)[1, 1]), abs=0.01
    )
    assert float(
        empirical_slope(dense(reading.inputs, reading.weight, nn.ReLU()))["empirical_slope"]
    ) == pytest.approx(1.0, abs=1e-6)


def test_flat_parts_of_activations():
    assert flat_parts(nn.ReLU(), torch.device("cpu")) == (True, (0.0,))
    assert flat_parts(nn.Identity(), torch.device("cpu")) == (False, ())
    left, (point,) = flat_parts(nn.SELU(), torch.device("cpu"))
    assert left
    assert point == pytest.approx(np.log(0.1), abs=2e-7)
    left, points = flat_parts(nn.Tanh(), torch.device("cpu"))
    assert left
    assert points == pytest.approx((-np.arctanh(0.9**0.5), np.arctanh(0.9**0.5)), abs=2e-7)


def test_an_activation_with_numbers_of_its_own(dense, normal):
    """PReLU takes float32 alone, and may have learned since it was last looked at."""
    module = nn.PReLU(init=0.5)
    reading = dense(normal(1, 300, 20), normal(1, 30, 20, seed=1) / 20**0.5, module)
    with torch.no_grad():
        reading = dataclasses.replace(reading, activation=module(reading.pre_activation))
    alike = dense(
        reading.inputs,
        reading.weight,
        nn.LeakyReLU(0.5),
        gradient=reading.gradient,
        weight_gradient=reading.weight_gradient,
    )
    learned, fixed = (measure([one], FULL)[0] for one in (reading, alike))
    for name in learned:
        torch.testing.assert_close(learned[name], fixed[name], equal_nan=True, rtol=1e-5, atol=1e-6)
    assert float(learned["saturated_share"]) == 0.0
    nn.init.constant_(module.weight, 0.01)
    assert float(saturation(reading)["saturated_share"]) > 0.4


def test_dead_units_are_those_whose_every_sample_is_flat(dense, normal):
    bias = torch.zeros(1, 10)
    bias[0, :3] = -100.0
    columns = saturation(dense(normal(1, 100, 5), normal(1, 10, 5, seed=1), nn.ReLU(), bias))
    assert float(columns["dead_share"]) == pytest.approx(0.3)
    assert 0.5 < float(columns["saturated_share"]) < 0.8
    silent = saturation(dense(torch.zeros(1, 100, 5), normal(1, 10, 5, seed=1), nn.ReLU()))
    assert float(silent["dead_share"]) == 1.0  # the slope of ReLU at 0 is 0


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
    reading = convolution(normal(1, 50, 4, 9, 8), nn.Conv2d(4, 6, **CONVOLUTIONS[case]), nn.SELU())
    rows = reading.rows
    assert rows.inputs.shape == (1, 50, reading.weight.shape[2])
    torch.testing.assert_close(
        rows.inputs @ reading.weight.transpose(1, 2) + reading.bias.unsqueeze(1),
        rows.pre_activation,
        atol=1e-5,
        rtol=1e-4,
    )
    assert reading.geometry.outputs == tuple(reading.pre_activation.shape[3:])


def test_interior_and_border_of_a_padded_convolution(convolution, normal):
    """3x3 with one ring of zeros on a 9x8 map: the ring of outputs is border; tau there is 6/9 on edges and 4/9 in corners."""
    torch.manual_seed(0)
    module = nn.Conv2d(16, 400, 3, padding=1)
    nn.init.normal_(module.weight, 0.0, (1 / 144) ** 0.5)
    nn.init.zeros_(module.bias)
    reading = convolution(normal(1, 60, 16, 9, 8), module, nn.SELU())
    interior = reading.geometry.interior.view(9, 8)
    assert interior[1:-1, 1:-1].all()
    assert interior.sum() == 7 * 6
    columns = edges(reading)
    border = (2 * (7 + 6) * 6 / 9 + 4 * 4 / 9) / (2 * 13 + 4)
    assert float(columns["interior_tau_mean"]) == pytest.approx(float(reading.tau.mean()), rel=1e-9)
    assert float(columns["border_tau_mean"]) == pytest.approx(border, rel=0.02)
    assert float(columns["border_pre_activation_variance"]) == pytest.approx(border, rel=0.03)
    z = reading.pre_activation[0]
    assert float(columns["interior_pre_activation_variance"]) == pytest.approx(
        float(z[..., 1:-1, 1:-1].double().var(correction=0)), rel=1e-9
    )
    row, column = reading.geometry.sampled(500, torch.device("cpu"))
    assert interior[row, column].all()
    assert len({*zip(row.tolist(), column.tolist())}) == 42


def test_circular_padding_has_no_border(convolution, normal):
    columns = edges(
        convolution(
            normal(1, 40, 2, 6, 6),
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
            nn.SELU(),
        )
    )
    assert all(
        torch.isnan(values).all() == name.startswith("border_") for name, values in columns.items()
    )


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


def test_what_the_map_says_is_absent_behind_a_normalization(dense, normal):
    x, w = normal(1, 300, 20), normal(1, 30, 20, seed=1) / 20**0.5
    plain = dense(x, w, nn.SELU())
    z = functional.layer_norm(plain.pre_activation, (30,))
    reading = dataclasses.replace(
        plain, pre_activation=z, activation=functional.selu(z), weights_output=plain.pre_activation
    )
    columns = measure([reading], FULL)[0]
    for name in (
        "ladder_map",
        "ladder_weights",
        "ladder_mean_map",
        "residual_pooled",
        "residual_map",
        "empirical_slope",
    ):
        assert torch.isnan(columns[name]).all(), name
    for name in (
        "ladder_moments",
        "ladder_empirical",
        "residual_unit",
        "unit_wasserstein_q90",
        "normalized_excess_kurtosis",
    ):
        assert torch.isfinite(columns[name]).all(), name
    assert float(columns["ladder_empirical"]) < 1e-6
    assert float(columns["theorem"]) == 0.0
    before = measure([plain], FULL)[0]
    for name in (
        "mean_drive",
        "unit_variance_cv",
        "predicted_unit_variance_cv",
    ):  # these are about W x, wherever it goes
        torch.testing.assert_close(columns[name], before[name])
    assert "normalization" in why_absent(reading)
    assert "normalization" not in why_absent(plain)


def test_an_activation_that_is_flat_on_either_side_saturates_on_both(dense, normal):
    """Tanh is flat where |phi| > sqrt(0.9): left of the first crossing and right of the second, counted as in NumPy."""
    reading = dense(
        3.0 * normal(2, 200, 5), normal(2, 10, 5, seed=1), nn.Tanh(), 3.0 * normal(2, 10, seed=2)
    )
    flat = reading.activation.double().abs() > 0.9**0.5
    columns = saturation(reading)
    torch.testing.assert_close(
        columns["saturated_share"], flat.double().mean((1, 2)), rtol=0.0, atol=1e-12
    )
    torch.testing.assert_close(
        columns["dead_share"], flat.all(1).double().mean(1), rtol=0.0, atol=1e-12
    )


def test_constant_units_are_counted_and_left_out(dense, normal):
    w = normal(1, 12, 8, seed=1)
    w[0, :5] = 0.0
    bias = torch.linspace(-1.0, 1.0, 12).unsqueeze(0)
    columns = unit_gaussianity(dense(normal(1, 500, 8), w, nn.SELU(), bias))
    assert float(columns["constant_units"]) == 5
    rest = unit_gaussianity(dense(normal(1, 500, 8), w[:, 5:], nn.SELU(), bias[:, 5:]))
    for name in rest.keys() - {"constant_units"}:
        torch.testing.assert_close(columns[name], rest[name])
    whole, live = (
        correlations(dense(normal(1, 500, 8), part, nn.SELU(), one))
        for part, one in ((w, bias), (w[:, 5:], bias[:, 5:]))
    )
    torch.testing.assert_close(whole, live, rtol=1e-5, atol=1e-7)


def test_nothing_that_varies_is_no_number_and_never_zero(dense):
    silent = measure([dense(torch.zeros(1, 100, 6), torch.zeros(1, 10, 6), nn.SELU())], FULL)[0]
    for name in (
        "cosine",
        "input_cosine",
        "q_cv",
        "between_unit_share",
        "mean_drive",
        "pooled_skewness",
        "pooled_wasserstein",
        "normalized_kolmogorov",
        "unit_skewness_q50",
        "unit_wasserstein_q90",
        "mean_abs_correlation",
        "participation_ratio",
        "entropy_rank",
        "unit_variance_cv",
        "predicted_unit_variance_cv",
        "input_participation_ratio",
        "residual_unit",
        "residual_map",
        "empirical_slope",
    ):
        assert torch.isnan(silent[name]).all(), name
    assert float(silent["zero_norm_samples"]) == 100
    assert float(silent["constant_units"]) == 10


def test_zero_norm_samples_are_dropped_from_the_cosine(dense, normal):
    x = normal(1, 60, 9).abs()
    padded = torch.cat([x, torch.zeros(1, 7, 9)], 1)
    w = normal(1, 10, 9, seed=1)
    for statistic, prefix in ((inputs, "input_"), (lengths, "")):
        full, clean = statistic(dense(padded, w, nn.SELU())), statistic(dense(x, w, nn.SELU()))
        assert float(full[f"{prefix}zero_norm_samples"]) == 7
        torch.testing.assert_close(full[f"{prefix}cosine"], clean[f"{prefix}cosine"])


def test_too_few_samples_for_a_shape(dense, normal):
    reading = dense(normal(1, 20, 6), normal(1, 10, 6, seed=1), nn.SELU())
    columns = unit_gaussianity(reading)
    assert all(
        torch.isnan(values).all() for name, values in columns.items() if name.startswith("unit_")
    )
    assert "20 samples" in why_absent(reading)
    two = measure([dense(normal(1, 2, 6), normal(1, 10, 6, seed=1), nn.SELU())], FULL)[0]
    assert torch.isnan(two["mean_abs_correlation_null"]).all()
    assert torch.isfinite(two["pre_activation_variance"]).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_trial_is_no_number_and_costs_no_other(dense, normal, bad):
    x, w = normal(3, 80, 12), normal(3, 10, 12, seed=1) / 4
    reading = dense(x, w, nn.SELU())
    broken = w.clone()
    broken[1, 4, 2] = bad
    gradients = {"gradient": reading.gradient, "weight_gradient": reading.weight_gradient}
    columns, clean = (
        measure([one], FULL)[0] for one in (dense(x, broken, nn.SELU(), **gradients), reading)
    )
    for name, values in columns.items():
        torch.testing.assert_close(
            values[[0, 2]],
            clean[name][[0, 2]],
            equal_nan=True,
            rtol=1e-5,
            atol=1e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    told = {
        name
        for name, values in columns.items()
        if not torch.isfinite(values[1]) and torch.isfinite(clean[name][1])
    }
    untouched = {
        name
        for name in columns
        if name.startswith(
            ("input_", "predicted_pooled", "predicted_mean_drive", "weight_gradient", "gradient")
        )
        or name.endswith("_null")
    }
    untold = columns.keys() - untouched - told
    if bad == float("inf"):  # one infinite unit leaves the others' quantiles where they are
        untold -= {name for name in untold if name.endswith(("_q05", "_q50", "_q95"))}
    assert untold <= {
        "zero_norm_samples",
        "constant_units",
        "update_ratio",
    }  # counts, and what was absent before


def test_layers_of_one_shape_are_measured_as_if_alone(deep, normal):
    readings = deep(normal(120, 16), 5, 16, nn.SELU(), 1.0)
    together, alone = measure(readings, FULL), [measure([reading], FULL)[0] for reading in readings]
    for number, columns in enumerate(together):
        assert columns.keys() == alone[number].keys()
        for name in columns.keys() - {"gradient_gain", "gradient_product"}:
            torch.testing.assert_close(
                columns[name],
                alone[number][name],
                equal_nan=True,
                rtol=1e-5,
                atol=1e-7,
                msg=lambda text, name=name: f"{name}: {text}",
            )
    squares = torch.stack([columns["gradient_square"] for columns in together])
    torch.testing.assert_close(
        torch.stack([columns["gradient_product"] for columns in together]), squares / squares[-1]
    )


def test_a_bounded_sample_of_a_large_layer(dense, normal):
    reading = dense(normal(1, 1500, 3000), normal(1, 600, 3000, seed=1) / 3000**0.5, nn.SELU())
    assert reading.rows.inputs.shape == (1, 2**21 // 3000, 3000)
    columns = measure([reading], FULL)[0]
    assert float(columns["input_participation_ratio"]) == pytest.approx(3000, rel=0.1)
    assert float(columns["unit_variance_cv"]) == pytest.approx(
        float(columns["predicted_unit_variance_cv"]), rel=0.15
    )


def test_positions_are_evenly_spread():
    counts = torch.bincount(spread(1000, 25, torch.device("cpu")), minlength=25)
    assert counts.min() >= 38
    assert counts.max() <= 42
    assert Geometry(nn.Conv2d(1, 1, 5), 4, 9).outputs == (0, 5)


def test_standard_takes_all_but_intervals_at_the_ends_only():
    assert chosen("full", False) == FULL
    assert chosen("standard", True) == STANDARD
    assert chosen("standard", False) == QUICK
    assert set(FULL) - set(STANDARD) == {bands}
    assert set(QUICK) < set(STANDARD)
    assert {theorem, theorem_shares, between_unit_share} < set(QUICK)
    assert variance_law in FULL
    assert pooled_gaussianity in FULL
