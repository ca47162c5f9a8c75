"""Criteria on gradients: they neither vanish nor explode."""

from __future__ import annotations

import math

import numpy

from harness.verdicts.criterion import Array, Criterion, column, formula, interval_columns
from harness.verdicts.thresholds import (
    CONSEQUENCE,
)

NAME = "gradients"
CLAIM = "gradients neither vanish nor explode from the last layer to the first"

# Factors of 10 and of 1000, either way, as logarithms.
GRADIENT_HOLDS = math.log(10)
GRADIENT_STRAINED = math.log(1000)


@formula("log(gradient_product)")
def _log_gradient_product(gradient_product: Array) -> Array:
    return numpy.log(gradient_product)


CRITERIA = (
    Criterion(
        condition=NAME,
        name="squared gradient relative to the last layer",
        column="gradient_product",
        by_theory=True,
        prediction=(column("predicted_gradient_product"),),
        band=interval_columns("predicted_gradient_product"),
        effect=(_log_gradient_product,),
        target=0,
        holds=(-GRADIENT_HOLDS, GRADIENT_HOLDS),
        strained=(-GRADIENT_STRAINED, GRADIENT_STRAINED),
        basis=CONSEQUENCE,
        consequence=(
            "the gradients of two layers differ by a factor of 3.2 at most at 10, so that one "
            "learning rate suits both, and by a factor of 32 at 1000"
        ),
        source=(
            "chi_1 = E selu'^2 = 1.0716 > 1 at (0, 1): contraction forward does not bound gradients"
        ),
    ),
)
