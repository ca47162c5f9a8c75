"""Selection of the trials that a claim speaks of, and pairs of arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy
import pandas

from harness.reports.axis_values import number_or_text
from harness.reports.claims.claim import NotEnoughData
from harness.reports.evidence import FIXED, Evidence
from harness.reports.share_tables import cell_shares
from harness.store.searches import CONFIRMATION

# An arm: values by axis; a tuple of values allows each of them.
Arm = Mapping[str, Any]

FEWEST_SEEDS = 3
# The recipe of Klambauer et al. 2017, without dropout, on inputs standardised as a whole.
RECIPE: Arm = {
    "activation": "selu",
    "initializer": "lecun_normal",
    "normalization": "none",
    "dropout": "none",
    "repair": "none",
    "preprocessing": "global",
    "architecture": "mlp",
}
# The networks that are asked whether the stability limit of gradient descent decides training.
LIMIT_ARM: Arm = {**RECIPE, "initializer": ("lecun_normal", "he_normal")}
# The plain network it is compared with.
RECTIFIER: Arm = {**RECIPE, "activation": "relu", "initializer": "he_normal"}
BATCH_NORM: Arm = {**RECTIFIER, "normalization": "batch"}
# The axes that tell one task from another in a claim's table.
TASK = ("dataset", "depth", "width")


def select(
    evidence: Evidence, arm: Arm, *, role: str | None = None, tuning: bool = False
) -> pandas.DataFrame:
    """Returns the finished trials whose axes have the arm's values.

    Their column `dataset` tells doses of one data set apart (`Evidence.data`).

    Args:
        evidence: the trials.
        arm: an axis that the table lacks has its default everywhere and does not restrict.
        role: the role in a search to keep; None keeps all results.
        tuning: keeps the trials that a search tuned with as well, which are no results.
    """
    trials = evidence.finished_with_tuning if tuning else evidence.finished
    kept = numpy.ones(len(trials), bool)
    for axis, wanted in arm.items():
        if axis in evidence.axes:
            values = wanted if isinstance(wanted, (list, tuple)) else [wanted]
            kept &= evidence.plain.loc[trials.index, axis].isin(values).to_numpy()
    if role is not None:
        kept &= (evidence.role[trials.index] == role).to_numpy()
    return evidence.with_data(trials[kept])


def need(trials: pandas.DataFrame, what: str, count: int = FEWEST_SEEDS) -> pandas.DataFrame:
    """Returns the trials if there are at least `count`.

    Raises:
        NotEnoughData: with what is missing.
    """
    if len(trials) < count:
        raise NotEnoughData(f"{len(trials)} of at least {count} trials of {what}")
    return trials


def known(
    trials: pandas.DataFrame, column: str, what: str, count: int = FEWEST_SEEDS
) -> pandas.DataFrame:
    """Returns the trials of which a column is a number.

    Raises:
        NotEnoughData: fewer than `count` trials have one.
    """
    kept = trials[trials[column].notna()] if column in trials else trials.iloc[:0]
    if len(kept) < count:
        raise NotEnoughData(f"{len(kept)} of at least {count} trials of {what} with {column}")
    return kept


def cells_in_words(evidence: Evidence, name: str) -> str:
    """Returns in how many SELU cells a premise or promise has each word, in each phase.

    No text where no cell is graded.
    """
    shares = cell_shares(evidence)
    cells = select(evidence, {"activation": "selu", "repair": "none"})["cell_id"]
    shares = shares[shares["cell_id"].isin(set(cells)) & (shares["name"] == name)]
    told = ""
    places = {"init": "at initialisation", "early": "early in training", "end": "at the end"}
    for phase, place in places.items():
        words = shares["word"][shares["phase"] == phase]
        if len(words):
            counts = [f"{word} in {(words == word).sum()}" for word in ("holds", "mixed", "fails")]
            kind = "" if told else " SELU cells with any weights and inputs"
            told += f"; of {len(words)}{kind} it {', '.join(counts)} {place}"
    return told


def layers_at_start(
    evidence: Evidence, trials: pandas.DataFrame, columns: Iterable[str], what: str
) -> pandas.DataFrame:
    """Returns the layer rows of some trials at initialisation.

    Raises:
        NotEnoughData: no row, or a column that no row has.
    """
    layers = evidence.layers
    missing = [name for name in columns if name not in layers or layers[name].isna().all()]
    if not len(layers) or missing:
        raise NotEnoughData(f"no layers of {what} with {', '.join(missing) or 'any column'}")
    at_start = layers["phase"] == "init"
    rows = layers[at_start & layers["trial_id"].isin(trials["trial_id"])]
    if not len(rows):
        raise NotEnoughData(f"no layers of {what} at initialisation")
    return rows


def per_trial(trials: pandas.DataFrame, values: pandas.Series, name: str) -> pandas.DataFrame:
    """Returns the trials that have a value, with it in a column; `values` is by trial_id."""
    table = trials.assign(**{name: trials["trial_id"].map(values)})
    return table[table[name].notna()]


def tasks_of(trials: pandas.DataFrame) -> list[str]:
    """Returns the axes of `TASK` that a table has."""
    return [axis for axis in TASK if axis in trials]


def labels_of(table: pandas.DataFrame) -> list[str]:
    """Returns the axes that tell the tasks of a table of pairs apart."""
    return [name for name in (*TASK, "variant") if name in table]


def balanced(table: pandas.DataFrame, column: str, keys: list[str], what: str) -> pandas.DataFrame:
    """Returns a table (seeds, tasks) of means of a column without a missing value.

    A mean over tasks is taken within each seed, because seeds are the replicates; so every seed
    must have every task. Either the seeds without some task are left out or the tasks without some
    seed, whichever keeps more.

    Raises:
        NotEnoughData: fewer than three seeds have the same tasks.
    """
    if not len(table):
        raise NotEnoughData(f"no trials of {what}")
    task = table.groupby(keys, dropna=False).ngroup() if keys else 0
    wide = table.assign(task=task).pivot_table(
        index="seed", columns="task", values=column, aggfunc="mean", observed=True
    )
    choices = [wide.dropna(axis="index"), wide.dropna(axis="columns")]
    whole = max(choices, key=lambda choice: choice.size if len(choice) >= FEWEST_SEEDS else 0)
    if len(whole) >= FEWEST_SEEDS and whole.shape[1]:
        return whole
    raise NotEnoughData(
        f"fewer than {FEWEST_SEEDS} seeds of {what} have the same {wide.shape[1]} tasks"
    )


def by_seed(table: pandas.DataFrame, column: str, what: str) -> pandas.Series:
    """Returns per-seed means over tasks; see `balanced`."""
    return balanced(table, column, labels_of(table), what).mean(axis=1)


def distinct(trials: pandas.DataFrame) -> int:
    """Returns the number of different tasks and seeds.

    Trials that differ in their training alone are one network at initialisation.
    """
    return len(trials[[*tasks_of(trials), "seed"]].drop_duplicates())


def paired(
    evidence: Evidence,
    arm: Arm,
    baseline: Arm,
    *,
    value: str = "score",
    role: str | None = None,
    tuning: bool = False,
) -> pandas.DataFrame:
    """Returns one row per task and seed that both arms have, with the difference of a value.

    Everything but the axes in which the arms differ must be equal, and the learning rate as well,
    except for confirmed trials, whose arms each have their own.

    Returns:
        The columns of `TASK`, `learning_rate`, `seed`, `cell_arm`, `arm`, `baseline`,
        `diverged_arm`, `diverged_baseline` and `difference`.
    """
    left = select(evidence, arm, role=role, tuning=tuning)
    right = select(evidence, baseline, role=role, tuning=tuning)
    if value not in left or left.empty or right.empty:
        return pandas.DataFrame(columns=["seed", "arm", "baseline", "difference"])
    differing = {axis for axis in {*arm, *baseline} if arm.get(axis) != baseline.get(axis)}
    if role == CONFIRMATION:
        differing.add("learning_rate")
    keys = [axis for axis in evidence.axes if axis.partition(".")[0] not in differing]
    both = _sides(evidence, left, keys, value).merge(
        _sides(evidence, right, keys, value), on=[*keys, "seed"], suffixes=("_arm", "_baseline")
    )
    both = both.rename(columns={"value_arm": "arm", "value_baseline": "baseline"})
    both["difference"] = both["arm"] - both["baseline"]
    numbers = [name for name in ("depth", "width", "learning_rate") if name in keys]
    both[numbers] = both[numbers].map(number_or_text)
    return both.dropna(subset=["difference"])


def _sides(
    evidence: Evidence, trials: pandas.DataFrame, keys: list[str], value: str
) -> pandas.DataFrame:
    """Returns one row per key and seed; a trial that is there twice counts once."""
    table = evidence.texts.loc[trials.index, keys]
    if "dataset" in keys:
        table["dataset"] = trials["dataset"]
    table["seed"] = trials["seed"]
    table["value"] = trials[value].astype(float)
    table["diverged"] = trials["status"] == "diverged"
    return table.drop_duplicates([*keys, "seed"])


def fairest(evidence: Evidence, arm: Arm, baseline: Arm) -> tuple[pandas.DataFrame, str]:
    """Returns the pairs of two arms at the fairest learning rates that there are, and in words.

    Confirmed trials, whose arms were each tuned, come before trials at one fixed rate.
    """
    for role, words in ((CONFIRMATION, "each tuned"), (FIXED, "at equal fixed learning rates")):
        pairs = paired(evidence, arm, baseline, role=role)
        if pairs["seed"].nunique() >= FEWEST_SEEDS:
            return pairs, words
    return pairs, words


def scored(evidence: Evidence, *arms: Arm) -> None:
    """Checks that no diverged trial of some arms lacks a score.

    Raises:
        NotEnoughData: leaving it out would favour its arm.
    """
    unscored = set(evidence.unscored["trial_id"])
    for arm in arms:
        missing = unscored & set(select(evidence, arm)["trial_id"])
        if missing:
            raise NotEnoughData(
                f"{len(missing)} diverged trials have no score, because their number of classes "
                "is unknown"
            )
