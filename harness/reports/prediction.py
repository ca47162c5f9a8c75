"""Predicting which trials train, from what is known before training.

All finished trials that took steps are asked, those that a search tuned with included: they are
where the learning rate varies, and nothing is selected among them.
"""

from __future__ import annotations

import numpy
import pandas

from harness.reports.axis_values import label_words
from harness.reports.evidence import Evidence
from harness.reports.roc_areas import area
from harness.reports.trainability import calibration, trainability

PREMISES = ("input", "weights", "gaussianity", "dependence")
PROMISES = ("moments", "units", "contraction", "gradients")
# A trial trains if it gets at least this share of the way from chance to a perfect score on the
# samples it is trained on.
TRAINS = 0.5
# A trial that gets this far learned something: it may be slow, but it is not unstable.
LEARNS = 0.1
# Other shares, to see whether the answer depends on the choice.
OTHER_SHARES = (LEARNS, 0.75)
_MOST_MISSES = 10

_AREA_COLUMNS = ("predictor", "scope", "area", "low", "high", "trained", "untrained", "cells")
_MISS_COLUMNS = ("cell", "seed", "expected", "trained", "worst", "decided_by", "train_accuracy")


def trains(trials: pandas.DataFrame, share: float = TRAINS) -> pandas.Series:
    """Returns 1.0 for each trial that trains, 0.0 for one that does not, NaN where unknown.

    A trial trains if it did not diverge and its training accuracy is at least `share` of the way
    from guessing to 1. Guessing is chance or always the most frequent class, whichever is better.
    The training samples are asked, not the test set, because this is about optimisation; and the
    accuracy, not the loss, because networks with large outputs start from a large loss.
    """
    floor = trials["chance"].astype(float)
    if "majority_share" in trials:
        floor = floor.combine(trials["majority_share"].astype(float), numpy.fmax)
    if "train_accuracy" not in trials:
        return pandas.Series(numpy.nan, index=trials.index)
    way = (trials["train_accuracy"].astype(float) - floor) / (1.0 - floor)
    reached = (way >= share).astype(float).where(way.notna())
    return reached.mask(trials["status"] == "diverged", 0.0)


def asked(evidence: Evidence, share: float = TRAINS) -> pandas.DataFrame:
    """Returns the trials whose outcome is known, with the outcome in the bool column `trains`."""
    trials = evidence.with_data(evidence.finished_with_tuning)
    trials = trials[trials["steps"].fillna(0) > 0]
    outcome = trains(trials, share)
    known = outcome.notna()
    return trials[known].assign(trains=outcome[known].astype(bool))


def predictors(trials: pandas.DataFrame) -> dict[str, pandas.Series]:
    """Returns what might predict training, each higher where a trial is expected to train.

    The learning rate and the depth stand beside the others as controls: a predictor that does no
    better than the smaller learning rate says nothing of its own.
    """
    scores = {}
    for name in (*PREMISES, *PROMISES):
        if f"share_{name}_init" in trials:
            scores[f"share of layers: {name}"] = trials[f"share_{name}_init"].astype(float)
    rule = trainability(trials)
    scores["theory: signal range"] = -rule["signal"]
    scores["theory: gradient range"] = -rule["gradients"]
    scores["theory: correlation"] = -rule["correlation"]
    scores["stability margin"] = -rule["stability"]
    scores["trainability"] = -rule["worst"]
    for name in ("learning_rate", "depth"):
        if name in trials:
            label = name.replace("_", " ")
            scores[f"control: smaller {label}"] = -pandas.to_numeric(trials[name], errors="coerce")
    return {name: score for name, score in scores.items() if score.notna().any()}


def tasks(trials: pandas.DataFrame) -> pandas.Series:
    """Returns the stratum of each trial: its data set and its depth."""
    names = [name for name in ("dataset", "depth") if name in trials]
    if not names:
        return pandas.Series(0, index=trials.index)
    return trials.groupby(names, dropna=False).ngroup()


def areas(evidence: Evidence) -> pandas.DataFrame:
    """Returns the areas under the ROC curves of all predictors, the best first.

    One row per predictor and scope: `pooled` over all trials, and `within data set and depth`,
    which asks pairs of one task only. Empty where all trials train or none does.
    """
    trials = asked(evidence)
    if trials["trains"].nunique() < 2:
        return pandas.DataFrame(columns=list(_AREA_COLUMNS))
    one = pandas.Series("all", index=trials.index)
    scopes = {"within data set and depth": tasks(trials), "pooled": one}
    rows = []
    for predictor, score in predictors(trials).items():
        for scope, strata in scopes.items():
            found = area(score, trials["trains"], trials["cell_id"], strata)
            values = (found.value, found.low, found.high)
            counts = (found.positives, found.negatives, found.cells)
            rows.append((predictor, scope, *values, *counts))
    table = pandas.DataFrame(rows, columns=list(_AREA_COLUMNS)).dropna(subset=["area"])
    return table.sort_values(["scope", "area"], ascending=False, ignore_index=True)


def sensitivity(evidence: Evidence) -> pandas.DataFrame:
    """Returns the area of `trainability` for other meanings of "trains".

    Columns: `share_of_the_way`, `area`, `low`, `high`, `trained`, `untrained`.
    """
    rows = []
    for share in sorted((TRAINS, *OTHER_SHARES)):
        trials = asked(evidence, share)
        found = area(
            -trainability(trials)["worst"], trials["trains"], trials["cell_id"], tasks(trials)
        )
        counts = (found.positives, found.negatives)
        rows.append((share, found.value, found.low, found.high, *counts))
    columns = ["share_of_the_way", "area", "low", "high", "trained", "untrained"]
    return pandas.DataFrame(rows, columns=columns).dropna(subset=["area"])


def rule_calibration(evidence: Evidence) -> pandas.DataFrame:
    """Returns `trainability.calibration` of all asked trials."""
    trials = asked(evidence)
    return calibration(trainability(trials), trials["trains"])


def worst_misses(evidence: Evidence) -> pandas.DataFrame:
    """Returns the trials on which the rule is most wrong, the worst first.

    A miss is a trial that the rule expects to train and that does not, or the reverse.
    """
    trials = asked(evidence)
    rule = trainability(trials)
    gap = (rule["probability"] - trials["trains"].astype(float)).abs()
    order = gap[gap > 0.5].sort_values(ascending=False, kind="stable").head(_MOST_MISSES).index
    axes = dict.fromkeys([*evidence.varied, "learning_rate"])
    shown = [axis for axis in axes if axis in trials]
    rows = []
    for index in order:
        trial = trials.loc[index]
        rows.append(
            {
                "cell": ", ".join(label_words(shown, trial.to_dict())),
                "seed": trial["seed"],
                "expected": rule.loc[index, "probability"],
                "trained": bool(trial["trains"]),
                "worst": rule.loc[index, "worst"],
                "decided_by": rule.loc[index, "decided_by"],
                "train_accuracy": trial["train_accuracy"],
            }
        )
    return pandas.DataFrame(rows, columns=list(_MISS_COLUMNS))
