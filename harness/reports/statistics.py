"""Intervals and tests for seeds as replicates; each follows `rules.RULES`, and none treats layers or steps as replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

LEVEL = 0.95
# Below this many seeds a bootstrap interval is too short (83 % coverage at 5 seeds), so none is given.
BOOTSTRAP_SEEDS = 10
_RESAMPLES = 2000
_EXACT_FLIPS = 12
_RANDOM_SEED = 20170608  # fixed, so that a report of the same trials says the same


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` replicates with its 95 % interval; `low` and `high` are NaN where n is too small for one."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A paired difference: mean over pairs with its interval, d_z = mean/sd, and two p-values (paired t, sign flips)."""

    interval: Interval
    effect_size: float
    p_value: float
    p_sign_flip: float


def half_width(deviation: ArrayLike, n: ArrayLike, level: float = LEVEL) -> NDArray[numpy.float64]:
    """Half the Student-t interval of a mean, from the standard deviation (ddof=1) and the count; NaN below 2. Vectorised."""
    deviation, n = numpy.asarray(deviation, float), numpy.asarray(n, float)
    enough = numpy.where(n >= 2, n, numpy.nan)
    return special.stdtrit(enough - 1, 0.5 + level / 2) * deviation / numpy.sqrt(enough)


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over seeds with its Student-t interval; NaN values are not replicates."""
    values = _finite(values)
    if not len(values):
        return Interval(numpy.nan, numpy.nan, numpy.nan, 0)
    mean = float(values.mean())
    half = (
        float(half_width(values.std(ddof=1), len(values), level)) if len(values) > 1 else numpy.nan
    )
    return Interval(mean, mean - half, mean + half, len(values))


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927)."""
    if not n:
        return Interval(numpy.nan, numpy.nan, numpy.nan, 0)
    z = stats.norm.ppf(0.5 + level / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * numpy.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and n the bounds are exactly 0 and 1; floating point would leave a stray 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, float(low), float(high), n)


def paired_difference(differences: ArrayLike, level: float = LEVEL) -> Difference:
    """Paired t interval and test of per-seed differences, with the sign-flip permutation test as a check.

    Where all differences are equal and not 0 the t statistic has no variance to judge by: its p-value is NaN.
    """
    values = _finite(differences)
    interval = mean_interval(values, level)
    if interval.n < 2:
        return Difference(interval, numpy.nan, numpy.nan, numpy.nan)
    deviation = values.std(ddof=1)
    # Differences of equal accuracies agree to rounding only, which must not pass for certainty.
    if deviation <= 1e-12 * max(1.0, numpy.abs(values).max()):
        same = abs(interval.value) <= 1e-12
        return Difference(
            interval, 0.0 if same else numpy.nan, 1.0 if same else numpy.nan, sign_flip(values)
        )
    t = interval.value / (deviation / numpy.sqrt(interval.n))
    p_value = float(2 * special.stdtr(interval.n - 1, -abs(t)))
    return Difference(interval, float(interval.value / deviation), p_value, sign_flip(values))


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p-value of a zero mean under symmetric differences: exact up to 12 pairs, from 4,096 random flips above."""
    values = _finite(differences)
    if len(values) <= _EXACT_FLIPS:
        signs = 1 - 2 * ((numpy.arange(2 ** len(values))[:, None] >> numpy.arange(len(values))) & 1)
    else:
        generator = numpy.random.default_rng(_RANDOM_SEED)
        signs = generator.choice((-1, 1), size=(2**_EXACT_FLIPS, len(values)))
        signs[0] = 1  # the observed labelling is one of the flips
    sums = numpy.abs(signs @ values)
    return float(numpy.mean(sums >= abs(values.sum()) - 1e-12))


def holm(p_values: ArrayLike) -> NDArray[numpy.float64]:
    """Holm's (1979) step-down adjustment within one family; NaN stays NaN and is not counted in the family."""
    p_values = numpy.asarray(p_values, float)
    adjusted = numpy.full(p_values.shape, numpy.nan)
    known = numpy.flatnonzero(numpy.isfinite(p_values))
    order = known[numpy.argsort(p_values[known], kind="stable")]
    factors = len(order) - numpy.arange(len(order))
    adjusted[order] = numpy.minimum(1.0, numpy.maximum.accumulate(p_values[order] * factors))
    return adjusted


def interquartile_mean(values: ArrayLike, axis: int = -1) -> NDArray[numpy.float64]:
    """Mean of the middle half, robust to a few tasks that all arms solve or all fail."""
    return stats.trim_mean(numpy.asarray(values, float), 0.25, axis=axis)


def aggregate(scores: Sequence[ArrayLike], robust: bool = False) -> Interval:
    """Mean (or interquartile mean) of normalised scores over all tasks, with a bootstrap stratified by task.

    `scores` holds one array of seeds per task. No interval where a task has fewer than 10 seeds.
    """
    samples = tuple(_finite(task) for task in scores)
    centre = interquartile_mean if robust else numpy.mean

    return _stratified(samples, lambda *tasks: centre(numpy.concatenate(tasks, axis=-1), axis=-1))


def probability_of_improvement(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> Interval:
    """P(a seed of ours beats a seed of theirs), ties counted half, averaged over tasks; bootstrap stratified by task and arm."""
    samples = tuple(_finite(task) for task in (*ours, *theirs))
    tasks = len(ours)

    def statistic(*parts: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        gaps = [
            a[..., :, None] - b[..., None, :]
            for a, b in zip(parts[:tasks], parts[tasks:], strict=True)
        ]
        return numpy.mean([(numpy.sign(gap) / 2 + 0.5).mean((-2, -1)) for gap in gaps], axis=0)

    return _stratified(samples, statistic)


def expected_best(validation: ArrayLike, test: ArrayLike, draws: int) -> float:
    """Expected test score of the draw with the best validation score among `draws` of the N tuning draws, without replacement."""
    order = numpy.argsort(numpy.asarray(validation, float), kind="stable")
    ranks, total = numpy.arange(len(order)), len(order)
    weights = special.comb(ranks, draws - 1) / special.comb(total, draws)
    return float(weights @ numpy.asarray(test, float)[order])


def _stratified(
    samples: Sequence[NDArray[numpy.float64]], statistic: Callable[..., NDArray[numpy.float64]]
) -> Interval:
    """Percentile bootstrap that resamples seeds within each sample; `statistic` takes samples (..., seeds) and reduces the last axis."""
    n = min(len(sample) for sample in samples)
    value = float(statistic(*samples))
    if n < BOOTSTRAP_SEEDS:
        return Interval(value, numpy.nan, numpy.nan, n)
    generator = numpy.random.default_rng(_RANDOM_SEED)
    redrawn = [
        sample[generator.integers(len(sample), size=(_RESAMPLES, len(sample)))]
        for sample in samples
    ]
    low, high = numpy.quantile(statistic(*redrawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), n)


def _finite(values: ArrayLike) -> NDArray[numpy.float64]:
    values = numpy.asarray(values, float).ravel()
    return values[numpy.isfinite(values)]
