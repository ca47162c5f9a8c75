"""Promises about any layer: exact rungs, absent columns, and layers that are measured together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.networks.activations import activations
from harness.probes.measurement import FULL, measure
from harness.probes.readings import why_absent
from harness.probes.statistics.contraction import contraction, empirical_slope
from harness.probes.statistics.dependence import correlations
from harness.probes.statistics.gaussianity import unit_gaussianity
from harness.probes.statistics.moments import inputs, lengths
from harness.theory.selu import moment_map as selu


def assert_close(values, expected, name):
    torch.testing.assert_close(
        values,
        expected,
        equal_nan=True,
        rtol=1e-5,
        atol=1e-6,
        msg=lambda text: f"{name}: {text}",
    )


@pytest.mark.parametrize("name", activations.names())
def test_the_last_rung_is_exact_for_every_activation(dense, normal, name):
    weight = normal(2, 20, 30, seed=1) / 5
    columns = contraction(dense(0.3 + normal(2, 200, 30), weight, activations[name]()))
    assert float(columns["ladder_empirical"].abs().max()) < 1e-6
    for rung in ("map", "weights", "moments", "empirical"):
        mean = columns[f"ladder_mean_{rung}"].square()
        variance = columns[f"ladder_variance_{rung}"].square()
        torch.testing.assert_close(columns[f"ladder_{rung}"].square(), mean + variance)


# Sampling error of a mean and a variance over 4,000 samples, root mean square.
NOISE = 0.02


@pytest.fixture
def exact_weight(normal):
    """Weights of 60 units on 400 inputs with omega 0 and tau 1 in every unit."""
    w = normal(1, 60, 400, seed=1)
    return (w - w.mean(2, keepdim=True)) / w.std(2, correction=0, keepdim=True) / 20.0


@pytest.fixture
def independent_inputs(normal):
    return normal(1, 4000, 400, seed=2)


def test_the_ladder_has_no_error_where_all_assumptions_hold(
    dense, exact_weight, independent_inputs
):
    columns = contraction(dense(independent_inputs, exact_weight, nn.SELU()))
    assert float(columns["ladder_map"]) < 2.5 * NOISE


def test_unequal_weights_cost_the_first_rung(dense, exact_weight, independent_inputs):
    unequal = exact_weight * torch.linspace(0.7, 1.3, 60).view(1, -1, 1)
    columns = contraction(dense(independent_inputs, unequal, nn.SELU()))
    assert float(columns["ladder_map"]) > 0.2
    assert float(columns["ladder_weights"]) < 2.5 * NOISE


def test_dependent_inputs_cost_the_second_rung(dense, normal, exact_weight, independent_inputs):
    mixing = normal(400, 400, seed=3) @ torch.diag(torch.linspace(2, 0, 400) ** 4)
    columns = contraction(dense(independent_inputs @ mixing / 20, exact_weight, nn.SELU()))
    assert float(columns["ladder_weights"]) > 5 * float(columns["ladder_moments"])


def test_heavy_tails_cost_the_third_rung(dense, independent_inputs):
    sparse = torch.zeros(1, 60, 400)
    sparse[..., :2] = 0.5**0.5 * torch.tensor([1.0, -1.0])
    heavy_tailed = independent_inputs.pow(3) / 15**0.5
    columns = contraction(dense(heavy_tailed, sparse, nn.SELU()))
    assert float(columns["ladder_moments"]) > 0.15
    assert float(columns["ladder_empirical"]) < 1e-6


def test_the_empirical_slope_is_that_of_the_map(dense, normal):
    reading = dense(normal(1, 3000, 300), normal(1, 300, 300, seed=1) / 300**0.5, nn.SELU())
    expected = float(selu.jacobian(0.0, 1.0, 0.0, 1.0)[1, 1])
    slope = empirical_slope(reading)["empirical_slope"]
    assert float(slope) == pytest.approx(expected, abs=0.01)
    relu = dense(reading.inputs, reading.weight, nn.ReLU())
    assert float(empirical_slope(relu)["empirical_slope"]) == pytest.approx(1.0, abs=1e-6)


def test_a_normalization_leaves_no_column_that_rests_on_the_map(dense, normal):
    plain = dense(normal(1, 300, 20), normal(1, 30, 20, seed=1) / 20**0.5, nn.SELU())
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
    # These are about W x, with or without a normalization after it.
    without = measure([plain], FULL)[0]
    for name in ("mean_drive", "unit_variance_cv", "predicted_unit_variance_cv"):
        torch.testing.assert_close(columns[name], without[name])
    assert "normalization" in why_absent(reading)
    assert "normalization" not in why_absent(plain)


def test_constant_units_are_counted_and_left_out(dense, normal):
    x = normal(1, 500, 8)
    w = normal(1, 12, 8, seed=1)
    w[0, :5] = 0.0
    bias = torch.linspace(-1.0, 1.0, 12).unsqueeze(0)
    all_units = dense(x, w, nn.SELU(), bias)
    varying_units = dense(x, w[:, 5:], nn.SELU(), bias[:, 5:])
    columns = unit_gaussianity(all_units)
    assert float(columns["constant_units"]) == 5
    expected = unit_gaussianity(varying_units)
    for name in expected.keys() - {"constant_units"}:
        torch.testing.assert_close(columns[name], expected[name])
    columns = correlations(all_units)
    expected = correlations(varying_units)
    torch.testing.assert_close(columns, expected, rtol=1e-5, atol=1e-7)


def test_a_layer_without_variation_is_nan_and_never_zero(dense):
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


@pytest.mark.parametrize("statistic, prefix", [(inputs, "input_"), (lengths, "")])
def test_samples_of_norm_0_are_left_out_of_the_cosine(dense, normal, statistic, prefix):
    x = normal(1, 60, 9).abs()
    w = normal(1, 10, 9, seed=1)
    with_zeros = torch.cat([x, torch.zeros(1, 7, 9)], 1)
    columns = statistic(dense(with_zeros, w, nn.SELU()))
    expected = statistic(dense(x, w, nn.SELU()))
    assert float(columns[f"{prefix}zero_norm_samples"]) == 7
    torch.testing.assert_close(columns[f"{prefix}cosine"], expected[f"{prefix}cosine"])


def test_twenty_samples_have_no_shape(dense, normal):
    reading = dense(normal(1, 20, 6), normal(1, 10, 6, seed=1), nn.SELU())
    for name, values in unit_gaussianity(reading).items():
        assert torch.isnan(values).all() == name.startswith("unit_"), name
    assert "20 samples" in why_absent(reading)


def test_two_samples_have_moments_and_no_null_of_correlations(dense, normal):
    columns = measure([dense(normal(1, 2, 6), normal(1, 10, 6, seed=1), nn.SELU())], FULL)[0]
    assert torch.isnan(columns["mean_abs_correlation_null"]).all()
    assert torch.isfinite(columns["pre_activation_variance"]).all()


# Columns that a weight without a number leaves as they are: they are about other tensors.
_OF_OTHER_TENSORS = (
    "input_",
    "predicted_pooled",
    "predicted_mean_drive",
    "weight_gradient",
    "gradient",
)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_trial_is_nan_and_leaves_the_others_as_they_are(dense, normal, bad):
    x = normal(3, 80, 12)
    w = normal(3, 10, 12, seed=1) / 4
    reading = dense(x, w, nn.SELU())
    broken_weight = w.clone()
    broken_weight[1, 4, 2] = bad
    broken = dense(
        x,
        broken_weight,
        nn.SELU(),
        gradient=reading.gradient,
        weight_gradient=reading.weight_gradient,
    )
    columns = measure([broken], FULL)[0]
    expected = measure([reading], FULL)[0]
    for name, values in columns.items():
        assert_close(values[[0, 2]], expected[name][[0, 2]], name)
    still_finite = set()
    for name, values in columns.items():
        of_other_tensors = name.startswith(_OF_OTHER_TENSORS) or name.endswith("_null")
        turned_nan = not torch.isfinite(values[1]) and torch.isfinite(expected[name][1])
        if not of_other_tensors and not turned_nan:
            still_finite.add(name)
    if bad == float("inf"):
        # One infinite unit leaves the quantiles of the others where they are.
        quantiles = ("_q05", "_q50", "_q95")
        still_finite = {name for name in still_finite if not name.endswith(quantiles)}
    # Counts, and a column that was NaN before.
    assert still_finite <= {"zero_norm_samples", "constant_units", "update_ratio"}


def test_layers_of_one_shape_are_measured_as_if_alone(deep, normal):
    readings = deep(normal(120, 16), 5, 16, nn.SELU(), 1.0)
    together = measure(readings, FULL)
    for reading, columns in zip(readings, together, strict=True):
        alone = measure([reading], FULL)[0]
        assert columns.keys() == alone.keys()
        for name in columns.keys() - {"gradient_gain", "gradient_product"}:
            torch.testing.assert_close(
                columns[name],
                alone[name],
                equal_nan=True,
                rtol=1e-5,
                atol=1e-7,
                msg=lambda text, name=name: f"{name}: {text}",
            )


def test_gradient_ratios_compare_neighbours_and_the_last_layer(deep, normal):
    layers = measure(deep(normal(120, 16), 5, 16, nn.SELU(), 1.0), FULL)
    squares = torch.stack([columns["gradient_square"] for columns in layers])
    products = torch.stack([columns["gradient_product"] for columns in layers])
    gains = torch.stack([columns["gradient_gain"] for columns in layers])
    torch.testing.assert_close(products, squares / squares[-1])
    torch.testing.assert_close(gains[1:], squares[:-1] / squares[1:])
    assert torch.isnan(gains[0]).all()


def test_a_large_layer_is_read_on_a_bounded_sample(dense, normal):
    reading = dense(normal(1, 1500, 3000), normal(1, 600, 3000, seed=1) / 3000**0.5, nn.SELU())
    assert reading.rows.inputs.shape == (1, 2**21 // 3000, 3000)
    columns = measure([reading], FULL)[0]
    assert float(columns["input_participation_ratio"]) == pytest.approx(3000, rel=0.1)
    predicted = float(columns["predicted_unit_variance_cv"])
    assert float(columns["unit_variance_cv"]) == pytest.approx(predicted, rel=0.15)
