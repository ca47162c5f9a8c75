"""Gaussian expectations of any activation: closed forms where they exist, else Gauss-Legendre on panels split at the kinks.

Gauss-Hermite rules converge like 1/n on a kink: chi_1 of SELU errs by 3e-2 with 32 nodes and by 8e-3 with 128. Here the range is
split at the kinks, at a few points around them (a wide z sees tanh as a step) and at a few of the Gaussian, so that on every
panel the integrand is a polynomial of moderate degree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import RequestError
from harness.theory.activations.functions import ActivationFunction

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
PairFunctions = Callable[[Array, Array], tuple[Array, ...]]

_NODES = 20
# Panels of the standard Gaussian; beyond 13 standard deviations its density is 8e-38.
_GAUSSIAN_BREAKS = (-13.0, -7.0, -3.0, 0.0, 3.0, 7.0, 13.0)
# A kink that the inner integral smooths over a width w is approached in steps of these multiples of w.
_APPROACH = (-8.0, -3.0, 3.0, 8.0)
# The share of an expectation that may be left per standard deviation where the range ends.
_TAIL_SHARE = 1e-13
_CHUNK = 1 << 19


def moments(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike, strict: bool = True
) -> tuple[Array, Array]:
    """Mean and variance of phi(z) for z ~ N(mean, variance); shapes broadcast, variance 0 is a point.

    Raises:
        RequestError: a variance below 0, arguments that are not finite, or a second moment that does not exist (when not
            `strict`, the variance is inf there).
    """
    m, v = _arguments(phi, mean, variance)
    if phi.closed.moments is not None:
        return phi.closed.moments(m, v)
    first, second = _by_chunks(_value_moments, phi, m, v)
    if strict:
        _require_finite(phi, second, v)
    return first, second


def second_moment(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike, strict: bool = True
) -> Array:
    """E phi(z)^2 for z ~ N(mean, variance); errors as in `moments`, or inf instead of the last one when not `strict`."""
    first, second = moments(phi, mean, variance, strict)
    with np.errstate(over="ignore"):
        return second + first * first


def slope_mean(phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike) -> Array:
    """E phi'(z) for z ~ N(mean, variance); errors as in `moments`."""
    m, v = _arguments(phi, mean, variance)
    return (
        phi.closed.slope_mean(m, v)
        if phi.closed.slope_mean is not None
        else expectation(phi, phi.slope, m, v)
    )


def slope_square(phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike) -> Array:
    """E phi'(z)^2 for z ~ N(mean, variance), the gain of the mean squared gradient; errors as in `moments`."""
    m, v = _arguments(phi, mean, variance)
    return (
        phi.closed.slope_square(m, v)
        if phi.closed.slope_square is not None
        else expectation(phi, lambda x: phi.slope(x) ** 2, m, v)
    )


def curvature_square(phi: ActivationFunction, variance: float) -> float:
    """E phi''(z)^2 for z ~ N(0, variance), variance above 0; inf where phi's slope jumps.

    phi'' is the derivative of the polynomial through the slopes at the nodes of each panel.
    """
    kinks = np.array(phi.kinks, dtype=float)
    jump = np.abs(phi.slope(kinks + 1e-9) - phi.slope(kinks - 1e-9))
    if (jump > 1e-6).any():
        return np.inf
    s = np.sqrt(variance)
    edges = np.unique(_edges(_split_points(phi)[None, :] / s))
    y, weights = (array[0].reshape(-1, _NODES) for array in _panels(edges[None, :]))
    curvature = phi.slope(s * y) @ _differentiation().T / (s * np.diff(edges)[:, None])
    return float(np.sum(weights * curvature**2))


def expectation(
    phi: ActivationFunction,
    function: Function,
    mean: ArrayLike,
    variance: ArrayLike,
    strict: bool = True,
) -> Array:
    """E function(z) for z ~ N(mean, variance), for a function that is as smooth as phi between phi's kinks and breaks.

    Raises:
        RequestError: as `moments`, or an expectation that does not exist (when not `strict`, it is inf).
    """
    m, v = _arguments(phi, mean, variance)
    (result,) = _by_chunks(lambda phi, m, v: (_one_expectation(phi, function, m, v),), phi, m, v)
    if strict:
        _require_finite(phi, result, v)
    return result


def kernel(phi: ActivationFunction, q1: ArrayLike, q2: ArrayLike, c: ArrayLike) -> Array:
    """E phi(u1) phi(u2) for a centred Gaussian pair with variances q1, q2 and correlation c; shapes broadcast.

    Raises:
        RequestError: q1 or q2 below 0, c outside [-1, 1], or a second moment that does not exist.
    """
    return _pairs(
        phi, lambda u1, u2: (phi.value(u1) * phi.value(u2),), q1, q2, c, phi.closed.kernel
    )[0]


def slope_kernel(phi: ActivationFunction, q1: ArrayLike, q2: ArrayLike, c: ArrayLike) -> Array:
    """E phi'(u1) phi'(u2), the derivative of `kernel` by the covariance of the pair (Price's theorem); arguments and errors as there."""
    return _pairs(
        phi, lambda u1, u2: (phi.slope(u1) * phi.slope(u2),), q1, q2, c, phi.closed.slope_kernel
    )[0]


def kernel_gap(phi: ActivationFunction, q: ArrayLike, c: ArrayLike) -> Array:
    """E phi(u)^2 - E phi(u1) phi(u2) = E (phi(u1) - phi(u2))^2 / 2 at equal variances q, without cancellation near c = 1."""
    return _pairs(phi, lambda u1, u2: (0.5 * (phi.value(u1) - phi.value(u2)) ** 2,), q, q, c)[0]


def kernel_gap_and_slope(
    phi: ActivationFunction, q: ArrayLike, c: ArrayLike, nodes: int
) -> tuple[Array, Array]:
    """`kernel_gap` and `slope_kernel` at equal variances in one pass, with fewer nodes per panel: 12 give about 1e-9."""
    gap, slope = _pairs(
        phi,
        lambda u1, u2: (0.5 * (phi.value(u1) - phi.value(u2)) ** 2, phi.slope(u1) * phi.slope(u2)),
        q,
        q,
        c,
        nodes=nodes,
    )
    return gap, slope


@cache
def _rule(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def _differentiation() -> Array:
    """The matrix that takes values at the nodes on [0, 1] to the slopes there of the polynomial through them (barycentric form)."""
    nodes = _rule(_NODES)[0]
    gaps = nodes[:, None] - nodes + np.eye(len(nodes))
    barycentric = 1.0 / np.prod(gaps, axis=1)
    matrix = barycentric / barycentric[:, None] / gaps
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(1))
    return matrix


def _split_points(phi: ActivationFunction) -> Array:
    return np.unique(np.array(phi.kinks + phi.breaks, dtype=float))


def _panels(edges: Array, count: int | None = None) -> tuple[Array, Array]:
    """Nodes and weights of the standard Gaussian measure, (points, nodes), on panels between ascending edges (points, edges)."""
    nodes, weights = _rule(count or _NODES)
    start, width = edges[:, :-1, None], np.diff(edges, axis=1)[:, :, None]
    y = (start + width * nodes).reshape(len(edges), width.shape[1] * len(nodes))
    return y, (width * weights).reshape(y.shape) * np.exp(-0.5 * y * y) / np.sqrt(2 * np.pi)


def _edges(positions: Array) -> Array:
    """Ascending panel edges (points, edges): the Gaussian's own and `positions` (points, k), clipped to its range."""
    own = np.broadcast_to(_GAUSSIAN_BREAKS, (len(positions), len(_GAUSSIAN_BREAKS)))
    return np.sort(
        np.clip(
            np.concatenate([own, positions], axis=1), _GAUSSIAN_BREAKS[0], _GAUSSIAN_BREAKS[-1]
        ),
        axis=1,
    )


def _nodes(phi: ActivationFunction, m: Array, v: Array) -> tuple[Array, Array]:
    s = np.sqrt(v)[:, None]
    positions = (_split_points(phi)[None, :] - m[:, None]) / np.where(s > 0, s, 1.0)
    y, weights = _panels(_edges(positions))
    return m[:, None] + s * y, weights


def _value_moments(phi: ActivationFunction, m: Array, v: Array) -> tuple[Array, Array]:
    x, weights = _nodes(phi, m, v)
    values = phi.value(x)
    mean = np.einsum("ij,ij->i", values, weights)
    deviation = values - mean[:, None]
    variance = np.einsum("ij,ij,ij->i", deviation, deviation, weights)
    reached = _reached(deviation**2, variance, 1e-28 * np.abs(values).max(1) ** 2)
    # A point has variance 0, and its mean is the value there.
    point = v == 0
    if point.any():
        mean[point], variance[point] = phi.value(m[point]), 0.0
    return mean, np.where(reached | point, variance, np.inf)


def _reached(integrand: Array, total: Array, rounding: Array | float = 0.0) -> NDArray[np.bool_]:
    """Whether the range holds the whole integral: next to nothing of it is left where the range ends."""
    density = np.exp(-0.5 * _GAUSSIAN_BREAKS[-1] ** 2)
    return (
        np.maximum(integrand[:, 0], integrand[:, -1]) * density
        <= _TAIL_SHARE * total + rounding * density
    )


def _one_expectation(phi: ActivationFunction, function: Function, m: Array, v: Array) -> Array:
    x, weights = _nodes(phi, m, v)
    values = function(x)
    total = np.einsum("ij,ij->i", values, weights)
    point = v == 0
    if point.any():
        total[point] = function(m[point])
    size = np.abs(values)
    return np.where(_reached(size, np.einsum("ij,ij->i", size, weights)) | point, total, np.inf)


def _by_chunks(
    compute: Callable[..., tuple[Array, ...]], phi: ActivationFunction, m: Array, v: Array
) -> tuple[Array, ...]:
    flat_m, flat_v = m.reshape(-1), v.reshape(-1)
    size = max(1, _CHUNK // (_NODES * (len(_GAUSSIAN_BREAKS) + len(_split_points(phi)))))
    with np.errstate(all="ignore"):  # an overflow shows as a second moment that is not finite
        parts = [
            compute(phi, flat_m[start : start + size], flat_v[start : start + size])
            for start in range(0, max(m.size, 1), size)
        ]
    return tuple(np.concatenate(column).reshape(m.shape)[()] for column in zip(*parts))


def _pairs(
    phi: ActivationFunction,
    functions: PairFunctions,
    q1: ArrayLike,
    q2: ArrayLike,
    c: ArrayLike,
    closed: Callable[..., Array] | None = None,
    nodes: int | None = None,
) -> Array:
    """Expectations of functions of a pair, (functions, ...): in closed form where it is given, else by quadrature at one point after the other."""
    q1, q2, c = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (q1, q2, c)))
    for name, q in (("q1", q1), ("q2", q2)):
        if not (np.isfinite(q).all() and (q >= 0).all()):
            raise RequestError(f"kernel of {phi.name}: {name} must be a finite number, 0 or above")
    if not (np.abs(c) <= 1).all():
        raise RequestError(f"kernel of {phi.name}: the correlation must be in [-1, 1]")
    if closed is not None:
        return closed(q1, q2, c)[None]
    second_moment(phi, 0.0, np.maximum(q1, q2))
    with np.errstate(all="ignore"):
        points = [
            _pair(phi, functions, *point, nodes) for point in zip(q1.ravel(), q2.ravel(), c.ravel())
        ]
    result = np.moveaxis(np.array(points).reshape(*c.shape, -1), -1, 0)
    _require_finite(phi, result, np.maximum(q1, q2))
    return result


def _pair(
    phi: ActivationFunction,
    functions: PairFunctions,
    q1: float,
    q2: float,
    c: float,
    nodes: int | None,
) -> Array:
    """E of functions of (u1, u2) with u1 = s1 y1 and u2 = s2 (c y1 + r y2), y1 and y2 independent standard Gaussians."""
    s1, s2, r = np.sqrt(q1), np.sqrt(q2), np.sqrt((1.0 - c) * (1.0 + c))
    # A wide z sees a smooth activation as one with a kink at 0.
    points, kinks = _split_points(phi), np.array(phi.kinks or (0.0,))
    positions = [points / s1 if s1 > 0 else points]
    if c != 0 and s2 > 0:
        # E over y2 is phi seen through a window of width r / c: what was sharp at x is blurred about x / (s2 c).
        positions += [
            points / (s2 * c),
            np.add.outer(kinks / (s2 * c), np.multiply(_APPROACH, r / c)).ravel(),
        ]
    edges = np.unique(_edges(np.concatenate(positions)[None, :]))
    y1, weights1 = (array[0] for array in _panels(edges[None, :], nodes))
    if r == 0 or s2 == 0:
        return np.array([weights1 @ values for values in functions(s1 * y1, s2 * c * y1)])
    parts, rows = [], max(1, _CHUNK // (_NODES * (len(points) + len(_GAUSSIAN_BREAKS))))
    for start in range(0, len(y1), rows):
        y, weights = y1[start : start + rows, None], weights1[start : start + rows]
        y2, weights2 = _panels(_edges((points / s2 - c * y) / r), nodes)
        parts.append(
            [
                weights @ np.einsum("ij,ij->i", values, weights2)
                for values in functions(s1 * y, s2 * (c * y + r * y2))
            ]
        )
    return np.sum(parts, axis=0)


def _arguments(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike
) -> tuple[Array, Array]:
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
    if not (np.isfinite(m).all() and np.isfinite(v).all()):
        raise RequestError(f"moments of {phi.name}: mean and variance must be finite numbers")
    if not (v >= 0).all():
        raise RequestError(f"moments of {phi.name}: the variance {v.min():g} is below 0")
    return m, v


def _require_finite(phi: ActivationFunction, result: Array, variance: Array) -> None:
    finite = np.isfinite(result)
    if not finite.all():
        where = (
            float(np.broadcast_to(variance, finite.shape)[~finite].min())
            if finite.shape
            else float(variance)
        )
        raise RequestError(
            f"activation {phi.name!r} grows too fast: its second moment under a Gaussian of variance {where:g} does not exist, or is not reached within 13 standard deviations"
        )
