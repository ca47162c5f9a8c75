"""The end of a monitored training: its layers, verdicts and stability margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from harness.diagnosis.card_table import number_text
from harness.diagnosis.card_text import NO_FAULT, aligned, course, listed, shortened, wrapped
from harness.monitoring.stability import Stability

_LONGEST_NAME = 28
# Longer tables are cut in the middle.
_MOST_ROWS = 12
# (heading, column of the layer table, format, meaning); each is printed at the start and at the end
_COLUMNS = (
    ("mean", "activation_mean", "{:.2f}", "of the activations, at the first and the last reading"),
    ("var", "activation_variance", "{:.3g}", "their variance"),
    ("tau", "tau_mean", "{:.3g}", "mean sum of a unit's squared weights, where SELU needs 1"),
    ("grad^2", "gradient_product", "{:.2g}", "squared gradient relative to the last layer's"),
)


@dataclass(frozen=True)
class Readings:
    """The part of the due readings that was made, and what has no layer of its own.

    Attributes:
        postponed: steps at which a reading was due and took too much of the loop's time.
        share_of_time: the most of the loop's time that readings may take, or None.
        unread: sentences on what the layer table leaves out.
        folder: where the table is written, or None.
    """

    postponed: int
    share_of_time: float | None
    unread: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class MonitorReport:
    """The course of a monitored training; prints as text.

    Attributes:
        layers: one row per layer and probe, with `step` and the columns of the layer table.
        judged: the shares and words of every premise and promise at the start, early and at the
            end, and `verdict_sentence`, as a trial's summary has them.
        stability: sharpness and stability margin at the end.
        steps: steps taken.
        readings: how many of the due readings were made.
    """

    layers: pandas.DataFrame
    judged: dict[str, Any]
    stability: Stability
    steps: int
    readings: Readings

    def summary(self) -> dict[str, Any]:
        """Returns everything but the table as one flat mapping."""
        values = {
            "steps": self.steps,
            "probed_steps": self._probed_steps(),
            "postponed_probes": self.readings.postponed,
            "sharpness": self.stability.sharpness,
            "stability_margin": self.stability.margin,
            "stability_reason": self.stability.reason,
        }
        return values | self.judged

    def __str__(self) -> str:
        first, last = self._rows_at(0), self._rows_at(-1)
        paragraphs = [
            self._head(),
            self._postponed(),
            f"At the start: {_course(first)}",
            f"At the end: {_course(last)}",
            self._verdicts(),
            self._stability_line(),
        ]
        lines = [wrapped(text, "  ") for text in paragraphs if text]
        lines += ["", _table(first, last), ""]
        notes = [f"note: {note}" for note in self.readings.unread]
        if self.readings.folder is not None:
            notes.append(f"Written: layers.parquet and summary.json in {self.readings.folder}.")
        return "\n".join([*lines, *(wrapped(text, "  ") for text in notes)]).rstrip()

    def _probed_steps(self) -> list[int]:
        return sorted({int(step) for step in self.layers["step"]})

    def _rows_at(self, probe: int) -> list[dict[Any, Any]]:
        """Returns the rows of the first probe (0) or the last one (-1)."""
        step = self._probed_steps()[probe]
        return self.layers[self.layers["step"] == step].to_dict("records")

    def _head(self) -> str:
        count = self.layers["name"].nunique()
        layers = "1 layer" if count == 1 else f"{count} layers"
        at = listed([str(step) for step in self._probed_steps()])
        return f"{self.steps} steps; {layers} read at steps {at}."

    def _postponed(self) -> str:
        share = self.readings.share_of_time
        if not self.readings.postponed or share is None:
            return ""
        due = (
            "1 due reading was"
            if self.readings.postponed == 1
            else (f"{self.readings.postponed} due readings were")
        )
        return (
            f"{due} put off, so that all take at most {share:.0%} of the loop's time; "
            "Monitor(..., cadence=Cadence(share_of_time=None)) puts none off."
        )

    def _verdicts(self) -> str:
        sentence = str(self.judged["verdict_sentence"])
        if (self.layers["activation"] == "selu").any():
            return sentence
        return f"No SELU in this model: the verdicts say {NO_FAULT} {sentence}"

    def _stability_line(self) -> str:
        if self.stability.reason is None:
            return (
                f"Stability margin: {self.stability.margin:.3g} of the edge at 1 "
                f"(sharpness {self.stability.sharpness:.3g})."
            )
        sharpness = ""
        if math.isfinite(self.stability.sharpness):
            sharpness = f"; the sharpness is {self.stability.sharpness:.3g}"
        return f"Stability margin: not measured, as {self.stability.reason}{sharpness}."


def _course(rows: list[dict[Any, Any]]) -> str:
    return course(rows).removeprefix("Signal: ")


def _table(first: list[dict[Any, Any]], last: list[dict[Any, Any]]) -> str:
    """Returns the layers with their numbers at the first and the last reading."""
    headings = ["layer", "name", "activation"]
    for heading, *_ in _COLUMNS:
        headings += [heading, "->"]
    rows = [headings]
    for before, after in zip(first, last, strict=True):
        cells = [str(before["layer"]), shortened(before["name"], _LONGEST_NAME)]
        cells.append(str(before["activation"]))
        for _, column, form, _ in _COLUMNS:
            cells += [number_text(before.get(column), form), number_text(after.get(column), form)]
        rows.append(cells)
    meanings = "; ".join(f"{heading}: {meaning}" for heading, _, _, meaning in _COLUMNS)
    if len(rows) > _MOST_ROWS + 1:
        hidden = len(rows) - 1 - _MOST_ROWS
        middle = ["", f"({hidden} more)", *[""] * (len(headings) - 2)]
        half = _MOST_ROWS // 2
        rows = [*rows[: half + 1], middle, *rows[-half:]]
    return "\n".join([aligned(rows, left=(1, 2)), wrapped(f"  {meanings}", "  ")])
