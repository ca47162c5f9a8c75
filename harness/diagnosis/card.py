"""The card of a diagnosis: as text, as values, as a page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from harness.diagnosis.card_contents import CardContents
from harness.diagnosis.card_table import (
    HEADINGS,
    condition_names,
    layer_cells,
    number_text,
    verdicts_by_layer,
)
from harness.errors import RequestError
from harness.reports.figure_style import RUNGS, VERDICT_SIGNS
from harness.verdicts.criteria import load

# Premises and promises are cut to this many letters in the printed table.
_HEADING_LETTERS = 5
_MOST_NAMES = 6


@dataclass(frozen=True)
class Card(CardContents):
    """The diagnosis of one model, which prints as text."""

    def __str__(self) -> str:
        parts = [
            self._head(),
            self.summary["verdict_sentence"],
            self._verdict_text(),
            self._ladder_text(),
            self._lint_text(),
            "\n".join(f"note: {note}" for note in self.notes),
        ]
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON has; a number that is absent is None."""
        findings = []
        for finding in self.findings:
            findings.append(vars(finding) | {"layers": list(finding.layers)})
        return {
            "model": self.model,
            "parameters": self.parameters,
            "input_shape": list(self.shape),
            "samples": self.samples,
            "device": self.device,
            "criteria_version": load().version,
            "summary": {key: _plain(value) for key, value in self.summary.items()},
            "layers": _records(self.layers),
            "verdicts": _records(self.verdicts.drop(columns="row")),
            "criteria": _records(self.criteria.drop(columns="row")),
            "findings": findings,
            "notes": self.notes,
        }

    def to_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def write_html(self, path: Path | str) -> Path:
        """Writes one page with the figures inside and returns its path.

        Raises:
            RequestError: the file cannot be written.
        """
        path = Path(path)
        text = self.html()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def html(self) -> str:
        """Returns the page as text."""
        # matplotlib takes a second to import, which only a page needs.
        from harness.diagnosis.page import page

        return page(self)

    def _head(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return (
            f"{self.model}: {self.parameters:,} parameters, {len(self.layers)} activated layers;"
            f" {self.samples} samples of shape {shape} on {self.device}"
        )

    def _verdict_text(self) -> str:
        """Returns one line a layer: its name and numbers, and one sign for each verdict."""
        names = condition_names()
        judged = verdicts_by_layer(self.verdicts)
        rows = [[*HEADINGS, *(name[:_HEADING_LETTERS] for name in names)]]
        for row in self.layers.to_dict("records"):
            words = [judged[row["layer"], name]["verdict"] for name in names]
            rows.append(layer_cells(row) + [VERDICT_SIGNS[word] for word in words])
        key = "   ".join(f"{sign} {word}" for word, sign in VERDICT_SIGNS.items())
        return (
            aligned(rows, left=(1, 2, 4)) + f"\n  {key};"
            " grad^2 is the mean squared gradient relative to the last layer's"
        )

    def _ladder_text(self) -> str:
        rows = [["layer", *(rung.short for rung in RUNGS)]]
        for row in self.layers.to_dict("records"):
            errors = [number_text(row.get(rung.column), "{:.3f}") for rung in RUNGS]
            rows.append([str(row["layer"]), *errors])
        return (
            "Attribution: error of the predicted mean and variance of a unit (root mean square over"
            f" units), one premise less at each step\n{aligned(rows)}"
        )

    def _lint_text(self) -> str:
        if not self.findings:
            if (self.layers["activation"] == "selu").any():
                return "Lint: nothing found."
            return "Lint: nothing found (most rules are about SELU layers, and there is none)."
        count = len(self.findings)
        lines = [f"Lint: {count} finding" if count == 1 else f"Lint: {count} findings"]
        for finding in self.findings:
            lines.append(f"- {finding.rule}: {listed(finding.layers)}")
            lines.append(f"    found: {finding.found}")
            lines.append(f"    so: {finding.consequence}")
            lines.append(f"    fix: {finding.fix}")
        return "\n".join(lines)


def aligned(rows: list[list[str]], left: tuple[int, ...] = ()) -> str:
    """Returns rows of text in columns, flush right except for the columns in `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            cells.append(text.ljust(width) if index in left else text.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def listed(names: tuple[str, ...]) -> str:
    """Returns the first six names, and how many more there are."""
    text = ", ".join(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        text += f" and {len(names) - _MOST_NAMES} more"
    return text


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    records = []
    for row in table.to_dict("records"):
        records.append({str(key): _plain(value) for key, value in row.items()})
    return records


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
