"""What passes through a layer, for a set of representative samples: lengths, means and products over units, and their spread.

A `Signal` is the Gram matrix of a batch (the NNGP kernel, Lee et al. 2018) kept where data need it: every sample has its own length
q(x), so samples of different norms are followed as they are. In convolutions lengths and products are maps: a convolution
averages them over its taps, since only equal offsets meet (Novak et al. 2019). Each function returns the signal behind a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction
from harness.theory.activations.hermite import Expansion

Array = NDArray[np.float64]

# Pair averages that only enter bands are taken over at most so many pairs and positions.
_BAND_PAIRS = 192
_TABLE_PAIRS = 4096
# Bands need no more degrees than this.
_BAND_DEGREES = 24


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which samples are multiplied: entry (r, y, x) of a product is sample `first[r]` at (y, x) with `second[r]` at (y, x) + `shift[r]`.

    Of different samples, pairs without shift are `aligned`: they make the cosine of whole maps. `scattered` pairs, shifted at random, stand
    for any two positions, which is what a unit's mean over samples and positions is made of; for vectors they are the same.
    A pair of a sample with itself, shifted by a neighbour's distance, tells how alike neighbouring positions are.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shift: NDArray[np.int64]
    apart: NDArray[np.bool_]

    @classmethod
    def of_vectors(cls, samples: int) -> Pairs:
        """All pairs of different samples without positions."""
        first, second = np.triu_indices(samples, 1)
        return cls(
            first,
            second,
            np.zeros((len(first), 2), dtype=np.int64),
            np.zeros(len(first), dtype=bool),
        )

    @cached_property
    def aligned(self) -> NDArray[np.int64]:
        """Numbers of the pairs of different samples at equal positions."""
        return np.flatnonzero((self.first != self.second) & ~self.apart)

    @cached_property
    def scattered(self) -> NDArray[np.int64]:
        """Numbers of the pairs of different samples that stand for any two positions."""
        return np.flatnonzero(self.apart) if self.apart.any() else self.aligned

    def neighbours(self, shift: tuple[int, int]) -> NDArray[np.int64]:
        """Numbers of the pairs of a sample with itself at this shift."""
        return np.flatnonzero((self.first == self.second) & (self.shift == shift).all(1))

    def scaled(self, size: tuple[int, int]) -> Pairs:
        """The pairs on maps that are smaller by these factors; neighbours stay neighbours."""
        return Pairs(
            self.first,
            self.second,
            np.where(self.apart[:, None], self.shift // size, self.shift),
            self.apart,
        )

    def of_first(self, maps: Array) -> Array:
        """(..., samples, height, width) -> (..., pairs, height, width), the first partner's value."""
        return maps[..., self.first, :, :]

    def of_second(self, maps: Array) -> Array:
        """The same for the second partner, moved by its shift."""
        chosen = maps[..., self.second, :, :]
        height, width = chosen.shape[-2:]
        if height * width == 1 or not self.shift.any():
            return chosen
        rows = (np.arange(height)[None, :] + self.shift[:, :1]) % height
        columns = (np.arange(width)[None, :] + self.shift[:, 1:]) % width
        return chosen[
            ..., np.arange(len(self.second))[:, None, None], rows[:, :, None], columns[:, None, :]
        ]


@dataclass(frozen=True, eq=False)
class Signal:
    """`length` and `mean` (samples, height, width): mean over units of x^2 and x; `product` (pairs, height, width): of x x'.

    `normal`: whether x is normal over units for a given sample. `fixed`: Hermite degrees that a normalization holds still, so
    that they add nothing to the spread between networks. Relative variances over networks of this width: `own` of one sample's
    length, `shared` of the mean over samples; `cosine_noise` of one pair's cosine and `mean_cosine_noise` of their mean, absolute.
    `diagonal_share`: sum_j S_jj^2 / (tr S)^2 of the covariance S over units. `kurtosis`: excess over that of a normal, where a batch
    normalization divides each unit by its own deviation.
    """

    pairs: Pairs
    length: Array
    mean: Array
    product: Array
    normal: bool = False
    fixed: frozenset[int] = frozenset()
    own: float = 0.0
    shared: float = 0.0
    cosine_noise: float = 0.0
    mean_cosine_noise: float = 0.0
    diagonal_share: float = 0.0
    kurtosis: float = 0.0

    @property
    def positions(self) -> int:
        """Positions of a map, 1 for a vector."""
        return self.length.shape[1] * self.length.shape[2]

    @cached_property
    def cosine(self) -> Array:
        """Cosine over units of every pair at every position, 0 where a partner is 0."""
        norms = np.sqrt(self.pairs.of_first(self.length) * self.pairs.of_second(self.length))
        return np.clip(
            np.divide(self.product, norms, out=np.zeros_like(norms), where=norms > 0), -1.0, 1.0
        )

    @cached_property
    def level(self) -> float:
        """Mean of `length`: the pooled second moment."""
        return float(self.length.mean())

    @cached_property
    def mean_cosine(self) -> float:
        """Mean cosine of different samples as whole vectors or maps."""
        pairs, by_sample = self.pairs, self.length.mean((1, 2))
        norms = np.sqrt(
            by_sample[pairs.first[pairs.aligned]] * by_sample[pairs.second[pairs.aligned]]
        )
        products = self.product[pairs.aligned].mean((1, 2))
        return float(np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0).mean())

    def mean_product(self, samples: float = np.inf) -> float:
        """Mean of x x' over all pairs of `samples` samples (times positions), each with itself included."""
        off = float(self.product[self.pairs.scattered].mean())
        return off + (self.level - off) / (samples * self.positions)

    def over_partners(self, products: Array) -> Array:
        """The mean of what every sample and position has with its partners, (samples, height, width), of pair maps."""
        pairs = self.pairs
        if self.positions == 1 and len(pairs.scattered) == len(pairs.first):
            flat, count = products.ravel(), len(self.length)
            total = np.bincount(pairs.first, flat, count) + np.bincount(pairs.second, flat, count)
            return (
                total
                / np.maximum(
                    np.bincount(pairs.first, minlength=count)
                    + np.bincount(pairs.second, minlength=count),
                    1,
                )
            )[:, None, None]
        total, number = np.zeros_like(self.length), np.zeros_like(self.length)
        chosen = pairs.scattered
        back = Pairs(pairs.first[chosen], chosen, -pairs.shift[chosen], pairs.apart[chosen])
        for partner, values in (
            (pairs.first[chosen], products[chosen]),
            (pairs.second[chosen], back.of_second(products)),
        ):
            np.add.at(total, partner, values)
            np.add.at(number, partner, 1.0)
        return total / np.maximum(number, 1.0)

    @cached_property
    def centred(self) -> tuple[Array, Array]:
        """Lengths and products about the units' means over samples and positions."""
        with_mean = self.over_partners(self.product)
        level = float(self.product[self.pairs.scattered].mean())
        length = np.maximum(self.length - 2 * with_mean + level, 0.0)
        return length, self.product - self.pairs.of_first(with_mean) - self.pairs.of_second(
            with_mean
        ) + level

    @cached_property
    def centred_square(self) -> float:
        """Mean square of the centred products of different samples; the representatives' own mean has taken part of it with them."""
        count = len(self.length)
        return (
            float(np.square(self.centred[1][self.pairs.scattered]).mean())
            * (count - 1)
            / max(count - 3, 1)
        )

    def participation_ratio(self, samples: float = np.inf) -> float:
        """(tr S)^2 / tr S^2 of the covariance over units, from `samples` samples, with what finite width adds to the cosines' spread."""
        length = self.centred[0]
        trace = float(length.mean())
        if trace <= 0:
            return float("nan")
        inverse = (
            self.centred_square / trace**2
            + self.cosine_noise
            + float(np.square(length).mean()) / trace**2 / (samples * self.positions)
        )
        return 1.0 / inverse if inverse > 0 else float("inf")


@dataclass(frozen=True, eq=False)
class Activated:
    """phi of a normal signal: the signal behind it, its expansion at every sample and position, and averages over pairs of samples.

    `noise`: the mean over pairs of the covariance of f(u1) and g(u2), for (f, g) in "square square", "square value", "value value" and
    "slope_square slope_square"; over the width it is the variance over networks of the pooled mean. `alike`: the factor on the squared cosine
    of two samples' gradients, for all pairs and for the nearest tenth; `gain_products`: mean of E phi1'^2 E phi2'^2.
    """

    behind: Signal
    expansion: Expansion
    noise: dict[str, float]
    alike: tuple[float, float]
    gain_products: float
    elasticity: float


def activate(signal: Signal, phi: ActivationFunction, units: int) -> Activated:
    """Phi of a normal signal of `units` units."""
    expansion = hermite.expand(phi, signal.length)
    product = _kernel(signal, expansion)
    if signal.kurtosis:
        product = product - signal.pairs.of_first(expansion.mean) * signal.pairs.of_second(
            expansion.mean
        )
        expansion = expansion.with_kurtosis(signal.kurtosis)
        product = product + signal.pairs.of_first(expansion.mean) * signal.pairs.of_second(
            expansion.mean
        )
    first, second, c = _band_pairs(signal, expansion)
    powers = hermite.powers(c, _BAND_DEGREES)
    moving = powers.copy()
    moving[[0, *signal.fixed]] = 0.0
    noise = {
        f"{f} {g}": float(np.einsum("kp,kp,kp->", getattr(first, f), getattr(second, g), moving))
        / len(c)
        for f, g in (
            ("square", "square"),
            ("square", "value"),
            ("value", "value"),
            ("slope_square", "slope_square"),
        )
    }
    gains = np.maximum(first.slope_square[0] * second.slope_square[0], 1e-300)
    slopes = hermite.pair(first.slope, second.slope, powers)
    mean_square = float(expansion.second_moment.mean())
    elasticity = (
        float(expansion.square[2].mean()) / np.sqrt(2.0) / mean_square if mean_square > 0 else 0.0
    )
    behind = replace(
        signal,
        length=expansion.second_moment,
        mean=expansion.mean,
        product=product,
        normal=False,
        fixed=frozenset(),
        kurtosis=0.0,
    )
    if mean_square > 0:
        behind = replace(
            behind,
            **_noise_behind(
                signal,
                expansion,
                first,
                second,
                powers,
                slopes,
                noise["square square"] / mean_square**2,
                elasticity,
                units,
            ),
        )
    kept = np.minimum(slopes * slopes / gains, 1.0)
    nearest = np.argsort(c)[-max(1, len(c) // 10) :]
    return Activated(
        behind,
        expansion,
        noise,
        (float(kept.mean()), float(kept[nearest].mean())),
        float(gains.mean()),
        elasticity,
    )


def _noise_behind(
    signal: Signal,
    expansion: Expansion,
    first: Expansion,
    second: Expansion,
    powers: Array,
    slopes: Array,
    shared: float,
    elasticity: float,
    units: int,
) -> dict[str, float]:
    """How lengths and cosines scatter over networks of this width behind an activation."""
    norms = np.sqrt(np.maximum(first.square[0] * second.square[0], 1e-300))
    c = np.clip(hermite.pair(first.value, second.value, powers) / norms, -1.0, 1.0)
    slope = slopes * np.sqrt(first.q * second.q) / norms
    pair_noise = float((hermite.pair(first.square, second.square, powers) / norms**2 - c**2).mean())
    moving = expansion.square.copy()
    moving[[0, *signal.fixed]] = 0.0
    own = float(np.square(moving).sum(0).mean()) / float(expansion.second_moment.mean()) ** 2
    mean_c = float(c.mean())
    return {
        "own": elasticity**2 * signal.own + own / units,
        "shared": elasticity**2 * signal.shared + shared / units,
        "cosine_noise": float((slope * slope).mean()) * signal.cosine_noise + pair_noise / units,
        "diagonal_share": (1.0 + 2.0 / signal.participation_ratio()) / units,
        "mean_cosine_noise": float(slope.mean()) ** 2 * signal.mean_cosine_noise
        + 2 * (mean_c * (1 - mean_c)) ** 2 / units,
    }


def _kernel(signal: Signal, expansion: Expansion) -> Array:
    """E phi(u1) phi(u2) of every pair; for many, degree by degree: whole tables of powers would not stay in the cache."""
    pairs, c = signal.pairs, signal.cosine
    if c.size <= _TABLE_PAIRS:
        total = hermite.pair(
            pairs.of_first(expansion.value), pairs.of_second(expansion.value), hermite.powers(c)
        )
        return total + np.sqrt(
            pairs.of_first(expansion.rest) * pairs.of_second(expansion.rest)
        ) * hermite.tail(c)
    power, total = np.ones_like(c), np.zeros_like(c)
    for degree in range(hermite.DEGREE + 1):
        total += (
            pairs.of_first(expansion.value[degree])
            * pairs.of_second(expansion.value[degree])
            * power
        )
        power *= c
    return total + np.sqrt(
        pairs.of_first(expansion.rest) * pairs.of_second(expansion.rest)
    ) * hermite.tail(c)


def _band_pairs(signal: Signal, expansion: Expansion) -> tuple[Expansion, Expansion, Array]:
    """Both partners' expansions and the cosine of evenly spread pairs of different samples."""
    height, width = signal.length.shape[1:]
    different = signal.pairs.scattered
    flat = np.linspace(
        0, different.size * height * width - 1, min(_BAND_PAIRS, different.size * height * width)
    ).astype(int)
    pair, y, x = different[flat // (height * width)], flat // width % height, flat % width
    a, b, (dy, dx) = signal.pairs.first[pair], signal.pairs.second[pair], signal.pairs.shift[pair].T
    first = expansion.take((a, y, x), _BAND_DEGREES)
    second = expansion.take((b, (y + dy) % height, (x + dx) % width), _BAND_DEGREES)
    norms = np.sqrt(first.q * second.q)
    c = np.divide(signal.product[pair, y, x], norms, out=np.zeros_like(norms), where=norms > 0)
    # These few must have the mean of all: where it is 0, their own chance mean would count as correlation.
    return first, second, np.clip(c - c.mean() + signal.cosine[different].mean(), -1.0, 1.0)
