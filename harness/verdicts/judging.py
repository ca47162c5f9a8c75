"""Judgements of whole trials: scores of layers, grades, words and a sentence.

A trial is judged when it is trained. Tables of an earlier version of the criteria are judged anew
from the numbers that they hold, without training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy
import pandas
from numpy.typing import NDArray

from harness.verdicts.criteria import VERSION, load
from harness.verdicts.evaluation import Columns, scores
from harness.verdicts.grading import PHASES, grades, shares, word
from harness.verdicts.sentences import sentence, sentence_of_one_probe

# A trial that trained to its end took the steps of its budget.
_ENDED = "done"


def score_columns(layers: Columns) -> dict[str, NDArray]:
    """Returns the columns `score_<name>` of a layer table, one for each premise and promise."""
    return {f"score_{name}": values for name, values in scores(layers).items()}


def judgements(layers: Columns, last_steps: Mapping[Any, float]) -> pandas.DataFrame:
    """Returns one row per trial, indexed by trial_id, with everything that its summary says.

    Args:
        layers: the layer tables of the trials below each other: trial_id, step, layer, and the
            columns of `score_columns`.
        last_steps: by trial_id the steps of its budget; every trial of it gets a row.

    Returns:
        The columns of `grading.grades`, `verdict_<name>_<phase>`, `criteria_version` and
        `verdict_sentence`.
    """
    names = load().names
    result = grades(shares(layers, names), names, last_steps)
    words = {}
    for name in names:
        for phase in PHASES:
            shared = result[f"share_{name}_{phase}"]
            words[f"verdict_{name}_{phase}"] = [word(share) for share in shared]
    result = result.assign(**words, criteria_version=VERSION)
    numbers = pandas.Series(numpy.asarray(layers["layer"], float))
    depths = numbers.groupby(numpy.asarray(layers["trial_id"])).max().reindex(result.index)
    held = result[[name for name in result if name.startswith("share_")]].to_dict("records")
    rows = zip(held, depths.fillna(0), strict=True)
    result["verdict_sentence"] = [sentence(row, int(depth)) for row, depth in rows]
    return result


def judge_network(layers: Columns) -> dict[str, Any]:
    """Returns what a network's layers say at a single probe.

    Returns:
        For each premise and promise `share_<name>`, the share of layers that hold, and
        `verdict_<name>`, its word; `criteria_version` and `verdict_sentence`.
    """
    names = load().names
    keys = {name: numpy.asarray(layers[name]) for name in ("step", "layer")}
    probes = shares(keys | score_columns(layers), names)
    row: Mapping[str, Any] = dict(probes.iloc[0]) if len(probes) else {}
    held = {name: float(row.get(f"share_{name}", math.nan)) for name in names}
    summary: dict[str, Any] = {}
    for name, share in held.items():
        summary |= {f"share_{name}": share, f"verdict_{name}": word(share)}
    text = sentence_of_one_probe(held, len(set(keys["layer"].tolist())))
    return summary | {"criteria_version": VERSION, "verdict_sentence": text}


def judge_tables(
    trials: pandas.DataFrame, layers: pandas.DataFrame
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Returns both tables with the judgements of this version of the criteria.

    Trials that have them already are left as they are, as are trials without layers. What an
    earlier version said about a trial that is judged anew is dropped.

    Args:
        trials: one row per trial, as `harness.store.tables` collects them.
        layers: one row per trial, probe and layer.
    """
    if not len(layers):
        return trials, layers
    # A set of the column itself would make a string of every row.
    with_layers = trials["trial_id"].isin(layers["trial_id"].unique())
    outdated = with_layers & _is_outdated(trials, layers)
    if not outdated.any():
        return trials, layers
    chosen = trials[outdated]
    rows: slice | NDArray = slice(None)
    if len(chosen) < with_layers.sum():
        rows = layers["trial_id"].isin(chosen["trial_id"]).to_numpy()
    part = layers[rows]
    new_scores = score_columns(part)
    columns = {name: _placed(layers, name, rows, values) for name, values in new_scores.items()}
    keys = {name: part[name] for name in ("trial_id", "step", "layer")}
    last_steps = dict(zip(chosen["trial_id"], planned_steps(chosen), strict=True))
    judged = judgements(keys | new_scores, last_steps)
    return _merged(trials, judged), layers.assign(**columns)


def planned_steps(trials: pandas.DataFrame) -> NDArray[numpy.float64]:
    """Returns the steps of each trial's budget, NaN where they are unknown.

    A diverged trial stopped before, so that its steps follow from its epochs.
    """
    steps = _floats(trials, "steps")
    per_epoch = steps / _floats(trials, "epochs").where(lambda epochs: epochs > 0)
    by_epochs = (_floats(trials, "budget.epochs") * per_epoch.round()).round().clip(lower=1)
    planned = _floats(trials, "budget.steps").fillna(by_epochs)
    return planned.where(trials["status"] != _ENDED, steps).to_numpy(float)


def _is_outdated(trials: pandas.DataFrame, layers: pandas.DataFrame) -> pandas.Series:
    """Returns which trials have no judgement of this version.

    Tables that were cut down for handing on keep the shares of layers in the table of trials, and
    the scores of some conditions alone.
    """
    scored = any(f"score_{name}" in layers for name in load().names)
    if not scored or "criteria_version" not in trials:
        return pandas.Series(True, index=trials.index)
    return trials["criteria_version"] != VERSION


def _placed(
    layers: pandas.DataFrame, name: str, rows: slice | NDArray, values: NDArray
) -> NDArray[numpy.float64]:
    """Returns a column of the layer table with new values in some rows."""
    column = _floats(layers, name).to_numpy(float, copy=True)
    column[rows] = values
    return column


def _merged(trials: pandas.DataFrame, judged: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the table of trials with the columns of `judged` in the rows of its trials."""
    is_new = trials["trial_id"].isin(judged.index)
    new = judged.reindex(trials["trial_id"]).set_axis(trials.index)
    columns = {}
    for name in judged:
        earlier = trials[name] if name in trials else new[name]
        columns[name] = new[name].where(is_new, earlier)
    outdated = [name for name in trials if name.startswith("verdict_") or name in columns]
    return pandas.concat([trials.drop(columns=outdated), pandas.DataFrame(columns)], axis="columns")


def _floats(table: pandas.DataFrame, name: str) -> pandas.Series:
    if name not in table:
        return pandas.Series(numpy.nan, index=table.index)
    return table[name].astype(float)
