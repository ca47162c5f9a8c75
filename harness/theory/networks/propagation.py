"""Propagation of a signal through layers of weights, normalizations, dropout and residual sums.

A function takes the signal in front of a layer and returns the signal after it with its `Backward`,
which takes squared gradients the other way. Forward and backward pass are treated as independent
(Schoenholz et al. 2017), which holds for wide layers at initialisation.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction
from harness.theory.networks import pooled_signals
from harness.theory.networks.convolution_taps import spread_over_taps, sum_over_taps
from harness.theory.networks.description import (
    Convolution,
    Dense,
    Dropout,
    Normalization,
    Pool,
    Residual,
)
from harness.theory.networks.signals import Backward, Pairs, Signal
from harness.theory.selu.moment_map import FLOOR

Array = NDArray[np.float64]

_TINY = 1e-300


def dense(signal: Signal, layer: Dense) -> tuple[Signal, Backward]:
    """Applies the weights and biases of a linear layer, z = W x + b.

    q = sigma_w2 E x^2 + sigma_b2 for every sample and pair.
    """
    length = signal.length
    product = signal.product
    if layer.centred:
        length, product = _centred(length, product, signal.mean, signal.pairs, layer.fan_in)
    after = _weighted(signal, layer.sigma_w2 * length, layer.sigma_w2 * product, layer.sigma_b2)
    return after, lambda gradient: layer.sigma_w2 * gradient


def convolution(signal: Signal, layer: Convolution) -> tuple[Signal, Backward]:
    """Applies a convolution: at every position the mean over its taps.

    Zero padding leaves some taps at the border without input. A stride keeps some positions of what
    the convolution would put out without it, as a pooling over single positions does.
    """
    dense_after, dense_backward = _dense_convolution(signal, layer)
    if layer.stride == 1:
        return dense_after, dense_backward
    kept, spread = pooled_signals.pool(dense_after, Pool("average", 1, layer.stride), None)
    return kept, lambda gradient: dense_backward(spread(gradient))


def _dense_convolution(signal: Signal, layer: Convolution) -> tuple[Signal, Backward]:
    """Applies a convolution at every position."""
    area = layer.taps
    pairs = signal.pairs
    length = sum_over_taps(signal.length, layer) / area
    product = sum_over_taps(signal.product, layer, pairs.shift) / area
    if layer.centred:
        mean = sum_over_taps(signal.mean, layer) / area
        length, product = _centred(length, product, mean, pairs, layer.fan_in)
    after = _weighted(signal, layer.sigma_w2 * length, layer.sigma_w2 * product, layer.sigma_b2)
    height, width = signal.length.shape[1:]
    share = layer.sigma_w2 / area
    return after, lambda gradient: share * spread_over_taps(gradient, layer, height, width)


def normalization(signal: Signal, layer: Normalization) -> tuple[Signal, Backward]:
    """Applies a normalization of any kind of `description.Normalization`."""
    if layer.kind == "batch":
        return _batch_normalization(signal, layer.epsilon)
    if layer.kind == "pooled":
        return _pooled_normalization(signal, layer.samples)
    return _sample_normalization(signal, layer)


def dropout(signal: Signal, layer: Dropout) -> tuple[Signal, Backward]:
    """Applies dropout with independent masks for every sample.

    The kinds are standard (Srivastava et al. 2014) and alpha dropout (Klambauer et al. 2017).
    Products of different samples lose what each sample's own second moment gains, so that c = 1 is
    no fixed point. The backward factor is 1 / (1 - rate), for alpha dropout
    a^2 (1 - rate) = 1 / (1 + rate alpha'^2).
    """
    keep = 1.0 - layer.rate
    if layer.kind == "standard":
        after = replace(signal, length=signal.length / keep, normal=False)
        return after, lambda gradient: gradient / keep
    dropped = layer.rate * FLOOR
    a = (keep * (1.0 + layer.rate * FLOOR**2)) ** -0.5
    b = -a * layer.rate * FLOOR
    mean_before = keep * signal.mean + dropped
    square_before = keep * signal.length + layer.rate * FLOOR**2
    length = a**2 * square_before + 2 * a * b * mean_before + b**2
    means = signal.pairs.at_first(signal.mean) + signal.pairs.at_second(signal.mean)
    product_before = keep**2 * signal.product + keep * layer.rate * FLOOR * means + dropped**2
    cross = a * b * (keep * means + 2 * layer.rate * FLOOR)
    product = a**2 * product_before + cross + b**2
    after = replace(signal, length=length, mean=a * mean_before + b, product=product, normal=False)
    return after, lambda gradient: a**2 * keep * gradient


def residual(
    signal: Signal,
    branch: Signal,
    layer: Residual,
    has_weights: bool,
    elementwise: ActivationFunction | None,
) -> Signal:
    """Returns the sum of skip and branch of a residual block.

    Squares add, and twice the cross term E[x f(x)]. After weights of mean 0, the units of f know
    those of x only through their common mean, so that the cross term is mean(f) mean(x): 0 where
    the branch ends in weights. Without weights f is elementwise, and E[x phi(x)] = sqrt(q)
    phi_1(q) for normal x.

    Args:
        signal: the signal in front of the block.
        branch: the signal at the end of the branch.
        layer: the block, for its two scales.
        has_weights: the branch has weights.
        elementwise: the activation that makes up the whole branch, if there is one.
    """
    pairs = signal.pairs
    if has_weights or elementwise is None:
        own = signal.mean * branch.mean
        forth = pairs.at_first(signal.mean) * pairs.at_second(branch.mean)
        back = pairs.at_first(branch.mean) * pairs.at_second(signal.mean)
        cross = 0.5 * (forth + back)
    else:
        # E[x phi(x)] / q
        first_degree = hermite.expand(elementwise, signal.length).value[1]
        slope = first_degree / np.sqrt(np.maximum(signal.length, _TINY))
        own = signal.length * slope
        cross = 0.5 * signal.product * (pairs.at_first(slope) + pairs.at_second(slope))
    both = 2.0 * layer.skip_scale * layer.branch_scale
    skip2 = layer.skip_scale**2
    branch2 = layer.branch_scale**2
    length = skip2 * signal.length + branch2 * branch.length + both * own
    weight = skip2 * signal.level / max(float(length.mean()), _TINY)

    def mix(of_skip: float, of_branch: float) -> float:
        # The branch inherits fluctuations of what enters it, so that deviations add, not variances.
        deviation = weight * math.sqrt(of_skip) + (1 - weight) * math.sqrt(of_branch)
        return deviation**2

    return Signal(
        pairs=pairs,
        length=length,
        mean=layer.skip_scale * signal.mean + layer.branch_scale * branch.mean,
        product=skip2 * signal.product + branch2 * branch.product + both * cross,
        normal=signal.normal and branch.normal,
        length_noise=mix(signal.length_noise, branch.length_noise),
        level_noise=mix(signal.level_noise, branch.level_noise),
        cosine_noise=mix(signal.cosine_noise, branch.cosine_noise),
        mean_cosine_noise=mix(signal.mean_cosine_noise, branch.mean_cosine_noise),
        diagonal_share=max(signal.diagonal_share, branch.diagonal_share),
    )


def flatten(signal: Signal) -> tuple[Signal, Backward]:
    """Turns maps into one vector per sample.

    Lengths are means over positions, products those of pairs at equal positions.
    """
    shape = signal.length.shape
    if signal.positions == 1:
        return signal, lambda gradient: gradient
    aligned = signal.pairs.aligned
    pairs = Pairs(
        first=signal.pairs.first[aligned],
        second=signal.pairs.second[aligned],
        shift=np.zeros_like(signal.pairs.shift[aligned]),
        random_shift=np.zeros(len(aligned), dtype=bool),
    )
    after = replace(
        signal,
        pairs=pairs,
        length=signal.length.mean((1, 2), keepdims=True),
        mean=signal.mean.mean((1, 2), keepdims=True),
        product=signal.product[aligned].mean((1, 2), keepdims=True),
        normal=False,
        diagonal_share=signal.diagonal_share / signal.positions,
    )
    return after, lambda gradient: np.broadcast_to(gradient / signal.positions, shape)


def _weighted(signal: Signal, length: Array, product: Array, sigma_b2: float) -> Signal:
    """Returns the signal after weights, to which biases add; biases dilute the noises."""
    level = float(length.mean())
    share = (level / (level + sigma_b2)) ** 2 if level + sigma_b2 > 0 else 1.0
    return replace(
        signal,
        length=length + sigma_b2,
        product=product + sigma_b2,
        mean=np.zeros_like(length),
        normal=True,
        fixed_degrees=frozenset(),
        kurtosis=0.0,
        length_noise=share * signal.length_noise,
        level_noise=share * signal.level_noise,
        cosine_noise=share * signal.cosine_noise,
        mean_cosine_noise=share * signal.mean_cosine_noise,
    )


def _centred(
    length: Array, product: Array, mean: Array, pairs: Pairs, fan_in: int
) -> tuple[Array, Array]:
    """Returns the lengths and products that weights of sum 0 see.

    These are those about the mean over units. Such weights spread evenly over the fan_in - 1
    directions orthogonal to the constant one.
    """
    scale = fan_in / (fan_in - 1)
    mean_product = pairs.at_first(mean) * pairs.at_second(mean)
    return scale * np.maximum(length - mean * mean, 0.0), scale * (product - mean_product)


def _pooled_normalization(signal: Signal, samples: float) -> tuple[Signal, Backward]:
    """Divides everything by one factor, so that the pooled second moment of some samples is 1.

    That of all samples then scatters with the choice of these.
    """
    level = signal.level
    factor = np.full_like(signal.length, 1.0 / level if level > 0 else 0.0)
    length_noise = max(signal.length_noise - signal.level_noise, 0.0)
    after, backward = _scaled(signal, factor, frozenset(), length_noise)
    of_samples = float(after.length.mean((1, 2)).var()) / samples
    return replace(after, level_noise=of_samples), backward


def _sample_normalization(signal: Signal, layer: Normalization) -> tuple[Signal, Backward]:
    """Normalizes each sample over units and positions: "layer" with its mean, "rms" without."""
    pairs = signal.pairs
    if layer.kind == "layer":
        centre = signal.mean.mean((1, 2), keepdims=True)
        fixed_degrees = frozenset({1, 2})
    else:
        centre = np.zeros((len(signal.length), 1, 1))
        fixed_degrees = frozenset({2})
    length = signal.length - 2 * centre * signal.mean + centre**2
    # One centre per sample: a pair's shift does not move it.
    first_centre = pairs.at_first(centre)
    second_centre = centre[pairs.second]
    product = (
        signal.product
        - first_centre * pairs.at_second(signal.mean)
        - pairs.at_first(signal.mean) * second_centre
        + first_centre * second_centre
    )
    centred = replace(
        signal, length=np.maximum(length, 0.0), product=product, mean=signal.mean - centre
    )
    per_sample = 1.0 / (centred.length.mean((1, 2), keepdims=True) + layer.epsilon)
    factor = np.broadcast_to(per_sample, signal.length.shape)
    return _scaled(centred, factor, fixed_degrees if signal.normal else frozenset(), 0.0)


def _batch_normalization(signal: Signal, epsilon: float) -> tuple[Signal, Backward]:
    """Normalizes each unit over samples and positions (Yang et al. 2019)."""
    length, product = signal.centred
    level = float(length.mean()) + epsilon
    centred = replace(signal, length=length, product=product, mean=signal.mean - signal.mean.mean())
    fixed_degrees = frozenset({1, 2}) if signal.normal else frozenset()
    factor = np.full_like(length, 1.0 / level)
    length_noise = max(signal.length_noise - signal.level_noise, 0.0)
    after, backward = _scaled(centred, factor, fixed_degrees, length_noise)
    kurtosis = 0.0
    if signal.normal and level > epsilon:
        # A unit over its own deviation is a coordinate on a sphere of PR dimensions, for which
        # E z^4 / s^4 = 3 PR / (PR + 2).
        kurtosis = -6.0 / (signal.participation_ratio() + 2.0)
    return replace(after, kurtosis=kurtosis), backward


def _scaled(
    signal: Signal, factor: Array, fixed_degrees: frozenset[int], length_noise: float
) -> tuple[Signal, Backward]:
    """Multiplies squares by `factor` (samples, height, width), which holds the level still."""
    root = np.sqrt(factor)
    product = signal.product * signal.pairs.at_first(root) * signal.pairs.at_second(root)
    after = replace(
        signal,
        length=signal.length * factor,
        mean=signal.mean * root,
        product=product,
        fixed_degrees=fixed_degrees,
        length_noise=length_noise,
        level_noise=0.0,
    )
    return after, lambda gradient: gradient * factor
