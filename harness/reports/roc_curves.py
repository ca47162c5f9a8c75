"""Points of ROC curves, whose areas `roc_areas` has with intervals."""

from __future__ import annotations

import numpy
import pandas

from harness.reports import prediction
from harness.reports.evidence import Evidence

MOST_CURVES = 6
_POOLED = "pooled"


def curve(score: pandas.Series, outcome: pandas.Series) -> pandas.DataFrame:
    """Returns the ROC curve of a score: `false` and `true` positive rates, from (0, 0) to (1, 1).

    Equal scores are one step. Trials without a score are left out.

    Args:
        score: (trials,), higher where the outcome is expected.
        outcome: (trials,) bool; both outcomes must occur.
    """
    known = score.notna()
    values = score[known].to_numpy(float)
    positive = outcome[known].to_numpy(bool)
    order = numpy.argsort(-values, kind="stable")
    last_of_equal = numpy.flatnonzero(numpy.diff(values[order], append=numpy.nan) != 0)
    trues = numpy.cumsum(positive[order])[last_of_equal]
    falses = numpy.cumsum(~positive[order])[last_of_equal]
    rates = {"false": falses / (~positive).sum(), "true": trues / positive.sum()}
    start = pandas.DataFrame({"false": [0.0], "true": [0.0]})
    return pandas.concat([start, pandas.DataFrame(rates)], ignore_index=True)


def best_curves(evidence: Evidence, areas: pandas.DataFrame) -> dict[str, pandas.DataFrame]:
    """Returns the pooled curves of the predictors with the largest areas, by name and area."""
    trials = prediction.asked(evidence)
    scores = prediction.predictors(trials)
    best = areas[areas["scope"] == _POOLED].head(MOST_CURVES)
    curves = {}
    for name, area in zip(best["predictor"], best["area"], strict=True):
        known = scores[name].notna()
        if trials["trains"][known].nunique() == 2:
            curves[f"{name} ({area:.2f})"] = curve(scores[name], trials["trains"])
    return curves
