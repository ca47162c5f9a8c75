"""The trials that a report speaks of: their axes, cells and scores, from the tidy tables."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from harness.data.catalog import PUBLISHED
from harness.errors import RequestError
from harness.reports import statistics
from harness.store.tables import Tables

FINISHED = ("done", "diverged")
# Values of an option that an axis' name brings along are no axes of their own.
_OWNERS = {"learning_rate": "optimizer"}


@dataclass(frozen=True)
class Evidence:
    """Tidy tables of the trials of a report. Finished trials carry `chance` and `score` (test accuracy, or chance when diverged)."""

    trials: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame
    axes: tuple[str, ...]

    @functools.cached_property
    def finished(self) -> pandas.DataFrame:
        """The trials with a result."""
        return self.trials[self.trials["status"].isin(FINISHED)]

    @functools.cached_property
    def varied(self) -> tuple[str, ...]:
        """Axes with more than one value among finished trials, without options that only follow another axis."""
        several = [axis for axis in self.axes if self._levels(axis).nunique() > 1]
        return tuple(axis for axis in several if not self.follows(axis))

    @functools.cached_property
    def cells(self) -> pandas.DataFrame:
        """One row per cell of a begun trial, indexed by cell_id: axes, counts, score with its interval, medians."""
        return _cells(self)

    @functools.cached_property
    def trained(self) -> bool:
        """Whether any trial took a step; a sweep at initialisation has no accuracy worth a figure."""
        return bool((self.finished["steps"] > 0).any())

    @functools.cached_property
    def seeds(self) -> int:
        """The usual number of seeds per cell (the mode; the larger of two)."""
        counts = self.trials.groupby("cell_id").size().mode()
        return int(counts.max())

    def levels(self, axis: str) -> list[Any]:
        """The values of an axis among finished trials: numbers in order, names in order of their axis' custom."""
        return ordered([plain_value(level) for level in self._levels(axis).unique()])

    def of_cells(self, table: pandas.DataFrame, columns: Sequence[str] = ()) -> pandas.DataFrame:
        """Rows of `curves` or `layers` with cell_id, seed and the given axes of their trial."""
        known = self.finished.set_index("trial_id")[["cell_id", "seed", *columns]]
        return table.join(known, on="trial_id", how="inner")

    def label(self, cell_id: str, axes: Sequence[str] | None = None) -> str:
        """A cell in words: the values of its varied axes."""
        row = self.cells.loc[cell_id]
        shown = self.varied if axes is None else axes
        return ", ".join(value_label(axis, row[axis]) for axis in shown) or value_label(
            "activation", row["activation"]
        )

    def follows(self, axis: str) -> bool:
        """Whether an option's value is settled by the name that owns it, as the learning rate by the optimizer."""
        owner = _OWNERS.get(axis, axis.partition(".")[0])
        if owner == axis or owner not in self.axes or self._levels(owner).nunique() < 2:
            return False
        return bool(self._levels(axis).groupby(self._levels(owner)).nunique().max() == 1)

    def _levels(self, axis: str) -> pandas.Series:
        return self.finished[axis].map(plain_value)


def gather(tables: Tables, where: dict[str, list[str]] | None = None) -> Evidence:
    """The evidence of a report, restricted to trials whose axes have one of the values in `where`.

    Raises:
        RequestError: an unknown axis or value, or no finished trial.
    """
    trials = tables.trials
    axes = axis_names(trials)
    for axis, values in (where or {}).items():
        trials = _restricted(trials, axes, axis, values)
    if not trials["status"].isin(FINISHED).any():
        counts = trials["status"].value_counts()
        found = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials"
        raise RequestError(f"no finished trial to report on: {found}")
    trials = trials.reset_index(drop=True)
    for name in ("steps", "test_accuracy", "validation_accuracy", "train_loss", "seconds"):
        if name not in trials:
            trials[name] = math.nan
    trials["chance"] = [chance_level(row) for row in trials.to_dict("records")]
    diverged = trials["status"] == "diverged"
    trials["score"] = trials["test_accuracy"].where(~diverged, trials["chance"].fillna(0.0))
    kept = set(trials["trial_id"])
    curves, layers = (
        table[table["trial_id"].isin(kept)] if where else table
        for table in (tables.curves, tables.layers)
    )
    return Evidence(trials, curves, layers, tuple(axes))


def axis_names(trials: pandas.DataFrame) -> list[str]:
    """The axes among the columns of a trials table: they stand between the identity and the `spec.` columns."""
    names = list(trials.columns)
    start = names.index("ended") + 1 if "ended" in names else 0
    stop = next((index for index, name in enumerate(names) if name.startswith("spec.")), len(names))
    return names[start:stop]


def chance_level(trial: dict[str, Any]) -> float:
    """1/classes of a trial's data set; NaN where nothing says how many there are."""
    for name in ("classes", "spec.dataset.classes"):
        classes = trial.get(name)
        if isinstance(classes, (int, float)) and classes > 0:
            return 1.0 / classes
    known = PUBLISHED.get(trial.get("dataset", ""))
    return 1.0 / known.classes if known else math.nan


def plain_value(value: Any) -> Any:
    """An axis value for people: whole floats as int, an absent option as `default`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "default"
    if (
        isinstance(value, (float, numpy.floating))
        and float(value).is_integer()
        and abs(value) < 1e15
    ):
        return int(value)
    return value.item() if isinstance(value, numpy.generic) else value


def value_label(axis: str, value: Any) -> str:
    """An axis value that can stand alone: names as they are, numbers with their axis."""
    value = plain_value(value)
    short = axis.rpartition(".")[2]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{short} {value:g}"
    if value in ("none", "default"):
        return f"{'default' if value == 'default' else 'no'} {short}"
    return f"{short} {value}" if axis in ("repair",) else str(value)


def ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers in order, then names with `none` and SELU first, then alphabetically."""
    first = {"default": 0, "none": 1, "selu": 2, "relu": 3, "lecun_normal": 2, "he_normal": 3}

    def key(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return (0, float(value), "")
        return (1, first.get(value, 9), str(value))

    return sorted(values, key=key)


def _restricted(
    trials: pandas.DataFrame, axes: list[str], axis: str, values: list[str]
) -> pandas.DataFrame:
    known = [*axes, "seed"]
    if axis not in known:
        raise RequestError(f"--where {axis}=...: unknown axis {axis!r}; known: {', '.join(known)}")
    present = trials[axis].map(plain_value)
    wanted = {_same(value) for value in values}
    missing = wanted - {_same(value) for value in present}
    if missing:
        levels = ", ".join(str(value) for value in ordered(present.unique()))
        raise RequestError(
            f"--where {axis}={','.join(values)}: no trial has {axis}={', '.join(sorted(map(str, missing)))}; there are: {levels}"
        )
    return trials[present.map(_same).isin(wanted)]


def _same(value: Any) -> Any:
    """A value and its text on the command line compare equal."""
    try:
        return float(json.loads(value) if isinstance(value, str) else value)
    except (ValueError, TypeError):
        return str(value)


def _cells(evidence: Evidence) -> pandas.DataFrame:
    trials = evidence.trials
    done = trials["status"].isin(FINISHED)
    groups = trials.groupby("cell_id", sort=False)
    cells = groups[list(evidence.axes)].first()
    cells["seeds"] = groups.size()
    cells["expected"] = numpy.maximum(cells["seeds"], evidence.seeds)
    for status in ("diverged", "failed", "running", "interrupted"):
        cells[status] = (trials["status"] == status).groupby(trials["cell_id"]).sum()
    cells["finished"] = done.groupby(trials["cell_id"]).sum()
    cells["complete"] = cells["finished"] == cells["expected"]
    scores = trials[done].groupby("cell_id")["score"]
    cells["score"], cells["score_median"] = scores.mean(), scores.median()
    half = statistics.half_width(scores.std(), scores.count())
    half = pandas.Series(half, index=scores.count().index).reindex(cells.index)
    cells["score_low"], cells["score_high"] = cells["score"] - half, cells["score"] + half
    survivors = trials[trials["status"] == "done"].groupby("cell_id")
    for name, column in (
        ("survivors_accuracy", "test_accuracy"),
        ("validation_accuracy", "validation_accuracy"),
        ("train_loss", "train_loss"),
    ):
        cells[name] = survivors[column].mean()
    cells["chance"] = groups["chance"].first()
    return cells
