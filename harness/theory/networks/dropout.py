"""Moments after dropout, and the constants of alpha dropout.

Alpha dropout (Klambauer et al. 2017, section "New Dropout Technique") replaces dropped entries by
SELU's floor alpha' = -lambda alpha, and a x + b restores mean and variance. They are restored at
the target only: at rate 0.1, (0.1, 1.5) becomes (0.0829, 1.4096). The forward and backward factors
below are derived here; no published text has them.
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
    """Alpha dropout x -> a (x or, with probability `rate`, `floor`) + b.

    Attributes:
        rate: share of entries dropped.
        a: scale.
        b: shift.
        floor: value of a dropped entry.
        forward_factor: a^2 keep^2 with keep = 1 - rate. One layer multiplies the covariance of two
            inputs under independent masks by it, so that c = 1 is no longer a fixed point.
        backward_factor: a^2 keep. One layer multiplies the mean squared gradient by it, and any
            deviation of the variance.
    """

    rate: float
    a: float
    b: float
    floor: float
    forward_factor: float
    backward_factor: float

    def moments(self, mean: float, variance: float) -> tuple[float, float]:
        """Returns mean and variance of the output; the target maps to itself."""
        keep = 1.0 - self.rate
        mean_before = keep * mean + self.rate * self.floor
        variance_after = self.a**2 * keep * (self.rate * (self.floor - mean) ** 2 + variance)
        return self.a * mean_before + self.b, variance_after


def alpha_dropout(
    rate: float, mean: float = 0.0, variance: float = 1.0, alpha: float = ALPHA, lam: float = LAMBDA
) -> AlphaDropout:
    """Returns the alpha dropout of this rate that preserves (mean, variance).

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
    keep = 1.0 - rate
    floor = -lam * alpha
    a = float(np.sqrt(variance / (keep * (rate * (floor - mean) ** 2 + variance))))
    return AlphaDropout(
        rate=rate,
        a=a,
        b=mean - a * (keep * mean + rate * floor),
        floor=floor,
        forward_factor=a * a * keep * keep,
        backward_factor=a * a * keep,
    )


def standard_dropout_moments(rate: float, mean: float, variance: float) -> tuple[float, float]:
    """Returns mean and variance after standard dropout (Srivastava et al. 2014).

    The mean stays, and the mean square grows by 1 / (1 - rate).

    Raises:
        RequestError: a rate outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise RequestError(
            f"dropout: rate={rate:g} must be in [0, 1), it is the share of entries dropped"
        )
    return mean, (variance + mean**2) / (1.0 - rate) - mean**2


def neutral_rate(alpha: float = ALPHA, lam: float = LAMBDA) -> float | None:
    """Returns the rate of alpha dropout at which gradients keep their size.

    There, at (0, 1), its backward factor 1 / (1 + alpha'^2 rate) cancels chi_1; for SELU it is
    0.0231566. The published rates 0.05 and 0.10 lie above: they turn SELU's slowly growing
    gradients into vanishing ones. The answer is None where chi_1 is below 1, where no rate is
    large enough, or where the floor is 0.
    """
    if lam * alpha == 0:
        return None
    chi_1 = float(gradient_gain(activation("selu", alpha=alpha, lam=lam), 1.0, 1.0))
    rate = (chi_1 - 1.0) / (lam * alpha) ** 2
    return rate if 0.0 <= rate < 1.0 else None
