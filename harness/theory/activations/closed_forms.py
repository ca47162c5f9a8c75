"""Gaussian expectations that have a closed form; `harness.theory.activations.quadrature` uses them where an activation has them.

Arguments are arrays of one shape: mean and variance of z, or the variances q1, q2 and the correlation c of a centred pair (u1, u2).
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
    """What is known in closed form of an activation phi; None where nothing is.

    `moments`: (mean, variance) -> mean and variance of phi(z). `slope_mean`, `slope_square`: (mean, variance) -> E phi'(z), E phi'(z)^2.
    `kernel`, `slope_kernel`: (q1, q2, c) -> E phi(u1) phi(u2), E phi'(u1) phi'(u2).
    """

    moments: Callable[[Array, Array], tuple[Array, Array]] | None = None
    slope_mean: Callable[[Array, Array], Array] | None = None
    slope_square: Callable[[Array, Array], Array] | None = None
    kernel: Callable[[Array, Array, Array], Array] | None = None
    slope_kernel: Callable[[Array, Array, Array], Array] | None = None


def exponential_linear_forms(alpha: float, lam: float) -> ClosedForms:
    """SELU and ELU (Klambauer et al. 2017, Eq. 4 and 5): the moments; their kernel needs quadrature."""

    def tail(mean: Array, variance: Array, k: int) -> Array:
        s = np.sqrt(variance)
        spread = exponential_linear.exponential_tail(mean, s, mean / np.where(s > 0, s, 1.0), k)
        return np.where(s > 0, spread, np.where(mean > 0, 0.0, np.exp(k * np.minimum(mean, 0.0))))

    return ClosedForms(
        moments=lambda mean, variance: exponential_linear.moments(mean, variance, alpha, lam),
        slope_mean=lambda mean, variance: (
            lam * (_positive(mean, variance) + alpha * tail(mean, variance, 1))
        ),
        slope_square=lambda mean, variance: (
            lam**2 * (_positive(mean, variance) + alpha**2 * tail(mean, variance, 2))
        ),
    )


def piecewise_linear_forms(negative_slope: float) -> ClosedForms:
    """ReLU, leaky ReLU and the identity as a x + (1 - a) relu(x); the kernel is that of Cho and Saul (2009), Eq. 6, order 1."""
    a, rest = negative_slope, 1.0 - negative_slope

    def moments(mean: Array, variance: Array) -> tuple[Array, Array]:
        relu_mean, relu_variance = exponential_linear.moments(mean, variance, 0.0, 1.0)
        # Stein's lemma: Cov(z, relu(z)) = Var z P(z > 0).
        return a * mean + rest * relu_mean, a**2 * variance + 2 * a * rest * variance * _positive(
            mean, variance
        ) + rest**2 * relu_variance

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        product = np.sqrt(q1) * np.sqrt(q2)
        relu = product / (2 * np.pi) * (np.sqrt((1 - c) * (1 + c)) + (np.pi - np.arccos(c)) * c)
        return a * product * c + rest**2 * relu

    return ClosedForms(
        moments=moments,
        slope_mean=lambda mean, variance: a + rest * _positive(mean, variance),
        slope_square=lambda mean, variance: a**2 + (1 - a**2) * _positive(mean, variance),
        kernel=kernel,
        slope_kernel=lambda q1, q2, c: (
            a + rest**2 * (np.pi - np.arccos(c)) / (2 * np.pi) + 0.0 * q1 * q2
        ),
    )


def erf_forms() -> ClosedForms:
    """The error function (Williams 1997, "Computing with infinite networks"): everything but the variance about a mean other than 0."""

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        return (
            2
            / np.pi
            * np.arcsin(2 * np.sqrt(q1) * np.sqrt(q2) * c / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
        )

    def slope_kernel(q1: Array, q2: Array, c: Array) -> Array:
        return 4 / np.pi / np.sqrt(1 + 2 * (q1 + q2) + 4 * q1 * q2 * (1 - c) * (1 + c))

    return ClosedForms(
        slope_mean=lambda mean, variance: (
            2 / np.sqrt(np.pi * (1 + 2 * variance)) * np.exp(-(mean**2) / (1 + 2 * variance))
        ),
        slope_square=lambda mean, variance: (
            4 / (np.pi * np.sqrt(1 + 4 * variance)) * np.exp(-2 * mean**2 / (1 + 4 * variance))
        ),
        kernel=kernel,
        slope_kernel=slope_kernel,
    )


def gelu_forms() -> ClosedForms:
    """GELU's kernel (Tsuchida et al. 2021, arXiv:2002.08517; `Gelu` of neural-tangents) and its derivative by the covariance."""

    def parts(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        """Covariance k, q1 q2, P = (1 + q1)(1 + q2) and sqrt(P - k^2)."""
        product = q1 * q2
        return (
            np.sqrt(q1) * np.sqrt(q2) * c,
            product,
            (1 + q1) * (1 + q2),
            np.sqrt(1 + q1 + q2 + product * (1 - c) * (1 + c)),
        )

    def kernel(q1: Array, q2: Array, c: Array) -> Array:
        k, product, both, root = parts(q1, q2, c)
        return k / 4 + ((k**2 + product * root**2) / (both * root) + k * np.arctan(k / root)) / (
            2 * np.pi
        )

    def slope_kernel(q1: Array, q2: Array, c: Array) -> Array:
        k, product, both, root = parts(q1, q2, c)
        return 0.25 + (
            np.arctan(k / root)
            + k / root * (1 + (2 * (1 - product) + (k**2 + product * root**2) / root**2) / both)
        ) / (2 * np.pi)

    return ClosedForms(kernel=kernel, slope_kernel=slope_kernel)


def _positive(mean: Array, variance: Array) -> Array:
    """P(z > 0); a point at 0 counts as not positive, as in the slopes."""
    return ndtr(_standardized(mean, np.sqrt(variance)))


def _standardized(mean: Array, s: Array) -> Array:
    return np.where(s > 0, mean / np.where(s > 0, s, 1.0), np.where(mean > 0, np.inf, -np.inf))
