"""Statistics of one activated layer's values, with bands over networks and samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations import hermite
from harness.theory.networks.activated_signals import Activated
from harness.theory.networks.bands import (
    BAND_DEVIATIONS,
    Value,
    normal_band,
    positive_band,
    share_band,
)
from harness.theory.networks.description import Convolution, Dense
from harness.theory.networks.identities import log_band, unit_variance_cv
from harness.theory.networks.signals import Signal

Array = NDArray[np.float64]
# Hermite coefficients of one degree, (samples, height, width). They are asked for one after the
# other, because large maps have hundreds of megabytes of them.
Coefficients = Callable[[int], Array]

_TINY = 1e-300


def layer_values(
    activated: Activated, signal: Signal, units: int, measured: float
) -> dict[str, Value]:
    """Returns the predicted columns of one activated layer; empty where nothing passes.

    Args:
        activated: the activation of `signal`.
        signal: the pre-activations.
        units: width of the layer.
        measured: number of samples that measurements use.
    """
    if signal.level <= 0:
        return {}
    moments = _activation_moments(activated, signal, units, measured)
    ratio = 1.0 / (1.0 / signal.participation_ratio() + 1.0 / units)
    varies = moments["activation_variance"].value > 0
    return {
        **_pre_activation_moments(signal, units, measured),
        **moments,
        **_lengths_and_cosines(signal, units, measured),
        "participation_ratio": Value(ratio),
        "empirical_slope": Value(_empirical_slope(activated) if varies else math.nan),
    }


def weighted_variance_cv(signal: Signal, layer: Dense | Convolution, measured: float) -> float:
    """Returns the CV over units of the variance of W x.

    The variance is over samples and positions. A convolution's units see windows: positions of one
    window scatter less than independent inputs would.
    """
    inputs = layer.fan_in
    if isinstance(layer, Convolution):
        inputs = inputs // layer.kernel_size**2 * layer.taps
    exact_fan_in = inputs if layer.exact else None
    ratio = signal.participation_ratio(measured)
    return float(unit_variance_cv(ratio, layer.kurtosis, signal.diagonal_share, exact_fan_in))


def _pre_activation_moments(signal: Signal, units: int, measured: float) -> dict[str, Value]:
    q = signal.level
    level_noise = _measured_level_noise(signal, units, measured)
    product = signal.mean_product(measured)
    mean_square = 0.0 if 1 in signal.fixed_degrees else max(product, 0.0) / units
    # Where lengths scatter by orders of magnitude, the mean of z scatters with the longest of them.
    longest = float(log_band(level_noise, BAND_DEVIATIONS)[1])
    return {
        "pre_activation_mean": normal_band(0.0, mean_square * longest),
        "pre_activation_variance": positive_band(
            max(q - mean_square, 0.0),
            level_noise + 2.0 * (mean_square / q) ** 2,
            abs(1.0 - q) if 2 in signal.fixed_degrees else 0.0,
        ),
    }


def _activation_moments(
    activated: Activated, signal: Signal, units: int, measured: float
) -> dict[str, Value]:
    expansion = activated.expansion
    noise = activated.noise
    # A NumPy number: its square overflows to infinity, which the next layer reports.
    mean = expansion.mean.mean()
    second_moment = activated.after.level
    mean_noise = _pooled_noise(noise["value value"], _value(activated), signal, units, measured)
    about_noise = (
        noise["square square"]
        - 4 * mean * noise["square value"]
        + 4 * mean**2 * noise["value value"]
    )
    about = _square_about_mean(activated)
    variance = max(second_moment - mean**2 - mean_noise, 0.0)
    variance_noise = _pooled_noise(about_noise, about, signal, units, measured)
    tails = _tails(signal)
    return {
        "activation_mean": normal_band(
            mean, mean_noise, abs(tails * float(expansion.value[4].mean()))
        ),
        "activation_variance": positive_band(
            variance,
            variance_noise / max(variance, _TINY) ** 2,
            abs(tails * float(about(4).mean())) / max(variance, _TINY),
        ),
    }


def _lengths_and_cosines(signal: Signal, units: int, measured: float) -> dict[str, Value]:
    q = signal.level
    share = signal.mean_product(measured) / q
    cosine = signal.mean_cosine
    sampling = _cosine_sampling(signal, measured)
    cosine_noise = signal.mean_cosine_noise + 2 * (cosine * (1 - cosine)) ** 2 / units + sampling
    return {
        "q": positive_band(q, _measured_level_noise(signal, units, measured)),
        "q_cv": Value(_length_cv(signal, units)),
        "cosine": normal_band(cosine, cosine_noise),
        "between_unit_share": share_band(share, cosine_noise),
    }


def _level_noise_per_unit(signal: Signal) -> float:
    """Returns the relative variance of the mean length that one unit adds."""
    if 2 in signal.fixed_degrees:
        return 0.0
    scattered = signal.pairs.scattered
    return 2.0 * float(np.square(signal.product[scattered]).mean()) / signal.level**2


def _measured_level_noise(signal: Signal, units: int, measured: float) -> float:
    """Returns the relative variance of the measured mean length.

    It comes from the layers in front, from this layer's units, and from the choice of samples.
    """
    of_samples = 0.0
    if 2 not in signal.fixed_degrees:
        of_samples = float(signal.length.mean((1, 2)).var()) / signal.level**2 / measured
    return signal.level_noise + _level_noise_per_unit(signal) / units + of_samples


def _length_cv(signal: Signal, units: int) -> float:
    """Returns the CV of q over samples, from inputs and finite width."""
    q = signal.level
    own_noise = 0.0
    if 2 not in signal.fixed_degrees:
        own_noise = 2.0 * float(np.square(signal.length).mean()) / q**2
    return math.sqrt(
        float(signal.length.mean((1, 2)).var()) / q**2
        + max(signal.length_noise - signal.level_noise, 0.0)
        + max(own_noise - _level_noise_per_unit(signal), 0.0) / units
    )


def _tails(signal: Signal) -> float:
    """Returns the weight of the fourth Hermite degree that is allowed for as uncertain.

    After batch normalization the effect of a unit's tails, and that of mixing samples of different
    lengths, is known to first order only. As much again is allowed for.
    """
    if not signal.kurtosis:
        return 0.0
    mixture = 3.0 * float(signal.length.var()) / signal.level**2
    return (abs(signal.kurtosis) + mixture) / math.sqrt(24.0)


def _value(activated: Activated) -> Coefficients:
    """Returns the Hermite coefficients of phi."""
    return lambda degree: activated.expansion.value[degree]


def _square_about_mean(activated: Activated) -> Coefficients:
    """Returns the Hermite coefficients of (phi - mean)^2 but for the constant mean^2."""
    expansion = activated.expansion
    twice_mean = 2 * expansion.mean.mean()
    return lambda degree: expansion.square[degree] - twice_mean * expansion.value[degree]


def _empirical_slope(activated: Activated) -> float:
    """Returns d log variance out / d log variance in.

    The noise of the mean is left out above and below the line, since it scales with the rest: the
    slope of a ReLU is 1.
    """
    expansion = activated.expansion
    mean = expansion.mean.mean()
    variance = activated.after.level - mean**2
    second = expansion.square[2] - 2 * mean * expansion.value[2]
    return float(second.mean()) / math.sqrt(2.0) / variance


def _pooled_noise(
    noise: float, coefficients: Coefficients, signal: Signal, units: int, measured: float
) -> float:
    """Returns the variance over networks of the pooled mean of f(u).

    It comes from the units, from the length that they share, and from the samples measured. Of all
    pairs of measured samples and positions, some are of one with itself.

    Args:
        noise: covariance of f at different samples.
        coefficients: Hermite coefficients of f for every sample; degree 0 is E f(u), and degree 2
            gives q dE f / dq = f_2 / sqrt(2).
        signal: the pre-activations u.
        units: width of the layer.
        measured: number of samples measured.
    """
    degrees = range(1, hermite.DEGREE + 1)
    free = [degree for degree in degrees if degree not in signal.fixed_degrees]
    squares = hermite.sum_of_squares(coefficients(degree) for degree in free)
    own = float(np.mean(squares)) / (measured * signal.positions)
    response = float(coefficients(2).mean()) / math.sqrt(2.0)
    of_samples = float(coefficients(0).mean((1, 2)).var()) / measured
    return (max(noise, 0.0) + own) / units + response**2 * signal.level_noise + of_samples


def _cosine_sampling(signal: Signal, measured: float) -> float:
    """Returns the variance of the mean cosine that comes from which samples were measured.

    It is four times that of a sample's mean cosine to the others, over the number of samples.
    """
    if math.isinf(measured):
        return 0.0
    mean_cosines = signal.over_partners(signal.cosine).mean((1, 2))
    return 4.0 * float(mean_cosines.var()) / measured
