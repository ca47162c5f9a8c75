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

ASSUMPTION = "input"
CLAIM = "the inputs of a unit share one mean and variance, inside Theorem 1's domain"


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
        assumption=ASSUMPTION,
        name="common mean of the inputs",
        column="input_mean",
        by_theory=False,
        prediction=(constant(0),),
        measured_interval=interval_columns("input_mean"),
        effect=(column("input_mean"),),
        target=0,
        holds=(-0.1, 0.1),
        strained=(-1, 1),
        source=(
            "Klambauer et al. 2017: mu in Theorem 1's domain; Theorem 2's domain, in which the "
            "variance still returns"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="variance of the inputs",
        column="input_variance",
        by_theory=False,
        prediction=(constant(1),),
        measured_interval=interval_columns("input_variance"),
        effect=(column("input_variance"),),
        target=1,
        holds=(0.8, 1.5),
        strained=(0.16, 3),
        source=(
            "Klambauer et al. 2017: nu in Theorem 1's domain; Theorems 2 and 3 bound fixed "
            "points by 0.16 and 3"
        ),
    ),
    Criterion(
        assumption=ASSUMPTION,
        name="unequal means (drive of the units' means, in standard deviations)",
        column="mean_drive",
        by_theory=True,
        prediction=(column("predicted_mean_drive"), _drive_of_equal_norms),
        band=_drive_band,
        effect=(_drive_in_deviations,),
        target=0,
        holds=(0, 0.2),
        strained=(0, 0.5),
        source=(
            "E_i m_i^2 = tau |m|^2 / n over i.i.d. weights, so that the drive is "
            "|m|^2 / tr Sigma, and c / (1 - c) for samples of equal norm; thresholds: Cohen "
            "1988, a small and a medium shift d"
        ),
    ),
)
