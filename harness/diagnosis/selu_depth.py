"""Mean, variance and gradients through a row of SELU layers, by the pooled map."""

from __future__ import annotations

import math

from harness.theory.activations import quadrature
from harness.theory.activations.functions import ActivationFunction, activation
from harness.theory.selu import ALPHA, LAMBDA, THEOREM_1_BOX

SELU = activation("selu")
# Below this tau the variance dies out with depth.
VANISHING_TAU = 2 / (LAMBDA**2 * (1 + ALPHA**2))
# From this tau on the variance has no fixed point.
DIVERGING_TAU = 2 / LAMBDA**2
# E selu' and E selu'^2 (chi_1) at the fixed point.
MEAN_SLOPE = float(quadrature.slope_mean(SELU, 0.0, 1.0))
MEAN_SQUARED_SLOPE = float(quadrature.slope_square(SELU, 0.0, 1.0))
# Theorem 1's domain of mean and variance.
LARGEST_MEAN = THEOREM_1_BOX.mu[1]
VARIANCES = THEOREM_1_BOX.nu

_MOST_LAYERS = 100
# Mean squares outside of these count as 0 and as infinite.
_SMALLEST, _LARGEST = 1e-30, 1e30


def after_layers(tau: float, layers: int) -> tuple[float, float, float]:
    """Returns the moments after SELU layers of one tau, from inputs of mean square 1.

    Args:
        tau: the mean sum of squared weights of a unit.
        layers: number of layers.

    Returns:
        Mean, variance, and the geometric mean over layers of the gain of squared gradients.
    """
    if tau <= 0:
        return 0.0, 0.0, 0.0
    q = tau
    log_gain = 0.0
    mean, variance = 0.0, 1.0
    for layer in range(1, layers + 1):
        log_gain += math.log(tau * float(quadrature.slope_square(SELU, 0.0, q)))
        mean, variance = selu_moments(0.0, q)
        q = tau * (variance + mean**2)
        if not _SMALLEST < q < _LARGEST:
            return mean, 0.0 if q < 1 else math.inf, math.exp(log_gain / layer)
    return mean, variance, math.exp(log_gain / layers)


def layers_to_recover(mean: float, variance: float) -> int | None:
    """Returns the number of layers with tau = 1 until the variance lies in Theorem 1's domain.

    None where that takes more than 100.
    """
    q = variance + mean**2
    for layer in range(1, _MOST_LAYERS + 1):
        mean_after, variance_after = quadrature.moments(SELU, 0.0, q)
        if VARIANCES[0] <= variance_after <= VARIANCES[1]:
            return layer
        q = float(variance_after + mean_after**2)
    return None


def moments_after(
    function: ActivationFunction, layers: int, mean: float = 0.0, variance: float = 1.0
) -> tuple[float, float]:
    """Returns the moments after layers with tau = 1 and another activation than SELU."""
    for _ in range(layers):
        q = variance + mean**2
        if not _SMALLEST < q < _LARGEST:
            return mean, 0.0 if q < 1 else math.inf
        after = quadrature.moments(function, 0.0, q)
        mean, variance = float(after[0]), float(after[1])
    return mean, variance


def selu_moments(mean: float, variance: float) -> tuple[float, float]:
    """Returns mean and variance of SELU of a Gaussian."""
    mean_after, variance_after = quadrature.moments(SELU, mean, variance)
    return float(mean_after), float(variance_after)


def in_theorem_1_domain(mean: float, variance: float) -> bool:
    """Returns True for a mean and variance in Theorem 1's domain."""
    return abs(mean) <= LARGEST_MEAN and VARIANCES[0] <= variance <= VARIANCES[1]


def variance_text(variance: float) -> str:
    """Returns a variance in words."""
    return f"variance {variance:.3g}" if math.isfinite(variance) else "no finite variance"
