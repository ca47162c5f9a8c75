"""Intervals and tests in which seeds are the replicates.

SciPy and statsmodels do the arithmetic; this file fixes the level, the family and the treatment of
missing and equal values, as `rules.RULES` states them. Layers and steps of one trial are never
counted as replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Array = NDArray[numpy.float64]

LEVEL = 0.95
# With fewer seeds a percentile bootstrap is too short: at 5 seeds it covers 83 % instead of 95 %.
BOOTSTRAP_SEEDS = 10
RESAMPLES = 2000
# All 2^n sign patterns are enumerated up to this number of pairs, random ones are drawn above it.
EXACT_PAIRS = 12
# Rows of sign flips that are computed together, which bounds their memory.
_ROWS_AT_ONCE = 1000
# Fixed, so that a second report of the same trials gives the same numbers.
_RANDOM_SEED = 20170608
# Differences of equal accuracies agree to rounding only, which must not pass for certainty.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` replicates with its 95 % interval.

    `low` and `high` are NaN where `n` is too small for an interval.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean difference over pairs, with its effect size and two p-values.

    Attributes:
        interval: mean difference with its paired Student-t interval.
        effect_size: Cohen's d_z, the mean difference divided by its standard deviation over pairs.
        p_value: two-sided, of the paired t test.
        p_sign_flip: two-sided, of the sign-flip permutation test.
    """

    interval: Interval
    effect_size: float
    p_value: float
    p_sign_flip: float


def half_width(deviation: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Array:
    """Returns half the length of a mean's Student-t interval; inputs broadcast.

    Args:
        deviation: standard deviation over replicates (ddof=1).
        n: number of replicates; below 2 there is no interval and the result is NaN.
        level: nominal coverage.
    """
    deviation = numpy.asarray(deviation, float)
    n = numpy.asarray(n, float)
    enough = numpy.where(n >= 2, n, numpy.nan)
    quantile = stats.t.ppf(0.5 + level / 2, enough - 1)
    return quantile * deviation / numpy.sqrt(enough)


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the mean over seeds with its Student-t interval, ignoring NaN values."""
    values = _finite(values)
    if not len(values):
        return Interval(numpy.nan, numpy.nan, numpy.nan, 0)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, numpy.nan, numpy.nan, 1)
    half = float(half_width(values.std(ddof=1), len(values), level))
    return Interval(mean, mean - half, mean + half, len(values))


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Returns a proportion with Wilson's score interval (Wilson 1927)."""
    if not n:
        return Interval(numpy.nan, numpy.nan, numpy.nan, 0)
    bounds = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high), n)


def paired_difference(differences: ArrayLike, level: float = LEVEL) -> Difference:
    """Returns the paired t interval and test of per-seed differences.

    The sign-flip permutation test stands beside the t test as a check. Where all differences are
    equal and not 0, the t statistic has no variance to judge by, and its p-value is NaN.
    """
    values = _finite(differences)
    interval = mean_interval(values, level)
    if interval.n < 2:
        return Difference(interval, numpy.nan, numpy.nan, numpy.nan)
    p_sign_flip = sign_flip(values)
    deviation = values.std(ddof=1)
    if deviation <= _ROUNDING * max(1.0, numpy.abs(values).max()):
        if abs(interval.value) <= _ROUNDING:
            return Difference(interval, 0.0, 1.0, p_sign_flip)
        return Difference(interval, numpy.nan, numpy.nan, p_sign_flip)
    p_value = float(stats.ttest_1samp(values, 0.0).pvalue)
    return Difference(interval, float(interval.value / deviation), p_value, p_sign_flip)


def paired_differences(table: ArrayLike) -> dict[str, Array]:
    """Returns `paired_difference` of each row of a table (comparisons, seeds), all rows at once.

    Returns:
        By name, (comparisons,) each: `n`, `difference`, `low`, `high`, `effect_size`, `p_value` and
        `p_sign_flip`. NaN in the table is a missing pair.
    """
    values = numpy.asarray(table, float)
    finite = numpy.isfinite(values)
    values = numpy.where(finite, values, numpy.nan)
    count = finite.sum(axis=1)
    total = numpy.where(finite, values, 0.0).sum(axis=1)
    mean = numpy.divide(total, count, out=numpy.full(len(values), numpy.nan), where=count > 0)
    squares = numpy.where(finite, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    enough = numpy.where(count >= 2, count, numpy.nan)
    deviation = numpy.sqrt(squares / (enough - 1))
    half = half_width(deviation, count)
    largest = numpy.where(finite, numpy.abs(values), 0.0).max(axis=1, initial=0.0)
    equal = deviation <= _ROUNDING * numpy.maximum(1.0, largest)
    zero = equal & (numpy.abs(mean) <= _ROUNDING)
    spread = numpy.where(equal, numpy.nan, deviation)
    statistic = numpy.abs(mean) * numpy.sqrt(enough) / spread
    return {
        "n": count,
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
        "effect_size": numpy.where(zero, 0.0, mean / spread),
        "p_value": numpy.where(zero, 1.0, 2.0 * stats.t.sf(statistic, enough - 1)),
        "p_sign_flip": _sign_flips(values, count),
    }


def _sign_flips(values: Array, count: NDArray[numpy.int64]) -> Array:
    """Returns `sign_flip` of each row with at least two finite values, NaN of the others."""
    result = numpy.full(len(values), numpy.nan)
    for number in numpy.unique(count[count >= 2]):
        chosen = numpy.flatnonzero(count == number)
        rows = values[chosen]
        rows = rows[numpy.isfinite(rows)].reshape(len(chosen), number)
        signs = _sign_patterns(int(number))
        for start in range(0, len(chosen), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            sums = numpy.abs(signs @ part.T)
            reached = sums >= numpy.abs(part.sum(axis=1)) - _ROUNDING
            result[chosen[start : start + _ROWS_AT_ONCE]] = reached.mean(axis=0)
    return result


def sign_flip(differences: ArrayLike) -> float:
    """Returns the two-sided p-value of a zero mean under symmetric differences.

    Exact up to 12 pairs; from 4,096 random sign patterns above. `scipy.stats.permutation_test`
    gives the same exact values; its random patterns differ.
    """
    values = _finite(differences)
    sums = numpy.abs(_sign_patterns(len(values)) @ values)
    return float(numpy.mean(sums >= abs(values.sum()) - _ROUNDING))


def _sign_patterns(count: int) -> NDArray[numpy.int64]:
    """Returns all patterns of signs of so many pairs, or 4,096 random ones: (patterns, count)."""
    if count <= EXACT_PAIRS:
        patterns = numpy.arange(2**count)[:, None]
        bits = (patterns >> numpy.arange(count)) & 1
        return 1 - 2 * bits
    generator = numpy.random.default_rng(_RANDOM_SEED)
    signs = generator.choice((-1, 1), size=(2**EXACT_PAIRS, count))
    signs[0] = 1  # the observed labelling is one of the patterns
    return signs


def holm(p_values: ArrayLike) -> Array:
    """Returns Holm's (1979) step-down adjustment of the p-values of one family.

    A NaN stays NaN and does not count as a member of the family.
    """
    p_values = numpy.asarray(p_values, float)
    adjusted = numpy.full(p_values.shape, numpy.nan)
    tested = numpy.isfinite(p_values)
    if tested.any():
        # statsmodels takes about a second to import, which only a report of comparisons needs.
        from statsmodels.stats.multitest import multipletests

        adjusted[tested] = multipletests(p_values[tested], method="holm")[1]
    return adjusted


def interquartile_mean(values: ArrayLike, axis: int = -1) -> Array:
    """Returns the mean of the middle half.

    It is robust to a few tasks that all arms solve or that all arms fail.
    """
    return stats.trim_mean(numpy.asarray(values, float), 0.25, axis=axis)


def aggregate(scores: Sequence[ArrayLike], robust: bool = False) -> Interval:
    """Returns the mean score over all tasks, with a bootstrap stratified by task.

    Args:
        scores: one array of seeds for each task, in units that tasks share.
        robust: takes the interquartile mean instead of the mean.

    Returns:
        The estimate; without an interval where a task has fewer than 10 seeds.
    """
    tasks = [_finite(task) for task in scores]
    centre = interquartile_mean if robust else numpy.mean

    def statistic(*samples: Array, axis: int = -1) -> Array:
        return centre(numpy.concatenate(samples, axis=-1), axis=axis)

    return _stratified(tasks, statistic)


def probability_of_improvement(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> Interval:
    """Returns the probability that a seed of ours beats a seed of theirs, averaged over tasks.

    Ties count half. The bootstrap is stratified by task and arm. `ours` and `theirs` hold one array
    of seeds for each task, in the same order of tasks.
    """
    samples = [_finite(task) for task in (*ours, *theirs)]
    tasks = len(ours)

    def statistic(*parts: Array, axis: int = -1) -> Array:
        wins = []
        for a, b in zip(parts[:tasks], parts[tasks:], strict=True):
            gaps = a[..., :, None] - b[..., None, :]
            wins.append((numpy.sign(gaps) / 2 + 0.5).mean((-2, -1)))
        return numpy.mean(wins, axis=0)

    return _stratified(samples, statistic)


def expected_best(validation: ArrayLike, test: ArrayLike, draws: int) -> float:
    """Returns the expected test score of the best of `draws` tuning draws.

    The best draw is the one with the highest validation score among `draws` of the N draws that
    were run, taken without replacement: the draw of rank r (0 is the worst) is the best of
    C(r, draws - 1) of the C(N, draws) subsets.
    """
    order = numpy.argsort(numpy.asarray(validation, float), kind="stable")
    ranks = numpy.arange(len(order))
    weights = special.comb(ranks, draws - 1) / special.comb(len(order), draws)
    return float(weights @ numpy.asarray(test, float)[order])


def _stratified(samples: Sequence[Array], statistic: Callable[..., Array]) -> Interval:
    """Returns a statistic of several samples with a percentile bootstrap interval.

    Seeds are resampled within each sample. `statistic` takes samples (..., seeds) and reduces the
    last axis.
    """
    n = min(len(sample) for sample in samples)
    value = float(statistic(*samples))
    if n < BOOTSTRAP_SEEDS:
        return Interval(value, numpy.nan, numpy.nan, n)
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=numpy.random.default_rng(_RANDOM_SEED),
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high), n)


def _finite(values: ArrayLike) -> Array:
    values = numpy.asarray(values, float).ravel()
    return values[numpy.isfinite(values)]
