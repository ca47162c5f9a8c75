"""The run of a cell: means over its seeds with intervals, which MLflow itself does not have."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy

from harness.errors import RequestError
from harness.reports.accuracies import accuracy_interval
from harness.reports.chances import chance_level
from harness.reports.statistics import Interval
from harness.store import searches
from harness.store.records import Record
from harness.store.tables import flat
from harness.store.trials import Store
from harness.tracking import run_names
from harness.tracking.contents import (
    Contents,
    Point,
    axes_table,
    axis_metrics,
    dataset_of,
    grade_metrics,
    is_number,
    milliseconds,
)
from harness.verdicts import grading

# The tag that names a cell with the trials that its run was made of.
STATE_TAG = "state"
# Changes whenever the contents below do, so that runs of cells are made anew.
_FORMAT = 2
_ACCURACIES = {
    "accuracy/validation": "validation_accuracy",
    "accuracy/test": "test_accuracy",
}
_LOSSES = {"loss/train": "train_loss", "loss/validation": "validation_loss"}


def trials_by_cell(store: Store, trial_ids: Iterable[str]) -> dict[str, list[str]]:
    """Returns the ids of all trials of every cell that one of these trials belongs to.

    Args:
        store: the trials.
        trial_ids: finished trials.
    """
    cells: dict[str, list[str]] = {}
    cell_of: dict[str, str] = {}
    for trial_id in store.trial_ids():
        cell_id = store.cell_of(trial_id)
        if cell_id is not None:
            cells.setdefault(cell_id, []).append(trial_id)
            cell_of[trial_id] = cell_id
    touched = {cell_of[trial_id] for trial_id in trial_ids if trial_id in cell_of}
    return {cell_id: cells[cell_id] for cell_id in sorted(touched)}


def contents_by_state(
    store: Store, cells: Iterable[Sequence[str]], differing: Sequence[str] = ()
) -> dict[str, Contents]:
    """Returns the run of every cell, by its state.

    A cell has all its finished trials in the store, also those of other sweeps. Trials by which a
    learning rate was chosen flatter it, so they count only where there are no others. Trials that
    cannot be read are left out; they are reported where they are sent.

    Args:
        store: the trials.
        cells: the ids of the trials of each cell; see `trials_by_cell`. All their summaries are
            held at once.
        differing: the axes that names begin with.
    """
    runs = {}
    for trial_ids in cells:
        records = []
        for trial_id in trial_ids:
            with contextlib.suppress(RequestError):
                records.append(store.read(trial_id))
        finished = [record for record in records if record.finished]
        if finished:
            run = _contents(*_counted(finished, store), differing)
            runs[run.tags[STATE_TAG]] = run
    return runs


def _counted(records: Sequence[Record], store: Store) -> tuple[list[Record], dict[str, str]]:
    """Returns the trials that count, and the tags of their search."""
    tags = {record.trial_id: searches.tags(store.runs, record.trial_id) for record in records}
    tuning = [
        record for record in records if tags[record.trial_id].get("search_role") == searches.TUNING
    ]
    others = [record for record in records if record not in tuning]
    counted = others or tuning
    return counted, tags[counted[0].trial_id]


def _contents(
    records: Sequence[Record], search: Mapping[str, str], differing: Sequence[str]
) -> Contents:
    first = records[0]
    metrics = _metrics(records)
    starts = [milliseconds(record.started) for record in records if record.started]
    ends = [milliseconds(record.ended) for record in records if record.ended]
    end = max(ends, default=None)
    return Contents(
        name=run_names.of_cell(first.axes, differing),
        started=min(starts, default=None),
        ended=end,
        tags=_tags(records, metrics) | dict(search),
        params={name: str(value) for name, value in first.axes.items()},
        metrics=[Point(key, value, end or 0, 0) for key, value in metrics.items()],
        dataset=dataset_of(first),
    )


def _metrics(records: Sequence[Record]) -> dict[str, float]:
    """Returns the numbers of a cell by metric.

    A diverged trial scores at chance and has no loss.
    """
    diverged = sum(record.status == "diverged" for record in records)
    metrics = {"n": float(len(records)), "diverged": float(diverged)}
    for key, name in _ACCURACIES.items():
        # The size of the validation split is not on record.
        samples = _test_samples(records[0]) if name == "test_accuracy" else math.nan
        interval = accuracy_interval([_score(record, name) for record in records], samples)
        # A trial whose score is unknown would make the mean that of the others.
        if interval.n == len(records):
            metrics |= _with_ends(key, interval)
    for key, name in _LOSSES.items():
        losses = [record.summary.get(name) for record in records if record.status == "done"]
        metrics |= _mean(key, losses)
    grades = [grade_metrics(record.summary) for record in records]
    for name in dict.fromkeys(name for numbers in grades for name in numbers):
        metrics |= _mean(name, [numbers.get(name) for numbers in grades])
    return metrics | axis_metrics(records[0].axes)


def _with_ends(key: str, interval: Interval) -> dict[str, float]:
    numbers = {
        key: interval.value,
        f"{key}_low": interval.low,
        f"{key}_high": interval.high,
    }
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _mean(key: str, values: Iterable[Any]) -> dict[str, float]:
    numbers = [value for value in values if is_number(value)]
    return {key: float(numpy.mean(numbers))} if numbers else {}


def _score(record: Record, name: str) -> float:
    if record.status != "diverged":
        value = record.summary.get(name)
        return float(value) if is_number(value) else math.nan
    known = dict(flat(record.axes)) | dict(flat(record.spec, "spec.")) | dict(flat(record.summary))
    return chance_level(known)


def _test_samples(record: Record) -> float:
    samples = record.summary.get("test_samples")
    return float(samples) if is_number(samples) else math.nan


def _tags(records: Sequence[Record], metrics: dict[str, float]) -> dict[str, str]:
    first = records[0]
    tags = {axis: str(value) for axis, value in first.axes.items()}
    tags["kind"] = "cell"
    tags["cell"] = first.cell_id
    seeds = sorted(record.seed for record in records)
    tags["seeds"] = ", ".join(map(str, seeds))
    tags[STATE_TAG] = _state(records)
    for name, value in metrics.items():
        if name.startswith("share/"):
            tags[f"verdict_{name.removeprefix('share/')}"] = grading.word(value)
    tags["mlflow.note.content"] = _description(records, metrics)
    return tags


def _state(records: Sequence[Record]) -> str:
    trials = sorted((record.trial_id, record.ended) for record in records)
    digest = hashlib.sha256(json.dumps([_FORMAT, trials]).encode()).hexdigest()[:12]
    return f"{records[0].cell_id}-{digest}"


def _description(records: Sequence[Record], metrics: dict[str, float]) -> str:
    """Returns the run's description in Markdown."""
    lines = [f"**{len(records)} trials, {metrics['diverged']:.0f} diverged**"]
    for key in _ACCURACIES:
        if key in metrics:
            text = f"{key}: {metrics[key]:.4f}"
            if f"{key}_low" in metrics:
                text += (
                    f" (95 % interval {metrics[f'{key}_low']:.4f} to {metrics[f'{key}_high']:.4f})"
                )
            lines.append(text)
    trials = ", ".join(f"`{record.trial_id}`" for record in records)
    lines.append(f'Trials: {trials}; search `tags.cell = "{records[0].cell_id}"` among the trials.')
    return "\n\n".join([*lines, axes_table(records[0].axes)])
