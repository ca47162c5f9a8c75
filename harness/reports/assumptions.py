"""SELU's assumptions over many trials: verdicts by cell, misses of theory, and repairs."""

from __future__ import annotations

from typing import Any

import pandas

from harness.reports import statistics
from harness.reports.axis_values import ordered, value_label
from harness.reports.evidence import Evidence
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS, evaluate, verdicts

_MOST_EXAMPLES = 2
# The levels of the example trials, on those axes that have them.
_EXAMPLE_LEVELS = {"activation": "selu", "normalization": "none", "repair": "none"}


def by_cell(evidence: Evidence) -> pandas.DataFrame:
    """Returns the counts of verdicts by cell and assumption.

    One row each. A trial's verdict is its worst at any layer and probe. `share_holds` is the share
    of trials that hold, of those with a verdict, with a 95 % Wilson interval `low`, `high`: seeds
    are the replicates. Cells stand in the order of their axes' levels.
    """
    rows = []
    for cell_id, trials in _in_order(evidence).groupby("cell_id", sort=False):
        levels = {axis: trials[axis].iloc[0] for axis in evidence.varied}
        for name in load().assumptions:
            if f"verdict_{name}" in trials:
                counts = _verdict_counts(trials[f"verdict_{name}"])
                rows.append({"cell_id": cell_id, **levels, "assumption": name, **counts})
    return pandas.DataFrame(rows)


def layer_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers that hold, by cell and assumption.

    One row each, means over trials. `layers_hold_at_first` and `layers_hold_at_the_end` are of the
    first and the last probe, over the layers with a verdict.
    """
    layers = evidence.of_cells(evidence.layers)
    if not len(layers):
        return pandas.DataFrame()
    judged = verdicts(layers[layers["phase"].isin(("init", "end"))])
    judged = judged[judged["verdict"] != "unknown"]
    judged = judged.merge(evidence.finished[["trial_id", "cell_id"]], on="trial_id")
    judged["holds"] = (judged["verdict"] == "holds").astype(float)
    shares = judged.pivot_table(
        index=["cell_id", "assumption"], columns="phase", values="holds", aggfunc="mean"
    )
    names = {"init": "layers_hold_at_first", "end": "layers_hold_at_the_end"}
    return shares.reset_index().rename(columns=names)


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
    outside = table.groupby(["assumption", "criterion", "column"], sort=False)["outside_band"]
    misses = {
        "readings": outside.size(),
        "outside": outside.sum(),
        "share_outside": outside.mean(),
    }
    return pandas.DataFrame(misses).reset_index()


def repairs(evidence: Evidence) -> pandas.DataFrame:
    """Returns repaired trials against unrepaired ones, by repair and context.

    Trials are paired by seed with everything else equal. Columns: `pairs`, mean scores, their
    `difference` with a 95 % t interval, and for each assumption the usual verdict without and with
    the repair, and in how many pairs it got better or worse. Empty without trials of both kinds.
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


def _verdict_counts(words: pandas.Series) -> dict[str, Any]:
    """Returns how many trials have each verdict, and the share that holds with its interval."""
    counts = words.fillna("unknown").value_counts()
    row: dict[str, Any] = {word: int(counts.get(word, 0)) for word in (*VERDICTS, "unknown")}
    judged = sum(row[word] for word in VERDICTS)
    if not judged:
        return row | {"share_holds": None, "low": None, "high": None}
    share = statistics.wilson(row["holds"], judged)
    return row | {"share_holds": share.value, "low": share.low, "high": share.high}


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
    for name in load().assumptions:
        if f"verdict_{name}" in pairs:
            row |= _changes(name, pairs[f"verdict_{name}_without"], pairs[f"verdict_{name}"])
    return row


def _context(evidence: Evidence, pairs: pandas.DataFrame) -> str:
    axes = [axis for axis in evidence.varied if axis != "repair"]
    words = [value_label(axis, pairs[axis].iloc[0]) for axis in axes]
    return ", ".join(words) or "all trials"


def _changes(name: str, without: pandas.Series, repaired: pandas.Series) -> dict[str, Any]:
    """Returns the usual verdicts without and with a repair, and how many pairs changed."""
    order = {word: rank for rank, word in enumerate(VERDICTS)}
    before = without.map(order)
    after = repaired.map(order)
    return {
        f"{name}_without": _usual(without),
        name: _usual(repaired),
        f"{name}_better": int((after < before).sum()),
        f"{name}_worse": int((after > before).sum()),
    }


def _usual(words: pandas.Series) -> str:
    """Returns the most frequent word."""
    modes = words.fillna("unknown").mode()
    return str(modes.iloc[0]) if len(modes) else "unknown"
