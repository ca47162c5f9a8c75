"""SELU's parameters (alpha, lambda) for another fixed point (Klambauer et al. 2017, appendix A5).

Eq. 14 gives them for the fixed point (0, 1).

A trap in the published code: the authors' getSELUparameters.ipynb puts the mean of z at mu* itself,
which is omega = 1, whereas weights of mean 0 have omega = 0. For mu* = 0 the two agree; for the
fixed point (-0.1, 2) they give (1.97690, 1.07385) and (2.32699, 0.98218).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.errors import RequestError
from harness.theory.activations.built_in import SPECIFICATIONS
from harness.theory.activations.quadrature import expectation
from harness.theory.activations.specifications import Array


@dataclass(frozen=True)
class Parameters:
    """Parameters alpha and lambda of lam * (x if x > 0 else alpha * (e^x - 1))."""

    alpha: float
    lam: float


@dataclass(frozen=True)
class _HalfMoments:
    """Moments of x and e^x - 1 on their own sides of 0, for z ~ N(m, v).

    a = E[z; z > 0], r = E[z^2; z > 0], b = E[e^z - 1; z < 0] < 0, n = E[(e^z - 1)^2; z < 0].
    """

    a: float
    r: float
    b: float
    n: float


def for_fixed_point(
    mean: float, variance: float, omega: float = 0.0, tau: float = 1.0
) -> Parameters:
    """Returns alpha > 0 and lambda > 0 for which g fixes (mean, variance) at (omega, tau).

    With z ~ N(mean omega, variance tau) and the moments a, r, b, n of `_HalfMoments`,

        lambda (a + alpha b) = mean   and   lambda^2 (r + alpha^2 n) = mean^2 + variance.

    The ratio (a + alpha b) / sqrt(r + alpha^2 n) falls from a / sqrt(r) to b / sqrt(n) as alpha
    grows from 0. So there is one alpha if mean / sqrt(mean^2 + variance) lies between these limits,
    and none otherwise.

    Raises:
        RequestError: variance <= 0, tau <= 0, an argument that is not finite, or a fixed point that
            no alpha > 0 gives.
    """
    _check_arguments(mean, variance, omega, tau)
    half = _half_moments(mean * omega, variance * tau)
    if not (half.r > 0 and half.n > 0):
        raise RequestError(
            f"SELU parameters: z ~ N({mean * omega:g}, {variance * tau:g}) lies on one side of 0, "
            "so that only one of alpha and lambda matters"
        )
    length = np.hypot(mean, np.sqrt(variance))
    share = mean / length
    lowest = half.b / np.sqrt(half.n)
    highest = half.a / np.sqrt(half.r)
    if not lowest < share < highest:
        raise RequestError(
            f"SELU parameters: no alpha > 0 has the fixed point ({mean:g}, {variance:g}) at "
            f"omega={omega:g}, tau={tau:g}: mean / sqrt(mean^2 + variance) is {share:.6g} and must "
            f"lie between {lowest:.6g} and {highest:.6g}"
        )
    alpha = _positive_root(half, share)
    lam = length / np.sqrt(half.r + alpha**2 * half.n)
    return Parameters(float(alpha), float(lam))


def _check_arguments(mean: float, variance: float, omega: float, tau: float) -> None:
    arguments = {"mean": mean, "variance": variance, "omega": omega, "tau": tau}
    for name, value in arguments.items():
        if not np.isfinite(value):
            raise RequestError(f"SELU parameters: {name} must be a finite number")
    if variance <= 0:
        raise RequestError(f"SELU parameters: variance={variance:g} must be above 0")
    if tau <= 0:
        raise RequestError(f"SELU parameters: tau={tau:g} must be above 0, it is a sum of squares")
    if not (np.isfinite(mean * omega) and np.isfinite(variance * tau)):
        raise RequestError("SELU parameters: the mean or the variance of z overflows")


def _half_moments(m: float, v: float) -> _HalfMoments:
    # Quadrature splits its range at the kinks of ELU, which has the one at 0 of all four functions.
    elu = SPECIFICATIONS["elu"].build()

    def expected(function: Callable[[Array], Array]) -> float:
        return float(expectation(elu, function, m, v))

    return _HalfMoments(
        a=expected(_positive_part),
        r=expected(lambda z: _positive_part(z) ** 2),
        b=expected(_negative_exponential),
        n=expected(lambda z: _negative_exponential(z) ** 2),
    )


def _positive_part(z: Array) -> Array:
    return np.maximum(z, 0.0)


def _negative_exponential(z: Array) -> Array:
    return np.expm1(np.minimum(z, 0.0))


def _positive_root(half: _HalfMoments, share: float) -> float:
    """Returns the alpha > 0 with a + alpha b = share sqrt(r + alpha^2 n).

    It is a root of the squared equation; at the other root a + alpha b has the wrong sign.
    """
    a, r, b, n = half.a, half.r, half.b, half.n
    second = b * b - share**2 * n
    first = a * b
    zeroth = a * a - share**2 * r
    root = np.sqrt(max(first * first - second * zeroth, 0.0))
    # Both roots in the form that adds numbers of one sign: first < 0, so root - first does not
    # cancel.
    roots = ((root - first) / second, zeroth / (root - first))

    def residual(alpha: float) -> float:
        return abs(a + alpha * b - share * np.sqrt(r + alpha**2 * n))

    return min((alpha for alpha in roots if alpha > 0), key=residual)
