"""Intervals and tests against reference values, and their coverage by simulation."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats

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
def test_wilson_is_scipys(successes, n):
    interval, reference = (
        statistics.wilson(successes, n),
        stats.binomtest(successes, n).proportion_ci(method="wilson"),
    )
    assert (interval.low, interval.high) == pytest.approx(
        (reference.low, reference.high), abs=1e-12
    )


def test_paired_difference_is_scipys_paired_t():
    ours, theirs = numpy.array([0.9, 0.92, 0.95, 0.91]), numpy.array([0.88, 0.93, 0.9, 0.89])
    difference, reference = (
        statistics.paired_difference(ours - theirs),
        stats.ttest_rel(ours, theirs),
    )
    assert difference.p_value == pytest.approx(reference.pvalue)
    assert difference.interval.low == pytest.approx(reference.confidence_interval().low)


def test_sign_flips_are_exact():
    # Of 2^3 labellings only the observed one and its mirror image reach the sum: 2/8.
    assert statistics.sign_flip([0.1, 0.2, 0.3]) == pytest.approx(0.25)
    assert statistics.sign_flip([0.1, -0.1]) == pytest.approx(1.0)


def test_holm_by_hand():
    # Holm 1979: sorted 0.01, 0.02, 0.04 times 3, 2, 1, made monotone.
    assert statistics.holm([0.04, 0.01, numpy.nan, 0.02]) == pytest.approx(
        [0.04, 0.03, numpy.nan, 0.04], nan_ok=True
    )


def test_expected_best_of_draws_by_hand():
    # Two of three draws: the best by validation is the top one in 2 of 3 pairs, the middle one in 1 of 3.
    assert statistics.expected_best([1, 2, 3], [10.0, 20.0, 30.0], 2) == pytest.approx(
        (2 * 30 + 20) / 3
    )


def test_bootstrap_only_from_ten_seeds():
    values = numpy.random.default_rng(0).normal(0.5, 0.1, (2, 10))
    wide = statistics.aggregate(list(values))
    assert wide.low < values.mean() < wide.high
    assert numpy.isnan(statistics.aggregate([values[0][:9], values[1]]).low)
