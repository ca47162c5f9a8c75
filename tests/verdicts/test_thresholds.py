"""Thresholds are a theorem's own, or have the consequence that is said of them."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, wasserstein_distance

from harness.theory.selu import THEOREM_1_BOX, THEOREM_2, map_moments, selu
from harness.verdicts import thresholds
from harness.verdicts.criteria import load

CRITERIA = load().criteria


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: criterion.column)
def test_every_threshold_has_a_basis_and_a_consequence(criterion):
    assert criterion.basis in thresholds.BASES
    assert len(criterion.consequence.split()) > 4


def test_thresholds_of_moments_and_weights_are_the_theorems():
    by_column = {criterion.column: criterion for criterion in CRITERIA}
    for column in ("input_mean", "activation_mean"):
        assert by_column[column].holds == THEOREM_1_BOX.mu == (-0.1, 0.1)
        assert by_column[column].strained == THEOREM_2.boxes[0].mu == (-1.0, 1.0)
    for column in ("input_variance", "activation_variance"):
        assert by_column[column].holds == THEOREM_1_BOX.nu == (0.8, 1.5)
        assert by_column[column].strained == (0.16, 3.0)
    assert by_column["tau_mean"].holds == THEOREM_1_BOX.tau == (0.95, 1.1)


def test_a_spread_keeps_nine_of_ten_or_half_of_the_units_inside():
    def variance(tau: float) -> float:
        return float(map_moments(0.0, 1.0, 0.0, tau)[1])

    lowest, highest = THEOREM_1_BOX.nu
    low = brentq(lambda tau: variance(tau) - lowest, 0.3, 1)
    high = brentq(lambda tau: variance(tau) - highest, 1, 3)
    assert (low, high) == pytest.approx((0.753, 1.683), abs=1e-3)
    for spread, share in (
        (thresholds.SPREAD_HOLDS[1], thresholds.SHARE_HOLDS[0]),
        (thresholds.SPREAD_STRAINED[1], thresholds.SHARE_STRAINED[0]),
    ):
        inside = norm.cdf((high - 1) / spread) - norm.cdf((low - 1) / spread)
        assert inside == pytest.approx(share, abs=0.01)


def test_a_shift_leaves_a_unit_the_lowest_variance_of_the_theorem():
    shift = thresholds.SHIFT_HOLDS[1]
    assert shift == pytest.approx(0.5)
    assert 1 / (1 + shift**2) == pytest.approx(THEOREM_1_BOX.nu[0])
    assert 1 / (1 + thresholds.SHIFT_STRAINED[1] ** 2) == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_a_distance_bounds_how_far_the_mean_of_selu_moves(seed):
    generator = numpy.random.default_rng(seed)
    # Mixtures of two Gaussians, standardized.
    share, gap, scale = generator.uniform((0.05, 0, 0.2), (0.95, 6, 3))
    first = generator.random(20_000) < share
    values = numpy.where(
        first, generator.normal(0, 1, 20_000), generator.normal(gap, scale, 20_000)
    )
    values = (values - values.mean()) / values.std()
    gaussian = norm.ppf((numpy.arange(20_000) + 0.5) / 20_000)
    distance = wasserstein_distance(values, gaussian)
    moved = abs(selu(values).mean() - selu(gaussian).mean())
    per_distance = THEOREM_1_BOX.mu[1] / thresholds.DISTANCE_HOLDS[1]
    assert moved <= per_distance * distance + 1e-3
    assert per_distance == pytest.approx(0.879, abs=1e-3)


def test_a_correlation_spreads_the_variances_of_the_next_layer():
    generator = numpy.random.default_rng(0)
    inputs, samples = 200, 4_000
    common = generator.normal(size=(samples, 10)) @ generator.normal(size=(10, inputs))
    signals = common / numpy.sqrt(10) + generator.normal(size=(samples, inputs))
    signals = (signals - signals.mean(0)) / signals.std(0)
    correlation = numpy.corrcoef(signals.T)
    off_diagonal = correlation[~numpy.eye(inputs, dtype=bool)]
    spread_of_correlation = numpy.abs(off_diagonal).mean()
    units = signals @ generator.normal(size=(inputs, 2_000)) / math.sqrt(inputs)
    variances = units.var(0)
    beyond = (variances.std() / variances.mean()) ** 2 - 2 / inputs
    predicted = math.sqrt(math.pi) * spread_of_correlation
    assert math.sqrt(beyond) == pytest.approx(predicted, rel=0.1)
    ratio = thresholds.SPREAD_HOLDS[1] / thresholds.CORRELATION_HOLDS[1]
    assert ratio == pytest.approx(math.sqrt(math.pi))


def test_an_error_takes_a_variance_of_one_to_the_ends_of_the_domain():
    assert 1 - thresholds.ERROR_HOLDS[1] == pytest.approx(THEOREM_1_BOX.nu[0])
    assert 1 + thresholds.ERROR_STRAINED[1] == pytest.approx(THEOREM_1_BOX.nu[1])


def test_a_slope_halves_or_doubles_a_deviation_within_so_many_layers():
    slope = next(criterion for criterion in CRITERIA if criterion.column == "empirical_slope")
    assert slope.holds[1] ** 14 < 0.5 < slope.holds[1] ** 13
    assert slope.strained[1] ** 15 > 2 > slope.strained[1] ** 14


def test_a_distance_from_the_pooled_map_stays_inside_the_variances():
    distance = next(criterion for criterion in CRITERIA if criterion.column == "residual_pooled")
    # At (0, 1) distances are relative to sqrt(1 + 0 + 1).
    assert 1 - distance.holds[1] * math.sqrt(2) > THEOREM_1_BOX.nu[0]
    assert 1 + distance.strained[1] * math.sqrt(2) < THEOREM_1_BOX.nu[1]


def test_factors_of_gradients():
    criterion = next(item for item in CRITERIA if item.condition == "gradients")
    assert math.exp(criterion.holds[1]) == pytest.approx(10)
    assert math.exp(criterion.strained[1]) == pytest.approx(1000)
    assert criterion.holds[0] == -criterion.holds[1]
