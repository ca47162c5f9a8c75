"""Representative inputs: a few samples that stand for a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError
from harness.theory.networks.description import Convolution, Dense, Layer, Network, Pool, Residual
from harness.theory.networks.pooled_signals import neighbour_shifts
from harness.theory.networks.signals import Pairs, Signal

Array = NDArray[np.float64]

# A vector network is followed for all pairs of this many samples, ...
_VECTORS = 48
# ... a convolution for as many samples as keep pairs x positions near this.
_MAP_ENTRIES = 40_000
_LEAST_MAPS = 8
_LEAST_SAMPLES = 4
_SEED = 20170608
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Inputs:
    """Representative inputs, see `representatives`.

    A vector network sees the images flattened, a convolution as maps.

    Attributes:
        images: (samples, channels, height, width).

    Raises:
        RequestError: another shape, fewer than 4 samples, or a value that is not finite.
    """

    images: Array

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) < _LEAST_SAMPLES:
            raise RequestError(
                f"inputs: expected at least {_LEAST_SAMPLES} samples "
                f"(samples, channels, height, width), not shape {self.images.shape}"
            )
        if not np.isfinite(self.images).all():
            raise RequestError("inputs: a value is not a finite number")

    def signal(self, network: Network) -> Signal:
        """Returns the signal in front of a network's first layer."""
        for layer in network:
            if isinstance(layer, (Dense, Convolution, Residual)):
                return _map_signal(self.images, network) if _sees_maps(layer) else self._vectors
        return self._vectors

    @cached_property
    def _vectors(self) -> Signal:
        flat = self.images.reshape(len(self.images), -1)[:_VECTORS]
        length, product = _gram(flat)
        return Signal(
            pairs=Pairs.between_vectors(len(flat)),
            length=length.copy(),
            mean=flat.mean(1)[:, None, None],
            product=product,
            diagonal_share=_diagonal_share(flat),
        )


def normal_inputs(q: float = 1.0, cosine: float = 0.0, samples: int = 16) -> Signal:
    """Returns a normal signal of samples with equal norms and equal cosines.

    It serves networks without data: the setting of Poole et al. (2016).
    """
    pairs = Pairs.between_vectors(samples)
    return Signal(
        pairs=pairs,
        length=np.full((samples, 1, 1), float(q)),
        mean=np.zeros((samples, 1, 1)),
        product=np.full((len(pairs.first), 1, 1), float(q) * cosine),
        normal=True,
    )


def representatives(images: Array, count: int = _VECTORS, candidates: int = 64) -> Array:
    """Chooses samples that stand for all in what theory reads off them.

    Each candidate takes one random sample from each of `count` classes of equal size by norm. The
    best one is nearest to all samples in mean norm, scatter of the norm, mean product of different
    samples and participation ratio. It is scaled to the mean norm of all samples.

    Args:
        images: (samples, ...).
        count: samples to choose; fewer images are returned as they are.
        candidates: random choices to compare.

    Returns:
        The chosen samples, shape (count, ...), in random order, so that the first few of them stand
        for all as well.
    """
    images = np.asarray(images, dtype=float)
    flat = images.reshape(len(images), -1)
    if len(flat) <= count:
        return images
    lengths = np.square(flat).mean(1)
    classes = np.array_split(np.argsort(lengths, kind="stable"), count)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    target = _population_summary(flat, lengths)
    nearest = np.inf
    best = classes[0]
    for _ in range(candidates):
        candidate = np.array([members[generator.integers(len(members))] for members in classes])
        distance = float(np.square(_summary(flat[candidate]) - target).sum())
        if distance < nearest:
            nearest = distance
            best = candidate
    chosen = images[generator.permutation(best)]
    if not lengths[best].any():
        return chosen
    return chosen * math.sqrt(lengths.mean() / lengths[best].mean())


def _sees_maps(layer: Layer) -> bool:
    if isinstance(layer, Residual):
        return any(isinstance(part, Convolution) for part in layer.branch)
    return isinstance(layer, Convolution)


def _gram(flat: Array) -> tuple[Array, Array]:
    """Returns lengths (samples, 1, 1) and products (pairs, 1, 1) of vectors (samples, n)."""
    pairs = Pairs.between_vectors(len(flat))
    gram = flat @ flat.T / flat.shape[1]
    return np.diagonal(gram)[:, None, None], gram[pairs.first, pairs.second][:, None, None]


def _population_summary(flat: Array, lengths: Array) -> Array:
    """Returns `_summary` of all samples (samples, n), without products of a sample with itself."""
    centred = flat - flat.mean(0)
    # The smaller of the two Gram matrices has the same sum of squares.
    gram = centred.T @ centred if centred.shape[1] < len(flat) else centred @ centred.T
    rows = len(flat)
    ordered_pairs = rows * (rows - 1)
    own_squares = np.square(np.square(centred).sum(1)).sum()
    centred_square = (np.square(gram).sum() - own_squares) / ordered_pairs / flat.shape[1] ** 2
    product = (np.square(flat.sum(0)).mean() - lengths.sum()) / ordered_pairs
    return np.array([lengths.mean(), lengths.std(), product, math.sqrt(max(centred_square, 0.0))])


def _summary(flat: Array) -> Array:
    """Returns the statistics (4,) that representatives must share with all samples.

    Mean length, its standard deviation, mean product, root mean square of the centred products.
    """
    count = len(flat)
    length, product = _gram(flat)
    pairs = Pairs.between_vectors(count)
    signal = Signal(pairs, length, np.zeros((count, 1, 1)), product)
    return np.array(
        [signal.level, signal.length.std(), signal.mean_product(), math.sqrt(signal.centred_square)]
    )


def _diagonal_share(flat: Array) -> float:
    variances = flat.var(0)
    return float(np.square(variances).sum() / max(variances.sum() ** 2, _TINY))


def _map_signal(images: Array, network: Network) -> Signal:
    """Returns the signal of maps (samples, channels, height, width), for fewer samples."""
    height, width = images.shape[2:]
    wanted = 0.5 + math.sqrt(_MAP_ENTRIES / (height * width))
    count = int(np.clip(wanted, _LEAST_MAPS, _VECTORS))
    level_of_all = float(np.square(images).mean())
    level = float(np.square(images[:count]).mean())
    images = images[:count] * (math.sqrt(level_of_all / level) if level > 0 else 1.0)
    pairs = _map_pairs(len(images), (height, width), network)
    # (channels, samples, height, width), so that pairs are taken along samples.
    by_channel = images.transpose(1, 0, 2, 3)
    product = (pairs.at_first(by_channel) * pairs.at_second(by_channel)).mean(0)
    pixels = images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
    return Signal(
        pairs=pairs,
        length=np.square(by_channel).mean(0),
        mean=by_channel.mean(0),
        product=product,
        diagonal_share=_diagonal_share(pixels),
    )


def _map_pairs(samples: int, size: tuple[int, int], network: Network) -> Pairs:
    """Returns aligned and scattered pairs, and neighbours where the network has pooling."""
    first, second = np.triu_indices(samples, 1)
    # Random shifts are multiples of this step, so that they stay whole under pooling over 2x2
    # blocks. Other windows and strides round them.
    step = 2 ** sum(layer == Pool(layer.kind) for layer in network if isinstance(layer, Pool))
    generator = np.random.Generator(np.random.PCG64(_SEED))
    shift_y = generator.integers(0, max(1, size[0] // step), len(first)) * step
    shift_x = generator.integers(0, max(1, size[1] // step), len(first)) * step
    scattered = np.stack([shift_y, shift_x], 1)
    firsts = [first, first]
    seconds = [second, second]
    shifts = [np.zeros_like(scattered), scattered]
    random_shifts = [np.zeros(len(first), dtype=bool), np.ones(len(first), dtype=bool)]
    if any(isinstance(layer, Pool) or _has_stride(layer) for layer in network):
        neighbour = neighbour_shifts()
        own = np.repeat(np.arange(samples), len(neighbour))
        firsts.append(own)
        seconds.append(own)
        shifts.append(np.tile(neighbour, (samples, 1)))
        random_shifts.append(np.zeros(len(own), dtype=bool))
    return Pairs(
        first=np.concatenate(firsts),
        second=np.concatenate(seconds),
        shift=np.concatenate(shifts),
        random_shift=np.concatenate(random_shifts),
    )


def _has_stride(layer: Layer) -> bool:
    return isinstance(layer, Convolution) and layer.stride > 1
