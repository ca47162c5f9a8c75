"""Criteria on contraction: each layer brings mean and variance back towards (0, 1)."""

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

ASSUMPTION = "contraction"
CLAIM = "each layer brings mean and variance back towards (0, 1)"


@formula("residual_pooled / sqrt(1 + activation_mean ** 2 + activation_variance)")
def _relative_distance(
    residual_pooled: Array, activation_mean: Array, activation_variance: Array
) -> Array:
    return residual_pooled / numpy.sqrt(1 + activation_mean**2 + activation_variance)


@formula("log(gradient_product)")
def _log_gradient_product(gradient_product: Array) -> Array:
    return numpy.log(gradient_product)


CRITERIA = (
    Criterion(
        assumption=ASSUMPTION,
        name="mean of the activations",
        column="activation_mean",
        by_theory=True,
        prediction=(column("predicted_activation_mean"),),
        band=interval_columns("predicted_activation_mean"),
        effect=(column("activation_mean"),),
        target=0,
        holds=(-0.1, 0.1),
        strained=(-1, 1),
        source=(
            "Klambauer et al. 2017: mu in the domains of Theorems 1 and 2; predicted by the "
            "pooled map with its finite-width band"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="variance of the activations",
        column="activation_variance",
        by_theory=True,
        prediction=(column("predicted_activation_variance"),),
        band=interval_columns("predicted_activation_variance"),
        effect=(column("activation_variance"),),
        target=1,
        holds=(0.8, 1.5),
        strained=(0.16, 3),
        source=(
            "Klambauer et al. 2017: nu in Theorem 1's domain; Theorems 2 and 3 bound fixed "
            "points by 0.16 and 3; predicted by the pooled map with its finite-width band"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="slope of the map of variances",
        column="empirical_slope",
        by_theory=True,
        prediction=(column("predicted_empirical_slope"),),
        measured_interval=interval_columns("empirical_slope"),
        effect=(column("empirical_slope"),),
        target=0,
        holds=(-0.95, 0.95),
        strained=(-1.05, 1.05),
        source=(
            "a map contracts while its slope is below 1 in size: 0.782648 for SELU at (0, 1), 1 "
            "for ReLU at any length"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="distance from the pooled map of the measured inputs",
        column="residual_pooled",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("residual_pooled"),
        effect=(_relative_distance,),
        target=0,
        holds=(0, 0.1),
        strained=(0, 0.3),
        source="|(mu, nu) - (mu', nu')| with q = tau (nu + mu^2) averaged over i.i.d. weights",
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="share of units in Theorem 1's (mu, nu) box",
        column="theorem_1_moment_share",
        by_theory=True,
        measured_interval=interval_columns("theorem_1_moment_share"),
        effect=(column("theorem_1_moment_share"),),
        target=1,
        holds=(0.9, 1),
        strained=(0.5, 1),
        decides=False,
        source=(
            "Klambauer et al. 2017, Theorem 1: true of pooled moments, not of each unit's; "
            "reported beside the verdict"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="squared gradient relative to the last layer",
        column="gradient_product",
        by_theory=True,
        prediction=(column("predicted_gradient_product"),),
        band=interval_columns("predicted_gradient_product"),
        effect=(_log_gradient_product,),
        target=0,
        holds=(-2.303, 2.303),
        strained=(-6.908, 6.908),
        decides=False,
        source=(
            "chi_1 = E selu'^2 = 1.0716 > 1: contraction forward does not bound gradients; a "
            "factor of 10 and of 1000, reported beside the verdict"
        ),
    ),
)
