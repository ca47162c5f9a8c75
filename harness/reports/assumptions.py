"""SELU's assumptions over many trials: shares of verdicts by cell, where theory missed, and what a repair brought back."""

from __future__ import annotations

import pandas

from harness.reports import statistics
from harness.reports.evidence import Evidence, ordered, value_label
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS, evaluate, verdicts

_MOST_EXAMPLES = 2


def by_cell(evidence: Evidence) -> pandas.DataFrame:
    """One row per (cell, assumption): how many trials hold, are strained, fail or are unknown, and the share that holds with a 95 % Wilson interval.

    A trial's verdict is its worst at any layer and probe. The replicates are seeds. Cells are in the order of their axes' levels.
    """
    rows = []
    places = {
        axis: {
            value: place for place, value in enumerate(ordered(evidence.finished[axis].unique()))
        }
        for axis in evidence.varied
    }
    in_order = evidence.finished.sort_values(
        list(evidence.varied), key=lambda values: values.map(places[values.name]), kind="stable"
    )
    for cell_id, trials in in_order.groupby("cell_id", sort=False):
        for name in load().assumptions:
            if f"verdict_{name}" not in trials:
                continue
            counts = trials[f"verdict_{name}"].fillna("unknown").value_counts()
            known = int(sum(counts.get(word, 0) for word in VERDICTS))
            share = statistics.wilson(int(counts.get("holds", 0)), known) if known else None
            row = (
                {"cell_id": cell_id}
                | {axis: trials[axis].iloc[0] for axis in evidence.varied}
                | {"assumption": name}
            )
            row |= {word: int(counts.get(word, 0)) for word in (*VERDICTS, "unknown")}
            row |= {
                "share_holds": share.value if share else None,
                "low": share.low if share else None,
                "high": share.high if share else None,
            }
            rows.append(row)
    return pandas.DataFrame(rows)


def layer_shares(evidence: Evidence) -> pandas.DataFrame:
    """One row per (cell, assumption): the mean share of layers at which it holds, at the first and at the last probe, of those judged."""
    layers = evidence.of_cells(evidence.layers) if len(evidence.layers) else evidence.layers
    if not len(layers):
        return pandas.DataFrame()
    table = verdicts(layers[layers["phase"].isin(("init", "end"))])
    table = table[table["verdict"] != "unknown"].merge(
        evidence.finished[["trial_id", "cell_id"]], on="trial_id"
    )
    table["holds"] = (table["verdict"] == "holds").astype(float)
    shares = table.pivot_table(
        index=["cell_id", "assumption"], columns="phase", values="holds", aggfunc="mean"
    ).reset_index()
    return shares.rename(columns={"init": "layers_hold_at_first", "end": "layers_hold_at_the_end"})


def theory_misses(evidence: Evidence) -> pandas.DataFrame:
    """At initialisation, for each criterion of theory with a band of its own or an interval of what was measured: the share of readings
    where the two have nothing in common; about 1 % where theory is right, and less by intervals, which are rather too wide.

    Theory is about independent weights, so that repaired trials, whose weights are not, are left out.
    """
    trials = evidence.finished
    drawn = trials[trials["repair"] == "none"] if "repair" in trials else trials
    start = (
        evidence.layers[
            (evidence.layers["phase"] == "init")
            & evidence.layers["trial_id"].isin(set(drawn["trial_id"]))
        ]
        if len(evidence.layers)
        else evidence.layers
    )
    if not len(start):
        return pandas.DataFrame()
    table = evaluate(start)
    judged = (table["low"].notna() & (table["high"] > table["low"])) | (
        table["measured_low"].notna() & table["predicted"].notna()
    )
    table = table[table["by_theory"].astype(bool) & table["measured"].notna() & judged]
    if not len(table):
        return pandas.DataFrame()
    grouped = table.groupby(["assumption", "criterion", "column"], sort=False)["outside_band"]
    return pandas.DataFrame(
        {"readings": grouped.size(), "outside": grouped.sum(), "share_outside": grouped.mean()}
    ).reset_index()


def repairs(evidence: Evidence) -> pandas.DataFrame:
    """What each repair brought back: repaired against not, everything else equal, paired by seed.

    One row per (repair, context): pairs, mean scores, the difference with a 95 % t interval, and for each assumption the usual
    verdict without and with the repair and in how many pairs it got better or worse. Empty without trials of both kinds.
    """
    trials = evidence.finished
    if "repair" not in evidence.axes or trials["repair"].nunique() < 2:
        return pandas.DataFrame()
    others = [axis for axis in evidence.axes if axis != "repair"]
    keyed = trials.assign(context=trials[others].astype(str).agg("|".join, axis=1))
    plain = keyed[keyed["repair"] == "none"].set_index(["context", "seed"])
    rows = []
    for (repair, context), group in keyed[keyed["repair"] != "none"].groupby(
        ["repair", "context"], sort=False
    ):
        pairs = group.set_index(["context", "seed"]).merge(
            plain, left_index=True, right_index=True, suffixes=("", "_without")
        )
        if len(pairs):
            rows.append(_repair(evidence, str(repair), pairs))
    return pandas.DataFrame(rows)


def _repair(evidence: Evidence, repair: str, pairs: pandas.DataFrame) -> dict[str, object]:
    context = (
        ", ".join(
            value_label(axis, pairs[axis].iloc[0]) for axis in evidence.varied if axis != "repair"
        )
        or "all trials"
    )
    row: dict[str, object] = {"repair": repair, "context": context, "pairs": len(pairs)}
    interval = statistics.paired_difference(pairs["score"] - pairs["score_without"]).interval
    row |= {
        "score_without": pairs["score_without"].mean(),
        "score": pairs["score"].mean(),
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
    }
    order = {word: rank for rank, word in enumerate(VERDICTS)}
    for name in load().assumptions:
        column = f"verdict_{name}"
        if column not in pairs:
            continue
        before, after = pairs[f"{column}_without"].map(order), pairs[column].map(order)
        row |= {
            f"{name}_without": _usual(pairs[f"{column}_without"]),
            name: _usual(pairs[column]),
            f"{name}_better": int((after < before).sum()),
            f"{name}_worse": int((after > before).sum()),
        }
    return row


def examples(evidence: Evidence) -> list[tuple[str, pandas.DataFrame]]:
    """Layer tables of trials worth a look, each with a title: the deepest SELU cells without normalization, one an initializer, their first seed."""
    trials = (
        evidence.finished[evidence.finished["trial_id"].isin(set(evidence.layers["trial_id"]))]
        if len(evidence.layers)
        else evidence.finished.iloc[:0]
    )
    for axis, wanted in (("activation", "selu"), ("normalization", "none"), ("repair", "none")):
        trials = (
            trials[trials[axis] == wanted]
            if axis in trials and (trials[axis] == wanted).any()
            else trials
        )
    if not len(trials):
        return []
    trials = trials[trials["depth"] == trials["depth"].max()]
    places = {name: place for place, name in enumerate(ordered(trials["initializer"].unique()))}
    trials = trials.assign(place=trials["initializer"].map(places)).sort_values(
        ["place", "seed"], kind="stable"
    )
    chosen = trials.drop_duplicates("initializer").head(_MOST_EXAMPLES)
    return [
        (
            f"{evidence.label(row['cell_id'])}, seed {row['seed']}",
            evidence.layers[evidence.layers["trial_id"] == row["trial_id"]],
        )
        for row in chosen.to_dict("records")
    ]


def _usual(words: pandas.Series) -> str:
    mode = words.fillna("unknown").mode()
    return str(mode.iloc[0]) if len(mode) else "unknown"
