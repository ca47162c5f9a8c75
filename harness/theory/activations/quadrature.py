"""Gaussian expectations of any activation, to about 13 digits.

Closed forms are used where they exist, else Gauss-Legendre rules on panels split at the kinks.

Gauss-Hermite rules converge like 1/n on a kink: chi_1 of SELU errs by 3e-2 with 32 nodes and by
8e-3 with 128. Here the range is split at the kinks, at a few points around them (a wide z sees tanh
as a step) and at a few points of the Gaussian, so that on every panel the integrand agrees with a
polynomial of moderate degree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import RequestError
from harness.theory.activations import gaussian_panels
from harness.theory.activations.gaussian_panels import (
    GAUSSIAN_BREAKS,
    differentiation_matrix,
    nodes_and_weights,
    panel_edges,
    split_points,
)
from harness.theory.activations.specifications import ActivationFunction

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
PairFunctions = Callable[[Array, Array], tuple[Array, ...]]

# The inner integral smooths a kink over a width w. The outer integral has edges at these multiples
# of w around the kink.
_APPROACH = (-8.0, -3.0, 3.0, 8.0)
# The share of an expectation that may be left per standard deviation where the range ends.
_TAIL_SHARE = 1e-13
# Squared deviations below this, relative to the largest squared value, are rounding errors.
_ROUNDING = 1e-28
# Distance from a kink at which the two slopes are compared, and the difference that is a jump.
_BESIDE, _SLOPE_JUMP = 1e-9, 1e-6
# Number of function values computed at a time.
_CHUNK = 1 << 19


def moments(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike, strict: bool = True
) -> tuple[Array, Array]:
    """Returns the mean and variance of phi(z) for z ~ N(mean, variance).

    Shapes broadcast; a variance of 0 stands for a point.

    Raises:
        RequestError: a variance is below 0, an argument is not finite, or the second moment does
            not exist. If not `strict`, the variance is infinite in the last case.
    """
    m, v = _arguments(phi, mean, variance)
    if phi.closed.moments is not None:
        return phi.closed.moments(m, v)
    out_mean, out_variance = _by_chunks(_value_moments, phi, m, v)
    if strict:
        _require_finite(phi, out_variance, v)
    return out_mean, out_variance


def second_moment(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike, strict: bool = True
) -> Array:
    """Returns E phi(z)^2 for z ~ N(mean, variance).

    Raises:
        RequestError: as `moments`. If not `strict`, a second moment that does not exist is
            infinite.
    """
    out_mean, out_variance = moments(phi, mean, variance, strict)
    with np.errstate(over="ignore"):
        return out_variance + out_mean * out_mean


def slope_mean(phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike) -> Array:
    """Returns E phi'(z) for z ~ N(mean, variance); errors as `moments`."""
    m, v = _arguments(phi, mean, variance)
    if phi.closed.slope_mean is not None:
        return phi.closed.slope_mean(m, v)
    return expectation(phi, phi.slope, m, v)


def slope_square(phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike) -> Array:
    """Returns E phi'(z)^2 for z ~ N(mean, variance), the gain of squared gradients.

    Raises:
        RequestError: as `moments`.
    """
    m, v = _arguments(phi, mean, variance)
    if phi.closed.slope_square is not None:
        return phi.closed.slope_square(m, v)
    return expectation(phi, lambda x: phi.slope(x) ** 2, m, v)


def curvature_square(phi: ActivationFunction, variance: float) -> float:
    """Returns E phi''(z)^2 for z ~ N(0, variance), variance above 0.

    It is infinite where the slope of phi jumps. phi'' is the derivative of the polynomial through
    the slopes at the nodes of each panel.
    """
    kinks = np.array(phi.kinks, dtype=float)
    jump = np.abs(phi.slope(kinks + _BESIDE) - phi.slope(kinks - _BESIDE))
    if (jump > _SLOPE_JUMP).any():
        return np.inf
    s = np.sqrt(variance)
    edges = np.unique(panel_edges(split_points(phi)[None, :] / s))
    y, weights = (
        array[0].reshape(-1, gaussian_panels.NODES) for array in nodes_and_weights(edges[None, :])
    )
    width = np.diff(edges)[:, None]
    curvature = phi.slope(s * y) @ differentiation_matrix().T / (s * width)
    return float(np.sum(weights * curvature**2))


def expectation(
    phi: ActivationFunction,
    function: Function,
    mean: ArrayLike,
    variance: ArrayLike,
    strict: bool = True,
) -> Array:
    """Returns E function(z) for z ~ N(mean, variance).

    `function` must be as smooth as phi between phi's kinks and breaks.

    Raises:
        RequestError: as `moments`, or the expectation does not exist. If not `strict`, it is
            infinite in the last case.
    """
    m, v = _arguments(phi, mean, variance)

    def compute(phi: ActivationFunction, m: Array, v: Array) -> tuple[Array]:
        return (_one_expectation(phi, function, m, v),)

    (result,) = _by_chunks(compute, phi, m, v)
    if strict:
        _require_finite(phi, result, v)
    return result


def kernel(phi: ActivationFunction, q1: ArrayLike, q2: ArrayLike, c: ArrayLike) -> Array:
    """Returns E phi(u1) phi(u2) for a centred Gaussian pair.

    The pair has variances q1, q2 and correlation c; shapes broadcast.

    Raises:
        RequestError: q1 or q2 is below 0, c lies outside [-1, 1], or the second moment does not
            exist.
    """

    def product(u1: Array, u2: Array) -> tuple[Array]:
        return (phi.value(u1) * phi.value(u2),)

    return _pairs(phi, product, _pair_arguments(phi, q1, q2, c), phi.closed.kernel)[0]


def slope_kernel(phi: ActivationFunction, q1: ArrayLike, q2: ArrayLike, c: ArrayLike) -> Array:
    """Returns E phi'(u1) phi'(u2) for a centred Gaussian pair.

    It is the derivative of `kernel` by the covariance of the pair (Price's theorem). Arguments and
    errors are those of `kernel`.
    """

    def product(u1: Array, u2: Array) -> tuple[Array]:
        return (phi.slope(u1) * phi.slope(u2),)

    return _pairs(phi, product, _pair_arguments(phi, q1, q2, c), phi.closed.slope_kernel)[0]


def kernel_gap(phi: ActivationFunction, q: ArrayLike, c: ArrayLike) -> Array:
    """Returns E phi(u)^2 - E phi(u1) phi(u2) at equal variances q.

    It is computed as E (phi(u1) - phi(u2))^2 / 2, without cancellation near c = 1.
    """

    def half_square(u1: Array, u2: Array) -> tuple[Array]:
        return (0.5 * (phi.value(u1) - phi.value(u2)) ** 2,)

    return _pairs(phi, half_square, _pair_arguments(phi, q, q, c))[0]


def kernel_gap_and_slope(
    phi: ActivationFunction, q: ArrayLike, c: ArrayLike, nodes: int
) -> tuple[Array, Array]:
    """Returns `kernel_gap` and `slope_kernel` at equal variances, in one pass.

    `nodes` is the number of nodes per panel; 12 give about 1e-9.
    """

    def both(u1: Array, u2: Array) -> tuple[Array, Array]:
        return 0.5 * (phi.value(u1) - phi.value(u2)) ** 2, phi.slope(u1) * phi.slope(u2)

    gap, slope = _pairs(phi, both, _pair_arguments(phi, q, q, c), nodes=nodes)
    return gap, slope


def _nodes(phi: ActivationFunction, m: Array, v: Array) -> tuple[Array, Array]:
    """Returns nodes x of z ~ N(m, v) and their weights, (points, nodes)."""
    s = np.sqrt(v)[:, None]
    positions = (split_points(phi)[None, :] - m[:, None]) / np.where(s > 0, s, 1.0)
    y, weights = nodes_and_weights(panel_edges(positions))
    return m[:, None] + s * y, weights


def _value_moments(phi: ActivationFunction, m: Array, v: Array) -> tuple[Array, Array]:
    """Returns mean and variance of phi(z), the variance infinite where it does not exist."""
    x, weights = _nodes(phi, m, v)
    values = phi.value(x)
    mean = np.einsum("ij,ij->i", values, weights)
    deviation = values - mean[:, None]
    variance = np.einsum("ij,ij,ij->i", deviation, deviation, weights)
    rounding = _ROUNDING * np.abs(values).max(1) ** 2
    reached = _reached(deviation**2, variance, rounding)
    # A point has variance 0, and its mean is the value there.
    point = v == 0
    if point.any():
        mean[point] = phi.value(m[point])
        variance[point] = 0.0
    return mean, np.where(reached | point, variance, np.inf)


def _reached(integrand: Array, total: Array, rounding: Array | float = 0.0) -> NDArray[np.bool_]:
    """Returns True where the range holds the whole integral.

    The integrand (points, nodes) must be next to nothing where the range ends, compared with the
    integral `total` (points,).
    """
    density = np.exp(-0.5 * GAUSSIAN_BREAKS[-1] ** 2)
    at_ends = np.maximum(integrand[:, 0], integrand[:, -1])
    return at_ends * density <= _TAIL_SHARE * total + rounding * density


def _one_expectation(phi: ActivationFunction, function: Function, m: Array, v: Array) -> Array:
    """Returns E function(z), infinite where it does not exist."""
    x, weights = _nodes(phi, m, v)
    values = function(x)
    total = np.einsum("ij,ij->i", values, weights)
    point = v == 0
    if point.any():
        total[point] = function(m[point])
    size = np.abs(values)
    reached = _reached(size, np.einsum("ij,ij->i", size, weights))
    return np.where(reached | point, total, np.inf)


def _by_chunks(
    compute: Callable[..., tuple[Array, ...]], phi: ActivationFunction, m: Array, v: Array
) -> tuple[Array, ...]:
    """Returns arrays of the shape of m, computed from a limited number of points at a time."""
    flat_m, flat_v = m.reshape(-1), v.reshape(-1)
    values_per_point = gaussian_panels.NODES * (len(GAUSSIAN_BREAKS) + len(split_points(phi)))
    size = max(1, _CHUNK // values_per_point)
    parts = []
    # An overflow shows as a second moment that is not finite.
    with np.errstate(all="ignore"):
        for start in range(0, max(m.size, 1), size):
            chunk = slice(start, start + size)
            parts.append(compute(phi, flat_m[chunk], flat_v[chunk]))
    columns = zip(*parts, strict=True)
    return tuple(np.concatenate(column).reshape(m.shape)[()] for column in columns)


def _pairs(
    phi: ActivationFunction,
    functions: PairFunctions,
    arguments: tuple[Array, Array, Array],
    closed: Callable[..., Array] | None = None,
    nodes: int | None = None,
) -> Array:
    """Returns expectations of functions of a pair, (functions, ...).

    They are computed by `closed` where it is given, else by quadrature, one point after the other.
    `arguments` are q1, q2 and c of one shape.
    """
    q1, q2, c = arguments
    if closed is not None:
        return closed(q1, q2, c)[None]
    second_moment(phi, 0.0, np.maximum(q1, q2))
    points = zip(q1.ravel(), q2.ravel(), c.ravel(), strict=True)
    with np.errstate(all="ignore"):
        values = [_pair(phi, functions, point, nodes) for point in points]
    result = np.moveaxis(np.array(values).reshape(*c.shape, -1), -1, 0)
    _require_finite(phi, result, np.maximum(q1, q2))
    return result


def _pair(
    phi: ActivationFunction,
    functions: PairFunctions,
    point: tuple[float, float, float],
    nodes: int | None,
) -> Array:
    """Returns the expectations of functions of (u1, u2) at one point (q1, q2, c).

    u1 = s1 y1 and u2 = s2 (c y1 + r y2) with independent standard Gaussians y1 and y2.
    """
    q1, q2, c = point
    s1, s2 = np.sqrt(q1), np.sqrt(q2)
    r = np.sqrt((1.0 - c) * (1.0 + c))
    points = split_points(phi)
    positions = [points / s1 if s1 > 0 else points]
    if c != 0 and s2 > 0:
        # E over y2 is phi smoothed over a width r / c: a kink at x is blurred about x / (s2 c). A
        # wide z sees a smooth activation as one with a kink at 0.
        kinks = np.array(phi.kinks or (0.0,)) / (s2 * c)
        around_kinks = np.add.outer(kinks, np.multiply(_APPROACH, r / c))
        positions += [points / (s2 * c), around_kinks.ravel()]
    edges = np.unique(panel_edges(np.concatenate(positions)[None, :]))
    y1, weights1 = (array[0] for array in nodes_and_weights(edges[None, :], nodes))
    if r == 0 or s2 == 0:
        return np.array([weights1 @ values for values in functions(s1 * y1, s2 * c * y1)])

    rows = max(1, _CHUNK // (gaussian_panels.NODES * (len(points) + len(GAUSSIAN_BREAKS))))
    parts = []
    for start in range(0, len(y1), rows):
        y = y1[start : start + rows, None]
        weights = weights1[start : start + rows]
        y2, weights2 = nodes_and_weights(panel_edges((points / s2 - c * y) / r), nodes)
        inner = [
            np.einsum("ij,ij->i", values, weights2)
            for values in functions(s1 * y, s2 * (c * y + r * y2))
        ]
        parts.append([weights @ expected for expected in inner])
    return np.sum(parts, axis=0)


def _arguments(
    phi: ActivationFunction, mean: ArrayLike, variance: ArrayLike
) -> tuple[Array, Array]:
    """Returns mean and variance broadcast to one shape; RequestError where they are wrong."""
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
    if not (np.isfinite(m).all() and np.isfinite(v).all()):
        raise RequestError(f"moments of {phi.name}: mean and variance must be finite numbers")
    if not (v >= 0).all():
        raise RequestError(f"moments of {phi.name}: the variance {v.min():g} is below 0")
    return m, v


def _pair_arguments(
    phi: ActivationFunction, q1: ArrayLike, q2: ArrayLike, c: ArrayLike
) -> tuple[Array, Array, Array]:
    """Returns q1, q2 and c broadcast to one shape; RequestError where they are wrong."""
    q1, q2, c = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (q1, q2, c)))
    for name, q in (("q1", q1), ("q2", q2)):
        if not (np.isfinite(q).all() and (q >= 0).all()):
            raise RequestError(f"kernel of {phi.name}: {name} must be a finite number, 0 or above")
    if not (np.abs(c) <= 1).all():
        raise RequestError(f"kernel of {phi.name}: the correlation must be in [-1, 1]")
    return q1, q2, c


def _require_finite(phi: ActivationFunction, result: Array, variance: Array) -> None:
    finite = np.isfinite(result)
    if finite.all():
        return
    if finite.shape:
        smallest = float(np.broadcast_to(variance, finite.shape)[~finite].min())
    else:
        smallest = float(variance)
    raise RequestError(
        f"activation {phi.name!r} grows too fast: its second moment under a Gaussian of variance "
        f"{smallest:g} does not exist, or is not reached within 13 standard deviations"
    )
