"""Propagation of a signal through average and maximum pooling.

Positions of a block count as exchangeable, with the mean correlation of neighbours. Further apart,
correlation falls geometrically, from that of direct neighbours to that of distant positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction
from harness.theory.networks import pooling
from harness.theory.networks.description import Pool
from harness.theory.networks.signals import Backward, Pairs, Signal, ratio_or_zero

Array = NDArray[np.float64]

# Points of log q at which the moments of a maximum are tabulated.
_TABLE_LENGTHS = 24
# Points of the correlation at which the covariance of two maxima is tabulated.
_TABLE_CORRELATIONS = 64
_TINY = 1e-300


@dataclass(frozen=True)
class _Blocks:
    """The blocks of positions that pooling takes together.

    Attributes:
        rows: blocks above each other.
        columns: blocks beside each other.
        size_y: rows of a block.
        size_x: columns of a block.
        stride: rows and columns from one block to the next; 0 stands for the size.
    """

    rows: int
    columns: int
    size_y: int
    size_x: int
    stride: int = 0

    @classmethod
    def cut(cls, shape: tuple[int, int], size: int, stride: int = 0) -> _Blocks:
        """Cuts maps into blocks of this side, one block for size 0.

        A stride of 0 stands for the size; below it blocks overlap.
        """
        height, width = shape
        size = size or max(height, width)
        size_y, size_x = min(size, height), min(size, width)
        rows = (height - size_y) // (stride or size_y) + 1
        columns = (width - size_x) // (stride or size_x) + 1
        return cls(rows, columns, size_y, size_x, stride)

    @property
    def step_y(self) -> int:
        """Rows from one block to the next."""
        return self.stride or self.size_y

    @property
    def step_x(self) -> int:
        """Columns from one block to the next."""
        return self.stride or self.size_x

    @property
    def count(self) -> int:
        """Positions of a block."""
        return self.size_y * self.size_x

    def mean(self, maps: Array) -> Array:
        """Averages maps (n, height, width) over each block.

        Rows and columns left over are lost.
        """
        if not self._is_disjoint:
            total = sum(maps[:, rows, columns] for rows, columns in self._members())
            return np.asarray(total) / self.count
        cut = maps[:, : self.rows * self.size_y, : self.columns * self.size_x]
        split = cut.reshape(len(cut), self.rows, self.size_y, self.columns, self.size_x)
        return split.mean((2, 4))

    def spread(self, values: Array, shape: tuple[int, ...]) -> Array:
        """Adds each block's value to all its positions in maps of this shape."""
        maps = np.zeros(shape)
        if not self._is_disjoint:
            for rows, columns in self._members():
                maps[:, rows, columns] += values
            return maps
        copies = values.repeat(self.size_y, 1).repeat(self.size_x, 2)
        maps[:, : self.rows * self.size_y, : self.columns * self.size_x] = copies
        return maps

    @property
    def _is_disjoint(self) -> bool:
        """True where blocks stand side by side, without gaps."""
        return (self.step_y, self.step_x) == (self.size_y, self.size_x)

    def _members(self) -> Iterator[tuple[slice, slice]]:
        """Yields for each position in a block the rows and columns that it has in all blocks."""
        for y in range(self.size_y):
            for x in range(self.size_x):
                rows = slice(y, y + (self.rows - 1) * self.step_y + 1, self.step_y)
                columns = slice(x, x + (self.columns - 1) * self.step_x + 1, self.step_x)
                yield rows, columns


@dataclass(frozen=True)
class _Maxima:
    """Moments of the largest activation of each block, (samples, rows, columns).

    `gain` is E phi'^2 at the largest pre-activation, `within` the mean correlation of a block's
    pre-activations.
    """

    mean: Array
    second_moment: Array
    gain: Array
    within: float


def pool(
    signal: Signal, layer: Pool, activated: tuple[Signal, ActivationFunction] | None
) -> tuple[Signal, Backward]:
    """Applies average or maximum pooling.

    Args:
        signal: the signal in front of the pooling.
        layer: the pooling.
        activated: the normal signal and the activation directly in front; a maximum needs them.

    Raises:
        ValueError: a maximum without `activated`.
    """
    blocks = _Blocks.cut(signal.length.shape[1:], layer.size, layer.stride)
    pairs = signal.pairs.shrunk((blocks.step_y, blocks.step_x))
    if layer.kind == "average":
        return _average(signal, blocks, pairs)
    if activated is None:
        raise ValueError("maximum pooling needs the activation in front of it")
    return _maximum(signal, blocks, pairs, *activated)


def neighbour_shifts() -> NDArray[np.int64]:
    """Returns the shifts (4, 2) of a sample's pairs with itself.

    Pooling reads from them how correlated neighbouring positions are.
    """
    return np.array([(0, 1), (1, 0), (1, 1), (1, -1)])


def _average(signal: Signal, blocks: _Blocks, pairs: Pairs) -> tuple[Signal, Backward]:
    within = _block_correlation(signal, blocks, (0, 0))
    level = blocks.mean(signal.length)
    product = blocks.mean(signal.product)
    _set_neighbour_products(product, signal, blocks, pairs, level)
    after = replace(
        signal,
        pairs=pairs,
        length=pooling.average_length(level, within, blocks.count),
        mean=blocks.mean(signal.mean),
        product=product,
        # A mean over positions keeps a unit's mean, and not its variance.
        fixed_degrees=signal.fixed_degrees & {1} if blocks.count > 1 else signal.fixed_degrees,
    )
    factor = 1.0 / blocks.count**2
    shape = signal.length.shape
    return after, lambda gradient: blocks.spread(gradient * factor, shape)


def _maximum(
    signal: Signal, blocks: _Blocks, pairs: Pairs, before: Signal, phi: ActivationFunction
) -> tuple[Signal, Backward]:
    """Takes the maximum of phi over blocks of the normal signal `before`."""
    within = _block_correlation(before, blocks, (0, 0))
    maxima = _Maxima(
        *_maximum_moments(phi, blocks.mean(before.length), within, blocks.count), within
    )
    product = _maximum_products(before, phi, blocks, pairs, maxima)
    after = replace(
        signal,
        pairs=pairs,
        length=maxima.second_moment,
        mean=maxima.mean,
        product=product,
        normal=False,
    )
    ordinary_gain = blocks.mean(hermite.expand(phi, before.length).gain)
    factor = maxima.gain / np.maximum(ordinary_gain, _TINY) / blocks.count
    shape = signal.length.shape
    return after, lambda gradient: blocks.spread(gradient * factor, shape)


def _neighbour_cosines(signal: Signal) -> dict[tuple[int, int], float]:
    """Returns the cosine about 0 at each neighbour's shift that is followed."""
    level = signal.level
    cosines = {}
    for dy, dx in neighbour_shifts():
        neighbours = signal.pairs.neighbours((dy, dx))
        if len(neighbours) and level > 0:
            maps = signal.product[neighbours]
            height, width = maps.shape[1:]
            # The last rows and columns were multiplied around the edge.
            rows = slice(0, height - dy) if height > 1 else slice(None)
            columns = slice(max(0, -dx), width - max(0, dx)) if width > 1 else slice(None)
            cosines[(int(dy), int(dx))] = float(maps[:, rows, columns].mean()) / level
    return cosines


def _correlation_at(signal: Signal) -> Callable[[Array], Array]:
    """Returns the correlation (about 0) of two positions as a function of their distance.

    It falls geometrically from that of direct neighbours to that of distant positions. Neighbours
    that are not followed count as equal, with correlation 1.
    """
    cosines = _neighbour_cosines(signal)
    level = signal.level
    floor = min(max(signal.mean_product() / level, 0.0), 1.0) if level > 0 else 0.0
    direct = [cosines[shift] for shift in ((0, 1), (1, 0)) if shift in cosines]
    near = min(max(float(np.mean(direct)), floor), 1.0) if direct else 1.0
    ratio = (near - floor) / (1.0 - floor) if floor < 1.0 else 1.0
    return lambda distance: floor + (1.0 - floor) * ratio ** np.asarray(distance, dtype=float)


def _block_correlation(signal: Signal, blocks: _Blocks, apart: tuple[int, int]) -> float:
    """Returns the mean correlation of the positions of two blocks.

    `apart` counts the rows and columns of blocks between them. For apart = (0, 0) it is that of
    different positions of one block.
    """
    correlation_at = _correlation_at(signal)
    # Pairs of positions count by their distance alone, so that the work grows with the block.
    down, rows = _displacements(blocks.size_y)
    across, columns = _displacements(blocks.size_x)
    down = down + apart[0] * blocks.step_y
    across = across + apart[1] * blocks.step_x
    values = correlation_at(np.hypot(down[:, None], across[None, :]))
    total = float(rows @ values @ columns)
    count = blocks.count
    if any(apart):
        return total / count**2
    if count == 1:
        return 1.0
    return (total - count) / (count * (count - 1))


def _displacements(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the displacements of two positions along a side, and the number of pairs of each."""
    displacements = np.arange(1 - side, side)
    return displacements, side - np.abs(displacements)


def _set_neighbour_products(
    product: Array, signal: Signal, blocks: _Blocks, pairs: Pairs, level: Array
) -> None:
    """Sets the products of neighbouring blocks of one sample, in place.

    They follow from the correlation at their positions' distances.

    Args:
        product: (pairs, rows, columns), changed in place.
        signal: the signal whose correlation counts.
        blocks: the blocks of the pooling.
        pairs: pairs of the pooled maps.
        level: (samples, rows, columns) mean length of each block.
    """
    for dy, dx in neighbour_shifts():
        neighbours = pairs.neighbours((dy, dx))
        if len(neighbours):
            correlation = _block_correlation(signal, blocks, (int(dy), int(dx)))
            product[neighbours] = correlation * level[pairs.first[neighbours]]


def _maximum_moments(
    phi: ActivationFunction, q: Array, correlation: float, count: int
) -> tuple[Array, Array, Array]:
    """Returns mean, second moment and gain of each block's maximum.

    They are read off a table over log q.
    """
    positive = q[q > 0]
    if not positive.size:
        at_0 = pooling.maximum_moments(phi, 0.0, correlation, count)
        mean, second, gain = (np.full_like(q, float(value)) for value in at_0)
        return mean, second, gain
    low = np.log(max(positive.min(), positive.max() * 1e-10))
    high = np.log(positive.max()) + 1e-9
    grid = np.linspace(low, high, _TABLE_LENGTHS)
    tables = pooling.maximum_moments(phi, np.exp(grid), correlation, count)
    position = (np.log(np.maximum(q, _TINY)) - grid[0]) / (grid[1] - grid[0])
    return tuple(
        map_coordinates(table, [position.ravel()], order=3, mode="nearest").reshape(q.shape)
        for table in tables
    )


def _maximum_products(
    before: Signal, phi: ActivationFunction, blocks: _Blocks, pairs: Pairs, maxima: _Maxima
) -> Array:
    """Returns E phi(M) phi(M') of the maxima of two blocks, shape (pairs, rows, columns).

    Given the mean of a block, its maximum adds something independent, so that phi acts smoothed.
    Two blocks are correlated as far as their means are: the covariance of their maxima is that of
    the smoothed phi at the correlation of the means.
    """
    count = blocks.count
    within = maxima.within
    q = blocks.mean(before.length)
    product = blocks.mean(before.product)
    block_mean = q * (1 + (count - 1) * within) / count
    spread = np.sqrt(max(float(q.mean()) * (1 - within), 0.0))
    smoothed = _smoothed(phi, pooling.residual_maximum(count) * spread)
    coefficients = hermite.expand(smoothed, np.array([float(block_mean.mean())])).value
    _set_neighbour_products(product, before, blocks, pairs, q)
    norms = np.sqrt(pairs.at_first(block_mean) * pairs.at_second(block_mean))
    c = np.clip(ratio_or_zero(product, norms), 0.0, 1.0)
    squares = coefficients[1:, 0] ** 2
    total = max(float(squares.sum()), _TINY)
    transfer = np.interp(c, *_transfer(squares / total))
    block_variance = maxima.second_moment - maxima.mean**2
    share = total / max(float(block_variance.mean()), _TINY)
    variance = pairs.at_first(block_variance) * pairs.at_second(block_variance)
    variance = np.sqrt(np.maximum(variance, 0.0))
    means = pairs.at_first(maxima.mean) * pairs.at_second(maxima.mean)
    return means + variance * min(share, 1.0) * transfer


def _smoothed(phi: ActivationFunction, offsets: Array) -> ActivationFunction:
    """Returns phi averaged over equally likely offsets of its argument."""
    return ActivationFunction(
        phi.name,
        lambda x: phi.value(x[..., None] + offsets).mean(-1),
        lambda x: phi.slope(x[..., None] + offsets).mean(-1),
        phi.kinks,
    )


def _transfer(shares: Array) -> tuple[Array, Array]:
    """Tabulates the correlation of f(u1) and f(u2) over that of u1 and u2.

    `shares` are the shares of the degrees from 1 on in the variance of f.
    """
    c = np.linspace(0.0, 1.0, _TABLE_CORRELATIONS)
    return c, shares @ hermite.powers(c)[1:]
