"""Exact identities at initialisation: effects of the data, the weights' law and the width.

Notation: the layer input x in R^n has covariance Sigma and mean vector m over samples, and
q(x) = |x|^2 / n; weights are independent with mean 0 and variance sigma_w2 / n. The results follow
from E_w (w'Sw)^k for Gaussian w; each docstring has its derivation in a line.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import RequestError

Array = NDArray[np.float64]

# Variance of a standard normal truncated at two standard deviations:
# 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737.
TRUNCATED_VARIANCE = 1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(
    math.sqrt(2.0)
)

# E w^4 / (E w^2)^2 of the laws that weights are drawn from.
KURTOSIS_NORMAL = 3.0
KURTOSIS_UNIFORM = 1.8
# Normal, truncated at two standard deviations: E w^4 = 3 E w^2 - 16 phi(2) / (2 Phi(2) - 1) in
# units of the normal.
KURTOSIS_TRUNCATED = (
    3.0 * TRUNCATED_VARIANCE
    - 16.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(math.sqrt(2.0))
) / TRUNCATED_VARIANCE**2

# Mean of the Tracy-Widom law of order 1.
TRACY_WIDOM_MEAN = -1.2065335745820


def participation_ratio(covariance: ArrayLike) -> Array:
    """Returns (tr Sigma)^2 / tr(Sigma^2) of covariances (..., n, n).

    It is the number of directions that share the variance, from 1 to n.

    Raises:
        RequestError: an array that is not square.
    """
    covariance = np.asarray(covariance, dtype=float)
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise RequestError(
            f"participation ratio: expected a square covariance, not shape {covariance.shape}"
        )
    trace = np.trace(covariance, axis1=-2, axis2=-1)
    return trace**2 / (covariance * covariance).sum((-2, -1))


def mean_unit_variance(covariance: ArrayLike, sigma_w2: float) -> Array:
    """Returns the mean over units of the variance of z over samples.

    E w'Sigma w = sigma_w2 tr Sigma / n, for covariances (..., n, n).
    """
    covariance = np.asarray(covariance, dtype=float)
    return sigma_w2 * np.trace(covariance, axis1=-2, axis2=-1) / covariance.shape[-1]


def unit_variance_cv(
    ratio: ArrayLike,
    weight_kurtosis: float = KURTOSIS_NORMAL,
    diagonal_share: ArrayLike = 0.0,
    exact_fan_in: int | None = None,
) -> Array:
    """Returns the coefficient of variation over units of the variance of z over samples.

    Var(w'Sigma w) / (E w'Sigma w)^2 = 2 / PR + (kurtosis - 3) sum_j Sigma_jj^2 / (tr Sigma)^2.
    Independent inputs of equal variance would give sqrt(2 / n); images give far more, because few
    directions carry their variance.

    Args:
        ratio: participation ratio of the layer's inputs.
        weight_kurtosis: 3 for normal weights, 1.8 for uniform ones.
        diagonal_share: sum_j Sigma_jj^2 / (tr Sigma)^2, at least 1 / n; it matters for weights that
            are not normal.
        exact_fan_in: n where each unit's sum of squares is exact: the variance (kurtosis - 1) / n
            of that sum is then missing.
    """
    from_directions = 2.0 / np.asarray(ratio, dtype=float)
    from_law = (weight_kurtosis - 3.0) * np.asarray(diagonal_share, dtype=float)
    square = from_directions + from_law
    if exact_fan_in is not None:
        square = square - (weight_kurtosis - 1.0) / exact_fan_in
    return np.sqrt(np.maximum(square, 0.0))


def mean_square_unit_mean(mean: ArrayLike, sigma_w2: float) -> Array:
    """Returns the mean over units of the squared mean of z over samples.

    E (w.m)^2 = sigma_w2 |m|^2 / n, for mean vectors (..., n).
    """
    mean = np.asarray(mean, dtype=float)
    return sigma_w2 * (mean * mean).mean(-1)


def between_unit_share(mean_cosine: ArrayLike, samples: ArrayLike = math.inf) -> Array:
    """Returns the share of the pooled E z^2 in the units' means.

    For samples of equal norm, mean_i mu_i^2 / mean z^2 is the average cosine over all pairs of
    samples, a sample with itself (cosine 1) among them.
    """
    cosine = np.asarray(mean_cosine, dtype=float)
    return cosine + (1.0 - cosine) / np.asarray(samples, dtype=float)


def pooled_excess_kurtosis(q_cv: ArrayLike) -> Array:
    """Returns the excess kurtosis of z pooled over units and samples, 3 CV(q)^2.

    For one sample z is normal over units, exactly so for normal weights; pooling mixes normals of
    variance q(x).
    """
    return 3.0 * np.square(np.asarray(q_cv, dtype=float))


def length_noise(kurtosis: ArrayLike, width: ArrayLike) -> Array:
    """Returns the relative variance that one layer adds to a sample's q.

    It is (kurtosis - 1) / width. `kurtosis` is E phi^4 / (E phi^2)^2: 2.503 for SELU at q = 1, 6
    for ReLU.
    """
    return (np.asarray(kurtosis, dtype=float) - 1.0) / np.asarray(width, dtype=float)


def stationary_length_cv(kurtosis: ArrayLike, width: ArrayLike, chi_q: ArrayLike) -> Array:
    """Returns the stationary coefficient of variation of q in a deep network.

    sqrt((kurtosis - 1) / (width (1 - chi_q^2))) is the fixed point of
    var -> chi_q^2 var + (kurtosis - 1) / width. It is inf where chi_q is not below 1: for ReLU
    chi_q = 1, and the variance of log q grows by 5 / width a layer.
    """
    chi_q = np.asarray(chi_q, dtype=float)
    room = np.maximum(1.0 - chi_q * chi_q, 0.0)
    with np.errstate(divide="ignore"):
        stationary = np.sqrt(length_noise(kurtosis, width) / room)
    return np.where(np.abs(chi_q) < 1, stationary, np.inf)


def gradient_noise(slope_kurtosis: ArrayLike, width: ArrayLike) -> Array:
    """Returns the relative variance that one layer adds to a sample's squared gradient.

    It is (3 E phi'^4 / (E phi'^2)^2 - 1) / width, with the ratio as `slope_kurtosis`.
    """
    return (3.0 * np.asarray(slope_kurtosis, dtype=float) - 1.0) / np.asarray(width, dtype=float)


def live_taps(height: int, width: int, kernel_size: int) -> NDArray[np.int64]:
    """Counts the live taps of a zero-padded kernel at every position.

    A tap is live where it sees the map. The result has shape (height, width). The effective tau is
    tau live / kernel_size^2: 4/9 of it in the corners of a 3x3 kernel, which for LeCun's weights
    is below the 0.4768 at which SELU's variance dies out.
    """
    return np.outer(_live_along(height, kernel_size), _live_along(width, kernel_size))


def _live_along(size: int, kernel_size: int) -> NDArray[np.int64]:
    position = np.arange(size)
    reach = kernel_size // 2
    last = np.minimum(position + reach, size - 1)
    first = np.maximum(position - reach, 0)
    return last - first + 1


def mean_live_share(height: int, width: int, kernel_size: int) -> float:
    """Returns the mean share of live taps of a zero-padded kernel.

    For 3x3 kernels on W x W maps it is ((3W - 2) / (3W))^2.
    """
    return float(live_taps(height, width, kernel_size).mean()) / kernel_size**2


def log_band(relative_variance: ArrayLike, deviations: float) -> tuple[Array, Array]:
    """Returns the factors (low, high) about the mean of a log-normal quantity.

    Args:
        relative_variance: variance of its logarithm.
        deviations: half-width of the band in standard deviations of the logarithm.
    """
    variance = np.asarray(relative_variance, dtype=float)
    spread = deviations * np.sqrt(variance)
    return np.exp(-0.5 * variance - spread), np.exp(-0.5 * variance + spread)


def largest_random_square(units: int, fan_in: int) -> float:
    """Returns the mean largest eigenvalue of W W' for independent weights of variance 1 / fan_in.

    The edge of the Marchenko-Pastur law with the mean of the Tracy-Widom law of order 1 around it
    (Johnstone 2001, "On the distribution of the largest eigenvalue in principal components
    analysis", Theorem 1.1). The laws hold for all weights with a fourth moment, at 64 units to 1 %
    for normal weights and to 3 % for uniform ones.
    """
    edge = math.sqrt(fan_in - 1) + math.sqrt(units)
    if fan_in == 1:
        return float(units)
    scale = edge * (1 / math.sqrt(fan_in - 1) + 1 / math.sqrt(units)) ** (1 / 3)
    return (edge**2 + TRACY_WIDOM_MEAN * scale) / fan_in
