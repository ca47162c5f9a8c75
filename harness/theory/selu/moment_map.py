"""SELU's map g: (mu, nu) of a unit's inputs to (mu~, nu~) of its output (Eq. 3).

mu, nu: mean and variance of the inputs of a unit. omega, tau: sum and sum of squares of its
weights (Klambauer et al. 2017, section "Normalization and SNNs"). g assumes that the unit's
pre-activation is z ~ N(mu omega, nu tau), which for many independent inputs of equal mean and
variance follows from the central limit theorem.

Equation numbers are those of arXiv:1706.02515; cells (`In[17]`) are those of the authors'
SELU_calculations.pdf.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from harness.errors import RequestError
from harness.theory.selu import exponential_linear
from harness.theory.selu.fixed_point_search import FixedPoint, find
from harness.theory.selu.selu_function import ALPHA, FLOOR, LAMBDA

__all__ = [
    "ALPHA",
    "FLOOR",
    "LAMBDA",
    "fixed_points",
    "gaussian_moments",
    "jacobian",
    "map_moments",
    "slopes",
    "spectral_norm",
]

Array = NDArray[np.float64]

# Slopes at a variance below this are those at this variance; 0 itself would divide by zero.
_LEAST_VARIANCE = 1e-290
# The largest tau for which fixed points are searched: variances of z reach 1e12 tau.
_LARGEST_TAU = 1e100


def gaussian_moments(
    mean: ArrayLike, variance: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA
) -> tuple[Array, Array]:
    """Returns the mean and variance of selu(z) for z ~ N(mean, variance).

    These are Eq. 4 and 5 in a form without cancellation. Shapes broadcast; a variance of 0 stands
    for a point. The arguments are those of z, so a bias adds to `mean`.

    Raises:
        RequestError: a variance is below 0 or an argument is not finite.
    """
    finite = np.isfinite(mean).all() and np.isfinite(variance).all()
    _require(finite, "moments of SELU: mean and variance must be finite numbers")
    _require(
        (np.asarray(variance) >= 0).all(),
        f"moments of SELU: the variance {np.min(variance):g} is below 0",
    )
    return exponential_linear.moments(mean, variance, alpha, lam)


def map_moments(
    mu: ArrayLike,
    nu: ArrayLike,
    omega: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike = ALPHA,
    lam: ArrayLike = LAMBDA,
) -> tuple[Array, Array]:
    """Returns (mu~, nu~) = g(mu, nu), the moments of a unit's output (Eq. 3 to 5).

    Shapes broadcast. See `exponential_linear.moments` for the accuracy.

    Raises:
        RequestError: nu <= 0, tau < 0, or an argument is not finite.
    """
    m, v = _pre_activation(mu, nu, omega, tau, alpha, lam)
    return exponential_linear.moments(m, v, alpha, lam)


def jacobian(
    mu: ArrayLike,
    nu: ArrayLike,
    omega: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike = ALPHA,
    lam: ArrayLike = LAMBDA,
) -> Array:
    """Returns the derivatives of g with respect to (mu, nu), shape (..., 2, 2).

    The rows are [d mu~ / d mu, d mu~ / d nu] and [d nu~ / d mu, d nu~ / d nu] (Eq. 6 at the fixed
    point (0, 1); cells In[17] to In[24]). The first entry is omega E[selu'(z)].

    Raises:
        RequestError: nu <= 0, tau < 0, or an argument is not finite.
    """
    m, v = np.broadcast_arrays(*_pre_activation(mu, nu, omega, tau, alpha, lam))
    omega = np.asarray(omega, dtype=float)
    tau = np.asarray(tau, dtype=float)
    (mean_by_m, variance_by_m), (mean_by_v, variance_by_v) = slopes(m, v, alpha, lam)
    mean_row = np.stack([omega * mean_by_m, tau * mean_by_v], -1)
    variance_row = np.stack([omega * variance_by_m, tau * variance_by_v], -1)
    matrix = np.stack([mean_row, variance_row], -2)
    return matrix + 0.0  # turns -0 into 0


def slopes(
    m: ArrayLike, v: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Returns the derivatives of mean and variance of selu(z) for z ~ N(m, v).

    The result is ((dmean/dm, dvariance/dm), (dmean/dv, dvariance/dv)). At v = 0 the derivatives are
    those at the smallest v, except dmean/dv at m = 0, which has no limit.

    Method: Price's theorem, d/dm E f = E f' and d/dv E f = E f'' / 2, for f = selu / lam and its
    square. For the former f'' has a point mass 1 - alpha at 0.
    """
    m, alpha, lam = (np.asarray(value, dtype=float) for value in (m, alpha, lam))
    v = np.maximum(np.asarray(v, dtype=float), _LEAST_VARIANCE)
    s = np.sqrt(v)
    with np.errstate(over="ignore", under="ignore"):
        h = m / s
        positive = ndtr(h)
        density = np.exp(-0.5 * h * h) / math.sqrt(2.0 * math.pi)
        first = exponential_linear.exponential_tail(m, s, h, 1)
        second = exponential_linear.exponential_tail(m, s, h, 2)
    mean, _ = exponential_linear.moments(m, v, alpha, 1.0)

    mean_by_m = positive + alpha * first
    mean_by_v = 0.5 * (alpha * first + (1.0 - alpha) * density / s)
    square_by_m = 2.0 * (m * positive + s * density + alpha**2 * (second - first))
    square_by_v = positive + alpha**2 * (2.0 * second - first)

    by_m = (lam * mean_by_m, lam**2 * (square_by_m - 2 * mean * mean_by_m))
    by_v = (lam * mean_by_v, lam**2 * (square_by_v - 2 * mean * mean_by_v))
    return by_m, by_v


def spectral_norm(matrix: ArrayLike) -> Array:
    """Returns the largest singular value of matrices of shape (..., 2, 2).

    Cell In[30]. Where it is below 1 for the Jacobian, g contracts in the Euclidean norm.
    """
    matrix = np.asarray(matrix, dtype=float)
    a, b = matrix[..., 0, 0], matrix[..., 0, 1]
    c, d = matrix[..., 1, 0], matrix[..., 1, 1]
    return 0.5 * (np.hypot(a + d, c - b) + np.hypot(a - d, c + b))


def fixed_points(
    omega: float, tau: float, alpha: float = ALPHA, lam: float = LAMBDA
) -> tuple[FixedPoint, ...]:
    """Returns all fixed points of g with variance in [1e-12, 1e12], by ascending variance.

    The tuple is empty where there is none. A point is stable when both eigenvalues of the Jacobian
    lie inside the unit circle. Points of variance 0, outside g's domain, may be fixed too.

    For tau = 1, (0, 1) is a fixed point for every omega, but stable for omega in (-1.0308, 0.9017)
    only. The slope d mu~ / d mu = 0.98523 omega alone would allow |omega| < 1.0150. A third of the
    units of a LeCun-normal layer lie outside.

    Raises:
        RequestError: tau <= 0 or above 1e100, or an argument is not finite.
    """
    _require(
        bool(np.isfinite([omega, tau, alpha, lam]).all()),
        "fixed points of g: omega, tau, alpha and lambda must be finite numbers",
    )
    _require(
        0 < tau <= _LARGEST_TAU,
        f"fixed points of g: tau={tau:g} must be above 0 and at most 1e100",
    )
    return find(
        omega,
        tau,
        lambda m, v: exponential_linear.moments(m, v, alpha, lam),
        lambda m, v: slopes(m, v, alpha, lam),
    )


def _pre_activation(
    mu: ArrayLike, nu: ArrayLike, omega: ArrayLike, tau: ArrayLike, alpha: ArrayLike, lam: ArrayLike
) -> tuple[Array, Array]:
    """Returns mean mu omega and variance nu tau of z, after all arguments are checked."""
    arguments = {"mu": mu, "nu": nu, "omega": omega, "tau": tau, "alpha": alpha, "lambda": lam}
    for name, value in arguments.items():
        _require(np.isfinite(value).all(), f"g: {name} must be a finite number")
    _require(
        (np.asarray(nu) > 0).all(),
        f"g: nu={np.min(nu):g} must be above 0, it is the variance of the inputs",
    )
    _require(
        (np.asarray(tau) >= 0).all(),
        f"g: tau={np.min(tau):g} must not be below 0, it is a sum of squares",
    )
    with np.errstate(over="ignore"):
        m = np.multiply(mu, omega, dtype=float)
        v = np.multiply(nu, tau, dtype=float)
    _require(
        np.isfinite(m).all() and np.isfinite(v).all(),
        "g: the mean mu omega or the variance nu tau of z overflows",
    )
    return m, v


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise RequestError(message)
