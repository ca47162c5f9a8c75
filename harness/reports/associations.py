"""Association of premises and promises with accuracy, among trials that train.

Each share of layers gets a regression of its own, with the settings that move both as covariates.
An association is no effect: what drives the share and the accuracy together is not held, and trials
that do not train are left out. Interventions (`interventions.py`) are the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
import pandas

from harness.reports.evidence import Evidence
from harness.reports.prediction import PREMISES, PROMISES, asked
from harness.reports.statistics import LEVEL, holm

if TYPE_CHECKING:
    from statsmodels.regression.linear_model import RegressionResults

PHASES = ("init", "early", "end")
# Settings that move the accuracy whatever the assumptions do.
COVARIATES = ("dataset", "depth", "width", "activation", "normalization", "learning_rate")
# Standard errors that are robust to equal cells need this many cells.
FEWEST_CELLS = 10
_COLUMNS = (
    "name",
    "phase",
    "effect_of_one_sd",
    "low",
    "high",
    "effect_of_all_layers",
    "all_low",
    "all_high",
    "p_value",
    "variance_added",
    "trials",
    "cells",
)


def associations(evidence: Evidence) -> pandas.DataFrame:
    """Returns the association of each share of layers with accuracy, one row per name and phase.

    Columns: `effect_of_one_sd`, the change of accuracy that goes with one standard deviation of the
    share, with a 95 % interval `low`, `high`; `effect_of_all_layers`, the same for all layers
    instead of none, with its interval; `p_value` and `p_holm`; `variance_added`, the gain of R^2
    over the covariates alone; counts. Standard errors are clustered by cell, with t quantiles.
    Shares that do not vary beyond the covariates have no row.
    """
    trials = asked(evidence)
    trials = trials[trials["trains"]]
    rows = []
    for name in (*PREMISES, *PROMISES):
        for phase in PHASES:
            row = association(trials, f"share_{name}_{phase}")
            if row is not None:
                rows.append({"name": name, "phase": phase, **row})
    table = pandas.DataFrame(rows, columns=list(_COLUMNS))
    return table.assign(p_holm=holm(table["p_value"].to_numpy(float)))


def association(trials: pandas.DataFrame, share: str) -> dict[str, float] | None:
    """Returns the association of one column with the score, or None where it cannot be told.

    That is with fewer than ten cells, or where the covariates settle the share.
    """
    if share not in trials:
        return None
    trials = trials.dropna(subset=[share, "score"])
    cells = trials["cell_id"].factorize()[0]
    values = trials[share].to_numpy(float)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if not len(cells) or cells.max() + 1 < FEWEST_CELLS or spread < 1e-9:
        return None
    design = _covariates(trials)
    rest = values - design @ numpy.linalg.lstsq(design, values, rcond=None)[0]
    if rest.std() < 1e-3 * spread or len(values) <= design.shape[1] + 1:
        return None
    scores = trials["score"].to_numpy(float)
    fit = _fit(scores, numpy.column_stack([design, values]), cells)
    effect = float(fit.params[-1])
    low, high = (float(end) for end in fit.conf_int(1 - LEVEL)[-1])
    without = _fit(scores, design, cells)
    return {
        "effect_of_one_sd": effect * spread,
        "low": low * spread,
        "high": high * spread,
        "effect_of_all_layers": effect,
        "all_low": low,
        "all_high": high,
        "p_value": float(fit.pvalues[-1]),
        "variance_added": float(fit.rsquared - without.rsquared),
        "trials": len(values),
        "cells": int(cells.max()) + 1,
    }


def _covariates(trials: pandas.DataFrame) -> numpy.ndarray:
    """Returns independent columns (trials, columns): a constant, levels, and the log of the rate.

    The logarithm of the learning rate enters with its square: accuracy has a maximum in it.
    """
    columns = [numpy.ones(len(trials))]
    for name in COVARIATES:
        if name not in trials or trials[name].nunique() < 2:
            continue
        if name == "learning_rate":
            logs = numpy.log(trials[name].to_numpy(float))
            logs = logs - logs.mean()
            columns += [logs, logs**2]
        else:
            levels = pandas.get_dummies(trials[name].astype(str), drop_first=True)
            columns += list(levels.to_numpy(float).T)
    kept: list[numpy.ndarray] = []
    for column in columns:
        trial = numpy.column_stack([*kept, column])
        if numpy.linalg.matrix_rank(trial) == trial.shape[1]:
            kept.append(column)
    return numpy.column_stack(kept)


def _fit(scores: numpy.ndarray, design: numpy.ndarray, cells: numpy.ndarray) -> RegressionResults:
    # statsmodels takes about a second to import.
    from statsmodels.regression.linear_model import OLS

    return OLS(scores, design).fit(cov_type="cluster", cov_kwds={"groups": cells}, use_t=True)
