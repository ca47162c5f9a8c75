"""Search for the fixed points of g: a sign scan on a grid, then Newton's method.

The unknowns are mean and variance of z, m = mu omega and v = nu tau. In them (mu, nu) is a fixed
point of g (Klambauer et al. 2017, Eq. 3) when

    omega mean(m, v) = m   and   tau variance(m, v) = v,

where mean and variance of the activation are those of Eq. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Moments = Callable[[Array, Array], tuple[Array, Array]]
Slopes = Callable[[Array, Array], tuple[tuple[Array, Array], tuple[Array, Array]]]

# Range of nu that is searched, and the number of variances in the grid.
_LOWEST, _HIGHEST = 1e-12, 1e12
_VARIANCES = 600
# The means of the grid are spaced evenly in asinh(m / scale), which resolves means near 0.
_MEANS = 301
_MEAN_SCALE, _MEAN_HIGHEST = 1e-7, 1e6
# Newton's method: steps, residual at which a start has converged, bound of |log v|.
_STEPS, _TOLERANCE, _LOG_V_LIMIT = 40, 1e-12, 60.0
# Two roots closer than this, relative to their size, are one fixed point.
_SAME = 1e-8


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point (mean, variance) of g; `stable` when it attracts its neighbourhood."""

    mean: float
    variance: float
    stable: bool


@dataclass(frozen=True)
class _Equations:
    """The two equations of a fixed point, for given weights and activation."""

    omega: float
    tau: float
    moments: Moments
    slopes: Slopes


def find(omega: float, tau: float, moments: Moments, slopes: Slopes) -> tuple[FixedPoint, ...]:
    """Returns all fixed points with variance in [1e-12, 1e12], by ascending variance.

    Args:
        omega: sum of the weights.
        tau: sum of the squares of the weights.
        moments: (m, v) -> mean and variance of the activation of z ~ N(m, v).
        slopes: (m, v) -> their derivatives by m and by v, as `moment_map.slopes`.
    """
    equations = _Equations(omega, tau, moments, slopes)
    starts = _scan(equations)
    if not starts:
        return ()
    start_m, start_log_v = np.array(starts).T
    # A start that leads nowhere may divide by zero before it is dropped.
    with np.errstate(all="ignore"):
        roots = _newton(start_m, start_log_v, equations)

    distinct: list[FixedPoint] = []
    for m, log_v in zip(*roots, strict=True):
        point = _describe(m, log_v, equations)
        in_range = _LOWEST <= point.variance <= _HIGHEST
        if in_range and not any(_same(point, other) for other in distinct):
            distinct.append(point)
    return tuple(sorted(distinct, key=lambda point: point.variance))


def _scan(equations: _Equations) -> list[tuple[float, float]]:
    """Returns starts (m, log v) for Newton's method.

    They are the middles of the cells of a grid in which both equations change sign. For omega = 0
    the first equation is m = 0, and only variances are scanned.
    """
    omega, tau = equations.omega, equations.tau
    log_v = np.log(np.geomspace(_LOWEST * tau, _HIGHEST * tau, _VARIANCES))
    if omega == 0:
        u = np.zeros(1)
    else:
        highest = np.arcsinh(_MEAN_HIGHEST / _MEAN_SCALE)
        # An even number of points is symmetric without m = 0, where no sign changes.
        u = np.linspace(-highest, highest, _MEANS + 1)
    m = _MEAN_SCALE * np.sinh(u)
    mean, variance = equations.moments(m[:, None], np.exp(log_v)[None, :])
    residual_v = np.log(np.maximum(tau * variance, np.finfo(float).tiny)) - log_v
    middle_log_v = 0.5 * (log_v[:-1] + log_v[1:])
    if omega == 0:
        changes = np.flatnonzero(np.diff(np.sign(residual_v[0])))
        return [(0.0, middle_log_v[j]) for j in changes]
    residual_m = omega * mean - m[:, None]
    cells = _cell_changes(residual_m) & _cell_changes(residual_v)
    middle_m = 0.5 * (m[:-1] + m[1:])
    return [(middle_m[i], middle_log_v[j]) for i, j in np.argwhere(cells)]


def _cell_changes(values: Array) -> NDArray[np.bool_]:
    """Returns True for each grid cell whose corners have both signs, or a 0."""
    corners = np.stack([values[:-1, :-1], values[1:, :-1], values[:-1, 1:], values[1:, 1:]])
    return (corners.min(0) <= 0) & (corners.max(0) >= 0)


def _newton(m: Array, log_v: Array, equations: _Equations) -> tuple[Array, Array]:
    """Returns the roots (m, log v) that Newton's method reaches, all starts at once.

    Starts that lead nowhere are left out. Steps are bounded: m moves by at most the larger of |m|
    and sqrt(v), log v by at most 1.
    """
    omega, tau = equations.omega, equations.tau
    for _ in range(_STEPS):
        v = np.exp(log_v)
        scale = np.maximum(np.abs(m), np.sqrt(v))
        mean, variance = equations.moments(m, v)
        by_m, by_v = equations.slopes(m, v)
        # Residuals of the two equations, and their derivatives by m (a, c) and by log v (b, d).
        first = (omega * mean - m) / scale
        second = np.log(tau * variance) - log_v
        a = (omega * by_m[0] - 1) / scale
        b = omega * by_v[0] * v / scale
        c = by_m[1] / variance
        d = by_v[1] * v / variance - 1
        determinant = a * d - b * c
        m = m + np.clip((b * second - d * first) / determinant, -scale, scale)
        log_v = log_v + np.clip((c * first - a * second) / determinant, -1.0, 1.0)
        good = np.isfinite(m) & np.isfinite(log_v) & (np.abs(log_v) < _LOG_V_LIMIT)
        m, log_v, first, second = m[good], log_v[good], first[good], second[good]
    converged = (np.abs(first) < _TOLERANCE) & (np.abs(second) < _TOLERANCE)
    return m[converged], log_v[converged]


def _describe(m: float, log_v: float, equations: _Equations) -> FixedPoint:
    """Returns the fixed point of a root, with the eigenvalues of g's Jacobian examined."""
    omega, tau = equations.omega, equations.tau
    v = np.asarray(np.exp(log_v))
    mean, _ = equations.moments(np.asarray(m), v)
    by_m, by_v = equations.slopes(np.asarray(m), v)
    mean_row = [omega * by_m[0], tau * by_v[0]]
    variance_row = [omega * by_m[1], tau * by_v[1]]
    eigenvalues = np.linalg.eigvals(np.array([mean_row, variance_row], dtype=float))
    stable = bool(np.abs(eigenvalues).max() < 1.0)
    return FixedPoint(float(mean), float(v) / tau, stable)


def _same(a: FixedPoint, b: FixedPoint) -> bool:
    same_variance = abs(a.variance - b.variance) < _SAME * b.variance
    same_mean = abs(a.mean - b.mean) < _SAME * max(abs(b.mean), b.variance**0.5)
    return same_variance and same_mean
