"""Interventions: what comes back with a repair, and what is lost with a dose, at the same seed.

An intervention changes one thing and nothing else, so its paired differences are effects, which an
association is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pandas

from harness.reports.axis_values import plain_value, value_label
from harness.reports.evidence import Evidence
from harness.reports.statistics import LEVEL, mean_interval
from harness.store.searches import CONFIRMATION

# The share of layers that a repair of each name is meant to bring back is looked for in all of
# these; the accuracy stands beside them.
SHARES = ("weights", "input", "moments", "units")
# Axes of numbers that break one assumption by degrees, with the value that breaks nothing.
DOSES = {
    "initializer.sigma_w2": 1.0,
    "initializer.gain": 1.0,
    "preprocessing.scale": 1.0,
    "preprocessing.shift": 0.0,
    "dropout.rate": 0.0,
}
_FEWEST_PAIRS = 2


def repairs(evidence: Evidence, level: float = LEVEL) -> pandas.DataFrame:
    """Returns repaired against unrepaired trials, one row per repair and context.

    Columns: `repair`, `context`, the axes of the context, `pairs`; the mean `score_without`;
    `score` and `share_<name>` at initialisation, each the mean paired difference (with the repair
    minus without) with its t interval `_low`, `_high`. `level` is that of the intervals.
    """
    trials = _comparable(evidence)
    if "repair" not in trials or trials["repair"].nunique() < 2:
        return pandas.DataFrame()
    without = trials[trials["repair"].astype(str) == "none"]
    repaired = trials[trials["repair"].astype(str) != "none"]
    shown = _varying(evidence, repaired, "repair")
    rows = []
    for repair, group in repaired.groupby("repair"):
        for row in _differences(evidence, "repair", group, without, level, shown):
            rows.append({"repair": repair, **row})
    return pandas.DataFrame(rows)


def doses(evidence: Evidence) -> pandas.DataFrame:
    """Returns each dose against the mildest one at the same seed, one row per dose and context.

    Columns: `axis`, `dose`, `against` (the dose nearest to the one that breaks nothing), and those
    of `repairs`.
    """
    trials = _comparable(evidence)
    rows = []
    for axis, neutral in DOSES.items():
        if axis not in trials:
            continue
        values = pandas.to_numeric(trials[axis], errors="coerce")
        if values.nunique() < 2:
            continue
        mildest = float(values.iloc[int((values - neutral).abs().argmin())])
        base = trials[values == mildest]
        dosed = trials[values.notna() & (values != mildest)]
        shown = _varying(evidence, dosed, axis)
        for dose, group in dosed.groupby(values):
            for row in _differences(evidence, axis, group, base, LEVEL, shown):
                rows.append({"axis": axis, "dose": dose, "against": mildest, **row})
    return pandas.DataFrame(rows)


def _comparable(evidence: Evidence) -> pandas.DataFrame:
    """Returns finished results that took steps and have a score."""
    trials = evidence.finished
    trials = trials[(trials["steps"].fillna(0) > 0) | (trials["status"] == "diverged")]
    return trials[~trials["cell_id"].isin(evidence.unscored["cell_id"])]


def _varying(evidence: Evidence, trials: pandas.DataFrame, axis: str) -> list[str]:
    """Returns the axes other than this one that tell some trials apart."""
    texts = evidence.texts.loc[trials.index]
    return [name for name in evidence.varied if name != axis and texts[name].nunique() > 1]


def _differences(
    evidence: Evidence,
    axis: str,
    changed: pandas.DataFrame,
    base: pandas.DataFrame,
    level: float,
    shown: list[str],
) -> Iterator[dict[str, Any]]:
    """Yields one row for each context that both tables have; `shown` are the axes that it names."""
    axes = [name for name in evidence.axes if name != axis and not name.startswith("learning_rate")]
    rates = [name for name in evidence.axes if name == "learning_rate"]
    keys = ["context", "seed"]
    pairs = _keyed(evidence, changed, axes, rates).merge(
        _keyed(evidence, base, axes, rates), on=keys, suffixes=("", "_without")
    )
    for _, group in pairs.groupby("context", sort=False):
        if len(group) < _FEWEST_PAIRS:
            continue
        first = group.iloc[0]
        words = [value_label(name, first[name]) for name in shown]
        row: dict[str, Any] = {
            "context": ", ".join(words) or "all trials",
            **{name: plain_value(first[name]) for name in shown},
            "pairs": len(group),
            "score_without": float(group["score_without"].mean()),
        }
        for column in ("score", *(f"share_{name}_init" for name in SHARES)):
            if column in changed and column in base:
                name = column.removesuffix("_init")
                row |= _interval(name, group[column] - group[f"{column}_without"], level)
        yield row


def _keyed(
    evidence: Evidence, trials: pandas.DataFrame, axes: list[str], rates: list[str]
) -> pandas.DataFrame:
    """Returns trials with their context as text; a tuned learning rate is no part of it."""
    texts = evidence.texts.loc[trials.index]
    parts = [texts[name] for name in axes]
    confirmed = evidence.role[trials.index] == CONFIRMATION
    for name in rates:
        parts.append(texts[name].where(~confirmed, "tuned"))
    text = pandas.Series("", index=trials.index)
    for part in parts:
        text = text + "|" + part
    return trials.assign(context=text).drop_duplicates(["context", "seed"])


def _interval(name: str, differences: pandas.Series, level: float) -> dict[str, float]:
    interval = mean_interval(differences.to_numpy(numpy.float64), level)
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
