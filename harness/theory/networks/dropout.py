"""Dropout: what it does to mean and variance, and alpha dropout's constants for any target with its effect on deviations, correlations and gradients.

Klambauer et al. 2017, section "New Dropout Technique": dropped entries become SELU's floor alpha' = -lambda alpha, and a x + b restores
mean and variance. They are restored only where they were to begin with: at rate 0.1, (0.1, 1.5) becomes (0.0829, 1.4096). The
factors below are in no published text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.errors import RequestError
from harness.theory.activations.functions import activation
from harness.theory.mean_field.maps import gradient_gain
from harness.theory.selu.moment_map import ALPHA, LAMBDA


@dataclass(frozen=True)
class AlphaDropout:
    """x -> a (x or, with probability `rate`, `floor`) + b.

    `forward_factor`: a^2 keep^2, by which one layer multiplies the covariance of two inputs under independent masks, so that c = 1 is no
    fixed point any more. `backward_factor`: a^2 keep, for the mean squared gradient and for a deviation of the variance.
    """

    rate: float
    a: float
    b: float
    floor: float
    forward_factor: float
    backward_factor: float

    def moments(self, mean: float, variance: float) -> tuple[float, float]:
        """Mean and variance behind the dropout of an input with these; the target maps to itself."""
        keep = 1.0 - self.rate
        before = keep * mean + self.rate * self.floor
        return self.a * before + self.b, self.a**2 * keep * (
            self.rate * (self.floor - mean) ** 2 + variance
        )


def alpha_dropout(
    rate: float, mean: float = 0.0, variance: float = 1.0, alpha: float = ALPHA, lam: float = LAMBDA
) -> AlphaDropout:
    """The constants that preserve (mean, variance) at this dropout rate.

    Raises:
        RequestError: a rate outside [0, 1), variance <= 0, or an argument that is not finite.
    """
    if not 0.0 <= rate < 1.0:
        raise RequestError(
            f"alpha dropout: rate={rate:g} must be in [0, 1), it is the share of entries dropped"
        )
    if not np.isfinite([mean, variance, alpha, lam]).all():
        raise RequestError("alpha dropout: mean, variance, alpha and lambda must be finite numbers")
    if variance <= 0:
        raise RequestError(f"alpha dropout: variance={variance:g} must be above 0")
    keep, floor = 1.0 - rate, -lam * alpha
    a = float(np.sqrt(variance / (keep * (rate * (floor - mean) ** 2 + variance))))
    return AlphaDropout(
        rate, a, mean - a * (keep * mean + rate * floor), floor, a * a * keep * keep, a * a * keep
    )


def standard_dropout_moments(rate: float, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance behind standard dropout (Srivastava et al. 2014): the mean stays, the mean square grows by 1 / (1 - rate).

    Raises:
        RequestError: a rate outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise RequestError(
            f"dropout: rate={rate:g} must be in [0, 1), it is the share of entries dropped"
        )
    return mean, (variance + mean**2) / (1.0 - rate) - mean**2


def neutral_rate(alpha: float = ALPHA, lam: float = LAMBDA) -> float | None:
    """The rate at which alpha dropout's backward factor 1 / (1 + alpha'^2 rate) undoes chi_1 at (0, 1): 0.0231566 for SELU.

    The published rates 0.05 and 0.10 lie above: they turn SELU's slowly growing gradients into vanishing ones. None where chi_1
    is below 1, so large that no rate does it, or where the floor is 0.
    """
    if lam * alpha == 0:
        return None
    rate = (float(gradient_gain(activation("selu", alpha=alpha, lam=lam), 1.0, 1.0)) - 1.0) / (
        lam * alpha
    ) ** 2
    return rate if 0.0 <= rate < 1.0 else None
