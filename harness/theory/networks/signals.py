"""Signals between layers: lengths, means and products over units for a set of samples.

A `Signal` is the Gram matrix of a batch (the NNGP kernel, Lee et al. 2018). Every sample keeps its
own length q(x), so that samples of different norms are followed as they are. In convolutions
lengths and products are maps: a convolution averages them over its taps, since only equal offsets
meet (Novak et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# The way back through a layer: from the mean squared gradient after it, (samples, height, width)
# and summed over units, to the one in front of it.
Backward = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of samples whose products are followed.

    Entry (r, y, x) of a product multiplies sample `first[r]` at (y, x) with sample `second[r]` at
    (y, x) + `shift[r]`, around the edges of the map. There are three sorts of pairs:

    - aligned: different samples without shift, which make the cosine of whole maps;
    - scattered: different samples shifted at random, which stand for any two positions and so for a
      unit's mean over samples and positions; for vectors these are the aligned pairs;
    - neighbours: a sample with itself, shifted to a neighbouring position.

    Attributes:
        first: (pairs,) index of the first sample.
        second: (pairs,) index of the second sample.
        shift: (pairs, 2) rows and columns by which the second sample is shifted.
        random_shift: (pairs,) True for scattered pairs of maps.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shift: NDArray[np.int64]
    random_shift: NDArray[np.bool_]

    @classmethod
    def between_vectors(cls, samples: int) -> Pairs:
        """Returns all pairs of different samples without positions."""
        first, second = np.triu_indices(samples, 1)
        no_shift = np.zeros((len(first), 2), dtype=np.int64)
        return cls(first, second, no_shift, np.zeros(len(first), dtype=bool))

    @cached_property
    def aligned(self) -> NDArray[np.int64]:
        """Indices of the pairs of different samples at equal positions."""
        return np.flatnonzero((self.first != self.second) & ~self.random_shift)

    @cached_property
    def scattered(self) -> NDArray[np.int64]:
        """Indices of the pairs of different samples that stand for any two positions."""
        return np.flatnonzero(self.random_shift) if self.random_shift.any() else self.aligned

    def neighbours(self, shift: tuple[int, int]) -> NDArray[np.int64]:
        """Returns the indices of the pairs of a sample with itself at this shift."""
        return np.flatnonzero((self.first == self.second) & (self.shift == shift).all(1))

    def shrunk(self, size: tuple[int, int]) -> Pairs:
        """Returns the pairs on maps smaller by these factors; neighbours stay neighbours."""
        shift = np.where(self.random_shift[:, None], self.shift // size, self.shift)
        return Pairs(self.first, self.second, shift, self.random_shift)

    def at_first(self, maps: Array) -> Array:
        """Takes maps (..., samples, height, width) at the first sample of every pair.

        The result has shape (..., pairs, height, width).
        """
        return maps[..., self.first, :, :]

    def at_second(self, maps: Array) -> Array:
        """Takes maps at the second sample of every pair, moved by its shift."""
        taken = maps[..., self.second, :, :]
        height, width = taken.shape[-2:]
        if height * width == 1 or not self.shift.any():
            return taken
        rows = (np.arange(height)[None, :] + self.shift[:, :1]) % height
        columns = (np.arange(width)[None, :] + self.shift[:, 1:]) % width
        pair = np.arange(len(self.second))[:, None, None]
        return taken[..., pair, rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True, eq=False)
class Signal:
    """The values x between two layers, as averages over units.

    The four noises are variances over networks of this width, relative to the square of the
    quantity for lengths and absolute for cosines.

    Attributes:
        pairs: the pairs of samples in `product`.
        length: (samples, height, width) mean over units of x^2; height = width = 1 for vectors.
        mean: (samples, height, width) mean over units of x.
        product: (pairs, height, width) mean over units of x x'.
        normal: x is normal over units for a given sample.
        fixed_degrees: Hermite degrees that a normalization holds still, so that they add nothing to
            the spread between networks.
        length_noise: variance of one sample's length.
        level_noise: variance of the mean length over samples.
        cosine_noise: variance of one pair's cosine.
        mean_cosine_noise: variance of the mean cosine.
        diagonal_share: sum_j S_jj^2 / (tr S)^2 of the covariance S over units.
        kurtosis: excess kurtosis of a unit, which is not 0 where a batch normalization divides each
            unit by its own deviation.
    """

    pairs: Pairs
    length: Array
    mean: Array
    product: Array
    normal: bool = False
    fixed_degrees: frozenset[int] = frozenset()
    length_noise: float = 0.0
    level_noise: float = 0.0
    cosine_noise: float = 0.0
    mean_cosine_noise: float = 0.0
    diagonal_share: float = 0.0
    kurtosis: float = 0.0

    @property
    def positions(self) -> int:
        """Number of positions of a map, 1 for a vector."""
        return self.length.shape[1] * self.length.shape[2]

    @cached_property
    def cosine(self) -> Array:
        """Cosine over units of every pair at every position.

        Shape (pairs, height, width); 0 where a sample is 0.
        """
        first = self.pairs.at_first(self.length)
        second = self.pairs.at_second(self.length)
        return np.clip(ratio_or_zero(self.product, np.sqrt(first * second)), -1.0, 1.0)

    @cached_property
    def level(self) -> float:
        """Mean of `length`, which is the pooled second moment."""
        return float(self.length.mean())

    @cached_property
    def mean_cosine(self) -> float:
        """Mean cosine of different samples as whole vectors or maps."""
        aligned = self.pairs.aligned
        by_sample = self.length.mean((1, 2))
        first = by_sample[self.pairs.first[aligned]]
        second = by_sample[self.pairs.second[aligned]]
        products = self.product[aligned].mean((1, 2))
        return float(ratio_or_zero(products, np.sqrt(first * second)).mean())

    def mean_product(self, samples: float = np.inf) -> float:
        """Returns the mean of x x' over all pairs of samples and positions.

        Pairs of a sample and position with itself are included.
        """
        different = float(self.product[self.pairs.scattered].mean())
        return different + (self.level - different) / (samples * self.positions)

    def over_partners(self, products: Array) -> Array:
        """Averages pair maps over all partners of each sample and position.

        Args:
            products: (pairs, height, width).

        Returns:
            Means over the scattered pairs, shape (samples, height, width).
        """
        pairs = self.pairs
        if self.positions == 1 and len(pairs.scattered) == len(pairs.first):
            return self._over_partner_vectors(products)
        scattered = pairs.scattered
        backward = Pairs(
            pairs.first[scattered],
            scattered,
            -pairs.shift[scattered],
            pairs.random_shift[scattered],
        )
        total = np.zeros_like(self.length)
        number = np.zeros_like(self.length)
        for sample, values in (
            (pairs.first[scattered], products[scattered]),
            (pairs.second[scattered], backward.at_second(products)),
        ):
            np.add.at(total, sample, values)
            np.add.at(number, sample, 1.0)
        return total / np.maximum(number, 1.0)

    def _over_partner_vectors(self, products: Array) -> Array:
        first = self.pairs.first
        second = self.pairs.second
        flat = products.ravel()
        samples = len(self.length)
        total = np.bincount(first, flat, samples) + np.bincount(second, flat, samples)
        number = np.bincount(first, minlength=samples) + np.bincount(second, minlength=samples)
        return (total / np.maximum(number, 1))[:, None, None]

    @cached_property
    def centred(self) -> tuple[Array, Array]:
        """Lengths and products about the units' means over samples and positions."""
        with_mean = self.over_partners(self.product)
        square_mean = float(self.product[self.pairs.scattered].mean())
        length = np.maximum(self.length - 2 * with_mean + square_mean, 0.0)
        first = self.pairs.at_first(with_mean)
        second = self.pairs.at_second(with_mean)
        return length, self.product - first - second + square_mean

    @cached_property
    def centred_square(self) -> float:
        """Mean square of the centred products of different samples.

        The factor makes up for the part that centring on the mean of these few samples removes.
        """
        samples = len(self.length)
        square = float(np.square(self.centred[1][self.pairs.scattered]).mean())
        return square * (samples - 1) / max(samples - 3, 1)

    def participation_ratio(self, samples: float = np.inf) -> float:
        """Returns the participation ratio over units, from `samples` samples.

        It is (tr S)^2 / tr S^2 of the covariance S. The spread that finite width adds to the
        cosines is included.
        """
        length = self.centred[0]
        trace = float(length.mean())
        if trace <= 0:
            return float("nan")
        of_pairs = self.centred_square / trace**2
        of_same_sample = float(np.square(length).mean()) / trace**2 / (samples * self.positions)
        inverse = of_pairs + self.cosine_noise + of_same_sample
        return 1.0 / inverse if inverse > 0 else float("inf")


def ratio_or_zero(numerator: Array, denominator: Array) -> Array:
    """Divides elementwise; 0 where the denominator is not above 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
