"""Criteria on moments: the pooled activations stay inside Theorem 1's domain."""

from __future__ import annotations

from harness.verdicts.criterion import Criterion, column, interval_columns
from harness.verdicts.thresholds import (
    MEAN_HOLDS,
    MEAN_STRAINED,
    THEOREM,
    VARIANCE_HOLDS,
    VARIANCE_STRAINED,
)

NAME = "moments"
CLAIM = "mean and variance of a layer's activations stay inside Theorem 1's domain"

CRITERIA = (
    Criterion(
        condition=NAME,
        name="mean of the activations",
        column="activation_mean",
        by_theory=True,
        prediction=(column("predicted_activation_mean"),),
        band=interval_columns("predicted_activation_mean"),
        effect=(column("activation_mean"),),
        target=0,
        holds=MEAN_HOLDS,
        strained=MEAN_STRAINED,
        basis=THEOREM,
        consequence="Theorem 1's domain of the mean; inside Theorem 2's the variance still returns",
        source=(
            "Klambauer et al. 2017: mu in the domains of Theorems 1 and 2; predicted by the "
            "pooled map with its finite-width band"
        ),
    ),
    Criterion(
        condition=NAME,
        name="variance of the activations",
        column="activation_variance",
        by_theory=True,
        prediction=(column("predicted_activation_variance"),),
        band=interval_columns("predicted_activation_variance"),
        effect=(column("activation_variance"),),
        target=1,
        holds=VARIANCE_HOLDS,
        strained=VARIANCE_STRAINED,
        basis=THEOREM,
        consequence=(
            "Theorem 1's domain of the variance; Theorems 2 and 3 bound fixed points by 0.16 and 3"
        ),
        source=(
            "Klambauer et al. 2017: nu in the domain of Theorem 1; predicted by the pooled map "
            "with its finite-width band"
        ),
    ),
)
