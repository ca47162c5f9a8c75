"""Where gradients neither grow nor vanish (the edge of chaos), and whole phase diagrams over (sigma_w2, sigma_b2).

Edge of chaos: chi_1 = 1 at a fixed point q* of the length map (Schoenholz et al. 2017; Hayou et al. 2019, arXiv:1902.06853).
Each q* has one such pair, sigma_w2 = 1 / E phi'^2 and sigma_b2 = q* - sigma_w2 E phi^2, where the latter is not negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline
from scipy.optimize import elementwise

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import ActivationFunction
from harness.theory.mean_field import maps as mean_field
from harness.theory.mean_field.maps import WINDOW

Array = NDArray[np.float64]

_SCAN_POINTS = 801
_ROUNDING = 1e-12
# Tables for a phase diagram: points of log q over the window; Chebyshev points per unit of log q, the least of them, and of
# the angle arccos(c); Gauss-Legendre nodes per panel.
_LENGTHS, _DENSITY, _LEAST, _ANGLES, _NODES = 4001, 5, 10, 28, 12


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the edge of chaos. `stable`: lengths near q* approach it (chi_q < 1); a q* of 0 is a limit."""

    sigma_w2: float
    sigma_b2: float
    q_star: float
    stable: bool


def edge_of_chaos(
    phi: ActivationFunction,
    *,
    sigma_b2: float | None = None,
    sigma_w2: float | None = None,
    q_star: float | None = None,
) -> tuple[CriticalPoint, ...]:
    """The critical points with the one value given, by ascending q*; empty where there is none.

    Where every q* is critical (ReLU with He's weights), the one at q* = 1 stands for all, with `stable` false.

    Raises:
        RequestError: none or several of the three given, or a value out of range.
    """
    if sum(value is not None for value in (sigma_b2, sigma_w2, q_star)) != 1:
        raise RequestError("edge of chaos: give one of sigma_b2, sigma_w2 and q_star")
    mean_field.require_variances(
        1.0 if sigma_w2 is None else sigma_w2, 0.0 if sigma_b2 is None else sigma_b2
    )
    quadrature.second_moment(phi, 0.0, 1.0)
    if q_star is not None:
        if not (np.isfinite(q_star) and q_star > 0):
            raise RequestError(f"edge of chaos: q_star={q_star:g} must be a finite number above 0")
        return _critical(phi, np.array([q_star]))
    log_q = np.linspace(*np.log(WINDOW), _SCAN_POINTS)

    def residual(log_q: Array) -> Array:
        second, slope = _second_and_slope(phi, np.exp(log_q))
        return (
            np.log(sigma_w2 * slope)
            if sigma_w2 is not None
            else 1.0 - (second / slope + sigma_b2) / np.exp(log_q)
        )

    values = residual(log_q)
    finite = np.isfinite(values)
    if (np.abs(values[finite]) < _ROUNDING).all():
        return _critical(phi, np.ones(1))
    # Where the residual is rounding (short lengths without bias) its sign says nothing.
    log_q, values = (
        log_q[finite & (np.abs(values) > _ROUNDING)],
        values[finite & (np.abs(values) > _ROUNDING)],
    )
    change = np.flatnonzero(np.signbit(values[:-1]) != np.signbit(values[1:]))
    roots = (
        np.exp(elementwise.find_root(residual, (log_q[change], log_q[change + 1])).x)
        if len(change)
        else np.empty(0)
    )
    given = {"sigma_b2": float(sigma_b2)} if sigma_w2 is None else {"sigma_w2": float(sigma_w2)}
    return _at_zero(phi, sigma_w2, sigma_b2) + tuple(
        replace(point, **given) for point in _critical(phi, roots)
    )


def _critical(phi: ActivationFunction, q: Array) -> tuple[CriticalPoint, ...]:
    second, slope = _second_and_slope(phi, q)
    sigma_w2 = 1.0 / slope
    sigma_b2 = q - sigma_w2 * second
    gains = mean_field.length_gain(phi, q, sigma_w2)
    return tuple(
        CriticalPoint(float(w), max(float(b), 0.0), float(length), bool(gain < 1.0 - _ROUNDING))
        for w, b, length, gain in zip(sigma_w2, sigma_b2, q, gains)
        if b >= -_ROUNDING * length
    )


def _at_zero(
    phi: ActivationFunction, sigma_w2: float | None, sigma_b2: float | None
) -> tuple[CriticalPoint, ...]:
    """The end of the critical line at q* = 0, without bias: there chi_1 = chi_q = 1 at the sigma_w2 below which lengths vanish."""
    limit = mean_field.vanish_limit(phi)
    asked = sigma_b2 == 0 if sigma_b2 is not None else abs(sigma_w2 - limit) <= _ROUNDING * limit
    return (CriticalPoint(limit, 0.0, 0.0, False),) if asked and 0 < limit < np.inf else ()


def _second_and_slope(phi: ActivationFunction, q: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        second = quadrature.second_moment(phi, 0.0, q, strict=False)
        slope = np.full(q.shape, np.nan)
        finite = np.isfinite(second)
        slope[finite] = quadrature.slope_square(phi, 0.0, q[finite])
    return second, slope


@dataclass(frozen=True)
class PhaseDiagram:
    """Arrays (sigma_b2, sigma_w2) over a grid: the fixed point that lengths approach from q = 1, and what holds there.

    NaN where there is none. `growth` is the sign of V(q) - q at q = 1 there: 1 diverges, -1 vanishes, 0 elsewhere.
    """

    sigma_w2: Array
    sigma_b2: Array
    q_star: Array
    chi_q: Array
    chi_1: Array
    c_star: Array
    chi_c: Array
    growth: NDArray[np.int_]

    @property
    def xi_q(self) -> Array:
        return mean_field.depth_scale(self.chi_q)

    @property
    def xi_c(self) -> Array:
        return mean_field.depth_scale(self.chi_c)


def phase_diagram(
    phi: ActivationFunction, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> PhaseDiagram:
    """Fixed points and gains on a grid; `mean_field.solve` at every point, to about 1e-8, through Chebyshev series of the kernel.

    Raises:
        RequestError: a sigma_w2 <= 0 or a sigma_b2 < 0, or an activation without a second moment.
    """
    w, b = (
        np.atleast_1d(np.asarray(sigma_w2, dtype=float)),
        np.atleast_1d(np.asarray(sigma_b2, dtype=float)),
    )
    for value in w:
        mean_field.require_variances(value, 0.0)
    for value in b:
        mean_field.require_variances(1.0, value)
    quadrature.second_moment(phi, 0.0, 1.0)
    grid_w, grid_b = (array.ravel() for array in np.meshgrid(w, b))
    q, growth = _grid_lengths(phi, grid_w, grid_b)
    some = np.flatnonzero(np.isfinite(q))
    chi_q, chi_1, c, chi_c = (np.full(q.shape, np.nan) for _ in range(4))
    if len(some):
        chi_q[some] = mean_field.length_gain(phi, q[some], grid_w[some])
        chi_1[some] = mean_field.gradient_gain(phi, q[some], grid_w[some])
        c[some], chi_c[some] = _grid_correlations(
            phi, q[some], grid_w[some], grid_b[some], chi_1[some]
        )
    shape = (len(b), len(w))
    return PhaseDiagram(
        w, b, *(array.reshape(shape) for array in (q, chi_q, chi_1, c, chi_c, growth))
    )


def _grid_lengths(phi: ActivationFunction, w: Array, b: Array) -> tuple[Array, NDArray[np.int_]]:
    log_q = np.linspace(*np.log(WINDOW), _LENGTHS)
    with np.errstate(all="ignore"):
        log_second = np.log(quadrature.second_moment(phi, 0.0, np.exp(log_q), strict=False))
    finite = np.isfinite(log_second)
    log_q, log_second = log_q[finite], log_second[finite]
    spline = make_interp_spline(log_q, log_second, k=5)
    middle = int(np.argmin(np.abs(log_q)))

    def residual(x: Array, w: Array, b: Array) -> Array:
        return np.log(w * np.exp(spline(x)) + b) - x

    q, growth = np.full(w.shape, np.nan), np.zeros(w.shape, dtype=int)
    for start in range(0, len(w), 2000):
        part = slice(start, start + 2000)
        values = np.log(w[part, None] * np.exp(log_second) + b[part, None]) - log_q
        up = values[:, middle] > 0
        kept = np.abs(values).max(1) < _ROUNDING
        # The first clear change of sign in the direction in which lengths move from q = 1.
        ahead = np.where(
            up,
            (values[:, middle:] < -_ROUNDING).argmax(1) + middle,
            middle - (values[:, middle::-1] > _ROUNDING).argmax(1),
        )
        found = (ahead != middle) & ~kept
        growth[part] = np.where(found | kept, 0, np.where(up, 1, -1))
        ends = np.sort(np.stack([np.full(found.sum(), log_q[middle]), log_q[ahead[found]]]), axis=0)
        roots = np.full(len(values), np.nan)
        if found.any():
            roots[found] = np.exp(
                elementwise.find_root(
                    residual, (ends[0], ends[1]), args=(w[part][found], b[part][found])
                ).x
            )
        roots[kept] = 1.0
        q[part] = roots
    return q, growth


def _grid_correlations(
    phi: ActivationFunction, q: Array, w: Array, b: Array, chi_1: Array
) -> tuple[Array, Array]:
    """c* and chi_c at every point: 1 in the ordered phase, 0 where nothing couples two samples, else by interpolation."""
    c, chi_c = np.ones(q.shape), chi_1.copy()
    coupling = (b + w * quadrature.moments(phi, 0.0, q)[0] ** 2) / q
    apart = (chi_1 > 1.0 + _ROUNDING) & (coupling < _ROUNDING)
    c[apart] = 0.0
    if apart.any():
        chi_c[apart] = w[apart] * quadrature.slope_mean(phi, 0.0, q[apart]) ** 2
    inside = np.flatnonzero((chi_1 > 1.0 + _ROUNDING) & ~apart)
    if len(inside):
        c[inside], chi_c[inside] = _chaotic_correlations(phi, q[inside], w[inside])
    return c, chi_c


def _chaotic_correlations(phi: ActivationFunction, q: Array, w: Array) -> tuple[Array, Array]:
    """c* and chi_c where chi_1 > 1 and C(0) > 0: w (1 - C) / (1 - c) = 1, with Chebyshev series over log q and the angle arccos(c).

    In the angle both the gap and the slope kernel are smooth up to c = 1, kinks or not (their expansions there are in sqrt(1 - c)).
    """
    log_q = np.log(q)
    middle, half = 0.5 * (log_q.max() + log_q.min()), 0.5 * (log_q.max() - log_q.min()) + 0.05
    x, y = chebyshev.chebpts1(int(_DENSITY * 2 * half) + _LEAST), chebyshev.chebpts1(_ANGLES)
    lengths, angles = np.exp(middle + half * x)[:, None], np.pi / 4 * (1 + y)
    gap, slopes = quadrature.kernel_gap_and_slope(phi, lengths, np.cos(angles), _NODES)
    gap = gap / (lengths * 2 * np.sin(angles / 2) ** 2)
    at_q = chebyshev.chebvander((log_q - middle) / half, len(x) - 1) @ np.linalg.inv(
        chebyshev.chebvander(x, len(x) - 1)
    )
    to_series = np.linalg.inv(chebyshev.chebvander(y, len(y) - 1)).T
    gap_series, slope_series = at_q @ gap @ to_series, at_q @ slopes @ to_series

    def residual(y: Array, point: Array) -> Array:
        return (
            w[point.astype(int)]
            * chebyshev.chebval(y, gap_series[point.astype(int)].T, tensor=False)
            - 1.0
        )

    # y = -1 is c = 1, where the residual is chi_1 - 1 > 0. Where interpolation loses that sign, c* is 1 to its accuracy.
    points = np.arange(len(q))
    bracketed = np.flatnonzero(
        (residual(np.full(len(q), -1.0), points) > 0) & (residual(np.ones(len(q)), points) < 0)
    )
    root = np.full(len(q), -1.0)
    if len(bracketed):
        ends = (np.full(len(bracketed), -1.0), np.ones(len(bracketed)))
        root[bracketed] = elementwise.find_root(residual, ends, args=(bracketed.astype(float),)).x
    return np.cos(np.pi / 4 * (1 + root)), w * chebyshev.chebval(root, slope_series.T, tensor=False)
