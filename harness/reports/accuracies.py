"""Intervals of accuracies, which are bounded and rest on finite test sets, and equivalence of arms.

An accuracy over seeds has two sources of error: the seeds differ, and all of them are scored on one
test set of m samples. The interval here has both, stays inside [0, 1], and is never of width 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.reports.statistics import LEVEL, Interval

Array = NDArray[numpy.float64]


@dataclass(frozen=True)
class Equivalence:
    """Outcome of two one-sided tests against a margin.

    `p_value` is the larger of the two p-values. `low` and `high` are the 90 % interval of the mean
    difference: the arms are equivalent at level 5 % where it lies inside (-margin, margin).
    """

    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    n: int

    @property
    def equivalent(self) -> bool:
        """True where the mean difference is inside the margin at level 5 %."""
        return bool(self.p_value < 1.0 - LEVEL)


def accuracy_interval(scores: ArrayLike, test_samples: float, level: float = LEVEL) -> Interval:
    """Returns the mean accuracy over seeds with an interval inside [0, 1].

    The variance of the mean is s^2 / n of the seeds plus p (1 - p) / m of the shared test set. It
    is turned into the number of independent coin flips with that variance, whose Wilson interval
    (Wilson 1927) is taken with Student's t; its degrees of freedom are Satterthwaite's (1946).

    Args:
        scores: (n,) accuracies in [0, 1], one a seed; NaN values are left out.
        test_samples: m, the samples of the test set; NaN or infinity leaves its part out.
        level: the nominal coverage.

    Returns:
        An interval without ends for fewer than two seeds, which say nothing about their spread,
        and for equal seeds on a test set of unknown size.
    """
    values = numpy.asarray(scores, float).reshape(1, -1)
    mean, low, high, n = accuracy_intervals(values, [test_samples], level)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), int(n[0]))


def accuracy_intervals(
    scores: ArrayLike, test_samples: ArrayLike, level: float = LEVEL
) -> tuple[Array, Array, Array, NDArray[numpy.int64]]:
    """Returns `accuracy_interval` of each row of a table, all rows at once.

    Args:
        scores: (cells, seeds), NaN where a cell has no such seed.
        test_samples: (cells,).
        level: the nominal coverage.

    Returns:
        Means, lower and upper ends, and numbers of seeds, (cells,) each.
    """
    table = numpy.asarray(scores, float)
    finite = numpy.isfinite(table)
    n = finite.sum(axis=1)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        mean = numpy.where(finite, table, 0.0).sum(axis=1) / n
        squares = numpy.where(finite, (table - mean[:, None]) ** 2, 0.0).sum(axis=1)
        of_seeds = squares / numpy.where(n >= 2, n - 1, numpy.nan) / n
        samples = numpy.asarray(test_samples, float)
        samples = numpy.where(numpy.isfinite(samples) & (samples > 0), samples, numpy.inf)
        # At 0 and 1 a coin has no variance; Laplace's rule of succession keeps what m flips leave
        # open.
        known = numpy.isfinite(samples)
        shrunk = numpy.where(known, (mean * samples + 1.0) / (samples + 2.0), mean)
        of_coin = shrunk * (1.0 - shrunk)
        variance = of_seeds + of_coin / samples
        # Equal seeds on a test set of unknown size have no interval.
        variance = numpy.where(variance > 0, variance, numpy.nan)
        freedom = (n - 1) * (variance / of_seeds) ** 2
        quantile = stats.t.ppf(0.5 + level / 2, freedom)
        low, high = _wilson(mean, of_coin / variance, quantile)
    return mean, low, high, n


def equivalence(differences: ArrayLike, margin: float) -> Equivalence:
    """Tests by two one-sided t tests whether a mean paired difference is inside a margin.

    Source: Schuirmann 1987. Equal differences have no spread to judge by; their p-value is 0 inside
    the margin and 1 outside only where there are at least five of them, otherwise NaN.

    Args:
        differences: (n,) paired differences, one a seed.
        margin: the largest difference that does not matter, above 0.
    """
    values = numpy.asarray(differences, float).ravel()
    values = values[numpy.isfinite(values)]
    n = len(values)
    if n == 0:
        return Equivalence(numpy.nan, numpy.nan, numpy.nan, margin, numpy.nan, 0)
    mean = float(values.mean())
    if n == 1:
        return Equivalence(mean, numpy.nan, numpy.nan, margin, numpy.nan, 1)
    error = float(values.std(ddof=1)) / numpy.sqrt(n)
    if error <= 1e-12:
        p_value = numpy.nan if n < 5 else float(abs(mean) >= margin)
        return Equivalence(mean, mean, mean, margin, p_value, n)
    above = stats.t.sf((mean + margin) / error, n - 1)
    below = stats.t.cdf((mean - margin) / error, n - 1)
    half = float(stats.t.ppf(LEVEL, n - 1)) * error
    return Equivalence(mean, mean - half, mean + half, margin, float(max(above, below)), n)


def _wilson(share: Array, flips: Array, quantile: Array) -> tuple[Array, Array]:
    """Wilson's interval for a share of a number of flips that need not be whole."""
    squared = quantile**2 / flips
    centre = (share + squared / 2) / (1 + squared)
    half = numpy.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    # At 0 and 1 the end is the share itself, which floating point would miss by its last bit.
    low = numpy.minimum(share, numpy.maximum(0.0, centre - half))
    return low, numpy.maximum(share, numpy.minimum(1.0, centre + half))
