"""Gaussian expectations that have a closed form, for those activations that have one.

`harness.theory.activations.quadrature` uses them in place of numerical integration. Arguments are
arrays of one shape: mean and variance of z, or the variances q1, q2 and the correlation c of a
centred pair (u1, u2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from harness.theory.selu import exponential_linear

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClosedForms:
    """The expectations of an activation phi that have a closed form; None for the others.

    Attributes:
        moments: (mean, variance) -> mean and variance of phi(z).
        slope_mean: (mean, variance) -> E phi'(z).
        slope_square: (mean, variance) -> E phi'(z)^2.
        kernel: (q1, q2, c) -> E phi(u1) phi(u2).
        slope_kernel: (q1, q2, c) -> E phi'(u1) phi'(u2).
    """

    moments: Callable[[Array, Array], tuple[Array, Array]] | None = None
    slope_mean: Callable[[Array, Array], Array] | None = None
    slope_square: Callable[[Array, Array], Array] | None = None
    kernel: Callable[[Array, Array, Array], Array] | None = None
    slope_kernel: Callable[[Array, Array, Array], Array] | None = None


def exponential_linear_forms(alpha: float, lam: float) -> ClosedForms:
    """Returns the moments of SELU and ELU (Klambauer et al. 2017, Eq. 4 and 5).

    Their kernel has no closed form.
    """

    def moments(mean: Array, variance: Array) -> tuple[Array, Array]:
        return exponential_linear.moments(mean, variance, alpha, lam)

    def slope_mean(mean: Array, variance: Array) -> Array:
        return _exponential_slope_mean(mean, variance, alpha, lam)

    def slope_square(mean: Array, variance: Array) -> Array:
        return _exponential_slope_square(mean, variance, alpha, lam)

    return ClosedForms(moments=moments, slope_mean=slope_mean, slope_square=slope_square)


def leaky_exponential_forms(alpha: float, beta: float, lam: float) -> ClosedForms:
    """Returns the moments of lam * (x if x > 0 else alpha * (e^x - 1) + beta * x), beta not 1.

    It is a line and a SELU of what the line leaves. Their covariance follows from Stein's lemma.
    """
    line = lam * beta
    scale = lam * (1.0 - beta)
    bend = alpha / (1.0 - beta)

    def moments(mean: Array, variance: Array) -> tuple[Array, Array]:
        selu_mean, selu_variance = exponential_linear.moments(mean, variance, bend, scale)
        covariance = variance * _exponential_slope_mean(mean, variance, bend, scale)
        out_variance = line**2 * variance + 2 * line * covariance + selu_variance
        return line * mean + selu_mean, out_variance

    def slope_mean(mean: Array, variance: Array) -> Array:
        return line + _exponential_slope_mean(mean, variance, bend, scale)

    def slope_square(mean: Array, variance: Array) -> Array:
        cross = 2 * line * _exponential_slope_mean(mean, variance, bend, scale)
        return line**2 + cross + _exponential_slope_square(mean, variance, bend, scale)

    return ClosedForms(moments=moments, slope_mean=slope_mean, slope_square=slope_square)


def scaled_exponential_forms(alpha: float, beta: float, lam: float) -> ClosedForms:
    """Returns the moments of lam * (x if x > 0 else alpha * (e^(beta * x) - 1)), beta above 0.

    It is a SELU of beta * x.
    """
    bend = alpha * beta
    scale = lam / beta

    def moments(mean: Array, variance: Array) -> tuple[Array, Array]:
        return exponential_linear.moments(beta * mean, beta**2 * variance, bend, scale)

    def slope_mean(mean: Array, variance: Array) -> Array:
        return beta * _exponential_slope_mean(beta * mean, beta**2 * variance, bend, scale)

    def slope_square(mean: Array, variance: Array) -> Array:
        inner = _exponential_slope_square(beta * mean, beta**2 * variance, bend, scale)
        return beta**2 * inner

    return ClosedForms(moments=moments, slope_mean=slope_mean, slope_square=slope_square)


def piecewise_linear_forms(negative_slope: float) -> ClosedForms:
    """Returns all five forms of ReLU, leaky ReLU and the identity.

    With a the negative slope they are a x + (1 - a) relu(x). The kernel of ReLU is that of Cho and
    Saul (2009, "Kernel methods for deep learning"), Eq. 6, of order 1; its slope's is of order 0.
    """
    a = negative_slope
    rest = 1.0 - negative_slope

    def moments(mean: Array, variance: Array) -> tuple[Array, Array]:
        relu_mean, relu_variance = exponential_linear.moments(mean, variance, 0.0, 1.0)
        # Stein's lemma: Cov(z, relu(z)) = Var z P(z > 0).
        covariance_part = 2 * a * rest * variance * _positive(mean, variance)
        out_variance = a**2 * variance + covariance_part + rest**2 * relu_variance
        return a * mean + rest * relu_mean, out_variance

    def slope_mean(mean: Array, variance: Array) -> Array:
        return a + rest * _positive(mean, variance)

    def slope_square(mean: Array, variance: Array) -> Array:
        return a**2 + (1 - a**2) * _positive(mean, variance)

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        product = np.sqrt(q1) * np.sqrt(q2)
        angle = np.pi - np.arccos(c)
        relu = product / (2 * np.pi) * (np.sqrt((1 - c) * (1 + c)) + angle * c)
        return a * product * c + rest**2 * relu

    def slope_kernel(q1: Array, q2: Array, c: Array) -> Array:
        broadcast = 0.0 * q1 * q2
        return a + rest**2 * (np.pi - np.arccos(c)) / (2 * np.pi) + broadcast

    return ClosedForms(moments, slope_mean, slope_square, kernel, slope_kernel)


def erf_forms() -> ClosedForms:
    """Returns the forms of the error function, all but the moments.

    Williams 1997, "Computing with infinite networks". The variance about a mean other than 0 has no
    closed form.
    """

    def slope_mean(mean: Array, variance: Array) -> Array:
        width = 1 + 2 * variance
        return 2 / np.sqrt(np.pi * width) * np.exp(-(mean**2) / width)

    def slope_square(mean: Array, variance: Array) -> Array:
        width = 1 + 4 * variance
        return 4 / (np.pi * np.sqrt(width)) * np.exp(-2 * mean**2 / width)

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        covariance = 2 * np.sqrt(q1) * np.sqrt(q2) * c
        return 2 / np.pi * np.arcsin(covariance / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))

    def slope_kernel(q1: Array, q2: Array, c: Array) -> Array:
        determinant = 1 + 2 * (q1 + q2) + 4 * q1 * q2 * (1 - c) * (1 + c)
        return 4 / np.pi / np.sqrt(determinant)

    return ClosedForms(
        slope_mean=slope_mean, slope_square=slope_square, kernel=kernel, slope_kernel=slope_kernel
    )


def gelu_forms() -> ClosedForms:
    """Returns GELU's kernel and the kernel of its slope.

    The kernel is that of Tsuchida, Pearce, van der Heide, Roosta and Gallagher 2021
    (arXiv:2002.08517); the slope's kernel is its derivative by the covariance (Price's theorem).
    """

    def parts(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        """Returns the covariance k, q1 q2, P = (1 + q1)(1 + q2) and sqrt(P - k^2)."""
        k = np.sqrt(q1) * np.sqrt(q2) * c
        product = q1 * q2
        both = (1 + q1) * (1 + q2)
        root = np.sqrt(1 + q1 + q2 + product * (1 - c) * (1 + c))
        return k, product, both, root

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        k, product, both, root = parts(q1, q2, c)
        rational = (k**2 + product * root**2) / (both * root)
        return k / 4 + (rational + k * np.arctan(k / root)) / (2 * np.pi)

    def slope_kernel(q1: Array, q2: Array, c: Array) -> Array:
        k, product, both, root = parts(q1, q2, c)
        curvature = (2 * (1 - product) + (k**2 + product * root**2) / root**2) / both
        return 0.25 + (np.arctan(k / root) + k / root * (1 + curvature)) / (2 * np.pi)

    return ClosedForms(kernel=kernel, slope_kernel=slope_kernel)


def _exponential_slope_mean(mean: Array, variance: Array, alpha: float, lam: float) -> Array:
    """Returns E f'(z) of SELU."""
    return lam * (_positive(mean, variance) + alpha * _tail(mean, variance, 1))


def _exponential_slope_square(mean: Array, variance: Array, alpha: float, lam: float) -> Array:
    """Returns E f'(z)^2 of SELU."""
    return lam**2 * (_positive(mean, variance) + alpha**2 * _tail(mean, variance, 2))


def _tail(mean: Array, variance: Array, k: int) -> Array:
    """Returns E[e^(kz); z < 0], at variance 0 with the point 0 counted as negative."""
    s = np.sqrt(variance)
    h = mean / np.where(s > 0, s, 1.0)
    of_a_gaussian = exponential_linear.exponential_tail(mean, s, h, k)
    of_a_point = np.where(mean > 0, 0.0, np.exp(k * np.minimum(mean, 0.0)))
    return np.where(s > 0, of_a_gaussian, of_a_point)


def _positive(mean: Array, variance: Array) -> Array:
    """Returns P(z > 0); a point at 0 counts as not positive, as in the slopes."""
    s = np.sqrt(variance)
    of_a_gaussian = mean / np.where(s > 0, s, 1.0)
    of_a_point = np.where(mean > 0, np.inf, -np.inf)
    return ndtr(np.where(s > 0, of_a_gaussian, of_a_point))
