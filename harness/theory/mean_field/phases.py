"""The edge of chaos, where gradients neither grow nor vanish, and whole phase diagrams.

On the edge of chaos chi_1 = 1 at a fixed point q* of the length map (Schoenholz et al. 2017; Hayou
et al. 2019, arXiv:1902.06853). Each q* has one such pair, sigma_w2 = 1 / E phi'^2 and
sigma_b2 = q* - sigma_w2 E phi^2, as far as the latter is not negative.
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

# Points of log q at which the edge of chaos is bracketed.
_SCAN_POINTS = 801
_ROUNDING = 1e-12
# A phase diagram reads the length map off a spline through this many points of log q, ...
_LENGTHS = 4001
# ... in blocks of this many grid points, which bounds the memory.
_BLOCK = 2000
# Chebyshev points over log q: this many per unit, and at least `_LEAST`.
_DENSITY = 5
_LEAST = 10
# Chebyshev points over the angle arccos(c).
_ANGLES = 28
# Gauss-Legendre nodes per panel of the kernels in a phase diagram.
_NODES = 12


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the edge of chaos.

    Attributes:
        sigma_w2: fan_in times the variance of a weight.
        sigma_b2: variance of a bias.
        q_star: fixed point of the length map; 0 stands for the limit of short vectors.
        stable: lengths near q* approach it (chi_q < 1).
    """

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
    """Returns the critical points with one given value, by ascending q*.

    The tuple is empty where there is none. Where every q* is critical (ReLU with He's weights),
    the one at q* = 1 stands for all, with `stable` false.

    Args:
        phi: activation.
        sigma_b2: variance of a bias.
        sigma_w2: fan_in times the variance of a weight.
        q_star: fixed point of the length map.

    Raises:
        RequestError: none or several of the three values given, or a value out of range.
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
        return _critical_points(phi, np.array([q_star]))

    def residual(log_q: Array) -> Array:
        second, slope = _second_and_slope(phi, np.exp(log_q))
        if sigma_w2 is not None:
            return np.log(sigma_w2 * slope)
        return 1.0 - (second / slope + (sigma_b2 or 0.0)) / np.exp(log_q)

    log_q = np.linspace(np.log(WINDOW[0]), np.log(WINDOW[1]), _SCAN_POINTS)
    values = residual(log_q)
    finite = np.isfinite(values)
    if (np.abs(values[finite]) < _ROUNDING).all():
        return _critical_points(phi, np.ones(1))
    # Where the residual is rounding (short lengths without bias) its sign means nothing.
    clear = finite & (np.abs(values) > _ROUNDING)
    log_q = log_q[clear]
    values = values[clear]
    change = np.flatnonzero(np.signbit(values[:-1]) != np.signbit(values[1:]))
    roots = np.empty(0)
    if len(change):
        roots = np.exp(elementwise.find_root(residual, (log_q[change], log_q[change + 1])).x)
    points = _critical_points(phi, roots)
    if sigma_w2 is not None:
        points = tuple(replace(point, sigma_w2=float(sigma_w2)) for point in points)
    elif sigma_b2 is not None:
        points = tuple(replace(point, sigma_b2=float(sigma_b2)) for point in points)
    return _critical_end(phi, sigma_w2, sigma_b2) + points


def _critical_points(phi: ActivationFunction, q: Array) -> tuple[CriticalPoint, ...]:
    second, slope = _second_and_slope(phi, q)
    sigma_w2 = 1.0 / slope
    sigma_b2 = q - sigma_w2 * second
    gains = mean_field.length_gain(phi, q, sigma_w2)
    points = []
    for w, b, length, gain in zip(sigma_w2, sigma_b2, q, gains, strict=True):
        if b >= -_ROUNDING * length:
            stable = bool(gain < 1.0 - _ROUNDING)
            points.append(CriticalPoint(float(w), max(float(b), 0.0), float(length), stable))
    return tuple(points)


def _critical_end(
    phi: ActivationFunction, sigma_w2: float | None, sigma_b2: float | None
) -> tuple[CriticalPoint, ...]:
    """Returns the end of the critical line, where the given value lies on it.

    It lies at q* = 0, sigma_b2 = 0 and the sigma_w2 below which lengths vanish; there chi_1 =
    chi_q = 1.
    """
    limit = mean_field.vanish_limit(phi)
    if not 0 < limit < np.inf:
        return ()
    without_bias = sigma_b2 == 0
    at_limit = sigma_w2 is not None and abs(sigma_w2 - limit) <= _ROUNDING * limit
    return (CriticalPoint(limit, 0.0, 0.0, False),) if without_bias or at_limit else ()


def _second_and_slope(phi: ActivationFunction, q: Array) -> tuple[Array, Array]:
    """Returns E phi^2 and E phi'^2 at lengths q.

    The latter is NaN where the former is not finite.
    """
    with np.errstate(all="ignore"):
        second = quadrature.second_moment(phi, 0.0, q, strict=False)
        slope = np.full(q.shape, np.nan)
        finite = np.isfinite(second)
        slope[finite] = quadrature.slope_square(phi, 0.0, q[finite])
    return second, slope


@dataclass(frozen=True)
class PhaseDiagram:
    """Fixed points and gains over a grid of weight and bias variances.

    All arrays but the two axes have shape (sigma_b2, sigma_w2). They hold NaN where there is no
    fixed point.

    Attributes:
        sigma_w2: axis (sigma_w2,).
        sigma_b2: axis (sigma_b2,).
        q_star: the length approached from q = 1.
        chi_q: V'(q*).
        chi_1: gain of the squared gradient.
        c_star: stable fixed point of the correlation map.
        chi_c: C'(c*).
        growth: where there is no fixed point, the sign of V(q) - q at q = 1: 1 diverges, -1
            vanishes. Elsewhere 0.
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
        """Depth scale of lengths, in layers."""
        return mean_field.depth_scale(self.chi_q)

    @property
    def xi_c(self) -> Array:
        """Depth scale of correlations, in layers."""
        return mean_field.depth_scale(self.chi_c)


def phase_diagram(
    phi: ActivationFunction, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> PhaseDiagram:
    """Computes `maps.solve` at every point of a grid, to about 1e-8.

    The speed comes from Chebyshev series of the kernel over log q and arccos(c).

    Raises:
        RequestError: a sigma_w2 <= 0, a sigma_b2 < 0, or an activation without a second moment.
    """
    w = np.atleast_1d(np.asarray(sigma_w2, dtype=float))
    b = np.atleast_1d(np.asarray(sigma_b2, dtype=float))
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
        sigma_w2=w,
        sigma_b2=b,
        q_star=q.reshape(shape),
        chi_q=chi_q.reshape(shape),
        chi_1=chi_1.reshape(shape),
        c_star=c.reshape(shape),
        chi_c=chi_c.reshape(shape),
        growth=growth.reshape(shape),
    )


def _grid_lengths(phi: ActivationFunction, w: Array, b: Array) -> tuple[Array, NDArray[np.int_]]:
    """Returns q* and the growth at every grid point, shape (points,).

    q* is NaN where there is none.
    """
    log_q = np.linspace(np.log(WINDOW[0]), np.log(WINDOW[1]), _LENGTHS)
    with np.errstate(all="ignore"):
        log_second = np.log(quadrature.second_moment(phi, 0.0, np.exp(log_q), strict=False))
    finite = np.isfinite(log_second)
    log_q = log_q[finite]
    log_second = log_second[finite]
    spline = make_interp_spline(log_q, log_second, k=5)
    middle = int(np.argmin(np.abs(log_q)))

    def residual(x: Array, w: Array, b: Array) -> Array:
        return np.log(w * np.exp(spline(x)) + b) - x

    q = np.full(w.shape, np.nan)
    growth = np.zeros(w.shape, dtype=int)
    for start in range(0, len(w), _BLOCK):
        block = slice(start, start + _BLOCK)
        values = np.log(w[block, None] * np.exp(log_second) + b[block, None]) - log_q
        up = values[:, middle] > 0
        preserved = np.abs(values).max(1) < _ROUNDING
        # The first clear change of sign in the direction in which lengths move from q = 1.
        first_above = (values[:, middle:] < -_ROUNDING).argmax(1) + middle
        first_below = middle - (values[:, middle::-1] > _ROUNDING).argmax(1)
        ahead = np.where(up, first_above, first_below)
        bracketed = (ahead != middle) & ~preserved
        growth[block] = np.where(bracketed | preserved, 0, np.where(up, 1, -1))
        roots = np.full(len(values), np.nan)
        if bracketed.any():
            at_1 = np.full(bracketed.sum(), log_q[middle])
            low, high = np.sort(np.stack([at_1, log_q[ahead[bracketed]]]), axis=0)
            weights_and_biases = (w[block][bracketed], b[block][bracketed])
            solution = elementwise.find_root(residual, (low, high), args=weights_and_biases)
            roots[bracketed] = np.exp(solution.x)
        roots[preserved] = 1.0
        q[block] = roots
    return q, growth


def _grid_correlations(
    phi: ActivationFunction, q: Array, w: Array, b: Array, chi_1: Array
) -> tuple[Array, Array]:
    """Returns c* and chi_c at every point, shape (points,).

    c* is 1 in the ordered phase, 0 where nothing couples two samples, and interpolated elsewhere.
    """
    c = np.ones(q.shape)
    chi_c = chi_1.copy()
    chaotic = chi_1 > 1.0 + _ROUNDING
    coupling = (b + w * quadrature.moments(phi, 0.0, q)[0] ** 2) / q
    apart = chaotic & (coupling < _ROUNDING)
    c[apart] = 0.0
    if apart.any():
        chi_c[apart] = w[apart] * quadrature.slope_mean(phi, 0.0, q[apart]) ** 2
    coupled = np.flatnonzero(chaotic & ~apart)
    if len(coupled):
        c[coupled], chi_c[coupled] = _chaotic_correlations(phi, q[coupled], w[coupled])
    return c, chi_c


def _chaotic_correlations(phi: ActivationFunction, q: Array, w: Array) -> tuple[Array, Array]:
    """Returns c* and chi_c where chi_1 > 1 and C(0) > 0, shape (points,).

    c* solves w (1 - C) / (1 - c) = 1, with Chebyshev series over log q and the angle arccos(c). In
    the angle both the gap and the slope kernel are smooth up to c = 1, with kinks or without, since
    their expansions there are in sqrt(1 - c).
    """
    log_q = np.log(q)
    middle = 0.5 * (log_q.max() + log_q.min())
    half = 0.5 * (log_q.max() - log_q.min()) + 0.05
    x = chebyshev.chebpts1(int(_DENSITY * 2 * half) + _LEAST)
    y = chebyshev.chebpts1(_ANGLES)
    lengths = np.exp(middle + half * x)[:, None]
    angles = np.pi / 4 * (1 + y)
    gap, slopes = quadrature.kernel_gap_and_slope(phi, lengths, np.cos(angles), _NODES)
    gap = gap / (lengths * 2 * np.sin(angles / 2) ** 2)
    from_lengths = np.linalg.inv(chebyshev.chebvander(x, len(x) - 1))
    at_q = chebyshev.chebvander((log_q - middle) / half, len(x) - 1) @ from_lengths
    to_series = np.linalg.inv(chebyshev.chebvander(y, len(y) - 1)).T
    gap_series = at_q @ gap @ to_series
    slope_series = at_q @ slopes @ to_series

    def residual(y: Array, point: Array) -> Array:
        index = point.astype(int)
        return w[index] * chebyshev.chebval(y, gap_series[index].T, tensor=False) - 1.0

    # y = -1 is c = 1, where the residual is chi_1 - 1 > 0. Where interpolation loses that sign, c*
    # is 1 to the accuracy of the interpolation.
    points = np.arange(len(q), dtype=float)
    positive_at_1 = residual(np.full(len(q), -1.0), points) > 0
    negative_at_0 = residual(np.ones(len(q)), points) < 0
    bracketed = np.flatnonzero(positive_at_1 & negative_at_0)
    root = np.full(len(q), -1.0)
    if len(bracketed):
        ends = (np.full(len(bracketed), -1.0), np.ones(len(bracketed)))
        root[bracketed] = elementwise.find_root(residual, ends, args=(bracketed.astype(float),)).x
    c = np.cos(np.pi / 4 * (1 + root))
    return c, w * chebyshev.chebval(root, slope_series.T, tensor=False)
