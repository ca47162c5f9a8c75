"""Misses of theory over many trials, and the trials that are worth a look."""

from __future__ import annotations

from typing import Any

import pandas

from harness.reports.axis_values import ordered
from harness.reports.evidence import Evidence
from harness.verdicts.evaluation import evaluate

_MOST_EXAMPLES = 2
# The levels of the example trials, on those axes that have them.
_EXAMPLE_LEVELS = {"activation": "selu", "normalization": "none", "repair": "none"}


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


def _places(values: pandas.Series) -> dict[Any, int]:
    """Returns the place of each value in the order of `ordered`."""
    return {value: place for place, value in enumerate(ordered(values.unique()))}
