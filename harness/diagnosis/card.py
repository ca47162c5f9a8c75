"""What a diagnosis found: tables, verdicts and findings, as text, as plain values, and as one self-contained page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas

from harness.diagnosis.lint import Finding
from harness.errors import RequestError
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS

_LETTERS = dict(zip((*VERDICTS, "unknown"), ("+", "~", "X", "?")))
# The columns of the printed table: (heading, column, format).
_SHOWN = (
    ("in mean", "input_mean", "{:.3f}"),
    ("in var", "input_variance", "{:.3g}"),
    ("tau", "tau_mean", "{:.3g}"),
    ("z var", "pre_activation_variance", "{:.3g}"),
    ("mean", "activation_mean", "{:.3f}"),
    ("var", "activation_variance", "{:.3g}"),
    ("between", "between_unit_share", "{:.2f}"),
    ("PR in", "input_participation_ratio", "{:.3g}"),
    ("kurtosis", "pooled_excess_kurtosis", "{:.2g}"),
    ("grad^2", "gradient_product", "{:.3g}"),
)
_LADDER = (
    ("g", "ladder_map"),
    ("+ weights", "ladder_weights"),
    ("+ moments", "ladder_moments"),
    ("+ distribution", "ladder_empirical"),
)


@dataclass(frozen=True)
class Card:
    """The diagnosis of one model.

    Attributes:
        layers: one row per activated layer with the columns of the layer table, its activation and normalization, and `absent`.
        verdicts: one row per layer and assumption (`harness.verdicts.evaluation.verdicts`).
        criteria: one row per layer and criterion (`harness.verdicts.evaluation.evaluate`).
        findings: what the lint found.
        summary: `verdict_<assumption>` and `verdict_sentence`.
        notes: what was measured in which way, and what was not.
    """

    model: str
    parameters: int
    shape: tuple[int, ...]
    samples: int
    device: str
    layers: pandas.DataFrame
    verdicts: pandas.DataFrame
    criteria: pandas.DataFrame
    findings: list[Finding]
    summary: dict[str, str]
    notes: list[str]

    @property
    def ladder(self) -> pandas.DataFrame:
        """Root-mean-square error over units of the predicted (mean, variance), one row per layer, one column per rung."""
        present = [name for _, name in _LADDER if name in self.layers]
        return self.layers[["layer", "name", *present]]

    def __str__(self) -> str:
        parts = [
            self._head(),
            self.summary["verdict_sentence"],
            self._verdict_table(),
            self._ladder_table(),
            self._lint_text(),
        ]
        return "\n\n".join([*parts, "\n".join(f"note: {note}" for note in self.notes)])

    def as_dict(self) -> dict[str, Any]:
        """Everything as values that JSON has; a number that is absent is None."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "input_shape": list(self.shape),
            "samples": self.samples,
            "device": self.device,
            "criteria_version": load().version,
            "summary": self.summary,
            "layers": _records(self.layers),
            "verdicts": _records(self.verdicts.drop(columns="row")),
            "criteria": _records(self.criteria.drop(columns="row")),
            "findings": [
                vars(finding) | {"layers": list(finding.layers)} for finding in self.findings
            ],
            "notes": self.notes,
        }

    def to_json(self) -> str:
        """`as_dict` as text."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def write_html(self, path: Path | str) -> Path:
        """One page with the figures inside; raises RequestError where it cannot be written."""
        path = Path(path)
        page = self.html()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def html(self) -> str:
        """The page as text."""
        from harness.diagnosis.page import (
            page,
        )  # matplotlib takes a second, which only a page needs

        return page(self)

    def _head(self) -> str:
        return f"{self.model}: {self.parameters:,} parameters, {len(self.layers)} activated layers; {self.samples} samples of shape {' x '.join(map(str, self.shape))} on {self.device}"

    def _verdict_table(self) -> str:
        """One line a layer: what it is, its main numbers, and one sign for each assumption."""
        words = self.verdicts.pivot(index="layer", columns="assumption", values="verdict")
        rows = [
            [
                "layer",
                "name",
                "kind",
                "units",
                "activation",
                *(heading for heading, _, _ in _SHOWN),
                *(name[:5] for name in load().assumptions),
            ]
        ]
        for row in self.layers.to_dict("records"):
            numbers = [_number(row.get(column), form) for _, column, form in _SHOWN]
            normalization = "" if row["normalization"] == "none" else f" ({row['normalization']})"
            signs = [_LETTERS[words.loc[row["layer"], name]] for name in load().assumptions]
            rows.append(
                [
                    str(row["layer"]),
                    row["name"],
                    row["kind"],
                    str(row["units"]),
                    row["activation"] + normalization,
                    *numbers,
                    *signs,
                ]
            )
        return (
            aligned(rows, left=(1, 2, 4))
            + "\n  + holds   ~ strained   X fails   ? unknown; grad^2 is the mean squared gradient relative to the last layer's"
        )

    def _ladder_table(self) -> str:
        heads = ["layer", *(heading for heading, _ in _LADDER)]
        rows = [heads] + [
            [str(row["layer"]), *(_number(row.get(column), "{:.3f}") for _, column in _LADDER)]
            for row in self.layers.to_dict("records")
        ]
        return (
            "Attribution: error of the predicted mean and variance of a unit (root mean square over units), one assumption less at each step\n"
            + aligned(rows)
        )

    def _lint_text(self) -> str:
        if not self.findings:
            return (
                "Lint: nothing found."
                if (self.layers["activation"] == "selu").any()
                else "Lint: nothing found (most rules are about SELU layers, and there is none)."
            )
        said = [
            f"- {finding.rule}: {listed(finding.layers)}\n    found: {finding.found}\n    so: {finding.consequence}\n    fix: {finding.fix}"
            for finding in self.findings
        ]
        return f"Lint: {len(self.findings)} finding{'s' * (len(self.findings) > 1)}\n" + "\n".join(
            said
        )


def aligned(rows: list[list[str]], left: tuple[int, ...] = ()) -> str:
    """Rows of text in columns, numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def listed(names: tuple[str, ...], most: int = 6) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def table_html(card: Card) -> str:
    """The printed table as HTML, a coloured cell for each verdict with its reason as a hint."""
    judged = {(row["layer"], row["assumption"]): row for row in card.verdicts.to_dict("records")}
    heads = [
        "layer",
        "name",
        "kind",
        "units",
        "activation",
        *(heading for heading, _, _ in _SHOWN),
        *load().assumptions,
    ]
    lines = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    for row in card.layers.to_dict("records"):
        normalization = "" if row["normalization"] == "none" else f" ({row['normalization']})"
        cells = [
            str(row["layer"]),
            row["name"],
            row["kind"],
            str(row["units"]),
            row["activation"] + normalization,
            *(_number(row.get(column), form) for _, column, form in _SHOWN),
        ]
        signs = "".join(_verdict_cell(judged[row["layer"], name]) for name in load().assumptions)
        lines.append(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + signs + "</tr>"
        )
    return '<div class="scroll"><table>' + "".join(lines) + "</table></div>"


def _verdict_cell(row: dict[str, Any]) -> str:
    interval = (
        f" (99 % interval {row['measured_low']:.4g} to {row['measured_high']:.4g})"
        if pandas.notna(row["measured_low"])
        else ""
    )
    predicted = (
        f", {'theory says' if row['by_theory'] else 'assumed'} {row['predicted']:.4g}"
        if pandas.notna(row["predicted"])
        else ""
    )
    hint = (
        row["reason"]
        if row["verdict"] == "unknown"
        else f"{row['criterion']}: {row['column']} = {row['measured']:.4g}{interval}{predicted}"
    )
    return f'<td class="{row["verdict"]}" title="{escape(hint, quote=True)}">{row["verdict"]}</td>'


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) and math.isfinite(value) else "-"


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    return [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
