"""Gaussian moments of lam * (z if z > 0 else alpha * (e^z - 1)): SELU, ELU and, with alpha = 0, ReLU.

The published closed form (Klambauer et al. 2017, Eq. 4 and 5) is a difference of large terms: its variance has no correct
digit for narrow z, and erfc underflows or e^(2m + 2v) overflows for wide ones. Here the moments are put together from
positive parts. With h = m / s, s^2 = v and the Mills ratio R(x) = (1 - Phi(x)) / phi(x), E[e^(kz); z < 0] = phi(h) R(h + k s),
and Var = p V+ + (1 - p) V- + p (1 - p) (M+ - M-)^2 with p = P(z > 0) and the conditional moments of either side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr

Array = NDArray[np.float64]

_SQRT_2 = np.sqrt(2.0)
_SQRT_2_PI = np.sqrt(2.0 * np.pi)
# Below this standard deviation differences of Mills ratios lose digits, and a series in z converges at once.
_NARROW = 0.08
_SERIES_TERMS = 20
# z this many standard deviations from 0 lies on one side, to the last bit, while it is narrow.
_ONE_SIDED = 9.0
_FAR = 4.0
_FRACTION_TERMS = 30
# Elements worked on at a time: intermediate arrays stay in the cache.
_CHUNK = 1 << 14


def moments(
    mean: ArrayLike, variance: ArrayLike, alpha: ArrayLike, lam: ArrayLike
) -> tuple[Array, Array]:
    """Mean and variance of the activation for z ~ N(mean, variance); shapes broadcast, variance 0 is a point.

    Relative error of the variance, and error of the mean relative to the larger of itself and the standard deviation, stay
    below 1e-12 wherever the result does not under- or overflow.
    """
    m, v, alpha, lam = np.broadcast_arrays(
        *(np.asarray(value, dtype=float) for value in (mean, variance, alpha, lam))
    )
    out_mean, out_variance = np.empty(m.shape), np.empty(m.shape)
    flat = [np.ascontiguousarray(value).reshape(-1) for value in (m, v, alpha, lam)]
    flat_mean, flat_variance = out_mean.reshape(-1), out_variance.reshape(-1)
    with np.errstate(all="ignore"):  # an unused branch or an underflow is no event
        for start in range(0, m.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            flat_mean[part], flat_variance[part] = _unscaled(*(value[part] for value in flat[:3]))
            flat_mean[part] *= flat[3][part]
            flat_variance[part] *= flat[3][part] ** 2
    return out_mean[()], out_variance[()]


def _unscaled(m: Array, v: Array, alpha: Array) -> tuple[Array, Array]:
    s = np.sqrt(v)
    h = np.clip(np.where(s > 0, m / np.where(s > 0, s, 1.0), np.copysign(np.inf, m)), -1e150, 1e150)
    narrow = s < _NARROW
    one_sided = narrow & (np.abs(h) > _ONE_SIDED)
    right, left = h >= 0, h < 0
    cases = (
        (one_sided & right, _line),
        (one_sided & left, _exponential),
        (narrow & ~one_sided, _narrow),
        (~narrow & right, _mostly_positive),
        (~narrow & left & (s < 1.0), _mostly_negative),
        (left & (s >= 1.0), _wide_negative),
    )
    mean, variance = np.full(m.shape, np.nan), np.full(m.shape, np.nan)
    for chosen, moments_of in cases:
        if chosen.all():
            return moments_of(m, v, s, h, alpha)
        if chosen.any():
            where = np.flatnonzero(chosen)
            mean[where], variance[where] = moments_of(
                m[where], v[where], s[where], h[where], alpha[where]
            )
    return mean, variance


def _line(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    return m + 0.0, v + 0.0


def _exponential(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    return alpha * np.expm1(m + v / 2), alpha**2 * np.exp(2 * m + v) * np.expm1(v)


def _narrow(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    """Series of e^z - 1 in z = s y, with the truncated moments E[y^k; y < 0]."""
    density = np.exp(-0.5 * h * h) / _SQRT_2_PI
    previous, current = ndtr(-h), h * ndtr(-h) - density
    mean = alpha * current
    second = np.zeros_like(m)
    power, factorial = np.ones_like(m), 1.0  # s^(k - 2), k!
    for k in range(2, _SERIES_TERMS + 1):
        previous, current = current, h * current + (k - 1) * previous
        factorial *= k
        second += (2.0**k - 2.0) / factorial * power * current
        power = power * s
        mean += alpha * power * current / factorial
    positive = ndtr(h)
    mean += density + h * positive
    second = alpha**2 * second + (1 + h * h) * positive + h * density
    return s * mean, v * (second - mean * mean)


def _mostly_positive(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    density = np.exp(-0.5 * h * h) / _SQRT_2_PI
    mills = _mills(h)
    below = density * mills
    above = 1.0 - below
    ratio = density / above
    first, second = _mills(h + s) / mills, _mills(h + 2 * s) / mills
    mean_above, mean_below = m + s * ratio, alpha * (first - 1.0)
    return _join(
        above,
        below,
        mean_above,
        mean_below,
        v * (1.0 - ratio * (h + ratio)),
        alpha**2 * (second - first * first),
    )


def _mostly_negative(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    # e^(2m) is kept apart: its rounding would be magnified by the difference of the two terms.
    below = ndtr(-h)
    scale = np.exp(m)
    first, second = (
        np.exp(v / 2) * ndtr(-(h + s)) / below,
        np.exp(2 * v) * ndtr(-(h + 2 * s)) / below,
    )
    above, mean_above, variance_above = _upper_tail(s, v, -h)
    spread = (alpha * scale) ** 2 * (second - first * first)
    return _join(above, below, mean_above, alpha * (scale * first - 1.0), variance_above, spread)


def _wide_negative(m: Array, v: Array, s: Array, h: Array, alpha: Array) -> tuple[Array, Array]:
    below = ndtr(-h)
    first, second = exponential_tail(m, s, h, 1) / below, exponential_tail(m, s, h, 2) / below
    above, mean_above, variance_above = _upper_tail(s, v, -h)
    return _join(
        above,
        below,
        mean_above,
        alpha * (first - 1.0),
        variance_above,
        alpha**2 * np.maximum(second - first * first, 0.0),
    )


def _join(
    above: Array,
    below: Array,
    mean_above: Array,
    mean_below: Array,
    variance_above: Array,
    variance_below: Array,
) -> tuple[Array, Array]:
    mean = above * mean_above + below * mean_below
    gap = mean_above - mean_below
    return mean, above * variance_above + below * variance_below + above * below * gap * gap


def _upper_tail(s: Array, v: Array, x: Array) -> tuple[Array, Array, Array]:
    """P(z > 0), E[z | z > 0] and Var[z | z > 0] for a mean x > 0 standard deviations below 0.

    Far out, 1 / R(x) - x and 1 - r (r - x) cancel; the continued fraction rho_n = n / (x + rho_(n+1)) of the ratios of
    successive moments has positive terms only: E t = rho_1, E t^2 = rho_1 rho_2.
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
    return np.exp(-0.5 * x * x) / _SQRT_2_PI * mills, s * first, v * spread


def exponential_tail(m: Array, s: Array, h: Array, k: int) -> Array:
    """E[e^(kz); z < 0] for z ~ N(m, s^2), h = m / s, without overflow: E1 / 2 and E2 / 2 of the paper's formulas for k = 1, 2."""
    shifted = h + k * s
    direct = np.exp(np.minimum(k * s * (h + 0.5 * k * s), 0.0)) * ndtr(-shifted)
    return np.where(
        shifted < 0, direct, np.exp(-0.5 * h * h) / _SQRT_2_PI * _mills(np.maximum(shifted, 0.0))
    )


def _mills(x: Array) -> Array:
    """(1 - Phi(x)) / phi(x)."""
    return erfcx(x / _SQRT_2) * (_SQRT_2_PI / 2)
