"""Premises and promises over many trials: shares by cell, misses of theory, and repairs."""

from __future__ import annotations

from typing import Any

import numpy
import pandas

from harness.reports import statistics
from harness.reports.accuracies import accuracy_interval
from harness.reports.axis_values import ordered, value_label
from harness.reports.evidence import Evidence
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import evaluate
from harness.verdicts.grading import PHASES, word

_MOST_EXAMPLES = 2
# The levels of the example trials, on those axes that have them.
_EXAMPLE_LEVELS = {"activation": "selu", "normalization": "none", "repair": "none"}


def by_cell(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers that hold, by cell, premise or promise, and phase.

    One row each, cells in the order of their axes' levels. `condition` is the name, `role` is
    `premise` or `promise`, `phase` one of init, early, end. `share` is the mean over the `trials`
    that were probed then, with its 95 % interval `low`, `high`: seeds are the replicates. `word`
    is that of the mean share. `first_layer` and `left_step` are means over the trials that have
    one: the lowest layer that does not hold, and the first probed step at which fewer than nine of
    ten layers hold.
    """
    criteria = load()
    rows = []
    for cell_id, trials in _in_order(evidence).groupby("cell_id", sort=False):
        levels = {axis: trials[axis].iloc[0] for axis in evidence.varied}
        for name in criteria.names:
            role = "premise" if name in criteria.premises else "promise"
            for phase in PHASES:
                if f"share_{name}_{phase}" in trials:
                    key = {"condition": name, "role": role, "phase": phase}
                    rows.append({"cell_id": cell_id, **levels, **key, **_share(trials, key)})
    return pandas.DataFrame(rows)


def theory_misses(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of readings that theory misses, by criterion.

    One row per criterion. Readings are those at initialisation. A miss is a reading whose 99 %
    interval and the 99 % band of theory have nothing in common, so that about 1 % are misses where
    theory is right, and fewer by intervals, which are rather too wide. Criteria with neither band
    nor interval are left out. So are repaired trials: theory is about independent weights, which
    theirs are not.
    """
    trials = evidence.finished
    if "repair" in trials:
        trials = trials[trials["repair"] == "none"]
    layers = evidence.layers
    if not len(layers):
        return pandas.DataFrame()
    at_start = layers["phase"] == "init"
    start = layers[at_start & layers["trial_id"].isin(set(trials["trial_id"]))]
    if not len(start):
        return pandas.DataFrame()
    table = evaluate(start)
    has_band = table["low"].notna() & (table["high"] > table["low"])
    has_interval = table["measured_low"].notna() & table["predicted"].notna()
    by_theory = table["by_theory"].astype(bool) & table["measured"].notna()
    table = table[by_theory & (has_band | has_interval)]
    if not len(table):
        return pandas.DataFrame()
    outside = table.groupby(["condition", "criterion", "column"], sort=False)["outside_band"]
    misses = {
        "readings": outside.size(),
        "outside": outside.sum(),
        "share_outside": outside.mean(),
    }
    return pandas.DataFrame(misses).reset_index()


def repairs(evidence: Evidence) -> pandas.DataFrame:
    """Returns repaired trials against unrepaired ones, by repair and context.

    Trials are paired by seed with everything else equal. Columns: `pairs`, mean scores, their
    `difference` with a 95 % t interval, and for each premise and promise at initialisation and at
    the end the mean share of layers that hold without (`<name>_<phase>_without`) and with the
    repair (`<name>_<phase>`), over the pairs that have both, with the 95 % t interval of their
    difference (`<name>_<phase>_low`, `_high`). Empty without trials of both kinds.
    """
    trials = evidence.finished
    if "repair" not in evidence.axes or trials["repair"].nunique() < 2:
        return pandas.DataFrame()
    others = [axis for axis in evidence.axes if axis != "repair"]
    trials = trials.assign(context=trials[others].astype(str).agg("|".join, axis=1))
    key = ["context", "seed"]
    unrepaired = trials[trials["repair"] == "none"].set_index(key)
    repaired = trials[trials["repair"] != "none"]
    rows = []
    for (repair, _), group in repaired.groupby(["repair", "context"], sort=False):
        pairs = group.set_index(key).merge(
            unrepaired, left_index=True, right_index=True, suffixes=("", "_without")
        )
        if len(pairs):
            rows.append(_repair(evidence, str(repair), pairs))
    return pandas.DataFrame(rows)


def examples(evidence: Evidence) -> list[tuple[str, pandas.DataFrame]]:
    """Returns titles and layer tables of at most two trials that are worth a look.

    They are the first seeds of the deepest SELU cells without normalization and repair, one for
    each initializer.
    """
    if not len(evidence.layers):
        return []
    trials = evidence.finished
    trials = trials[trials["trial_id"].isin(set(evidence.layers["trial_id"]))]
    for axis, level in _EXAMPLE_LEVELS.items():
        if axis in trials and (trials[axis] == level).any():
            trials = trials[trials[axis] == level]
    if not len(trials):
        return []
    trials = trials[trials["depth"] == trials["depth"].max()]
    places = _places(trials["initializer"])
    trials = trials.assign(place=trials["initializer"].map(places))
    trials = trials.sort_values(["place", "seed"], kind="stable")
    shown = trials.drop_duplicates("initializer").head(_MOST_EXAMPLES)
    tables = []
    for trial in shown.to_dict("records"):
        title = f"{evidence.label(trial['cell_id'])}, seed {trial['seed']}"
        layers = evidence.layers[evidence.layers["trial_id"] == trial["trial_id"]]
        tables.append((title, layers))
    return tables


def _in_order(evidence: Evidence) -> pandas.DataFrame:
    """Returns the finished trials in the order of the levels of the varied axes."""
    places = {axis: _places(evidence.finished[axis]) for axis in evidence.varied}

    def in_order(values: pandas.Series) -> pandas.Series:
        return values.map(places[str(values.name)])

    return evidence.finished.sort_values(list(evidence.varied), key=in_order, kind="stable")


def _places(values: pandas.Series) -> dict[Any, int]:
    """Returns the place of each value in the order of `ordered`."""
    return {value: place for place, value in enumerate(ordered(values.unique()))}


def _share(trials: pandas.DataFrame, key: dict[str, str]) -> dict[str, Any]:
    """Returns the mean share of a cell's trials with its interval, and when and where they leave.

    A network of L layers resolves a share to 1 / L, which enters as L flips of a coin for each
    seed, so that equal seeds do not give an interval without width.
    """
    name, phase = key["condition"], key["phase"]
    shares = trials[f"share_{name}_{phase}"].dropna()
    layers = float(trials["depth"].iloc[0]) * len(shares)
    interval = accuracy_interval(shares, layers)
    return {
        "share": interval.value,
        "low": interval.low,
        "high": interval.high,
        "trials": interval.n,
        "word": word(interval.value),
        "first_layer": trials[f"first_layer_{name}_{phase}"].mean(),
        "left_step": trials[f"left_step_{name}"].mean(),
    }


def _repair(evidence: Evidence, repair: str, pairs: pandas.DataFrame) -> dict[str, Any]:
    interval = statistics.paired_difference(pairs["score"] - pairs["score_without"]).interval
    row: dict[str, Any] = {
        "repair": repair,
        "context": _context(evidence, pairs),
        "pairs": len(pairs),
        "score_without": pairs["score_without"].mean(),
        "score": pairs["score"].mean(),
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
    }
    for name in load().names:
        for phase in ("init", "end"):
            if f"share_{name}_{phase}" in pairs:
                row |= _change(f"{name}_{phase}", pairs)
    return row


def _context(evidence: Evidence, pairs: pandas.DataFrame) -> str:
    axes = [axis for axis in evidence.varied if axis != "repair"]
    words = [value_label(axis, pairs[axis].iloc[0]) for axis in axes]
    return ", ".join(words) or "all trials"


def _change(name: str, pairs: pandas.DataFrame) -> dict[str, Any]:
    """Returns the mean share without and with a repair, and the interval of their difference."""
    shares = pairs[[f"share_{name}_without", f"share_{name}"]].astype(float).dropna()
    without, repaired = (shares[column].to_numpy() for column in shares)
    if not len(shares):
        return dict.fromkeys(_change_columns(name), numpy.nan)
    interval = statistics.paired_difference(repaired - without).interval
    values = (without.mean(), repaired.mean(), interval.low, interval.high)
    return dict(zip(_change_columns(name), values, strict=True))


def _change_columns(name: str) -> tuple[str, ...]:
    return (f"{name}_without", name, f"{name}_low", f"{name}_high")
