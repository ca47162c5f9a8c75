"""The progress of the trials in a store: counts, failures, and every cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.store import searches
from harness.store.records import FINISHED, STATUSES
from harness.store.trials import Store

_HEADLINE_AXES = (
    "dataset",
    "architecture",
    "depth",
    "activation",
    "initializer",
    "normalization",
)
_NO_ERROR = "no error was recorded"


@dataclass
class CellProgress:
    """One cell: its axes, and its trials counted by status."""

    axes: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> int:
        """Number of trials with a result."""
        return sum(self.counts[status] for status in FINISHED)


@dataclass
class Progress:
    """All cells of a store.

    `cells` are by cell id. `failures` maps a failed trial to the last line of its error, `damaged`
    a trial that cannot be read to the reason, and `damaged_searches` the record of a search.
    """

    cells: dict[str, CellProgress] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    damaged_searches: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """Trials by status, over all cells."""
        return sum((cell.counts for cell in self.cells.values()), Counter())

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON.

        `done` counts diverged trials too, as they have a result.
        """
        counts = self.counts
        cells = {
            cell_id: {
                "axes": cell.axes,
                "finished": cell.finished,
                "trials": cell.counts.total(),
            }
            for cell_id, cell in self.cells.items()
        }
        return {
            "trials": counts.total() + len(self.damaged),
            "done": counts["done"] + counts["diverged"],
            **{status: counts[status] for status in STATUSES if status != "done"},
            "damaged": self.damaged,
            "damaged_searches": self.damaged_searches,
            "failures": self.failures,
            "cells": cells,
        }

    def lines(self) -> list[str]:
        """Returns lines for a reader: the counts first, then the failures, then the cells."""
        lines = [self._counts_line()]
        lines += [f"failed {trial_id}: {error}" for trial_id, error in self.failures.items()]
        damaged = self.damaged | self.damaged_searches
        lines += [f"damaged {name}: {error}" for name, error in damaged.items()]
        labels = distinguishing([cell.axes for cell in self.cells.values()])
        for label, (cell_id, cell) in sorted(zip(labels, self.cells.items(), strict=True)):
            diverged = f", {cell.counts['diverged']} diverged" if cell.counts["diverged"] else ""
            lines.append(f"{cell.finished}/{cell.counts.total()}{diverged}  {cell_id}  {label}")
        return lines

    def _counts_line(self) -> str:
        counts = self.as_dict()
        parts = [f"{counts['done']} done ({counts['diverged']} diverged)"]
        parts += [f"{counts[status]} {status}" for status in ("failed", "running", "interrupted")]
        if self.damaged:
            parts.append(f"{len(self.damaged)} damaged")
        return f"{counts['trials']} trials: {', '.join(parts)}"


def survey(store: Store) -> Progress:
    """Reads every trial of the store; what is damaged is reported and does not stop the survey."""
    records, damaged = store.read_all()
    _, damaged_searches = searches.read_all(store.runs)
    progress = Progress(damaged=damaged, damaged_searches=damaged_searches)
    for record in records:
        cell = progress.cells.setdefault(record.cell_id, CellProgress(record.axes))
        cell.counts[record.status] += 1
        if record.status == "failed":
            progress.failures[record.trial_id] = last_line(
                record.error or record.traceback or _NO_ERROR
            )
    return progress


def distinguishing(cells: list[Mapping[str, Any]]) -> list[str]:
    """Returns a label for each cell: the axes in which the cells differ.

    Where they do not differ, the label has all headline axes.
    """
    names = list(dict.fromkeys(name for axes in cells for name in axes))
    varied = [name for name in names if _values_differ(name, cells)]
    shown = varied or _HEADLINE_AXES
    return [_label(axes, shown) for axes in cells]


def _values_differ(name: str, cells: list[Mapping[str, Any]]) -> bool:
    values = {repr(axes.get(name)) for axes in cells}
    return len(values) > 1


def _label(axes: Mapping[str, Any], names: Collection[str]) -> str:
    return " ".join(f"{name}={axes[name]}" for name in names if name in axes)


def last_line(text: str) -> str:
    """Returns the last line that is not empty, which in a traceback is the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else _NO_ERROR
