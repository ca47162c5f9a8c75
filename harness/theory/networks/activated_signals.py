"""Activation of a normal signal, and its scatter over networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction
from harness.theory.activations.hermite import Expansion
from harness.theory.networks.signals import Signal, ratio_or_zero

Array = NDArray[np.float64]

# Averages that only enter bands are taken over at most this many pairs and positions, ...
_BAND_PAIRS = 192
# ... and need no more Hermite degrees than this.
_BAND_DEGREES = 24
# Up to this many entries the powers of all cosines are tabulated at once.
_TABLE_PAIRS = 4096
_TINY = 1e-300
# Pairs of functions whose covariance over different samples is kept.
_NOISES = (
    ("square", "square"),
    ("square", "value"),
    ("value", "value"),
    ("slope_square", "slope_square"),
)


@dataclass(frozen=True, eq=False)
class Activated:
    """phi of a normal signal u, with averages over pairs of samples.

    Attributes:
        after: the signal after the activation.
        expansion: Hermite expansion of phi at every sample and position.
        noise: for "f g" with f and g among "value" phi, "square" phi^2 and "slope_square" phi'^2,
            the mean over pairs of the covariance of f(u1) and g(u2). Divided by the width it is the
            variance over networks of a pooled mean.
        cosine_kept: factor on the squared cosine of two samples' gradients, for all pairs and for
            the nearest tenth of them.
        gain_products: mean over pairs of E phi1'^2 E phi2'^2.
        elasticity: d log E phi^2 / d log q.
    """

    after: Signal
    expansion: Expansion
    noise: dict[str, float]
    cosine_kept: tuple[float, float]
    gain_products: float
    elasticity: float


@dataclass(frozen=True)
class _BandPairs:
    """Expansions and cosines of the pairs that bands are computed from.

    `powers` (degrees, pairs) are those of `cosine`, `slopes` is E phi'(u1) phi'(u2).
    """

    first: Expansion
    second: Expansion
    powers: Array
    slopes: Array


def activate(signal: Signal, phi: ActivationFunction, units: int) -> Activated:
    """Applies phi to a normal signal of `units` units."""
    expansion = hermite.expand(phi, signal.length)
    product = _kernel(signal, expansion)
    if signal.kurtosis:
        product = product - _mean_product(signal, expansion)
        expansion = expansion.with_kurtosis(signal.kurtosis)
        product = product + _mean_product(signal, expansion)
    cosine, pairs = _band_pairs(signal, phi, expansion)
    noise = _noise(pairs, signal.fixed_degrees)
    mean_square = float(expansion.second_moment.mean())
    elasticity = 0.0
    if mean_square > 0:
        elasticity = float(expansion.square[2].mean()) / np.sqrt(2.0) / mean_square
    after = replace(
        signal,
        length=expansion.second_moment,
        mean=expansion.mean,
        product=product,
        normal=False,
        fixed_degrees=frozenset(),
        kurtosis=0.0,
    )
    if mean_square > 0:
        level_noise = noise["square square"] / mean_square**2
        noises = _noise_after(signal, expansion, pairs, level_noise, elasticity, units)
        after = replace(after, **noises)
    gains = np.maximum(pairs.first.slope_square[0] * pairs.second.slope_square[0], _TINY)
    kept = np.minimum(pairs.slopes * pairs.slopes / gains, 1.0)
    nearest = np.argsort(cosine)[-max(1, len(cosine) // 10) :]
    return Activated(
        after=after,
        expansion=expansion,
        noise=noise,
        cosine_kept=(float(kept.mean()), float(kept[nearest].mean())),
        gain_products=float(gains.mean()),
        elasticity=elasticity,
    )


def _mean_product(signal: Signal, expansion: Expansion) -> Array:
    return signal.pairs.at_first(expansion.mean) * signal.pairs.at_second(expansion.mean)


def _noise(pairs: _BandPairs, fixed_degrees: frozenset[int]) -> dict[str, float]:
    """Returns the covariances of `Activated.noise`, without the degrees that are held still."""
    moving = pairs.powers.copy()
    moving[[0, *fixed_degrees]] = 0.0
    count = moving.shape[1]
    noise = {}
    for f, g in _NOISES:
        first = getattr(pairs.first, f)
        second = getattr(pairs.second, g)
        noise[f"{f} {g}"] = float(np.einsum("kp,kp,kp->", first, second, moving)) / count
    return noise


def _noise_after(
    signal: Signal,
    expansion: Expansion,
    pairs: _BandPairs,
    level_noise: float,
    elasticity: float,
    units: int,
) -> dict[str, Any]:
    """Returns the noises of a `Signal` after an activation.

    Args:
        signal: the signal in front of the activation.
        expansion: phi at every sample and position.
        pairs: pairs that bands are computed from.
        level_noise: relative variance that one unit adds to the mean length.
        elasticity: d log E phi^2 / d log q.
        units: width of the layer.
    """
    first = pairs.first
    second = pairs.second
    norms = np.sqrt(np.maximum(first.square[0] * second.square[0], _TINY))
    c = np.clip(hermite.pair(first.value, second.value, pairs.powers) / norms, -1.0, 1.0)
    slope = pairs.slopes * np.sqrt(first.q * second.q) / norms
    squares = hermite.pair(first.square, second.square, pairs.powers)
    pair_noise = float((squares / norms**2 - c**2).mean())
    moving = (
        coefficients
        for degree, coefficients in enumerate(expansion.square)
        if degree > 0 and degree not in signal.fixed_degrees
    )
    mean_square = float(expansion.second_moment.mean())
    length_noise = float(np.mean(hermite.sum_of_squares(moving))) / mean_square**2
    mean_c = float(c.mean())
    inherited_cosine_noise = float((slope * slope).mean()) * signal.cosine_noise
    inherited_mean_cosine_noise = float(slope.mean()) ** 2 * signal.mean_cosine_noise
    return {
        "length_noise": elasticity**2 * signal.length_noise + length_noise / units,
        "level_noise": elasticity**2 * signal.level_noise + level_noise / units,
        "cosine_noise": inherited_cosine_noise + pair_noise / units,
        "diagonal_share": (1.0 + 2.0 / signal.participation_ratio()) / units,
        "mean_cosine_noise": inherited_mean_cosine_noise + 2 * (mean_c * (1 - mean_c)) ** 2 / units,
    }


def _kernel(signal: Signal, expansion: Expansion) -> Array:
    """Returns E phi(u1) phi(u2) of every pair, shape (pairs, height, width)."""
    pairs = signal.pairs
    c = signal.cosine
    rest = np.sqrt(pairs.at_first(expansion.rest) * pairs.at_second(expansion.rest))
    if c.size <= _TABLE_PAIRS:
        first = pairs.at_first(expansion.value)
        second = pairs.at_second(expansion.value)
        return hermite.pair(first, second, hermite.powers(c)) + rest * hermite.tail(c)
    # Degree by degree: tables of all powers would not stay in the cache.
    power = np.ones_like(c)
    total = np.zeros_like(c)
    for coefficients in expansion.value:
        total += pairs.at_first(coefficients) * pairs.at_second(coefficients) * power
        power *= c
    return total + rest * hermite.tail(c)


def _band_pairs(
    signal: Signal, phi: ActivationFunction, expansion: Expansion
) -> tuple[Array, _BandPairs]:
    """Returns the cosines and expansions of evenly spread pairs of different samples."""
    height, width = signal.length.shape[1:]
    scattered = signal.pairs.scattered
    entries = scattered.size * height * width
    flat = np.linspace(0, entries - 1, min(_BAND_PAIRS, entries)).astype(int)
    pair = scattered[flat // (height * width)]
    y = flat // width % height
    x = flat % width
    dy, dx = signal.pairs.shift[pair].T
    at_first = (signal.pairs.first[pair], y, x)
    at_second = (signal.pairs.second[pair], (y + dy) % height, (x + dx) % width)
    first = _expansion_at(at_first, signal, phi, expansion)
    second = _expansion_at(at_second, signal, phi, expansion)
    c = ratio_or_zero(signal.product[pair, y, x], np.sqrt(first.q * second.q))
    # These few cosines must have the mean of all: where that is 0, the mean that they have by
    # chance would count as correlation.
    cosine = np.clip(c - c.mean() + signal.cosine[scattered].mean(), -1.0, 1.0)
    powers = hermite.powers(cosine, _BAND_DEGREES)
    slopes = hermite.pair(first.slope, second.slope, powers)
    return cosine, _BandPairs(first, second, powers, slopes)


def _expansion_at(
    index: tuple[Array, Array, Array],
    signal: Signal,
    phi: ActivationFunction,
    expansion: Expansion,
) -> Expansion:
    """Returns the expansion at some samples and positions, up to the degree that bands need.

    The expansion of many positions has not all degrees of the slopes, and is made anew there.
    """
    if len(expansion.slope) > _BAND_DEGREES:
        return expansion.take(index, _BAND_DEGREES)
    again = hermite.expand(phi, expansion.q[index])
    if signal.kurtosis:
        again = again.with_kurtosis(signal.kurtosis)
    return again.take((...,), _BAND_DEGREES)
