"""Intervals of measured columns: their coverage and width, and what is drawn as one."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from harness.probes.bootstrap import Resampled, draws
from harness.probes.readings import why_absent
from harness.probes.reductions import unit_moments
from harness.probes.statistics.contraction import contraction, empirical_slope
from harness.probes.statistics.gaussianity import pooled_gaussianity
from harness.probes.statistics.intervals import intervals
from harness.probes.statistics.moments import inputs, moments
from harness.probes.statistics.weights import inside_theorem_1, theorem_shares
from harness.theory.selu.moment_map import map_moments

COLUMNS = (
    "residual_map",
    "residual_unit",
    "theorem_1_moment_share",
    "activation_mean",
    "activation_variance",
    "input_mean",
    "input_variance",
    "residual_pooled",
    "empirical_slope",
    "normalized_wasserstein",
)
NUMBERS = (
    "input_mean",
    "input_variance",
    "activation_mean",
    "activation_variance",
    "empirical_slope",
)
REPLICATIONS, SAMPLES, UNITS, FAN_IN = 200, 400, 48, 32


def measured(reading):
    """The columns that have intervals, and others."""
    columns = {}
    for statistic in (
        contraction,
        empirical_slope,
        theorem_shares,
        moments,
        inputs,
        pooled_gaussianity,
    ):
        columns |= statistic(reading)
    return columns


def ends(*names):
    """The names of the two ends of the columns' intervals."""
    return {f"{name}_{end}" for name in names for end in ("low", "high")}


def absent_columns(columns):
    """Names of columns without their ends, whose values are all NaN."""
    return {
        name.rpartition("_")[0] for name, values in columns.items() if bool(values.isnan().all())
    }


def taus() -> np.ndarray:
    """Quantiles of tau, chi-square(FAN_IN) / FAN_IN, of Gaussian weights."""
    return stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, FAN_IN) / FAN_IN


def pooled_selu(factor: float = 1.0) -> tuple[float, float]:
    """Pooled mean and variance of SELU units whose z has variance factor * tau."""
    mean, variance = map_moments(0.0, factor * taus(), 0.0, 1.0)
    return mean.mean(), variance.mean() + mean.var()


def truth() -> dict[str, float]:
    """Values for infinitely many samples and units.

    Gaussian weights on independent standard normal inputs.
    """
    mean, variance = pooled_selu()
    map_mean, map_variance = map_moments(0.0, 1.0, 0.0, 1.0)
    unit_mean, unit_variance = map_moments(0.0, taus(), 0.0, 1.0)
    inside = inside_theorem_1(torch.tensor(unit_mean), torch.tensor(unit_variance))
    _, high = pooled_selu(1.21)
    _, low = pooled_selu(0.81)
    return {
        "input_mean": 0.0,
        "input_variance": 1.0,
        "activation_mean": mean,
        "activation_variance": variance,
        "residual_pooled": np.hypot(mean - map_mean, variance - map_variance),
        "residual_unit": 0.0,
        "residual_map": 0.0,
        "normalized_wasserstein": 0.0,
        "theorem_1_moment_share": float(inside.double().mean()),
        "empirical_slope": np.log(high / low) / np.log(1.21 / 0.81),
    }


def test_intervals_hold_the_truth_and_are_not_much_wider_than_needed(dense, normal):
    columns = collections.defaultdict(list)
    for seed in range(REPLICATIONS):
        weight = normal(1, UNITS, FAN_IN, seed=2 * seed + 1) / FAN_IN**0.5
        reading = dense(normal(1, SAMPLES, FAN_IN, seed=2 * seed), weight, nn.SELU())
        for name, values in (measured(reading) | intervals(reading)).items():
            columns[name].append(float(values))
    columns = {name: np.array(values) for name, values in columns.items()}
    # A correct 99 % interval misses at most this often, except one time in a thousand.
    most_misses = stats.binom.ppf(0.999, REPLICATIONS, 0.01)
    assert set(truth()) == set(COLUMNS)
    for name, exact in truth().items():
        missed = (columns[f"{name}_low"] > exact) | (columns[f"{name}_high"] < exact)
        misses = int(missed.sum())
        assert misses <= most_misses, (
            f"{name}: {misses} of {REPLICATIONS} intervals miss {exact:.4g}"
        )
    for name in NUMBERS:
        width = (columns[f"{name}_high"] - columns[f"{name}_low"]).mean()
        ratio = width / (2 * 2.5758 * columns[name].std(ddof=1))
        assert 0.9 < ratio < np.sqrt(3), (
            f"{name}: the interval is {ratio:.2f} times as wide as the numbers spread"
        )


@pytest.mark.parametrize("shape, is_distant", [(0.0, False), (1.0, True)])
def test_the_interval_of_a_distance_tells_it_from_none(dense, normal, shape, is_distant):
    # Samples of two lengths make every unit a mixture of two Gaussians, which its own Gaussian
    # cannot describe.
    lengths = 1 + shape * torch.where(torch.arange(512) % 2 == 0, 0.6, -0.6).view(1, -1, 1)
    reading = dense(lengths * normal(1, 512, 64), normal(1, 64, 64, seed=1) / 8, nn.ReLU())
    columns = measured(reading) | intervals(reading)
    assert (float(columns["residual_unit_low"]) > 0) == is_distant
    assert columns["residual_unit_low"] <= columns["residual_unit"]
    assert columns["residual_unit"] <= columns["residual_unit_high"]


def test_replicates_are_those_of_samples_drawn_with_replacement(normal):
    values = 3 + 2 * normal(2, 40, 9)
    resampled = Resampled.of(values, unit_moments(values))
    indices = draws(40, "samples", torch.device("cpu")).indices
    # (trials, replicates, samples, units)
    drawn = values.double()[:, indices]
    by_unit = resampled.by_unit()
    pairs = [
        (by_unit.mean.double(), drawn.mean(2)),
        (by_unit.variance.double(), drawn.var(2, correction=0)),
        (resampled.over_samples.mean, drawn.mean((2, 3))),
        (resampled.over_samples.variance, drawn.var((2, 3), correction=0)),
    ]
    for computed, expected in pairs:
        torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-5)


def assert_columns_close(columns, expected, names=None):
    for name in expected.keys() if names is None else names:
        torch.testing.assert_close(
            columns[name],
            expected[name],
            rtol=1e-4,
            atol=1e-4,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_neighbours_that_are_one_sample_count_once(dense, normal):
    x = normal(1, 256, 20)
    weight = normal(1, 16, 20, seed=1) / 20**0.5
    once = intervals(dense(x, weight, nn.SELU()))
    twice = intervals(dense(x.repeat_interleave(2, 1), weight, nn.SELU()))
    # The empirical slope is read on the first rows only.
    assert_columns_close(twice, once, once.keys() - ends("empirical_slope"))


def test_the_positions_of_an_image_are_no_samples(convolution, dense, normal):
    # Where all positions of an image are equal, there are as many draws as images.
    x = normal(1, 200, 12)
    layer = nn.Conv2d(12, 10, 1, bias=False)
    maps = x[..., None, None].expand(-1, -1, -1, 6, 6).contiguous()
    everywhere = intervals(convolution(maps, layer, nn.SELU()))
    alone = intervals(dense(x, layer.weight.detach().flatten(1)[None], nn.SELU()))
    assert everywhere.keys() == ends(*COLUMNS)
    assert alone.keys() == ends(*COLUMNS)
    assert_columns_close(everywhere, alone)


def test_a_layer_has_the_same_interval_in_any_pack(dense, normal):
    x = normal(3, 300, 24)
    weight = normal(3, 32, 24, seed=1) / 24**0.5
    together = intervals(dense(x, weight, nn.SELU()))
    again = intervals(dense(x, weight, nn.SELU()))
    for index in range(3):
        trial = slice(index, index + 1)
        alone = intervals(dense(x[trial], weight[trial], nn.SELU()))
        for name, values in together.items():
            torch.testing.assert_close(values[trial], alone[name], rtol=1e-5, atol=1e-6)
            assert torch.equal(values, again[name])


def test_too_few_input_channels_have_no_interval_of_the_inputs(convolution, normal):
    few_channels = convolution(normal(1, 64, 3, 8, 8), nn.Conv2d(3, 16, 3, padding=1), nn.SELU())
    assert absent_columns(intervals(few_channels)) == {"input_mean", "input_variance"}
    assert "no interval from 3 input channels" in why_absent(few_channels)


def test_too_few_units_have_intervals_of_the_inputs_only(dense, normal):
    one_unit = dense(normal(1, 64, 20), normal(1, 1, 20, seed=1), nn.SELU())
    columns = intervals(one_unit)
    assert absent_columns(columns) == set(COLUMNS) - {"input_mean", "input_variance"}
    for name in ends("input_mean", "input_variance"):
        assert columns[name].isfinite().all()
    assert "no interval from 1 units" in why_absent(one_unit)


def test_too_few_samples_have_no_interval(dense, normal):
    few_samples = dense(normal(1, 20, 20), normal(1, 16, 20, seed=1), nn.SELU())
    assert absent_columns(intervals(few_samples)) == set(COLUMNS)
    assert "20 samples are fewer than" in why_absent(few_samples)


def test_a_grouped_convolution_has_all_intervals(convolution, normal):
    grouped = convolution(normal(1, 64, 16, 6, 6), nn.Conv2d(16, 32, 3, groups=4), nn.SELU())
    assert all(values.isfinite().all() for values in intervals(grouped).values())


def test_a_normalization_leaves_no_interval_of_the_map(dense, normal):
    plain = dense(normal(1, 100, 20), normal(1, 16, 20, seed=1) / 20**0.5, nn.SELU())
    normalized = dataclasses.replace(plain, weights_output=2 * plain.pre_activation)
    expected = {"residual_map", "residual_pooled", "empirical_slope"}
    assert absent_columns(intervals(normalized)) == expected


def test_constant_units_leave_intervals_finite(dense, normal):
    weight = normal(1, 16, 20, seed=1) / 20**0.5
    weight[:, :2] = 0.0
    columns = intervals(dense(normal(1, 100, 20), weight, nn.SELU()))
    assert all(values.isfinite().all() for values in columns.values())


def test_a_silent_layer_has_no_interval_of_a_ratio(dense, normal):
    silent = intervals(dense(normal(1, 100, 20), torch.zeros(1, 16, 20), nn.SELU()))
    ratios = {"residual_unit", "normalized_wasserstein", "empirical_slope"}
    assert ratios <= absent_columns(silent)


def test_infinite_units_have_intervals_of_the_inputs_only(dense, normal):
    weight = normal(1, 16, 20, seed=1) / 20**0.5
    weight[:, :2] = 0.0
    infinite = torch.full((1, 16), torch.inf)
    broken = intervals(dense(normal(1, 100, 20), weight, nn.SELU(), bias=infinite))
    assert {name for name in COLUMNS if not name.startswith("input")} <= absent_columns(broken)


def test_a_share_of_none_has_wilsons_interval(dense, normal):
    # No unit of a layer with hundredfold weights lies in Theorem 1's box: at 99 %, up to
    # z^2 / (units + z^2) of infinitely many units still may (Wilson 1927).
    columns = intervals(dense(normal(1, 100, 20), 100 * normal(1, 16, 20, seed=1), nn.SELU()))
    assert float(columns["theorem_1_moment_share_low"]) == 0.0
    expected = 2.5758**2 / (16 + 2.5758**2)
    assert float(columns["theorem_1_moment_share_high"]) == pytest.approx(expected)
