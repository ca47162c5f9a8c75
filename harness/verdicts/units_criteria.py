"""Criteria on units: each unit's own moments stay inside Theorem 1's domain."""

from __future__ import annotations

from harness.verdicts.criterion import Criterion, column, interval_columns
from harness.verdicts.thresholds import (
    SHARE_HOLDS,
    SHARE_STRAINED,
    THEOREM,
)

NAME = "units"
CLAIM = "each unit's own mean and variance stay inside Theorem 1's domain"

CRITERIA = (
    Criterion(
        condition=NAME,
        name="share of units in Theorem 1's (mu, nu) box",
        column="theorem_1_moment_share",
        by_theory=True,
        measured_interval=interval_columns("theorem_1_moment_share"),
        effect=(column("theorem_1_moment_share"),),
        target=1,
        holds=SHARE_HOLDS,
        strained=SHARE_STRAINED,
        basis=THEOREM,
        consequence="nine units of ten, or half of them, have moments in Theorem 1's domain",
        source=(
            "Klambauer et al. 2017, Theorem 1: its mean and variance are those of one unit over "
            "samples"
        ),
    ),
)
