"""How each kind of layer changes a signal, and what it does to the squared gradient on the way back.

A function takes the signal in front of a layer and returns the signal behind it with its `Backward`: a map from the mean
squared gradient behind, (samples, height, width) and summed over units, to the one in front. Forward and backward pass are treated as
independent (Schoenholz et al. 2017), which holds for wide layers at initialisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction
from harness.theory.networks import pooling
from harness.theory.networks.description import Convolution, Dense, Dropout, Normalization, Pool
from harness.theory.networks.signals import Pairs, Signal
from harness.theory.selu.moment_map import FLOOR

Array = NDArray[np.float64]
Backward = Callable[[Array], Array]

# The grid of (log q, correlation of neighbours) on which the moments of a maximum are tabulated.
_MAXIMUM_LENGTHS, _MAXIMUM_CORRELATIONS = 24, 12
_PSI_NODES = 64


def dense(signal: Signal, layer: Dense) -> tuple[Signal, Backward]:
    """Z = W x + b: q = sigma_w2 E x^2 + sigma_b2 over units, for every sample and pair."""
    length, product = _centred(signal.length, signal.product, signal.mean, signal.pairs, layer)
    behind = _weighted(signal, layer.sigma_w2 * length, layer.sigma_w2 * product, layer.sigma_b2)
    return behind, lambda gradient: layer.sigma_w2 * gradient


def convolution(signal: Signal, layer: Convolution) -> tuple[Signal, Backward]:
    """A convolution at every position: the mean over its taps, of which zero padding leaves some without input."""
    area = layer.kernel_size**2
    share = layer.sigma_w2 / area
    length, product = (
        _taps(signal.length, layer) / area,
        _taps(signal.product, layer, signal.pairs.shift) / area,
    )
    pairs = _strided_pairs(signal.pairs, layer)
    if layer.centred:
        length, product = _centred_about(
            length, product, _taps(signal.mean, layer) / area, pairs, layer.fan_in
        )
    behind = _weighted(
        replace(signal, pairs=pairs),
        layer.sigma_w2 * length,
        layer.sigma_w2 * product,
        layer.sigma_b2,
    )
    height, width = signal.length.shape[1:]
    return behind, lambda gradient: share * _taps_back(gradient, layer, height, width)


def normalization(signal: Signal, layer: Normalization) -> tuple[Signal, Backward]:
    """Batch (each unit over samples and positions), layer and rms (each sample over units and positions), pooled (one factor)."""
    if layer.kind == "batch":
        return _batch(signal, layer.epsilon)
    if layer.kind == "pooled":
        level = signal.level
        return _scaled(
            signal,
            np.full_like(signal.length, 1.0 / level if level > 0 else 0.0),
            frozenset(),
            own=max(signal.own - signal.shared, 0.0),
        )
    centre = (
        signal.mean.mean((1, 2), keepdims=True)
        if layer.kind == "layer"
        else np.zeros((len(signal.length), 1, 1))
    )
    length = signal.length - 2 * centre * signal.mean + centre**2
    at_first, at_second = signal.pairs.of_first(centre), signal.pairs.second
    product = (
        signal.product
        - at_first * signal.pairs.of_second(signal.mean)
        - signal.pairs.of_first(signal.mean) * centre[at_second]
        + at_first * centre[at_second]
    )
    centred = replace(
        signal, length=np.maximum(length, 0.0), product=product, mean=signal.mean - centre
    )
    factor = 1.0 / (centred.length.mean((1, 2), keepdims=True) + layer.epsilon)
    fixed = frozenset({1, 2}) if layer.kind == "layer" else frozenset({2})
    return _scaled(
        centred,
        np.broadcast_to(factor, signal.length.shape),
        fixed if signal.normal else frozenset(),
        own=0.0,
    )


def dropout(signal: Signal, layer: Dropout) -> tuple[Signal, Backward]:
    """Independent masks for every sample: standard (Srivastava et al. 2014) or alpha dropout (Klambauer et al. 2017).

    Products of different samples lose what each sample's own second moment gains, so c = 1 is no fixed point. Backward factor:
    1 / (1 - rate), and a^2 (1 - rate) = 1 / (1 + rate alpha'^2) for alpha dropout.
    """
    keep = 1.0 - layer.rate
    if layer.kind == "standard":
        return replace(
            signal, length=signal.length / keep, normal=False
        ), lambda gradient: gradient / keep
    a = (keep * (1.0 + layer.rate * FLOOR**2)) ** -0.5
    b = -a * layer.rate * FLOOR
    kept_mean = keep * signal.mean + layer.rate * FLOOR
    length = a**2 * (keep * signal.length + layer.rate * FLOOR**2) + 2 * a * b * kept_mean + b**2
    first, second = signal.pairs.of_first(signal.mean), signal.pairs.of_second(signal.mean)
    kept = (
        keep**2 * signal.product
        + keep * layer.rate * FLOOR * (first + second)
        + (layer.rate * FLOOR) ** 2
    )
    product = a**2 * kept + a * b * (keep * (first + second) + 2 * layer.rate * FLOOR) + b**2
    return replace(
        signal, length=length, mean=a * kept_mean + b, product=product, normal=False
    ), lambda gradient: a**2 * keep * gradient


def residual(
    signal: Signal,
    branch: Signal,
    skip_scale: float,
    branch_scale: float,
    has_weights: bool,
    elementwise: ActivationFunction | None,
) -> Signal:
    """Skip x + branch f(x): squares add, and the cross term 2 E[x f(x)] with them.

    Behind weights of mean 0, f's units know x's only through their common mean, so the cross term is mean(f) mean(x): 0 where the
    branch ends in weights. Without weights f is elementwise: E[x phi(x)] = sqrt(q) phi_1(q) for normal x.
    """
    pairs = signal.pairs
    if has_weights or elementwise is None:
        own = signal.mean * branch.mean
        cross = 0.5 * (
            pairs.of_first(signal.mean) * pairs.of_second(branch.mean)
            + pairs.of_first(branch.mean) * pairs.of_second(signal.mean)
        )
    else:
        slope = hermite.expand(elementwise, signal.length).value[1] / np.sqrt(
            np.maximum(signal.length, 1e-300)
        )  # E[x phi] / q
        own = signal.length * slope
        cross = 0.5 * signal.product * (pairs.of_first(slope) + pairs.of_second(slope))
    both = 2.0 * skip_scale * branch_scale
    skip2, branch2 = skip_scale**2, branch_scale**2
    length = skip2 * signal.length + branch2 * branch.length + both * own
    weight = skip2 * signal.level / max(float(length.mean()), 1e-300)

    def mix(name: str) -> float:
        return weight**2 * getattr(signal, name) + (1 - weight) ** 2 * getattr(branch, name)

    return Signal(
        pairs,
        length,
        skip_scale * signal.mean + branch_scale * branch.mean,
        skip2 * signal.product + branch2 * branch.product + both * cross,
        signal.normal and branch.normal,
        frozenset(),
        *(mix(name) for name in ("own", "shared", "cosine_noise", "mean_cosine_noise")),
        max(signal.diagonal_share, branch.diagonal_share),
    )


def flatten(signal: Signal) -> tuple[Signal, Backward]:
    """One vector per sample: lengths are means over positions, products those of pairs at equal positions."""
    shape = signal.length.shape
    if signal.positions == 1:
        return signal, lambda gradient: gradient
    aligned = signal.pairs.aligned
    pairs = Pairs(
        signal.pairs.first[aligned],
        signal.pairs.second[aligned],
        np.zeros_like(signal.pairs.shift[aligned]),
        np.zeros(len(aligned), dtype=bool),
    )
    length, mean, product = (
        maps.mean((1, 2), keepdims=True)
        for maps in (signal.length, signal.mean, signal.product[aligned])
    )
    behind = replace(
        signal,
        pairs=pairs,
        length=length,
        mean=mean,
        product=product,
        normal=False,
        diagonal_share=signal.diagonal_share / signal.positions,
    )
    return behind, lambda gradient: np.broadcast_to(gradient / signal.positions, shape)


def pool(
    signal: Signal, layer: Pool, activated: tuple[Signal, ActivationFunction] | None
) -> tuple[Signal, Backward]:
    """Average or maximum over blocks; `activated` is the normal signal and the activation just in front, needed for a maximum.

    Positions of a block count as exchangeable, with the mean correlation of neighbours; further apart, correlation falls
    geometrically from what direct neighbours have to what distant positions have.
    """
    size = layer.size or max(signal.length.shape[1:])
    height, width = signal.length.shape[1] // size or 1, signal.length.shape[2] // size or 1
    size_y, size_x = min(size, signal.length.shape[1]), min(size, signal.length.shape[2])
    count = size_y * size_x

    def blocks(maps: Array) -> Array:
        cut = maps[:, : height * size_y, : width * size_x]
        return cut.reshape(len(cut), height, size_y, width, size_x).mean((2, 4))

    pairs = signal.pairs.scaled((size_y, size_x))

    def spread(gradient: Array, factor: Array | float) -> Array:
        maps = np.zeros_like(signal.length)
        maps[:, : height * size_y, : width * size_x] = (
            (gradient * factor).repeat(size_y, 1).repeat(size_x, 2)
        )
        return maps

    if layer.kind == "average":
        within = _block_correlation(signal, size_y, size_x, 0, 0)
        length = pooling.average_length(blocks(signal.length), within, count)
        product = blocks(signal.product)
        _set_neighbours(signal, pairs, product, blocks(signal.length), size_y, size_x)
        return replace(
            signal,
            pairs=pairs,
            length=length,
            mean=blocks(signal.mean),
            product=product,
            normal=False,
        ), lambda gradient: spread(gradient, 1.0 / count**2)
    assert activated is not None
    before, phi = activated
    q, within = blocks(before.length), _block_correlation(before, size_y, size_x, 0, 0)
    mean, second, gain = _maximum_table(phi, q, within, count)
    product = _maximum_products(
        before, phi, q, within, blocks(before.product), pairs, mean, second, size_y, size_x
    )
    ordinary = blocks(hermite.expand(phi, before.length).gain)
    factor = gain / np.maximum(ordinary, 1e-300) / count
    return replace(
        signal, pairs=pairs, length=second, mean=mean, product=product, normal=False
    ), lambda gradient: spread(gradient, factor)


def neighbour_shifts() -> NDArray[np.int64]:
    """The shifts of a sample's pairs with itself from which pooling reads how alike neighbours are."""
    return np.array([(0, 1), (1, 0), (1, 1), (1, -1)])


def _weighted(signal: Signal, length: Array, product: Array, sigma_b2: float) -> Signal:
    level = float(length.mean())
    share = (level / (level + sigma_b2)) ** 2 if level + sigma_b2 > 0 else 1.0
    return replace(
        signal,
        length=length + sigma_b2,
        product=product + sigma_b2,
        mean=np.zeros_like(length),
        normal=True,
        fixed=frozenset(),
        kurtosis=0.0,
        own=share * signal.own,
        shared=share * signal.shared,
        cosine_noise=share * signal.cosine_noise,
        mean_cosine_noise=share * signal.mean_cosine_noise,
    )


def _centred(
    length: Array, product: Array, mean: Array, pairs: Pairs, layer: Dense
) -> tuple[Array, Array]:
    """What weights of sum 0 see: inputs about their mean over units."""
    return (
        _centred_about(length, product, mean, pairs, layer.fan_in)
        if layer.centred
        else (length, product)
    )


def _centred_about(
    length: Array, product: Array, mean: Array, pairs: Pairs, fan_in: int
) -> tuple[Array, Array]:
    # Weights spread evenly over the fan_in - 1 directions orthogonal to the constant one.
    scale = fan_in / (fan_in - 1)
    return scale * np.maximum(length - mean * mean, 0.0), scale * (
        product - pairs.of_first(mean) * pairs.of_second(mean)
    )


def _scaled(
    signal: Signal, factor: Array, fixed: frozenset[int], own: float
) -> tuple[Signal, Backward]:
    root = np.sqrt(factor)
    behind = replace(
        signal,
        length=signal.length * factor,
        mean=signal.mean * root,
        product=signal.product * signal.pairs.of_first(root) * signal.pairs.of_second(root),
        fixed=fixed,
        own=own,
        shared=0.0,
    )
    return behind, lambda gradient: gradient * factor


def _batch(signal: Signal, epsilon: float) -> tuple[Signal, Backward]:
    """Each unit about its mean and by its deviation over samples and positions (Yang et al. 2019)."""
    length, product = signal.centred
    level = float(length.mean()) + epsilon
    centred = replace(signal, length=length, product=product, mean=signal.mean - signal.mean.mean())
    fixed = frozenset({1, 2}) if signal.normal else frozenset()
    behind, backward = _scaled(
        centred, np.full_like(length, 1.0 / level), fixed, own=max(signal.own - signal.shared, 0.0)
    )
    # A unit over its own deviation is a coordinate on a sphere of PR dimensions: E z^4 / s^4 = 3 PR / (PR + 2).
    return replace(
        behind,
        kurtosis=-6.0 / (signal.participation_ratio() + 2.0)
        if signal.normal and level > epsilon
        else 0.0,
    ), backward


def _strided_pairs(pairs: Pairs, layer: Convolution) -> Pairs:
    return pairs if layer.stride == 1 else pairs.scaled((layer.stride, layer.stride))


def _offsets(layer: Convolution) -> list[tuple[int, int]]:
    reach = layer.kernel_size // 2
    return [
        (dy, dx)
        for dy in range(-reach, layer.kernel_size - reach)
        for dx in range(-reach, layer.kernel_size - reach)
    ]


def _moved(maps: Array, dy: int, dx: int, circular: bool) -> Array:
    """Entry (y, x) becomes the one at (y + dy, x + dx); 0 from outside unless circular."""
    if circular:
        return np.roll(maps, (-dy, -dx), (-2, -1))
    moved = np.zeros_like(maps)
    height, width = maps.shape[-2:]
    ys, xs = (
        slice(max(0, -dy), min(height, height - dy)),
        slice(max(0, -dx), min(width, width - dx)),
    )
    moved[..., ys, xs] = maps[
        ...,
        max(0, dy) : max(0, min(height, height + dy)),
        max(0, dx) : max(0, min(width, width + dx)),
    ]
    return moved


def _taps(maps: Array, layer: Convolution, shift: Array | None = None) -> Array:
    """Sum over a kernel's taps; with `shift`, a tap of a pair is live only where both partners' are."""
    circular = layer.padding == "circular"
    height, width = maps.shape[-2:]
    total = np.zeros_like(maps)
    for dy, dx in _offsets(layer):
        moved = _moved(maps, dy, dx, circular)
        if shift is not None and not circular and shift.any():
            rows = (np.arange(height) + shift[:, :1]) % height + dy
            columns = (np.arange(width) + shift[:, 1:]) % width + dx
            moved *= ((rows >= 0) & (rows < height))[:, :, None] & (
                (columns >= 0) & (columns < width)
            )[:, None, :]
        total += moved
    if layer.padding == "none" and layer.kernel_size > 1:
        reach = layer.kernel_size // 2
        total = total[
            ...,
            reach : height - (layer.kernel_size - 1 - reach),
            reach : width - (layer.kernel_size - 1 - reach),
        ]
    return total[..., :: layer.stride, :: layer.stride]


def _taps_back(gradient: Array, layer: Convolution, height: int, width: int) -> Array:
    """The transpose of `_taps`: where each position's squared gradient goes."""
    reach = layer.kernel_size // 2 if layer.padding == "none" else 0
    placed = np.zeros((len(gradient), height, width))
    placed[:, reach :: layer.stride, reach :: layer.stride][
        :, : gradient.shape[1], : gradient.shape[2]
    ] = gradient
    return sum(_moved(placed, -dy, -dx, layer.padding == "circular") for dy, dx in _offsets(layer))


def _neighbour_cosines(signal: Signal) -> dict[tuple[int, int], float]:
    """Mean of x x' over mean x^2 for each neighbour's shift; 1 (alike) where nothing was followed."""
    level = signal.level
    found = {}
    for dy, dx in neighbour_shifts():
        chosen = signal.pairs.neighbours((dy, dx))
        if len(chosen) and level > 0:
            maps = signal.product[chosen]
            # The last rows and columns were multiplied around the edge.
            ys = slice(0, maps.shape[1] - dy) if maps.shape[1] > 1 else slice(None)
            xs = (
                slice(max(0, -dx), maps.shape[2] - max(0, dx)) if maps.shape[2] > 1 else slice(None)
            )
            found[(int(dy), int(dx))] = float(maps[:, ys, xs].mean()) / level
    return found


def _correlation_at(signal: Signal) -> Callable[[Array], Array]:
    """Correlation about 0 at a distance: from direct neighbours' down to that of distant positions, geometrically."""
    cosines = _neighbour_cosines(signal)
    level = signal.level
    floor = min(max(signal.mean_product() / level, 0.0), 1.0) if level > 0 else 0.0
    direct = [cosines[shift] for shift in ((0, 1), (1, 0)) if shift in cosines]
    near = min(max(float(np.mean(direct)), floor), 1.0) if direct else 1.0
    ratio = (near - floor) / (1.0 - floor) if floor < 1.0 else 1.0
    return lambda distance: floor + (1.0 - floor) * ratio ** np.asarray(distance, dtype=float)


def _block_correlation(
    signal: Signal, size_y: int, size_x: int, apart_y: int, apart_x: int
) -> float:
    """Mean correlation of different positions of one block, or of two blocks some blocks apart."""
    at = _correlation_at(signal)
    y, x = np.divmod(np.arange(size_y * size_x), size_x)
    distance = np.hypot(
        y[:, None] - y[None, :] + apart_y * size_y, x[:, None] - x[None, :] + apart_x * size_x
    )
    values = at(distance)
    if apart_y or apart_x:
        return float(values.mean())
    count = len(y)
    return float((values.sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def _set_neighbours(
    signal: Signal, pairs: Pairs, product: Array, level: Array, size_y: int, size_x: int
) -> None:
    """Products of neighbouring blocks of one sample, from the correlation at their positions' distances."""
    for dy, dx in neighbour_shifts():
        chosen = pairs.neighbours((dy, dx))
        if len(chosen):
            product[chosen] = (
                _block_correlation(signal, size_y, size_x, int(dy), int(dx))
                * level[pairs.first[chosen]]
            )


def _maximum_table(
    phi: ActivationFunction, q: Array, correlation: float, count: int
) -> tuple[Array, Array, Array]:
    positive = q[q > 0]
    if not positive.size:
        return tuple(
            np.full_like(q, float(value))
            for value in pooling.maximum_moments(phi, 0.0, correlation, count)
        )
    grid = np.linspace(
        np.log(max(positive.min(), positive.max() * 1e-10)),
        np.log(positive.max()) + 1e-9,
        _MAXIMUM_LENGTHS,
    )
    tables = pooling.maximum_moments(phi, np.exp(grid), correlation, count)
    position = (np.log(np.maximum(q, 1e-300)) - grid[0]) / (grid[1] - grid[0])
    return tuple(
        map_coordinates(table, [position.ravel()], order=3, mode="nearest").reshape(q.shape)
        for table in tables
    )


def _maximum_products(
    before: Signal,
    phi: ActivationFunction,
    q: Array,
    within: float,
    product: Array,
    pairs: Pairs,
    mean: Array,
    second: Array,
    size_y: int,
    size_x: int,
) -> Array:
    """E phi(M) phi(M') of two blocks: given a block's mean, its maximum adds something independent, so phi is seen smoothed.

    Two blocks are alike as far as their means are: the covariance is that of the smoothed phi at the means' correlation.
    """
    count = size_y * size_x
    level = float(q.mean())
    block_mean = q * (1 + (count - 1) * within) / count
    residual = pooling.residual_maximum(count) * np.sqrt(max(level * (1 - within), 0.0))
    slope = np.array(phi.kinks, dtype=float)
    smoothed = ActivationFunction(
        phi.name,
        lambda x: phi.value(x[..., None] + residual).mean(-1),
        lambda x: phi.slope(x[..., None] + residual).mean(-1),
        tuple(slope),
    )
    one = hermite.expand(smoothed, np.array([float(block_mean.mean())]))
    _set_neighbours(before, pairs, product, q, size_y, size_x)
    norms = np.sqrt(pairs.of_first(block_mean) * pairs.of_second(block_mean))
    c = np.clip(np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0), 0.0, 1.0)
    squares = one.value[1:, 0] ** 2
    total = max(float(squares.sum()), 1e-300)
    transfer = np.interp(c, *_transfer(squares / total))
    share = total / max(float((second - mean**2).mean()), 1e-300)
    variance = np.sqrt(
        np.maximum(pairs.of_first(second - mean**2) * pairs.of_second(second - mean**2), 0.0)
    )
    return pairs.of_first(mean) * pairs.of_second(mean) + variance * min(share, 1.0) * transfer


def _transfer(shares: Array) -> tuple[Array, Array]:
    c = np.linspace(0.0, 1.0, _PSI_NODES)
    return c, shares @ hermite.powers(c)[1:]
