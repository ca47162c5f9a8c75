"""Areas under ROC curves with intervals in which cells are the replicates.

Seeds of one cell share every setting, so they mostly share the outcome as well. Resampling single
trials would count them as independent and give intervals that are too short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import pandas
from numpy.typing import NDArray
from scipy import optimize, stats

from harness.reports.statistics import LEVEL

Array = NDArray[numpy.float64]

_RESAMPLES = 400
_RANDOM_SEED = 20170608


@dataclass(frozen=True)
class Area:
    """The area under a ROC curve with its 95 % interval.

    `positives` and `negatives` count trials, `cells` the replicates.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    cells: int

    @property
    def words(self) -> str:
        """The area with its interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def numbers(self, name: str) -> dict[str, float]:
        """The area and its ends by name, for JSON."""
        return {
            f"{name}_area": self.value,
            f"{name}_area_low": self.low,
            f"{name}_area_high": self.high,
        }


def area(
    score: pandas.Series, outcome: pandas.Series, cells: pandas.Series, strata: pandas.Series
) -> Area:
    """Returns how well a score orders outcomes within strata.

    It is the share of pairs of one stratum, one with and one without the outcome, of which the
    first has the higher score; ties count half (Hanley and McNeil 1982). With one stratum this is
    the usual area. The interval is the wider of a percentile bootstrap that resamples the cells of
    each stratum, and of Newcombe's score interval (2006, method 5), which has a width at 0 and 1.

    Args:
        score: (trials,), higher where the outcome is expected; trials with NaN are left out.
        outcome: (trials,) bool.
        cells: (trials,) the cell of each trial.
        strata: (trials,) the stratum of each trial.
    """
    sample = _Sample.of(score, outcome, cells, strata)
    value = float(sample.areas(numpy.ones((1, sample.size)))[0])
    positives = int(sample.outcome.sum())
    counts = (positives, sample.size - positives, sample.cell_count)
    if numpy.isnan(value):
        return Area(value, numpy.nan, numpy.nan, *counts)
    low, high = _newcombe(value, *sample.effective_counts())
    resampled = sample.areas(sample.draws())
    if numpy.isfinite(resampled).any():
        quantiles = numpy.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low = min(low, float(quantiles[0]))
        high = max(high, float(quantiles[1]))
    return Area(value, low, high, *counts)


def area_difference(
    first: pandas.Series,
    second: pandas.Series,
    outcome: pandas.Series,
    cells: pandas.Series,
    strata: pandas.Series,
) -> tuple[float, float, float]:
    """Returns the area of the first score minus that of the second, with a 95 % interval.

    Both areas are taken of the trials that have both scores, and resampled together.
    """
    both = first.notna() & second.notna()
    ours, theirs = (
        _Sample.of(score[both], outcome[both], cells[both], strata[both])
        for score in (first, second)
    )
    once = numpy.ones((1, ours.size))
    value = float(ours.areas(once)[0] - theirs.areas(once)[0])
    draws = ours.draws()
    differences = ours.areas(draws) - theirs.areas(draws)
    if not numpy.isfinite(differences).any():
        return value, numpy.nan, numpy.nan
    low, high = numpy.nanquantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)


@dataclass(frozen=True)
class _Sample:
    """Scores and outcomes of trials, with the number of each trial's cell and stratum."""

    score: Array
    outcome: NDArray[numpy.bool_]
    cells: NDArray[numpy.int64]
    strata: NDArray[numpy.int64]

    @classmethod
    def of(
        cls,
        score: pandas.Series,
        outcome: pandas.Series,
        cells: pandas.Series,
        strata: pandas.Series,
    ) -> _Sample:
        known = score.notna()
        stratum_numbers = strata[known].factorize()[0]
        # A cell belongs to one stratum; a name that occurs in two would be two cells.
        names = pandas.Series(stratum_numbers, index=cells[known].index).astype(str)
        cell_numbers = (names + "|" + cells[known].astype(str)).factorize()[0]
        return cls(
            score[known].to_numpy(float),
            outcome[known].to_numpy(bool),
            cell_numbers,
            stratum_numbers,
        )

    @property
    def size(self) -> int:
        return len(self.score)

    @property
    def cell_count(self) -> int:
        return int(self.cells.max()) + 1 if self.size else 0

    def areas(self, weights: Array) -> Array:
        """The area for each row of weights (draws, trials); NaN without pairs."""
        wins = numpy.zeros(len(weights))
        pairs = numpy.zeros(len(weights))
        for stratum in numpy.unique(self.strata):
            inside = self.strata == stratum
            won, all_pairs = _pairs(self.score[inside], self.outcome[inside], weights[:, inside])
            wins += won
            pairs += all_pairs
        return numpy.divide(wins, pairs, out=numpy.full(len(wins), numpy.nan), where=pairs > 0)

    def draws(self) -> Array:
        """Weights (resamples, trials): how often the cell of each trial was drawn."""
        generator = numpy.random.default_rng(_RANDOM_SEED)
        weights = numpy.empty((_RESAMPLES, self.size))
        for stratum in numpy.unique(self.strata):
            inside = self.strata == stratum
            _, numbers = numpy.unique(self.cells[inside], return_inverse=True)
            count = int(numbers.max()) + 1
            times = generator.multinomial(count, numpy.full(count, 1.0 / count), _RESAMPLES)
            weights[:, inside] = times[:, numbers]
        return weights

    def effective_counts(self) -> tuple[float, float]:
        """Counts of cells with and without the outcome; a mixed cell counts in shares."""
        shares = pandas.Series(self.outcome).groupby(self.cells).mean()
        return float(shares.sum()), float((1 - shares).sum())


def _pairs(score: Array, outcome: NDArray[numpy.bool_], weights: Array) -> tuple[Array, Array]:
    """Returns the weighted pairs that the score orders rightly, and all pairs, each (draws,)."""
    order = numpy.argsort(score, kind="stable")
    starts = numpy.flatnonzero(numpy.diff(score[order], prepend=-numpy.inf) != 0)
    if not len(starts) or starts[0] != 0:
        starts = numpy.concatenate([[0], starts])
    weights = weights[:, order]
    positives = numpy.add.reduceat(weights * outcome[order], starts, axis=1)
    negatives = numpy.add.reduceat(weights * ~outcome[order], starts, axis=1)
    below = numpy.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    return wins, positives.sum(axis=1) * negatives.sum(axis=1)


def _newcombe(value: float, positives: float, negatives: float) -> tuple[float, float]:
    """Returns Newcombe's score interval of an area (2006, method 5)."""
    quantile = float(stats.norm.ppf(0.5 + LEVEL / 2))
    extra = max(0.0, (positives + negatives) / 2 - 1)

    def excess(theta: float) -> float:
        correlated = extra * (1 - theta) / (2 - theta) + extra * theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + correlated) / (positives * negatives)
        return (theta - value) ** 2 - quantile**2 * variance

    tiny = 1e-9
    low = 0.0 if value <= tiny else optimize.brentq(excess, 0.0, min(value, 1 - tiny))
    high = 1.0 if value >= 1 - tiny else optimize.brentq(excess, max(value, tiny), 1.0)
    return float(low), float(high)
