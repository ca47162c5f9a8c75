"""Predicting which trials train: areas under ROC curves with intervals stratified by task."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray
from scipy import stats

# A trial trains if it gets at least this share of the way from chance to a perfect score on the
# samples it is trained on.
TRAINS = 0.5
_RESAMPLES = 1000
_RANDOM_SEED = 20170608


@dataclass(frozen=True)
class Discrimination:
    """Area under the ROC curve of a score for an outcome, with a 95 % interval.

    `positives` and `negatives` count the outcomes.
    """

    area: float
    low: float
    high: float
    positives: int
    negatives: int

    @property
    def words(self) -> str:
        """The area with its interval."""
        return f"{self.area:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def numbers(self, name: str) -> dict[str, float]:
        """The area and its ends by name, for JSON."""
        return {f"{name}_area": self.area, f"{name}_low": self.low, f"{name}_high": self.high}


def trains(trials: pandas.DataFrame) -> pandas.Series:
    """Returns for each trial whether it trains.

    A trial trains if it did not diverge and its training accuracy is at least half way from chance
    to 1. The training samples are asked, not the test set: this is about optimisation.
    """
    chance = trials["chance"].astype(float)
    accuracy = trials["train_accuracy"].astype(float).fillna(0.0)
    reached = (accuracy - chance) / (1.0 - chance) >= TRAINS
    return reached & (trials["status"] != "diverged")


def area_under_curve(score: NDArray[numpy.float64], outcome: NDArray[numpy.bool_]) -> float:
    """Returns the share of (positive, negative) pairs whose positive has the higher score.

    Ties count half (Hanley and McNeil 1982). NaN where one outcome is missing.
    """
    positives = int(outcome.sum())
    negatives = len(outcome) - positives
    if not positives or not negatives:
        return numpy.nan
    ranks = stats.rankdata(score)
    return float((ranks[outcome].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def discrimination(
    score: pandas.Series, outcome: pandas.Series, strata: pandas.Series | None = None
) -> Discrimination:
    """Returns the area of a score with a percentile bootstrap interval.

    Args:
        score: (trials,), higher where a trial is expected to train; NaN is left out.
        outcome: (trials,) whether it did.
        strata: (trials,) resampling keeps the number of trials of each stratum.
    """
    kept = score.notna().to_numpy()
    values = score.to_numpy(float)[kept]
    outcomes = outcome.to_numpy(bool)[kept]
    area = area_under_curve(values, outcomes)
    positives = int(outcomes.sum())
    if numpy.isnan(area):
        return Discrimination(area, numpy.nan, numpy.nan, positives, len(outcomes) - positives)
    groups = _groups(None if strata is None else strata[kept], len(values))
    generator = numpy.random.default_rng(_RANDOM_SEED)
    areas = []
    for _ in range(_RESAMPLES):
        draws = [group[generator.integers(len(group), size=len(group))] for group in groups]
        rows = numpy.concatenate(draws)
        areas.append(area_under_curve(values[rows], outcomes[rows]))
    low, high = numpy.nanquantile(areas, [0.025, 0.975])
    return Discrimination(area, float(low), float(high), positives, len(outcomes) - positives)


def within_strata(
    score: pandas.Series, outcome: pandas.Series, strata: pandas.Series
) -> pandas.DataFrame:
    """Returns the area inside each stratum that has both outcomes: stratum, area, trials."""
    rows: list[dict[str, Hashable]] = []
    for stratum, index in strata.groupby(strata).groups.items():
        values = score.loc[index].to_numpy(float)
        outcomes = outcome.loc[index].to_numpy(bool)
        known = ~numpy.isnan(values)
        area = area_under_curve(values[known], outcomes[known])
        if not numpy.isnan(area):
            rows.append({"stratum": stratum, "area": area, "trials": int(known.sum())})
    return pandas.DataFrame(rows, columns=["stratum", "area", "trials"])


def calibration(
    probability: pandas.Series, outcome: pandas.Series, bins: int = 10
) -> pandas.DataFrame:
    """Returns by bins of equal count: mean predicted probability, observed share, count."""
    order = probability.rank(method="first")
    groups = pandas.cut(order, min(bins, max(1, len(order) // 5)), labels=False)
    frame = pandas.DataFrame({"predicted": probability, "observed": outcome.astype(float)})
    grouped = frame.groupby(groups)
    table = grouped.mean()
    table["count"] = grouped.size()
    return table.reset_index(drop=True)


def _groups(strata: pandas.Series | None, count: int) -> list[NDArray[numpy.int64]]:
    if strata is None:
        return [numpy.arange(count)]
    codes = strata.factorize()[0]
    return [numpy.flatnonzero(codes == code) for code in range(codes.max() + 1)]
