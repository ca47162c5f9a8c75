"""Criteria on a unit's inputs: a common mean and variance in Theorem 1's domain."""

from __future__ import annotations

import numpy

from harness.verdicts.criterion import (
    Z_99,
    Array,
    Criterion,
    column,
    constant,
    formula,
    interval,
    interval_columns,
)
from harness.verdicts.thresholds import (
    CONSEQUENCE,
    MEAN_HOLDS,
    MEAN_STRAINED,
    SHIFT_CONSEQUENCE,
    SHIFT_HOLDS,
    SHIFT_STRAINED,
    THEOREM,
    VARIANCE_HOLDS,
    VARIANCE_STRAINED,
)

NAME = "input"
CLAIM = (
    "the inputs of a unit share one mean, and their pooled mean and variance are inside Theorem "
    "1's domain"
)


@formula("max(input_cosine, 0) / (1 - input_cosine)")
def _drive_of_equal_norms(input_cosine: Array) -> Array:
    return numpy.maximum(input_cosine, 0) / (1 - input_cosine)


@interval
def _drive_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # A mean of as many squares as there are units, and a margin for drives close to zero.
    spread = Z_99 * numpy.sqrt(2 / units)
    return prediction * (1 - spread) - 0.01, prediction * (1 + spread) + 0.01


@formula("sqrt(max(mean_drive, 0))")
def _drive_in_deviations(mean_drive: Array) -> Array:
    return numpy.sqrt(numpy.maximum(mean_drive, 0))


CRITERIA = (
    Criterion(
        condition=NAME,
        name="common mean of the inputs",
        column="input_mean",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("input_mean"),
        effect=(column("input_mean"),),
        target=0,
        holds=MEAN_HOLDS,
        strained=MEAN_STRAINED,
        basis=THEOREM,
        consequence="Theorem 1's domain of the mean; inside Theorem 2's the variance still returns",
        source="Klambauer et al. 2017: mu in the domains of Theorems 1 and 2",
    ),
    Criterion(
        condition=NAME,
        name="variance of the inputs",
        column="input_variance",
        by_theory=False,
        prediction=(constant(1),),
        measured_interval=interval_columns("input_variance"),
        effect=(column("input_variance"),),
        target=1,
        holds=VARIANCE_HOLDS,
        strained=VARIANCE_STRAINED,
        basis=THEOREM,
        consequence=(
            "Theorem 1's domain of the variance; Theorems 2 and 3 bound fixed points by 0.16 and 3"
        ),
        source="Klambauer et al. 2017: nu in the domain of Theorem 1",
    ),
    Criterion(
        condition=NAME,
        name="unequal means (spread of the units' means s, in standard deviations)",
        column="mean_drive",
        by_theory=True,
        prediction=(
            column("predicted_mean_drive"),
            _drive_of_equal_norms,
        ),
        band=_drive_band,
        effect=(_drive_in_deviations,),
        target=0,
        holds=SHIFT_HOLDS,
        strained=SHIFT_STRAINED,
        basis=CONSEQUENCE,
        consequence=SHIFT_CONSEQUENCE,
        source=(
            "E_i m_i^2 = tau |m|^2 / n over i.i.d. weights, so that the drive is |m|^2 / tr "
            "Sigma, and c / (1 - c) for samples of equal norm"
        ),
    ),
)
