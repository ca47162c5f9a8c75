"""Criteria on dependence: a unit's inputs are (almost) independent."""

from __future__ import annotations

import numpy

from harness.verdicts.criterion import (
    Z_99,
    Array,
    Criterion,
    column,
    formula,
    interval,
    interval_columns,
)
from harness.verdicts.thresholds import (
    CONSEQUENCE,
    CORRELATION_HOLDS,
    CORRELATION_STRAINED,
    ERROR_CONSEQUENCE,
    ERROR_HOLDS,
    ERROR_STRAINED,
    SPREAD_CONSEQUENCE,
    SPREAD_HOLDS,
    SPREAD_STRAINED,
)

NAME = "dependence"
CLAIM = "the inputs of a unit are (almost) independent, so that its variance is nu tau"

# 2 / pi: the squared mean size of a Gaussian, in squared deviations.
_SQUARED_MEAN_SIZE = 0.63662


@formula("sqrt(2 / input_participation_ratio)")
def _cv_of_correlated_inputs(input_participation_ratio: Array) -> Array:
    return numpy.sqrt(2 / input_participation_ratio)


@interval
def _cv_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # Standard error of a coefficient of variation from as many draws as there are units.
    spread = Z_99 * numpy.sqrt((1 + 2 * prediction**2) / (2 * numpy.maximum(units - 1, 1)))
    return prediction * (1 - spread), prediction * (1 + spread)


@formula("sqrt(max(unit_variance_cv ** 2 - 2 / fan_in, 0))")
def _cv_beyond_independence(unit_variance_cv: Array, fan_in: Array) -> Array:
    return numpy.sqrt(numpy.maximum(unit_variance_cv**2 - 2 / fan_in, 0))


@formula("sqrt(mean_abs_correlation_null ** 2 + 0.63662 / input_participation_ratio)")
def _correlation_of_random_units(
    mean_abs_correlation_null: Array, input_participation_ratio: Array
) -> Array:
    by_inputs = _SQUARED_MEAN_SIZE / input_participation_ratio
    return numpy.sqrt(mean_abs_correlation_null**2 + by_inputs)


@interval
def _correlation_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # Relative error over units, and a margin for correlations close to zero.
    spread = Z_99 / numpy.sqrt(units)
    return prediction * (1 - spread) - 0.005, prediction * (1 + spread) + 0.005


@formula(
    "sqrt(max(mean_abs_correlation ** 2 - mean_abs_correlation_null ** 2 - 0.63662 / fan_in, 0))"
)
def _correlation_beyond_independence(
    mean_abs_correlation: Array, mean_abs_correlation_null: Array, fan_in: Array
) -> Array:
    above_null = mean_abs_correlation**2 - mean_abs_correlation_null**2
    return numpy.sqrt(numpy.maximum(above_null - _SQUARED_MEAN_SIZE / fan_in, 0))


@formula("max(residual_map - residual_unit, 0)")
def _added_error(residual_map: Array, residual_unit: Array) -> Array:
    return numpy.maximum(residual_map - residual_unit, 0)


CRITERIA = (
    Criterion(
        condition=NAME,
        name="spread of the units' variances beyond that of independent inputs",
        column="unit_variance_cv",
        by_theory=True,
        prediction=(
            column("predicted_unit_variance_cv"),
            _cv_of_correlated_inputs,
        ),
        band=_cv_band,
        effect=(_cv_beyond_independence,),
        target=0,
        holds=SPREAD_HOLDS,
        strained=SPREAD_STRAINED,
        basis=CONSEQUENCE,
        consequence=SPREAD_CONSEQUENCE,
        source=(
            "CV of the variance over units = sqrt(2 / PR), and sqrt(2 / fan_in) for independent "
            "inputs"
        ),
    ),
    Criterion(
        condition=NAME,
        name="correlation of units beyond that of independent ones (mean absolute)",
        column="mean_abs_correlation",
        by_theory=True,
        prediction=(_correlation_of_random_units,),
        band=_correlation_band,
        effect=(_correlation_beyond_independence,),
        target=0,
        holds=CORRELATION_HOLDS,
        strained=CORRELATION_STRAINED,
        basis=CONSEQUENCE,
        consequence=(
            "the variances of the next layer's units spread by sqrt(pi) of the correlation: by "
            "0.19 at 0.107, and by 0.65 at 0.367"
        ),
        source=(
            "units w_i . x over i.i.d. weights correlate with variance 1 / PR, so that the mean "
            "size is sqrt(2 / (pi PR)), and 2 / (pi fan_in) of its square is there for "
            "independent inputs; null for N samples"
        ),
    ),
    Criterion(
        condition=NAME,
        name="error of a unit's predicted variance that equal means and independence add (median)",
        column="residual_map",
        by_theory=False,
        prediction=(column("residual_unit"),),
        band=interval_columns("residual_unit"),
        measured_interval=interval_columns("residual_map"),
        effect=(_added_error,),
        target=0,
        holds=ERROR_HOLDS,
        strained=ERROR_STRAINED,
        basis=CONSEQUENCE,
        consequence=ERROR_CONSEQUENCE,
        source="|nu - nu~| / nu~ with g(mu, nu, omega, tau) minus the same with (m, v) measured",
    ),
)
