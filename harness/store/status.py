"""How far the trials of a store are: counts, failures, and progress by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import RequestError
from harness.store.records import FINISHED, STATUSES
from harness.store.trials import Store


@dataclass
class CellProgress:
    """One cell: what it is, and how many of its trials have which status."""

    axes: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> int:
        """Trials with a result."""
        return sum(self.counts[status] for status in FINISHED)


@dataclass
class Progress:
    """All cells by id, the last error line of every failed trial, and the trials that cannot be read."""

    cells: dict[str, CellProgress] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """Trials by status, over all cells."""
        return sum((cell.counts for cell in self.cells.values()), Counter())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON; `done` counts diverged trials too, as they have a result."""
        counts = self.counts
        return {
            "trials": counts.total() + len(self.damaged),
            "done": counts["done"] + counts["diverged"],
            **{status: counts[status] for status in STATUSES if status != "done"},
            "damaged": self.damaged,
            "failures": self.failures,
            "cells": {
                cell_id: {
                    "axes": cell.axes,
                    "finished": cell.finished,
                    "trials": cell.counts.total(),
                }
                for cell_id, cell in self.cells.items()
            },
        }

    def lines(self) -> list[str]:
        """What a person reads: the counts first, then the failures, then the cells."""
        state = self.as_dict()
        first = "{trials} trials: {done} done ({diverged} diverged), {failed} failed, {running} running, {interrupted} interrupted"
        lines = [first.format(**state) + (f", {len(self.damaged)} damaged" if self.damaged else "")]
        lines += [f"failed {trial_id}: {error}" for trial_id, error in self.failures.items()]
        lines += [f"damaged {trial_id}: {error}" for trial_id, error in self.damaged.items()]
        labels = distinguishing([cell.axes for cell in self.cells.values()])
        for label, (cell_id, cell) in sorted(zip(labels, self.cells.items(), strict=True)):
            diverged = f", {cell.counts['diverged']} diverged" if cell.counts["diverged"] else ""
            lines.append(f"{cell.finished}/{cell.counts.total()}{diverged}  {cell_id}  {label}")
        return lines


def survey(store: Store) -> Progress:
    """Look at every trial of the store; a damaged one is reported and does not stop the survey."""
    progress = Progress()
    for trial_id in store.trial_ids():
        try:
            record = store.read(trial_id)
        except RequestError as error:
            progress.damaged[trial_id] = str(error)
            continue
        progress.cells.setdefault(record.cell_id, CellProgress(record.axes)).counts[
            record.status
        ] += 1
        if record.status == "failed":
            progress.failures[trial_id] = last_line(
                record.error or record.traceback or "no error was recorded"
            )
    return progress


def distinguishing(cells: list[Mapping[str, Any]]) -> list[str]:
    """A label for each cell: the axes in which the cells differ, or all headline names where they do not."""
    names = list(dict.fromkeys(name for axes in cells for name in axes))
    varied = [name for name in names if len({repr(axes.get(name)) for axes in cells}) > 1]
    shown = varied or [
        "dataset",
        "architecture",
        "depth",
        "activation",
        "initializer",
        "normalization",
    ]
    return [" ".join(f"{name}={axes[name]}" for name in shown if name in axes) for axes in cells]


def last_line(text: str) -> str:
    """The last line that is not empty, which in a traceback is the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no error was recorded"
