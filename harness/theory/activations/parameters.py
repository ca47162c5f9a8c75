"""SELU's parameters (alpha, lambda) for another fixed point (Klambauer et al. 2017, appendix A5, Eq. 14 for (0, 1)).

A trap in the published code: the authors' getSELUparameters.ipynb puts the mean of z at mu* itself, which is omega = 1. Weights
of mean 0 have omega = 0. For mu* = 0 the two agree; for (-0.1, 2) they give (1.97690, 1.07385) and (2.32699, 0.98218).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.errors import RequestError
from harness.theory.activations.functions import activation
from harness.theory.activations.quadrature import expectation


@dataclass(frozen=True)
class Parameters:
    """alpha and lambda of lam * (x if x > 0 else alpha * (e^x - 1))."""

    alpha: float
    lam: float


def for_fixed_point(
    mean: float, variance: float, omega: float = 0.0, tau: float = 1.0
) -> Parameters:
    """The alpha > 0 and lambda > 0 for which g has the fixed point (mean, variance) at (omega, tau).

    With z ~ N(mean omega, variance tau), a = E[z; z > 0], r = E[z^2; z > 0], b = E[e^z - 1; z < 0] < 0 and n = E[(e^z - 1)^2; z < 0],
    lambda (a + alpha b) = mean and lambda^2 (r + alpha^2 n) = mean^2 + variance. The ratio (a + alpha b) / sqrt(r + alpha^2 n) falls
    from a / sqrt(r) to b / sqrt(n) as alpha grows from 0, so there is one alpha where mean / sqrt(mean^2 + variance) lies between, else none.

    Raises:
        RequestError: variance <= 0, tau <= 0, an argument that is not finite, or a fixed point that no alpha > 0 gives.
    """
    for name, value in (("mean", mean), ("variance", variance), ("omega", omega), ("tau", tau)):
        if not np.isfinite(value):
            raise RequestError(f"SELU parameters: {name} must be a finite number")
    if variance <= 0:
        raise RequestError(f"SELU parameters: variance={variance:g} must be above 0")
    if tau <= 0:
        raise RequestError(f"SELU parameters: tau={tau:g} must be above 0, it is a sum of squares")
    if not (np.isfinite(mean * omega) and np.isfinite(variance * tau)):
        raise RequestError("SELU parameters: the mean or the variance of z overflows")
    a, r, b, n = _half_moments(mean * omega, variance * tau)
    if not (r > 0 and n > 0):
        raise RequestError(
            f"SELU parameters: z ~ N({mean * omega:g}, {variance * tau:g}) lies on one side of 0, so that only one of alpha and lambda matters"
        )
    length = np.hypot(mean, np.sqrt(variance))
    share = mean / length
    lowest, highest = b / np.sqrt(n), a / np.sqrt(r)
    if not lowest < share < highest:
        raise RequestError(
            f"SELU parameters: no alpha > 0 has the fixed point ({mean:g}, {variance:g}) at omega={omega:g}, tau={tau:g}: "
            f"mean / sqrt(mean^2 + variance) is {share:.6g} and must lie between {lowest:.6g} and {highest:.6g}"
        )
    alpha = _positive_root(a, r, b, n, share)
    return Parameters(float(alpha), float(length / np.sqrt(r + alpha**2 * n)))


def _half_moments(m: float, v: float) -> tuple[float, float, float, float]:
    elu = activation("elu")  # its kink at 0 is theirs
    functions = (
        lambda z: np.maximum(z, 0.0),
        lambda z: np.maximum(z, 0.0) ** 2,
        lambda z: np.expm1(np.minimum(z, 0.0)),
        lambda z: np.expm1(np.minimum(z, 0.0)) ** 2,
    )
    a, r, b, n = (float(expectation(elu, function, m, v)) for function in functions)
    return a, r, b, n


def _positive_root(a: float, r: float, b: float, n: float, share: float) -> float:
    """Alpha > 0 with a + alpha b = share sqrt(r + alpha^2 n): a root of the squared equation whose left side has share's sign."""
    second, first, zeroth = b * b - share**2 * n, a * b, a * a - share**2 * r
    root = np.sqrt(max(first * first - second * zeroth, 0.0))
    # Both roots in the form that adds numbers of one sign: first < 0, so -first + root does not cancel.
    candidates = [
        alpha for alpha in ((root - first) / second, zeroth / (root - first)) if alpha > 0
    ]
    return min(candidates, key=lambda alpha: abs(a + alpha * b - share * np.sqrt(r + alpha**2 * n)))
