"""The trials that a report describes: axes, cells and scores."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from harness.data.catalog import PUBLISHED
from harness.errors import RequestError
from harness.reports import statistics
from harness.reports.axis_values import ordered, plain_value, value_label
from harness.store.tables import Tables
from harness.verdicts.judging import judge_tables

FINISHED = ("done", "diverged")
# Options that an axis sets by itself, with that axis; they are no axes of their own.
_OWNERS = {"learning_rate": "optimizer"}
# Columns that a table of trials lacks when no trial has finished training.
_EXPECTED_COLUMNS = ("steps", "test_accuracy", "validation_accuracy", "train_loss", "seconds")


@dataclass(frozen=True)
class Evidence:
    """Tidy tables of the trials of a report.

    Attributes:
        trials: one row per trial. `chance` is 1/classes; `score` is the test accuracy, or `chance`
            for a diverged trial.
        curves: one row per trial and evaluation.
        layers: one row per trial, probe step and layer.
        axes: names of the axes, which are columns of `trials`.
    """

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
        """Axes with more than one value among finished trials.

        Options whose value follows from another axis are left out.
        """
        several = [axis for axis in self.axes if self._levels(axis).nunique() > 1]
        return tuple(axis for axis in several if not self.follows(axis))

    @functools.cached_property
    def cells(self) -> pandas.DataFrame:
        """One row per cell with at least one trial, indexed by cell_id.

        Columns: the axes, counts of trials by status, the mean score with its interval, medians.
        """
        return _cells(self)

    @functools.cached_property
    def trained(self) -> bool:
        """True when any trial took a step: untrained networks have no accuracy worth a figure."""
        return bool((self.finished["steps"] > 0).any())

    @functools.cached_property
    def seeds(self) -> int:
        """The usual number of seeds per cell (the mode)."""
        modes = self.trials.groupby("cell_id").size().mode()
        return int(modes.max())

    def levels(self, axis: str) -> list[Any]:
        """Returns the values of an axis among finished trials, in order."""
        return ordered([plain_value(level) for level in self._levels(axis).unique()])

    def of_cells(self, table: pandas.DataFrame, columns: Sequence[str] = ()) -> pandas.DataFrame:
        """Returns the rows of finished trials with cell_id, seed and further columns of the trial.

        Args:
            table: `curves` or `layers`; a table without rows is returned as it is.
            columns: columns of `trials` to add.
        """
        if not len(table):
            return table
        trials = self.finished.set_index("trial_id")[["cell_id", "seed", *columns]]
        return table.join(trials, on="trial_id", how="inner")

    def label(self, cell_id: str, axes: Sequence[str] | None = None) -> str:
        """Returns a cell in words: the values of `axes`, or of all varied axes."""
        row = self.cells.loc[cell_id]
        shown = self.varied if axes is None else axes
        words = [value_label(axis, row[axis]) for axis in shown]
        if not words:
            return value_label("activation", row["activation"])
        return ", ".join(words)

    def follows(self, axis: str) -> bool:
        """Returns True when another axis settles the value of this one."""
        owner = _OWNERS.get(axis, axis.partition(".")[0])
        if owner == axis or owner not in self.axes or self._levels(owner).nunique() < 2:
            return False
        values_per_owner = self._levels(axis).groupby(self._levels(owner)).nunique()
        return bool(values_per_owner.max() == 1)

    def _levels(self, axis: str) -> pandas.Series:
        return self.finished[axis].map(plain_value)


def gather(tables: Tables, where: dict[str, list[str]] | None = None) -> Evidence:
    """Returns the evidence of a report, judged by this version of the criteria.

    Args:
        tables: the tidy tables of a store.
        where: allowed values by axis (or `seed`); trials with another value are left out.

    Raises:
        RequestError: an unknown axis or value, or no finished trial.
    """
    trials, judged_layers = judge_tables(tables.trials, tables.layers)
    axes = axis_names(trials)
    for axis, values in (where or {}).items():
        trials = _restricted(trials, axes, axis, values)
    if not trials["status"].isin(FINISHED).any():
        counts = trials["status"].value_counts()
        statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise RequestError(f"no finished trial to report on: {statuses or 'no trials'}")
    trials = trials.reset_index(drop=True)
    for name in _EXPECTED_COLUMNS:
        if name not in trials:
            trials[name] = math.nan
    trials["chance"] = [chance_level(row) for row in trials.to_dict("records")]
    diverged = trials["status"] == "diverged"
    trials["score"] = trials["test_accuracy"].where(~diverged, trials["chance"].fillna(0.0))
    curves, layers = tables.curves, judged_layers
    if where:
        kept = set(trials["trial_id"])
        curves = curves[curves["trial_id"].isin(kept)]
        layers = layers[layers["trial_id"].isin(kept)]
    return Evidence(trials, curves, layers, tuple(axes))


def axis_names(trials: pandas.DataFrame) -> list[str]:
    """Returns the axes among the columns of a table of trials.

    They stand between the columns of the trial's identity and the `spec.` columns.
    """
    names = list(trials.columns)
    start = names.index("ended") + 1 if "ended" in names else 0
    specification = (index for index, name in enumerate(names) if name.startswith("spec."))
    return names[start : next(specification, len(names))]


def chance_level(trial: Mapping[Any, Any]) -> float:
    """Returns 1/classes of a trial's data set; NaN where that is unknown."""
    for name in ("classes", "spec.dataset.classes"):
        classes = trial.get(name)
        if isinstance(classes, (int, float)) and classes > 0:
            return 1.0 / classes
    published = PUBLISHED.get(trial.get("dataset", ""))
    if published is None or published.classes is None:
        return math.nan
    return 1.0 / published.classes


def _restricted(
    trials: pandas.DataFrame, axes: list[str], axis: str, values: list[str]
) -> pandas.DataFrame:
    allowed = [*axes, "seed"]
    if axis not in allowed:
        names = ", ".join(allowed)
        raise RequestError(f"--where {axis}=...: unknown axis {axis!r}; known: {names}")
    present = trials[axis].map(plain_value)
    wanted = {_comparable(value) for value in values}
    missing = wanted - {_comparable(value) for value in present}
    if missing:
        names = ", ".join(sorted(map(str, missing)))
        levels = ", ".join(str(value) for value in ordered(present.unique()))
        raise RequestError(
            f"--where {axis}={','.join(values)}: no trial has {axis}={names}; there are: {levels}"
        )
    return trials[present.map(_comparable).isin(wanted)]


def _comparable(value: Any) -> float | str:
    """Returns a key that a value shares with its text."""
    try:
        number = json.loads(value) if isinstance(value, str) else value
        return float(number)
    except (ValueError, TypeError):
        return str(value)


def _cells(evidence: Evidence) -> pandas.DataFrame:
    trials = evidence.trials
    finished = trials["status"].isin(FINISHED)
    groups = trials.groupby("cell_id", sort=False)
    cells = groups[list(evidence.axes)].first()
    cells["seeds"] = groups.size()
    cells["expected"] = numpy.maximum(cells["seeds"], evidence.seeds)
    for status in ("diverged", "failed", "running", "interrupted"):
        cells[status] = (trials["status"] == status).groupby(trials["cell_id"]).sum()
    cells["finished"] = finished.groupby(trials["cell_id"]).sum()
    cells["complete"] = cells["finished"] == cells["expected"]

    scores = trials[finished].groupby("cell_id")["score"]
    cells["score"] = scores.mean()
    cells["score_median"] = scores.median()
    counts = scores.count()
    half = pandas.Series(statistics.half_width(scores.std(), counts), index=counts.index)
    half = half.reindex(cells.index)
    cells["score_low"] = cells["score"] - half
    cells["score_high"] = cells["score"] + half

    survivors = trials[trials["status"] == "done"].groupby("cell_id")
    cells["survivors_accuracy"] = survivors["test_accuracy"].mean()
    cells["validation_accuracy"] = survivors["validation_accuracy"].mean()
    cells["train_loss"] = survivors["train_loss"].mean()
    cells["chance"] = groups["chance"].first()
    return cells
