"""Criteria on Gaussianity: each unit's pre-activation is Gaussian."""

from __future__ import annotations

import numpy

from harness.verdicts.criterion import (
    Z_99,
    Array,
    Criterion,
    Interval,
    column,
    constant,
    formula,
    interval,
    interval_columns,
)
from harness.verdicts.thresholds import (
    CONSEQUENCE,
    DISTANCE_CONSEQUENCE,
    DISTANCE_HOLDS,
    DISTANCE_STRAINED,
    ERROR_CONSEQUENCE,
    ERROR_HOLDS,
    ERROR_STRAINED,
)

NAME = "gaussianity"
CLAIM = "each unit's pre-activation is Gaussian"


@formula("sqrt(max(unit_wasserstein_q90 ** 2 - unit_wasserstein_q90_null ** 2, 0))")
def _distance_above_null(unit_wasserstein_q90: Array, unit_wasserstein_q90_null: Array) -> Array:
    excess = unit_wasserstein_q90**2 - unit_wasserstein_q90_null**2
    return numpy.sqrt(numpy.maximum(excess, 0))


@formula("3 * input_q_cv ** 2")
def _kurtosis_of_mixed_norms(input_q_cv: Array) -> Array:
    return 3 * input_q_cv**2


@interval
def _kurtosis_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # Standard error sqrt(24 / n) of a Gaussian's kurtosis, scaled up for a mixture.
    spread = Z_99 * numpy.sqrt(24 / units) * (1 + prediction)
    return prediction - spread, prediction + spread


CRITERIA = (
    Criterion(
        condition=NAME,
        name=(
            "distance of a unit from its Gaussian (Wasserstein-1 in standard deviations, nine "
            "units of ten below)"
        ),
        column="unit_wasserstein_q90",
        by_theory=False,
        prediction=(constant(0),),
        band=Interval(constant(0), column("unit_wasserstein_q90_null")),
        effect=(_distance_above_null,),
        target=0,
        holds=DISTANCE_HOLDS,
        strained=DISTANCE_STRAINED,
        basis=CONSEQUENCE,
        consequence=DISTANCE_CONSEQUENCE,
        source="effect above the simulated null for a Gaussian with fitted mean and deviation",
    ),
    Criterion(
        condition=NAME,
        name=(
            "mixture of sample norms (Wasserstein-1 of the pooled pre-activation; its excess "
            "kurtosis against theory)"
        ),
        column="pooled_excess_kurtosis",
        by_theory=True,
        prediction=(
            column("predicted_pooled_excess_kurtosis"),
            _kurtosis_of_mixed_norms,
        ),
        band=_kurtosis_band,
        effect=(column("pooled_wasserstein"),),
        target=0,
        holds=DISTANCE_HOLDS,
        strained=DISTANCE_STRAINED,
        basis=CONSEQUENCE,
        consequence=DISTANCE_CONSEQUENCE,
        source=(
            "a unit is Gaussian over i.i.d. weights for each sample, so pooling mixes norms: "
            "excess kurtosis 3 CV(q)^2; standard error of kurtosis for as many draws as units"
        ),
    ),
    Criterion(
        condition=NAME,
        name="error of a unit's predicted variance, given its own mean and variance (median)",
        column="residual_unit",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("residual_unit"),
        effect=(column("residual_unit"),),
        target=0,
        holds=ERROR_HOLDS,
        strained=ERROR_STRAINED,
        basis=CONSEQUENCE,
        consequence=ERROR_CONSEQUENCE,
        source=(
            "|nu - nu~| / nu~ with (m, v) measured: nothing but the Gaussian premise is left in "
            "the prediction"
        ),
    ),
    Criterion(
        condition=NAME,
        name="distance of the norm-normalised pre-activation from a Gaussian",
        column="normalized_wasserstein",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("normalized_wasserstein"),
        effect=(column("normalized_wasserstein"),),
        target=0,
        holds=DISTANCE_HOLDS,
        strained=DISTANCE_STRAINED,
        basis=CONSEQUENCE,
        consequence=DISTANCE_CONSEQUENCE,
        source=(
            "z / sqrt(q(x)) is Gaussian at initialisation at any width: what is left of the "
            "pooled distance is not a mixture of norms"
        ),
        decides=False,
    ),
)
