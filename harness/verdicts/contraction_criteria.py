"""Criteria on contraction: each layer brings the variance back, as the pooled map says."""

from __future__ import annotations

import numpy

from harness.verdicts.criterion import (
    Array,
    Criterion,
    column,
    constant,
    formula,
    interval_columns,
)
from harness.verdicts.thresholds import (
    CONSEQUENCE,
)

NAME = "contraction"
CLAIM = "each layer brings the variance back towards its fixed point"


@formula("residual_pooled / sqrt(1 + activation_mean ** 2 + activation_variance)")
def _relative_distance(
    residual_pooled: Array, activation_mean: Array, activation_variance: Array
) -> Array:
    return residual_pooled / numpy.sqrt(1 + activation_mean**2 + activation_variance)


CRITERIA = (
    Criterion(
        condition=NAME,
        name="slope of the map of variances",
        column="empirical_slope",
        by_theory=True,
        prediction=(column("predicted_empirical_slope"),),
        measured_interval=interval_columns("empirical_slope"),
        effect=(column("empirical_slope"),),
        target=0,
        holds=(-0.95, 0.95),
        strained=(-1.05, 1.05),
        basis=CONSEQUENCE,
        consequence=(
            "a deviation of the variance halves within 14 layers at a slope of 0.95, and doubles "
            "within 15 at 1.05"
        ),
        source=(
            "a map contracts while its slope is below 1 in size: 0.782648 for SELU at (0, 1), 1 "
            "for ReLU at any length"
        ),
    ),
    Criterion(
        condition=NAME,
        name="distance from the pooled map of the measured inputs",
        column="residual_pooled",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("residual_pooled"),
        effect=(_relative_distance,),
        target=0,
        holds=(0, 0.1),
        strained=(0, 0.3),
        basis=CONSEQUENCE,
        consequence=(
            "a layer that the map sends to (0, 1) lies within 0.14 of it at 0.1, which is inside "
            "Theorem 1's variances, and within 0.42 at 0.3, which is below their upper end only"
        ),
        source="|(mu, nu) - (mu', nu')| with q = tau (nu + mu^2) averaged over i.i.d. weights",
    ),
)
