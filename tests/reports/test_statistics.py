"""Intervals and tests against reference values, and their coverage by simulation."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.reports import statistics


def test_t_interval_is_scipys():
    values = [0.91, 0.95, 0.93, 0.90]
    interval = statistics.mean_interval(values)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high, interval.n) == (
        pytest.approx(reference.low),
        pytest.approx(reference.high),
        4,
    )
    assert numpy.isnan(statistics.mean_interval([0.5]).low)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers(n):
    draws = numpy.random.default_rng(1).normal(0.9, 0.02, (4000, n))
    half = statistics.half_width(draws.std(1, ddof=1), n)
    covered = (numpy.abs(draws.mean(1) - 0.9) <= half).mean()
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)


@pytest.mark.parametrize("successes, n", [(0, 3), (3, 3), (1, 10), (7, 10)])
def test_wilson_solves_the_score_equation(successes, n):
    # Wilson (1927): solve |share - p| = z sqrt(p (1 - p) / n) for p.
    interval = statistics.wilson(successes, n)
    z = stats.norm.ppf(0.975)
    for bound in (interval.low, interval.high):
        distance = abs(successes / n - bound)
        assert distance == pytest.approx(z * (bound * (1 - bound) / n) ** 0.5, abs=1e-12)
    assert interval.low <= successes / n <= interval.high
    assert proportion_confint(successes, n, method="wilson") == pytest.approx(
        (interval.low, interval.high), abs=1e-12
    )


def test_paired_difference_is_scipys_paired_t():
    ours, theirs = numpy.array([0.9, 0.92, 0.95, 0.91]), numpy.array([0.88, 0.93, 0.9, 0.89])
    difference = statistics.paired_difference(ours - theirs)
    reference = stats.ttest_rel(ours, theirs)
    assert difference.p_value == pytest.approx(reference.pvalue)
    assert difference.interval.low == pytest.approx(reference.confidence_interval().low)


def test_sign_flips_are_exact():
    # Of 2^3 labellings only the observed one and its mirror image reach the sum: 2/8.
    assert statistics.sign_flip([0.1, 0.2, 0.3]) == pytest.approx(0.25)
    assert statistics.sign_flip([0.1, -0.1]) == pytest.approx(1.0)


@pytest.mark.parametrize("pairs", [2, 5, 8])
def test_exact_sign_flips_are_scipys_permutation_test(pairs):
    differences = numpy.random.default_rng(pairs).normal(0.3, 1.0, pairs)
    reference = stats.permutation_test(
        (differences,), numpy.sum, permutation_type="samples", n_resamples=numpy.inf
    )
    assert statistics.sign_flip(differences) == pytest.approx(reference.pvalue)


def test_equal_differences_have_no_t_test():
    difference = statistics.paired_difference([0.1, 0.1, 0.1])
    assert numpy.isnan(difference.p_value)
    assert difference.p_sign_flip == pytest.approx(0.25)
    assert statistics.paired_difference([0.0, 0.0]).p_value == 1.0


def test_holm_by_hand():
    # Holm 1979: sorted 0.01, 0.02, 0.04 times 3, 2, 1, made monotone.
    assert statistics.holm([0.04, 0.01, numpy.nan, 0.02]) == pytest.approx(
        [0.04, 0.03, numpy.nan, 0.04], nan_ok=True
    )


def test_expected_best_of_draws_by_hand():
    # Two of three draws: the best by validation is the top one in 2 of 3 pairs, the middle one
    # in 1 of 3.
    assert statistics.expected_best([1, 2, 3], [10.0, 20.0, 30.0], 2) == pytest.approx(
        (2 * 30 + 20) / 3
    )


def test_bootstrap_only_from_ten_seeds():
    values = numpy.random.default_rng(0).normal(0.5, 0.1, (2, 10))
    wide = statistics.aggregate(list(values))
    assert wide.low < values.mean() < wide.high
    assert numpy.isnan(statistics.aggregate([values[0][:9], values[1]]).low)


def test_numbers_are_frozen():
    """Reports of one version of the rules give the same numbers, bootstrap included."""
    generator = numpy.random.default_rng(0)
    ours = list(generator.normal(0.5, 0.1, (2, 10)))
    theirs = list(generator.normal(0.45, 0.1, (2, 10)))
    frozen = {
        statistics.aggregate(ours): (0.48168216825712734, 0.4465201999032426, 0.5148679959099454),
        statistics.aggregate(ours, robust=True): (
            0.4826315187035438,
            0.4469857195046847,
            0.5206592028491801,
        ),
        statistics.probability_of_improvement(ours, theirs): (0.61, 0.42, 0.775),
        statistics.wilson(7, 10): (0.7, 0.39677814746114537, 0.8922087325936989),
        statistics.mean_interval([0.02, 0.01, 0.05, -0.01, 0.03]): (
            0.02,
            -0.007764451051977931,
            0.047764451051977935,
        ),
    }
    for interval, numbers in frozen.items():
        assert (interval.value, interval.low, interval.high) == pytest.approx(numbers, abs=1e-12)
    difference = statistics.paired_difference([0.02, 0.01, 0.05, -0.01, 0.03])
    assert difference.p_value == pytest.approx(0.11611652351681556, abs=1e-12)
    assert difference.effect_size == pytest.approx(0.8944271909999159, abs=1e-12)
    assert statistics.holm([0.04, 0.01, 0.03, 0.2]) == pytest.approx([0.09, 0.04, 0.09, 0.2])


def test_probability_of_improvement_counts_ties_half():
    interval = statistics.probability_of_improvement([[1.0, 2.0]], [[1.0, 0.0]])
    assert interval.value == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_differences_at_once_are_those_one_by_one():
    generator = numpy.random.default_rng(5)
    table = generator.normal(0.1, 1.0, (40, 6))
    table[generator.random((40, 6)) < 0.25] = numpy.nan
    table[0] = 0.0
    table[1] = 0.5
    table[2] = [numpy.nan] * 5 + [1.0]
    at_once = statistics.paired_differences(table)
    for place, row in enumerate(table):
        single = statistics.paired_difference(row)
        expected = {
            "n": single.interval.n,
            "difference": single.interval.value,
            "low": single.interval.low,
            "high": single.interval.high,
            "effect_size": single.effect_size,
            "p_value": single.p_value,
            "p_sign_flip": single.p_sign_flip,
        }
        found = {name: float(values[place]) for name, values in at_once.items()}
        assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_wilsons_interval_covers(share):
    generator = numpy.random.default_rng(4)
    counts = generator.binomial(20, share, 2000)
    intervals = {int(count): statistics.wilson(int(count), 20) for count in set(counts)}
    covered = [intervals[int(n)].low <= share <= intervals[int(n)].high for n in counts]
    assert numpy.mean(covered) > 0.9


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_differences_cover(seeds):
    generator = numpy.random.default_rng(6)
    table = generator.normal(0.02, 0.01, (4000, seeds))
    found = statistics.paired_differences(table)
    covered = (found["low"] <= 0.02) & (found["high"] >= 0.02)
    assert numpy.mean(covered) == pytest.approx(0.95, abs=0.015)
