"""Selecting the trials that a claim speaks of, and comparing arms pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
import pandas

from harness.reports.axis_values import plain_value
from harness.reports.claims.declaration import NotEnoughData
from harness.reports.evidence import Evidence

# Roles of a trial in a search: of no search, one of its draws, or the chosen point with new seeds.
FIXED = ""
TUNING = "tuning"
CONFIRMATION = "confirmation"

# The recipe of Klambauer et al. 2017, without dropout, on inputs standardised as a whole.
RECIPE: Mapping[str, Any] = {
    "activation": "selu",
    "initializer": "lecun_normal",
    "normalization": "none",
    "dropout": "none",
    "repair": "none",
    "preprocessing": "global",
    "architecture": "mlp",
}
# The plain network it is compared with.
RECTIFIER: Mapping[str, Any] = {**RECIPE, "activation": "relu", "initializer": "he_normal"}
BATCH_NORM: Mapping[str, Any] = {**RECTIFIER, "normalization": "batch"}
# What tells one task from another; everything else is the arm, the seed or the search.
TASK = ("dataset", "architecture", "depth", "width", "optimizer", "schedule")


def select(
    evidence: Evidence, arm: Mapping[str, Any], *, roles: Iterable[str] | None = None
) -> pandas.DataFrame:
    """Returns the finished trials whose axes have the arm's values.

    Args:
        evidence: the trials.
        arm: values by axis; a list of values allows each of them. An axis that the table lacks
            has its default everywhere and does not restrict.
        roles: roles in a search to keep; None keeps all.
    """
    trials = evidence.finished
    kept = numpy.ones(len(trials), bool)
    for axis, wanted in arm.items():
        if axis not in trials:
            continue
        values = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        kept &= trials[axis].map(plain_value).isin(values).to_numpy()
    if roles is not None and "search_role" in trials:
        kept &= trials["search_role"].fillna(FIXED).isin(list(roles)).to_numpy()
    return trials[kept]


def need(trials: pandas.DataFrame, count: int, what: str) -> pandas.DataFrame:
    """Returns the trials if there are at least `count`.

    Raises:
        NotEnoughData: with what is missing.
    """
    if len(trials) < count:
        raise NotEnoughData(f"{len(trials)} of at least {count} trials of {what}")
    return trials


def known(trials: pandas.DataFrame, column: str, count: int, what: str) -> pandas.Series:
    """Returns the values of a column that are numbers.

    Raises:
        NotEnoughData: fewer than `count` trials have one.
    """
    values = (
        trials[column].astype(float).dropna() if column in trials else pandas.Series(dtype=float)
    )
    if len(values) < count:
        raise NotEnoughData(f"{len(values)} of at least {count} trials of {what} with {column}")
    return values


def layers_of(
    evidence: Evidence, trials: pandas.DataFrame, *, phase: str = "init"
) -> pandas.DataFrame:
    """Returns the layer rows of some trials in one phase, with depth and width of their trial."""
    layers = evidence.layers
    rows = layers[layers["trial_id"].isin(trials["trial_id"]) & (layers["phase"] == phase)]
    about = trials.set_index("trial_id")[["depth", "width", "seed"]]
    return rows.join(about, on="trial_id", rsuffix="_of_trial")


def task_axes(evidence: Evidence, *, without: Sequence[str] = ()) -> list[str]:
    """Returns the axes of a task that the evidence has, apart from some."""
    return [axis for axis in TASK if axis in evidence.finished and axis not in without]


def paired(
    evidence: Evidence,
    arm: Mapping[str, Any],
    baseline: Mapping[str, Any],
    *,
    value: str = "score",
    roles: Iterable[str] | None = None,
) -> pandas.DataFrame:
    """Returns one row per task and seed that both arms have, with the difference of a value.

    The learning rate is not part of the task: tuned arms each have their own. With several rates
    of one arm in a task, only equal rates are paired.

    Returns:
        The task's axes, seed, `arm`, `baseline` and `difference`.
    """
    roles = None if roles is None else list(roles)
    left = select(evidence, arm, roles=roles)
    right = select(evidence, baseline, roles=roles)
    keys = [*task_axes(evidence), "seed"]
    tuned = roles == [CONFIRMATION]
    if not tuned and "learning_rate" in left:
        keys.append("learning_rate")
    columns = [*keys, value]
    both = left[columns].merge(right[columns], on=keys, suffixes=("_arm", "_baseline"))
    both = both.rename(columns={f"{value}_arm": "arm", f"{value}_baseline": "baseline"})
    both["difference"] = both["arm"].astype(float) - both["baseline"].astype(float)
    return both.dropna(subset=["difference"])


def by_seed(pairs: pandas.DataFrame, column: str = "difference") -> pandas.Series:
    """Returns per-seed means over tasks, of the seeds that have every task.

    Seeds are the replicates: a mean over tasks is taken within each seed first.
    """
    tasks = [name for name in pairs.columns if name in TASK or name == "learning_rate"]
    if not tasks:
        return pairs.set_index("seed")[column]
    count = len(pairs[tasks].drop_duplicates())
    grouped = pairs.groupby("seed")[column]
    return grouped.mean()[grouped.size() == count]
