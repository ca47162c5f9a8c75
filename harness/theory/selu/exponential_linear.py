"""Gaussian moments of lam * (z if z > 0 else alpha * (e^z - 1)).

The family has SELU, ELU and, with alpha = 0, ReLU.

The published closed form (Klambauer et al. 2017, Eq. 4 and 5) is a difference of large terms. For
narrow z its variance has no correct digit; for wide z erfc underflows or e^(2m + 2v) overflows.
Here the moments are put together from positive parts instead. With z ~ N(m, v), s = sqrt(v),
h = m / s and the Mills ratio R(x) = (1 - Phi(x)) / phi(x):

- E[e^(kz); z < 0] = phi(h) R(h + k s);
- Var f(z) = p V+ + (1 - p) V- + p (1 - p) (M+ - M-)^2, where p = P(z > 0), and M and V are the
  conditional mean and variance of f(z) on either side of 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr

Array = NDArray[np.float64]

_SQRT_2 = np.sqrt(2.0)
_SQRT_2_PI = np.sqrt(2.0 * np.pi)
# Below this standard deviation differences of Mills ratios lose digits; a series in z is exact.
_NARROW = 0.08
_SERIES_TERMS = 20
# A narrow z whose mean is this many standard deviations from 0 lies, to the last bit, on one side.
_ONE_SIDED = 9.0
# Beyond this many standard deviations the upper tail is computed by a continued fraction.
_FAR = 4.0
_FRACTION_TERMS = 30
# Number of elements processed at a time, so that intermediate arrays stay in the cache.
_CHUNK = 1 << 14


def moments(
    mean: ArrayLike, variance: ArrayLike, alpha: ArrayLike, lam: ArrayLike
) -> tuple[Array, Array]:
    """Returns the mean and variance of the activation for z ~ N(mean, variance).

    Shapes broadcast. A variance of 0 stands for a point.

    Accuracy: the relative error of the variance stays below 1e-12 wherever the result does not
    underflow or overflow; so does the error of the mean relative to the larger of the mean and the
    standard deviation.
    """
    arguments = (np.asarray(value, dtype=float) for value in (mean, variance, alpha, lam))
    m, v, alpha, lam = np.broadcast_arrays(*arguments)
    flat = [np.ascontiguousarray(value).reshape(-1) for value in (m, v, alpha, lam)]
    flat_m, flat_v, flat_alpha, flat_lam = flat

    out_mean = np.empty(m.shape)
    out_variance = np.empty(m.shape)
    flat_mean = out_mean.reshape(-1)
    flat_variance = out_variance.reshape(-1)
    # Overflow in a branch that is not used, and underflow, are no errors.
    with np.errstate(all="ignore"):
        for start in range(0, m.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            part_mean, part_variance = _unscaled(flat_m[part], flat_v[part], flat_alpha[part])
            flat_mean[part] = part_mean * flat_lam[part]
            flat_variance[part] = part_variance * flat_lam[part] ** 2
    return out_mean[()], out_variance[()]


def exponential_tail(m: Array, s: Array, h: Array, k: int) -> Array:
    """Returns E[e^(kz); z < 0] for z ~ N(m, s^2) with h = m / s, without overflow.

    For k = 1 and 2 these are half the terms e^(m + v/2) erfc(...) and e^(2m + 2v) erfc(...) of
    Eq. 4 and 5.
    """
    shifted = h + k * s
    exponent = k * s * (h + 0.5 * k * s)
    direct = np.exp(np.minimum(exponent, 0.0)) * ndtr(-shifted)
    by_mills = np.exp(-0.5 * h * h) / _SQRT_2_PI * _mills(np.maximum(shifted, 0.0))
    return np.where(shifted < 0, direct, by_mills)


def _unscaled(m: Array, v: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments for lam = 1, each element by the formula that is accurate there."""
    s = np.sqrt(v)
    ratio = m / np.where(s > 0, s, 1.0)
    of_a_point = np.copysign(np.inf, m)
    h = np.clip(np.where(s > 0, ratio, of_a_point), -1e150, 1e150)

    narrow = s < _NARROW
    one_sided = narrow & (np.abs(h) > _ONE_SIDED)
    right = h >= 0
    left = h < 0
    cases = (
        (one_sided & right, _line),
        (one_sided & left, _exponential),
        (narrow & ~one_sided, _narrow),
        (~narrow & right, _mostly_positive),
        (~narrow & left & (s < 1.0), _mostly_negative),
        (left & (s >= 1.0), _wide_negative),
    )
    mean = np.full(m.shape, np.nan)
    variance = np.full(m.shape, np.nan)
    for applies, case_moments in cases:
        if applies.all():
            return case_moments(m, v, s, h, alpha)
        if applies.any():
            at = np.flatnonzero(applies)
            mean[at], variance[at] = case_moments(m[at], v[at], s[at], h[at], alpha[at])
    return mean, variance


def _line(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments where all of z is positive: those of z."""
    return m + 0.0, v + 0.0


def _exponential(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments where all of z is negative: those of alpha (e^z - 1)."""
    mean = alpha * np.expm1(m + v / 2)
    variance = alpha**2 * np.exp(2 * m + v) * np.expm1(v)
    return mean, variance


def _narrow(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments of a narrow z that straddles 0.

    With z = s y, e^z - 1 is summed as a series in y by the truncated moments E[y^k; y < 0].
    """
    density = np.exp(-0.5 * h * h) / _SQRT_2_PI
    positive = ndtr(h)
    # The truncated moments of degree k - 1 and k, by their recurrence.
    previous = ndtr(-h)
    current = h * ndtr(-h) - density
    mean = alpha * current
    second = np.zeros_like(m)
    power = np.ones_like(m)  # s^(k - 2)
    factorial = 1.0  # k!
    for k in range(2, _SERIES_TERMS + 1):
        following = h * current + (k - 1) * previous
        previous = current
        current = following
        factorial *= k
        second += (2.0**k - 2.0) / factorial * power * current
        power = power * s
        mean += alpha * power * current / factorial
    mean += density + h * positive
    second = alpha**2 * second + (1 + h * h) * positive + h * density
    return s * mean, v * (second - mean * mean)


def _mostly_positive(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments of a z that is not narrow, with mean at or above 0."""
    density = np.exp(-0.5 * h * h) / _SQRT_2_PI
    mills = _mills(h)
    below = density * mills
    above = 1.0 - below
    ratio = density / above
    mean_above = m + s * ratio
    variance_above = v * (1.0 - ratio * (h + ratio))

    first = _mills(h + s) / mills
    second = _mills(h + 2 * s) / mills
    mean_below = alpha * (first - 1.0)
    variance_below = alpha**2 * (second - first * first)
    return _join(above, below, mean_above, mean_below, variance_above, variance_below)


def _mostly_negative(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments of a z of medium width with mean below 0."""
    below = ndtr(-h)
    above, mean_above, variance_above = _upper_tail(s, v, -h)

    # e^m is kept apart: its rounding would be magnified by the difference of the two terms.
    scale = np.exp(m)
    first = np.exp(v / 2) * ndtr(-(h + s)) / below
    second = np.exp(2 * v) * ndtr(-(h + 2 * s)) / below
    mean_below = alpha * (scale * first - 1.0)
    variance_below = (alpha * scale) ** 2 * (second - first * first)
    return _join(above, below, mean_above, mean_below, variance_above, variance_below)


def _wide_negative(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the moments of a wide z with mean below 0."""
    below = ndtr(-h)
    above, mean_above, variance_above = _upper_tail(s, v, -h)

    first = exponential_tail(m, s, h, 1) / below
    second = exponential_tail(m, s, h, 2) / below
    mean_below = alpha * (first - 1.0)
    variance_below = alpha**2 * np.maximum(second - first * first, 0.0)
    return _join(above, below, mean_above, mean_below, variance_above, variance_below)


def _join(
    above: Array,
    below: Array,
    mean_above: Array,
    mean_below: Array,
    variance_above: Array,
    variance_below: Array,
) -> tuple[Array, Array]:
    """Returns mean and variance of a mixture of the two sides of 0.

    `above` and `below` are the probabilities of the sides; the rest are conditional moments.
    """
    mean = above * mean_above + below * mean_below
    gap = mean_above - mean_below
    variance = above * variance_above + below * variance_below + above * below * gap * gap
    return mean, variance


def _upper_tail(s: Array, v: Array, x: Array) -> tuple[Array, Array, Array]:
    """Returns P(z > 0), E[z | z > 0] and Var[z | z > 0] for a mean below 0.

    The mean lies x > 0 standard deviations below 0. Far out, 1 / R(x) - x and 1 - r (r - x) cancel.
    There the continued fraction rho_n = n / (x + rho_(n+1)) of the ratios of successive moments of
    t = z / s is used, whose terms are all positive: E t = rho_1 and E t^2 = rho_1 rho_2.
    """
    mills = _mills(x)
    inverse = 1.0 / mills
    first = inverse - x
    spread = 1.0 - inverse * first
    far = x > _FAR
    if far.any():
        y = x[far]
        rho = 0.5 * (np.sqrt(y * y + 4 * _FRACTION_TERMS) - y)
        for n in range(_FRACTION_TERMS, 1, -1):
            rho = n / (y + rho)
        first[far] = 1.0 / (y + rho)
        spread[far] = first[far] * (rho - first[far])
    probability = np.exp(-0.5 * x * x) / _SQRT_2_PI * mills
    return probability, s * first, v * spread


def _mills(x: Array) -> Array:
    """Returns the Mills ratio (1 - Phi(x)) / phi(x)."""
    return erfcx(x / _SQRT_2) * (_SQRT_2_PI / 2)
