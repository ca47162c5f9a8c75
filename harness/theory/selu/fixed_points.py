"""Fixed points of g: a sign scan over (mean, variance) of z, then Newton's method.

With m = mu omega and v = nu tau, (mu, nu) is fixed when omega mean(m, v) = m and tau variance(m, v) = v.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Moments = Callable[[Array, Array], tuple[Array, Array]]
Slopes = Callable[[Array, Array], tuple[tuple[Array, Array], tuple[Array, Array]]]

_LOWEST, _HIGHEST = 1e-12, 1e12
_VARIANCES = 600
_MEANS = 301
# Means of z are scanned evenly in asinh(m / _MEAN_SCALE), so that those near 0 are told apart.
_MEAN_SCALE, _MEAN_HIGHEST = 1e-7, 1e6
_STEPS, _TOLERANCE, _LOG_V_LIMIT = 40, 1e-12, 60.0


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point (mean, variance) of g, and whether it attracts its neighbourhood."""

    mean: float
    variance: float
    stable: bool


def find(omega: float, tau: float, moments: Moments, slopes: Slopes) -> tuple[FixedPoint, ...]:
    """All fixed points with variance in [1e-12, 1e12], by ascending variance.

    Args:
        omega, tau: sum and sum of squares of the weights.
        moments: (m, v) -> mean and variance of the activation of z ~ N(m, v).
        slopes: (m, v) -> their derivatives by m and by v.
    """
    starts = _scan(omega, tau, moments)
    if not starts:
        return ()
    found: list[FixedPoint] = []
    with np.errstate(
        all="ignore"
    ):  # a start that leads nowhere may divide by zero before it is dropped
        roots = _newton(*np.array(starts).T, omega, tau, moments, slopes)
    for m_root, log_v_root in zip(*roots):
        point = _describe(m_root, log_v_root, omega, tau, moments, slopes)
        if _LOWEST <= point.variance <= _HIGHEST and not any(
            _same(point, other) for other in found
        ):
            found.append(point)
    return tuple(sorted(found, key=lambda point: point.variance))


def _scan(omega: float, tau: float, moments: Moments) -> list[tuple[float, float]]:
    """Starts (m, log v): the middles of the cells of a grid in which both equations change sign."""
    log_v = np.log(np.geomspace(_LOWEST * tau, _HIGHEST * tau, _VARIANCES))
    if omega == 0:
        u = np.zeros(1)
    else:
        highest = np.arcsinh(_MEAN_HIGHEST / _MEAN_SCALE)
        # An even number of points: symmetric and without m = 0, where no sign changes.
        u = np.linspace(-highest, highest, _MEANS + 1)
    m = _MEAN_SCALE * np.sinh(u)
    mean, variance = moments(m[:, None], np.exp(log_v)[None, :])
    residual_v = np.log(np.maximum(tau * variance, np.finfo(float).tiny)) - log_v
    if omega == 0:
        return [
            (0.0, 0.5 * (log_v[j] + log_v[j + 1]))
            for j in np.flatnonzero(np.diff(np.sign(residual_v[0])))
        ]
    cells = _cell_changes(omega * mean - m[:, None]) & _cell_changes(residual_v)
    return [
        (0.5 * (m[i] + m[i + 1]), 0.5 * (log_v[j] + log_v[j + 1])) for i, j in np.argwhere(cells)
    ]


def _cell_changes(values: Array) -> NDArray[np.bool_]:
    corners = np.stack([values[:-1, :-1], values[1:, :-1], values[:-1, 1:], values[1:, 1:]])
    return (corners.min(0) <= 0) & (corners.max(0) >= 0)


def _newton(
    m: Array, log_v: Array, omega: float, tau: float, moments: Moments, slopes: Slopes
) -> tuple[Array, Array]:
    """The roots in (m, log v) that Newton's method reaches from the starts, all at once; starts that lead nowhere are left out."""
    for _ in range(_STEPS):
        v = np.exp(log_v)
        scale = np.maximum(np.abs(m), np.sqrt(v))
        mean, variance = moments(m, v)
        by_m, by_v = slopes(m, v)
        first, second = (omega * mean - m) / scale, np.log(tau * variance) - log_v
        a, b = (omega * by_m[0] - 1) / scale, omega * by_v[0] * v / scale
        c, d = by_m[1] / variance, by_v[1] * v / variance - 1
        determinant = a * d - b * c
        m = m + np.clip((b * second - d * first) / determinant, -scale, scale)
        log_v = log_v + np.clip((c * first - a * second) / determinant, -1.0, 1.0)
        good = np.isfinite(m) & np.isfinite(log_v) & (np.abs(log_v) < _LOG_V_LIMIT)
        m, log_v, first, second = m[good], log_v[good], first[good], second[good]
    converged = (np.abs(first) < _TOLERANCE) & (np.abs(second) < _TOLERANCE)
    return m[converged], log_v[converged]


def _describe(
    m: float, log_v: float, omega: float, tau: float, moments: Moments, slopes: Slopes
) -> FixedPoint:
    v = np.asarray(np.exp(log_v))
    mean, _ = moments(np.asarray(m), v)
    by_m, by_v = slopes(np.asarray(m), v)
    matrix = np.array(
        [[omega * by_m[0], tau * by_v[0]], [omega * by_m[1], tau * by_v[1]]], dtype=float
    )
    return FixedPoint(
        float(mean), float(v) / tau, bool(np.abs(np.linalg.eigvals(matrix)).max() < 1.0)
    )


def _same(a: FixedPoint, b: FixedPoint) -> bool:
    return abs(a.variance - b.variance) < 1e-8 * b.variance and abs(a.mean - b.mean) < 1e-8 * max(
        abs(b.mean), b.variance**0.5
    )
