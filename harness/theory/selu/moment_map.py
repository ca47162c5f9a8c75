"""SELU and its map g: (mu, nu) of a unit's inputs to (mu~, nu~) of its output, with Jacobian and spectral norm.

mu, nu: mean and variance of the inputs of a unit; omega, tau: sum and sum of squares of its weights (Klambauer et al. 2017,
section "Normalization and SNNs"). g assumes z ~ N(mu omega, nu tau), which for many independent inputs of equal mean and variance
is the central limit theorem. Equation numbers are those of arXiv:1706.02515, cells those of the authors' SELU_calculations.pdf.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from harness.errors import RequestError
from harness.theory.selu import exponential_linear
from harness.theory.selu.fixed_points import FixedPoint, find
from harness.theory.selu.theorems import (
    THEOREM_1,
    THEOREM_2,
    THEOREM_3,
    THEOREMS,
    Box,
    Theorem,
    theorem,
)

__all__ = [
    "ALPHA",
    "LAMBDA",
    "FLOOR",
    "selu",
    "selu_slope",
    "gaussian_moments",
    "map_moments",
    "jacobian",
    "spectral_norm",
    "fixed_points",
    "theorem",
    "FixedPoint",
    "Box",
    "Theorem",
    "THEOREMS",
    "THEOREM_1",
    "THEOREM_2",
    "THEOREM_3",
]

Array = NDArray[np.float64]

# Eq. 14: the parameters whose fixed point is (0, 1), for weights with omega = 0 and tau = 1.
ALPHA: float = 1.6732632423543772848
LAMBDA: float = 1.0507009873554804934
# The value to which SELU saturates, -lambda * alpha: what alpha dropout drops to.
FLOOR: float = -1.7580993408473768599
# A variance below this is a point: the slopes there are those at this one.
_LEAST_VARIANCE = 1e-290


def selu(x: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA) -> Array:
    """Lam * (x if x > 0 else alpha * (e^x - 1)), elementwise (Eq. 2)."""
    x = np.asarray(x, dtype=float)
    return lam * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def selu_slope(x: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA) -> Array:
    """The derivative of `selu`; at 0 the one from the left, lam * alpha."""
    x = np.asarray(x, dtype=float)
    return lam * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def gaussian_moments(
    mean: ArrayLike, variance: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA
) -> tuple[Array, Array]:
    """Mean and variance of selu(z) for z ~ N(mean, variance) (Eq. 4 and 5, in a form without cancellation).

    Shapes broadcast; a variance of 0 is a point. The arguments are those of z: a bias adds to `mean`.

    Raises:
        RequestError: a variance below 0 or an argument that is not finite.
    """
    _require(
        np.isfinite(mean).all() and np.isfinite(variance).all(),
        "moments of SELU: mean and variance must be finite numbers",
    )
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
    """The map g of Eq. 3: (mu~, nu~) of a unit's output; shapes broadcast. Accuracy: `exponential_linear.moments`.

    Raises:
        RequestError: nu <= 0, tau < 0, or an argument that is not finite.
    """
    return exponential_linear.moments(*_pre_activation(mu, nu, omega, tau, alpha, lam), alpha, lam)


def jacobian(
    mu: ArrayLike,
    nu: ArrayLike,
    omega: ArrayLike,
    tau: ArrayLike,
    alpha: ArrayLike = ALPHA,
    lam: ArrayLike = LAMBDA,
) -> Array:
    """Derivatives of g with respect to (mu, nu), shape (..., 2, 2): [[dmu~/dmu, dmu~/dnu], [dnu~/dmu, dnu~/dnu]].

    Cells In[17] to In[24] of SELU_calculations.pdf; the first entry is omega E[selu'(z)].

    Raises:
        RequestError: nu <= 0, tau < 0, or an argument that is not finite.
    """
    m, v = np.broadcast_arrays(*_pre_activation(mu, nu, omega, tau, alpha, lam))
    omega, tau = np.asarray(omega, dtype=float), np.asarray(tau, dtype=float)
    by_mean, by_variance = slopes(m, v, alpha, lam)
    return (
        np.stack(
            [
                np.stack([omega * by_mean[0], tau * by_variance[0]], -1),
                np.stack([omega * by_mean[1], tau * by_variance[1]], -1),
            ],
            -2,
        )
        + 0.0
    )  # no -0


def slopes(
    m: ArrayLike, v: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Derivatives of (mean, variance) of selu(z), z ~ N(m, v), by m and by v: ((dmean/dm, dvariance/dm), (dmean/dv, dvariance/dv)).

    At v = 0 they are those of the smallest v, but for dmean/dv at m = 0, which has no limit.
    """
    m, alpha, lam = (np.asarray(value, dtype=float) for value in (m, alpha, lam))
    v = np.maximum(np.asarray(v, dtype=float), _LEAST_VARIANCE)
    s = np.sqrt(v)
    with np.errstate(over="ignore", under="ignore"):
        h = m / s
        positive, density = ndtr(h), np.exp(-0.5 * h * h) / math.sqrt(2.0 * math.pi)
        first, second = (
            exponential_linear.exponential_tail(m, s, h, 1),
            exponential_linear.exponential_tail(m, s, h, 2),
        )
    mean = exponential_linear.moments(m, v, alpha, 1.0)[0]
    # Price's theorem: d/dm E f = E f', d/dv E f = E f'' / 2; f'' of the mean has a point mass 1 - alpha at 0.
    mean_by_m = positive + alpha * first
    mean_by_v = 0.5 * (alpha * first + (1.0 - alpha) * density / s)
    second_by_m = 2.0 * (m * positive + s * density + alpha**2 * (second - first))
    second_by_v = positive + alpha**2 * (2.0 * second - first)
    return (lam * mean_by_m, lam**2 * (second_by_m - 2 * mean * mean_by_m)), (
        lam * mean_by_v,
        lam**2 * (second_by_v - 2 * mean * mean_by_v),
    )


def spectral_norm(matrix: ArrayLike) -> Array:
    """Largest singular value of 2x2 matrices (..., 2, 2), cell In[30]: below 1, g contracts in the Euclidean norm."""
    matrix = np.asarray(matrix, dtype=float)
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    return 0.5 * (np.hypot(a + d, c - b) + np.hypot(a - d, c + b))


def fixed_points(
    omega: float, tau: float, alpha: float = ALPHA, lam: float = LAMBDA
) -> tuple[FixedPoint, ...]:
    """All fixed points of g with variance in [1e-12, 1e12], by ascending variance; an empty tuple where there is none.

    Stable: both eigenvalues of the Jacobian lie inside the unit circle. Points of variance 0 may be fixed too, outside g's domain.
    (0, 1) is one for tau = 1 and every omega, stable for omega in (-1.0308, 0.9017) only: the slope d mu~ / d mu = 0.98523 omega
    alone would allow |omega| < 1.0150. A third of the units of a LeCun-normal layer lie outside.

    Raises:
        RequestError: tau <= 0 or above 1e100, or an argument that is not finite.
    """
    _require(
        bool(np.isfinite([omega, tau, alpha, lam]).all()),
        "fixed points of g: omega, tau, alpha and lambda must be finite numbers",
    )
    _require(0 < tau <= 1e100, f"fixed points of g: tau={tau:g} must be above 0 and at most 1e100")
    return find(
        omega,
        tau,
        lambda m, v: exponential_linear.moments(m, v, alpha, lam),
        lambda m, v: slopes(m, v, alpha, lam),
    )


def _pre_activation(
    mu: ArrayLike, nu: ArrayLike, omega: ArrayLike, tau: ArrayLike, alpha: ArrayLike, lam: ArrayLike
) -> tuple[Array, Array]:
    """Mean and variance of z, from arguments that are checked."""
    for name, value in (
        ("mu", mu),
        ("nu", nu),
        ("omega", omega),
        ("tau", tau),
        ("alpha", alpha),
        ("lambda", lam),
    ):
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
        m, v = np.multiply(mu, omega, dtype=float), np.multiply(nu, tau, dtype=float)
    _require(
        np.isfinite(m).all() and np.isfinite(v).all(),
        "g: the mean mu omega or the variance nu tau of z overflows",
    )
    return m, v


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)
