"""Areas under ROC curves: reference values, ties, strata, clusters and coverage."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy
import pandas
import pytest
from scipy import stats

import harness.reports
from harness.reports.roc_areas import area, area_difference


def series(*values) -> pandas.Series:
    return pandas.Series(values)


def plain_area(score: pandas.Series, outcome: pandas.Series):
    """The area with every trial a cell of its own, in one stratum."""
    cells = pandas.Series(range(len(score)))
    return area(score, outcome, cells, pandas.Series("all", index=score.index))


def test_area_is_the_mann_whitney_statistic():
    generator = numpy.random.default_rng(0)
    score = pandas.Series(generator.integers(0, 6, 40).astype(float))
    outcome = pandas.Series(generator.random(40) < 0.4)
    u = stats.mannwhitneyu(score[outcome], score[~outcome]).statistic
    found = plain_area(score, outcome)
    assert found.value == pytest.approx(u / (outcome.sum() * (~outcome).sum()))
    assert found.positives == outcome.sum()


def test_missing_scores_are_left_out():
    found = plain_area(series(1.0, 2.0, math.nan, 0.0), series(True, True, False, False))
    assert found.value == 1.0
    assert (found.positives, found.negatives) == (2, 1)


def test_one_outcome_has_no_area():
    assert math.isnan(plain_area(series(1.0, 2.0), series(True, True)).value)
    nothing = plain_area(series(math.nan, math.nan), series(True, False))
    assert math.isnan(nothing.value)


def test_a_perfect_area_has_a_width():
    score = pandas.Series(numpy.arange(20.0))
    found = plain_area(score, score >= 10)
    assert found.value == 1.0
    assert found.low < 0.95
    assert found.high == 1.0


def test_constant_scores_say_nothing():
    score = pandas.Series(numpy.ones(20))
    assert plain_area(score, pandas.Series(numpy.arange(20) < 7)).value == 0.5


def test_strata_ask_pairs_of_one_stratum_only():
    # Within each depth the score is perfect; between depths it is reversed.
    score = series(1.0, 0.0, 11.0, 10.0)
    outcome = series(True, False, True, False)
    strata = series(8, 8, 32, 32)
    cells = series("a", "b", "c", "d")
    assert area(score, outcome, cells, strata).value == 1.0
    assert area(score, outcome, cells, series(1, 1, 1, 1)).value == 0.75


def test_a_stratum_of_one_outcome_adds_nothing():
    score = series(1.0, 0.0, 5.0, 6.0)
    outcome = series(True, False, True, True)
    strata = series(8, 8, 32, 32)
    assert area(score, outcome, pandas.Series(range(4)), strata).value == 1.0


def simulated_coverage(by_cell: bool, draws: int) -> float:
    """The share of intervals that hold the true area, 20 cells of 4 equal seeds."""
    generator = numpy.random.default_rng(1)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    covered = []
    for _ in range(draws):
        outcome = generator.random(20) < 0.5
        score = generator.normal(size=20) + outcome
        trials = numpy.repeat(numpy.arange(20), 4)
        cells = pandas.Series(trials if by_cell else numpy.arange(80))
        one = pandas.Series("all", index=cells.index)
        found = area(pandas.Series(score[trials]), pandas.Series(outcome[trials]), cells, one)
        covered.append(found.low <= truth <= found.high)
    return float(numpy.mean(covered))


def test_intervals_cover_when_seeds_of_a_cell_agree_as_the_readme_says():
    readme = Path(harness.reports.__path__[0], "README.md").read_text(encoding="utf-8")
    trials, cells = re.search(
        r"counting trials covers about (\d+) %.*\s+and counting cells (\d+) % or more", readme
    ).groups()
    assert 100 * simulated_coverage(False, 100) == pytest.approx(float(trials), abs=9)
    assert 100 * simulated_coverage(True, 100) >= float(cells) - 3


def test_a_better_score_is_ahead_and_an_equal_one_is_not():
    generator = numpy.random.default_rng(2)
    outcome = pandas.Series(generator.random(80) < 0.5)
    good = pandas.Series(generator.normal(size=80)) + 3 * outcome
    poor = pandas.Series(generator.normal(size=80))
    cells = pandas.Series(range(80))
    one = pandas.Series("all", index=cells.index)
    _, low, _ = area_difference(good, poor, outcome, cells, one)
    assert low > 0
    same = area_difference(good, good, outcome, cells, one)
    assert same == (0.0, 0.0, 0.0)
