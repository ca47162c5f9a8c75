"""A rule without fitted parameters for which trials train, from what is known before training.

Each criterion is a number in units of its limit, so that 1 is the limit:

- `signal`: the logarithm of the second moment that theory predicts behind the last hidden layer.
- `gradients`: the logarithm of the predicted ratio of squared gradients, first to last layer.
- `correlation`: minus the logarithm of the predicted 1 - c between two inputs at the readout.
- `stability`: learning rate x sharpness / (2 (1 + momentum)), measured at initialisation.

`stability` does not restrict a network with a normalization: the weights in front of one have no
scale, and gradient descent tunes their effective rate by itself (Arora, Li and Lyu 2019).

The limit of the first three is six e-folds: Schoenholz et al. (2017) find that networks train up to
about six correlation lengths. That of the last is the stability limit of gradient descent (Cohen et
al. 2021). The largest number decides: a network is expected to train where it is below 1. The rule
knows nothing of rates that are too small for the budget.
"""

from __future__ import annotations

import numpy
import pandas

VERSION = 1
# Natural logarithms; see the module's sources.
E_FOLDS = 6.0
CRITERIA = ("signal", "gradients", "correlation", "stability")
# A perfectly correlated readout would be infinitely far beyond its limit.
_SMALLEST_DISTANCE = 1e-12
_EDGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, numpy.inf)


def trainability(trials: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the rule for each trial, with the same index.

    Columns: `CRITERIA`, each NaN where theory or measurement is missing; `worst`, the largest of
    them; `decided_by`, its name; `probability`, 1 / (1 + worst^2), which is 1/2 at the limit. A
    trial without any criterion has NaN. A criterion that is missing does not restrict.
    """
    mean = _column(trials, "predicted_last_mean")
    second_moment = mean**2 + _column(trials, "predicted_last_variance")
    in_training = _column(trials, "predicted_training_gradient_product")
    gradients = in_training.fillna(_column(trials, "predicted_gradient_product"))
    distance = (1.0 - _column(trials, "predicted_last_cosine")).clip(lower=_SMALLEST_DISTANCE)
    table = pandas.DataFrame(
        {
            "signal": _e_folds(second_moment),
            "gradients": _e_folds(gradients),
            "correlation": (-numpy.log(distance)).clip(lower=0) / E_FOLDS,
            "stability": _stability(trials),
        },
        index=trials.index,
    )
    known = table.notna().any(axis=1)
    table["worst"] = table[list(CRITERIA)].max(axis=1)
    names = table.loc[known, list(CRITERIA)].idxmax(axis=1)
    table["decided_by"] = names.reindex(table.index).fillna("unknown")
    table["probability"] = 1.0 / (1.0 + table["worst"] ** 2)
    return table


def calibration(rule: pandas.DataFrame, outcome: pandas.Series) -> pandas.DataFrame:
    """Returns what happened by ranges of the rule.

    Columns: `worst_from`, `worst_to`, `trials`, `expected` (mean probability), `trained` (share).
    """
    known = rule["worst"].notna()
    ranges = pandas.cut(rule.loc[known, "worst"], _EDGES, right=False)
    rows = []
    for span, part in rule[known].groupby(ranges, observed=True):
        rows.append(
            {
                "worst_from": span.left,
                "worst_to": span.right,
                "trials": len(part),
                "expected": part["probability"].mean(),
                "trained": float(outcome[part.index].astype(float).mean()),
            }
        )
    columns = ["worst_from", "worst_to", "trials", "expected", "trained"]
    return pandas.DataFrame(rows, columns=columns)


def _stability(trials: pandas.DataFrame) -> pandas.Series:
    margin = _column(trials, "stability_margin_init")
    if "normalization" not in trials:
        return margin
    return margin.where(trials["normalization"] == "none")


def _e_folds(ratio: pandas.Series) -> pandas.Series:
    """Returns how far a ratio is from 1, up or down, in units of the limit; 0 is infinitely far."""
    with numpy.errstate(divide="ignore"):
        return numpy.log(ratio).abs() / E_FOLDS


def _column(trials: pandas.DataFrame, name: str) -> pandas.Series:
    if name not in trials:
        return pandas.Series(numpy.nan, index=trials.index)
    return trials[name].astype(float)
