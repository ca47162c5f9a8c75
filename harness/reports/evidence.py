"""The trials that a report describes: axes, cells and scores."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pandas
import pyarrow

from harness.errors import RequestError
from harness.reports.accuracies import accuracy_intervals
from harness.reports.axis_values import (
    label_words,
    number_or_text,
    ordered,
    plain_value,
    value_label,
)
from harness.reports.chances import chances
from harness.reports.data_names import data_names
from harness.store.searches import CONFIRMATION, TUNING
from harness.store.tables import Tables
from harness.verdicts.judging import judge_tables

FINISHED = ("done", "diverged")
# Options that an axis sets by itself, with that axis; they are no axes of their own.
_OWNERS = {"learning_rate": "optimizer"}
# Columns that a table of trials lacks when no trial has finished training.
_EXPECTED_COLUMNS = (
    "steps",
    "test_accuracy",
    "validation_accuracy",
    "train_accuracy",
    "train_loss",
    "seconds",
    "test_samples",
    "majority_share",
    "search_draw",
)
# The role of a trial of no search; the others are one of the draws and a confirmed one.
FIXED = ""


# Frames have no equality of one value: two evidences are equal if they are one.
@dataclass(frozen=True, eq=False)
class Evidence:
    """Tidy tables of the trials of a report.

    Attributes:
        trials: one row per trial. `chance` is 1/classes, NaN where no trial of the data set says
            how many there are; `score` is the test accuracy, or `chance` for a diverged trial;
            `search_role` is empty, `tuning` or `confirmation`.
        curves: one row per trial and evaluation.
        layers: one row per trial, probe step and layer.
        axes: names of the axes, which are columns of `trials`.
        histograms: an Arrow table of counts of pre-activations by trial, step and layer, or None
            without any. It is by far the largest table.
    """

    trials: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame
    axes: tuple[str, ...]
    histograms: pyarrow.Table | None = None

    @functools.cached_property
    def role(self) -> pandas.Series:
        """The role of each trial in a search: empty, `tuning` or `confirmation`."""
        if "search_role" not in self.trials:
            return pandas.Series(FIXED, index=self.trials.index)
        return self.trials["search_role"].fillna(FIXED)

    @functools.cached_property
    def results(self) -> pandas.DataFrame:
        """The trials that count as results: all but those that a search tuned with."""
        return self.trials[self.role != TUNING]

    @functools.cached_property
    def finished(self) -> pandas.DataFrame:
        """The results that finished, diverged ones included; tuning trials are not among them."""
        return self.results[self.results["status"].isin(FINISHED)]

    @functools.cached_property
    def finished_with_tuning(self) -> pandas.DataFrame:
        """All finished trials, those that a search tuned with included."""
        return self.trials[self.trials["status"].isin(FINISHED)]

    @functools.cached_property
    def tuned(self) -> bool:
        """True when every finished result is the confirmation of a search.

        The learning rate is then no axis: each arm has its own, chosen on other seeds.
        """
        roles = self.role[self.finished.index]
        return bool(len(roles) and (roles == CONFIRMATION).all())

    @functools.cached_property
    def unscored(self) -> pandas.DataFrame:
        """Diverged trials without a score, because nothing says how many classes there are."""
        return self.finished[
            (self.finished["status"] == "diverged") & self.finished["score"].isna()
        ]

    @functools.cached_property
    def plain(self) -> pandas.DataFrame:
        """The axes of all trials as `axis_values.plain_value` gives them."""
        columns = {axis: _plain(self.trials[axis]) for axis in self.axes}
        return pandas.DataFrame(columns, index=self.trials.index)

    @functools.cached_property
    def texts(self) -> pandas.DataFrame:
        """The axes of all trials as text, in which two options that are missing are equal."""
        return self.plain.astype(str)

    @functools.cached_property
    def data(self) -> pandas.Series:
        """The data of each trial in words: the data set, and its options that differ among trials.

        An option of a data set differs where the trials of this data set have several values of it,
        as those of `digits` and of `digits, label_noise 0.5`.
        """
        return data_names(self.plain)

    @functools.cached_property
    def varied(self) -> tuple[str, ...]:
        """Axes with more than one value among finished trials.

        Options whose value follows from another axis are left out, and so is a tuned learning rate.
        """
        axes = [axis for axis in self.axes if not (self.tuned and axis == "learning_rate")]
        several = [axis for axis in axes if self._levels(axis).nunique() > 1]
        return tuple(axis for axis in several if not self.follows(axis))

    @functools.cached_property
    def cells(self) -> pandas.DataFrame:
        """One row per cell with at least one result, indexed by cell_id.

        Columns: the axes; counts of trials by status; `score`, its mean over seeds with an interval
        (`accuracies.accuracy_interval`) and its median; `normalised_score`, with chance 0 and a
        perfect score 1; `validation_score`, the validation accuracy, or chance for a diverged seed;
        means over survivors; `learning_rates`, fixed or tuned.
        """
        return _cells(self)

    @functools.cached_property
    def best_cell(self) -> str | None:
        """The complete cell that is best by validation, or None where there is none.

        A diverged seed counts with chance, as it does in the score.
        """
        cells = self.cells[self.cells["complete"]]
        if not self.trained or not cells["validation_score"].notna().any():
            return None
        return str(cells["validation_score"].idxmax())

    @functools.cached_property
    def trained(self) -> bool:
        """True when any trial took a step: untrained networks have no accuracy worth a figure."""
        return bool((self.finished["steps"] > 0).any())

    @functools.cached_property
    def seeds(self) -> int:
        """The usual number of seeds per cell (the mode)."""
        modes = self.results.groupby("cell_id").size().mode()
        return int(modes.max()) if len(modes) else 0

    @functools.cached_property
    def of_trained(self) -> Evidence:
        """The evidence of the trials that took steps or diverged; all of it where none did."""
        if not self.trained:
            return self
        steps = self.trials["steps"].fillna(0)
        return self.restricted(self.trials[(steps > 0) | (self.trials["status"] == "diverged")])

    def restricted(self, trials: pandas.DataFrame) -> Evidence:
        """Returns the evidence of some of the trials alone; layers and curves are shared."""
        kept = self.trials[self.trials["trial_id"].isin(trials["trial_id"])]
        return replace(self, trials=kept)

    def with_data(self, trials: pandas.DataFrame) -> pandas.DataFrame:
        """Returns trials whose column `dataset` says `data`, so that doses are told apart."""
        if "dataset" not in self.axes:
            return trials
        return trials.assign(dataset=self.data[trials.index])

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
        words = label_words(shown, row.to_dict())
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
        return self.plain.loc[self.finished.index, axis]


def gather(tables: Tables, where: dict[str, list[str]] | None = None) -> Evidence:
    """Returns the evidence of a report, judged by this version of the criteria.

    Args:
        tables: the tidy tables of a store.
        where: allowed values by axis (or `seed`); trials with another value are left out.

    Raises:
        RequestError: an unknown axis or value, or no finished trial.
    """
    if "status" not in tables.trials or not len(tables.trials):
        raise RequestError("no trials to report on; train some with python -m harness.train")
    trials, layers = judge_tables(tables.trials, tables.layers)
    axes = axis_names(trials)
    for axis, values in (where or {}).items():
        trials = _restricted(trials, axes, axis, values)
    if not trials["status"].isin(FINISHED).any():
        counts = trials["status"].value_counts()
        statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise RequestError(f"no finished trial to report on: {statuses}")
    trials = _scored(trials.reset_index(drop=True))
    if (trials["search_role"] == TUNING).all():
        raise RequestError(
            f"no result to report on: all {len(trials)} trials tune a search; "
            "run the same command again to confirm what it chose"
        )
    curves = tables.curves
    if where:
        kept = set(trials["trial_id"])
        curves = curves[curves["trial_id"].isin(kept)]
        layers = layers[layers["trial_id"].isin(kept)]
    return Evidence(trials, curves, layers, tuple(axes), tables.histograms)


def _scored(trials: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the trials with every column that a report reads, and with their scores."""
    trials = trials.copy()
    for name in _EXPECTED_COLUMNS:
        if name not in trials:
            trials[name] = math.nan
    for name in ("search_role", "search"):
        texts = trials[name] if name in trials else pandas.Series(None, trials.index, dtype="str")
        trials[name] = texts.fillna("")
    for name in ("depth", "width"):
        if name in trials and not pandas.api.types.is_numeric_dtype(trials[name]):
            trials[name] = trials[name].map(number_or_text).astype(object)
    trials["chance"] = chances(trials)
    diverged = trials["status"] == "diverged"
    trials["score"] = trials["test_accuracy"].where(~diverged, trials["chance"])
    trials["loss_score"] = trials["train_loss"].where(~diverged, -numpy.log(trials["chance"]))
    return trials


def axis_names(trials: pandas.DataFrame) -> list[str]:
    """Returns the axes among the columns of a table of trials.

    They stand between the columns of the trial's identity and the `spec.` columns.
    """
    names = list(trials.columns)
    start = names.index("ended") + 1 if "ended" in names else 0
    specification = (index for index, name in enumerate(names) if name.startswith("spec."))
    return names[start : next(specification, len(names))]


def _plain(values: pandas.Series) -> pandas.Series:
    """Returns plain values of an axis; each different value is converted once."""
    codes, levels = pandas.factorize(values, use_na_sentinel=False)
    plain = numpy.empty(len(levels), object)
    plain[:] = [plain_value(level) for level in levels]
    return pandas.Series(plain[codes], index=values.index, dtype=object)


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
    trials = evidence.results
    finished = trials["status"].isin(FINISHED)
    groups = trials.groupby("cell_id", sort=False)
    cells = groups[list(evidence.axes)].first()
    cells["seeds"] = groups.size()
    cells["expected"] = numpy.maximum(cells["seeds"], evidence.seeds)
    for status in ("diverged", "failed", "running", "interrupted"):
        cells[status] = (trials["status"] == status).groupby(trials["cell_id"]).sum()
    cells["finished"] = finished.groupby(trials["cell_id"]).sum()
    scored = ~cells.index.isin(evidence.unscored["cell_id"])
    cells["complete"] = (cells["finished"] == cells["expected"]) & scored
    roles = evidence.role[trials.index].groupby(trials["cell_id"]).first()
    cells["learning_rates"] = numpy.where(roles[cells.index] == CONFIRMATION, "tuned", "fixed")
    cells = cells.join(_cell_scores(trials[finished]))

    survivors = trials[trials["status"] == "done"].groupby("cell_id")
    cells["survivors_accuracy"] = survivors["test_accuracy"].mean()
    cells["validation_accuracy"] = survivors["validation_accuracy"].mean()
    cells["train_loss"] = survivors["train_loss"].mean()
    cells["chance"] = groups["chance"].first()
    majority = trials.get("majority_share", numpy.nan)
    cells["majority_share"] = (
        trials.assign(majority=majority).groupby("cell_id")["majority"].first()
    )
    cells["normalised_score"] = (cells["score"] - cells["chance"]) / (1.0 - cells["chance"])
    return cells


def _cell_scores(finished: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the scores of cells over their finished seeds.

    A cell of which a diverged seed has no score has none either: the mean of the others would
    leave out the very seed that counts against it.
    """
    diverged = finished["status"] == "diverged"
    validation = finished["validation_accuracy"].where(~diverged, finished["chance"])
    unscored = (diverged & finished["score"].isna()).groupby(finished["cell_id"]).transform("any")
    table = pandas.DataFrame(
        {
            "cell_id": finished["cell_id"],
            "score": finished["score"].where(~unscored),
            "validation": validation,
            "samples": finished.get("test_samples", numpy.nan),
        }
    )
    groups = table.groupby("cell_id", sort=False)
    by_seed = table.assign(seed=groups.cumcount()).pivot(
        index="cell_id", columns="seed", values="score"
    )
    # A pivot sorts its rows; cells stand in the order of their trials.
    by_seed = by_seed.reindex(groups.size().index)
    mean, low, high, _ = accuracy_intervals(by_seed, groups["samples"].min())
    unknown = table["validation"].isna().groupby(table["cell_id"]).any()
    return pandas.DataFrame(
        {
            "score": mean,
            "score_low": low,
            "score_high": high,
            "score_median": groups["score"].median(),
            "validation_score": groups["validation"].mean().where(~unknown),
        },
        index=by_seed.index,
    )
