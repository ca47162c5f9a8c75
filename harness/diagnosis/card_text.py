"""The printed card: what is wrong first, then the course of the network, then a narrow table."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.diagnosis.card_contents import CardContents
from harness.diagnosis.card_table import condition_names, number_text, verdicts_by_layer
from harness.diagnosis.findings import Finding
from harness.reports.figure_style import RUNGS, VERDICT_SIGNS

WIDTH = 100
_MOST_NAMES = 6
# Runs of layers of one kind and verdict that are longer are printed by their first and last layer.
_LONGEST_RUN = 4
_LONGEST_NAME, _SHORTEST_NAME = 28, 8
_LONGEST_ACTIVATION = 14
# (heading, column of the layer table, format, meaning)
_COLUMNS = (
    ("tau", "tau_mean", "{:.3g}", "mean sum of a unit's squared weights, where SELU needs 1"),
    ("z var", "pre_activation_variance", "{:.3g}", "variance of the pre-activations"),
    ("mean", "activation_mean", "{:.3f}", "mean of the activations"),
    ("var", "activation_variance", "{:.3g}", "their variance"),
    ("grad^2", "gradient_product", "{:.3g}", "mean squared gradient relative to the last layer's"),
)
# The end of a sentence on the verdicts of a model without SELU.
NO_FAULT = "how far its layers meet what SELU assumes. None of them is a fault."
# Notes that every card has; they are in its values and on its page.
_USUAL_NOTES = ("Gradients: cross-entropy", "1 of ")


def card_text(card: CardContents) -> str:
    """Returns a card as text of at most 100 columns."""
    parts = [
        _head(card),
        "\n".join(
            wrapped(line) for line in [*_wrong(card), course(card.rows), _reading(card)] if line
        ),
        lint_text(card.findings, has_selu(card)),
        _table(card),
        wrapped(attribution(card)),
        "\n".join(wrapped(f"note: {note}", "  ") for note in _printed_notes(card)),
    ]
    return "\n\n".join(part for part in parts if part)


def has_selu(card: CardContents) -> bool:
    """Returns True for a model with a SELU layer."""
    return bool((card.layers["activation"] == "selu").any())


def course(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Returns one sentence on the moments and gradients from the first layer to the last.

    Args:
        rows: a layer table as one mapping for each layer.
    """
    measured = [row for row in rows if _is_number(row.get("activation_variance"))]
    if not measured:
        return "No layer could be measured."
    first, last = measured[0], measured[-1]
    count = last["layer"] - first["layer"] + 1
    layers_text = "1 layer" if count == 1 else f"{count} layers"
    text = (
        f"Signal: variance {first['input_variance']:.3g} to {last['activation_variance']:.3g} "
        f"over {layers_text}, mean {first['input_mean']:.2f} to {last['activation_mean']:.2f}"
    )
    gradient = first.get("gradient_product")
    if _is_number(gradient) and len(measured) > 1:
        text += f"; the first layer's squared gradient is {gradient:.3g} times the last layer's"
    return f"{text}."


def attribution(card: CardContents) -> str:
    """Returns one sentence on the premise that most of g's error comes from."""
    errors: list[tuple[str, float]] = []
    for rung in RUNGS:
        if rung.column in card.layers:
            median = card.layers[rung.column].median()
            if _is_number(median):
                errors.append((rung.label, float(median)))
    if len(errors) < 2 or errors[0][0] != RUNGS[0].label:
        return ""
    drops = [before - after for (_, before), (_, after) in zip(errors, errors[1:], strict=False)]
    largest = max(range(len(drops)), key=drops.__getitem__)
    name = errors[largest + 1][0].removeprefix("+ ")
    return (
        f"Attribution: SELU's map g misses the mean and variance of units by {errors[0][1]:.2g} "
        f"(median of the layers); most of that comes from {name}: with it {errors[largest][1]:.2g} "
        f"becomes {errors[largest + 1][1]:.2g}."
    )


def lint_text(findings: list[Finding], any_selu: bool) -> str:
    """Returns the findings, each with what is wrong and the line that mends it."""
    if not findings:
        return "Lint: nothing found." if any_selu else ""
    count = len(findings)
    lines = [f"Lint: {count} finding" if count == 1 else f"Lint: {count} findings"]
    for finding in findings:
        lines.append(wrapped(f"- {finding.rule}: {listed(finding.layers)}", "    "))
        for word, text in (
            ("found", finding.found),
            ("so", finding.consequence),
            ("wrong", finding.wrong),
            ("right", finding.fix),
        ):
            if text:
                lines.append(wrapped(f"    {word}: {text}", " " * 11))
    return "\n".join(lines)


def listed(names: Iterable[str]) -> str:
    """Returns the first six names, and how many more there are."""
    names = list(names)
    text = ", ".join(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        text += f" and {len(names) - _MOST_NAMES} more"
    return text


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


def signs(card: CardContents) -> dict[Any, str]:
    """Returns one sign for each premise and promise, by the numbers of the layers."""
    judged = verdicts_by_layer(card.verdicts)
    texts: dict[Any, str] = {}
    for layer in card.layers["layer"]:
        words = [judged[layer, name]["verdict"] for name in condition_names()]
        texts[layer] = "".join(VERDICT_SIGNS[word] for word in words)
    return texts


def shortened(name: str, width: int) -> str:
    """Returns a name, without its beginning where it is too long."""
    return name if len(name) <= width else f"..{name[2 - width :]}"


def _head(card: CardContents) -> str:
    shape = " x ".join(map(str, card.shape))
    return wrapped(
        f"{card.model}: {card.parameters:,} parameters, {len(card.layers)} activated layers;"
        f" {card.samples} samples of shape {shape} on {card.device}"
    )


def _wrong(card: CardContents) -> list[str]:
    """Returns what makes numbers meaningless: values that are not finite."""
    broken = card.layers[card.layers["absent"].str.contains("not finite", regex=False)]
    if broken.empty:
        return []
    first = broken.iloc[0]
    return [
        f"WRONG: values that are not finite (NaN or infinite) in {len(broken)} of "
        f"{len(card.layers)} layers, first in layer {first['layer']} ({first['name']})."
    ]


def _reading(card: CardContents) -> str:
    """Returns a short sentence on the verdicts."""
    if not has_selu(card):
        return f"No SELU in this model: the signs in the table say {NO_FAULT}"
    return str(card.summary["verdict_sentence"])


def _table(card: CardContents) -> str:
    names = condition_names()
    letters = "".join(name[0].upper() for name in names)
    headings = ["layer", "name", "activation", "units", *(heading for heading, *_ in _COLUMNS)]
    rows = [[*headings, letters]]
    judged = signs(card)
    for run in _runs(card):
        if len(run) <= _LONGEST_RUN:
            rows += [[*_cells(row), judged[row["layer"]]] for row in run]
            continue
        hidden = run[1:-1]
        rows.append([*_cells(run[0]), judged[run[0]["layer"]]])
        rows.append([*_folded(hidden), _worst([judged[row["layer"]] for row in hidden])])
        rows.append([*_cells(run[-1]), judged[run[-1]["layer"]]])
    key = ", ".join(f"{sign} {word}" for word, sign in VERDICT_SIGNS.items())
    meanings = "; ".join(f"{heading}: {meaning}" for heading, _, _, meaning in _COLUMNS)
    return "\n".join(
        [
            _fitted(rows),
            wrapped(f"  {letters}: {', '.join(names)} ({key})", "  "),
            wrapped(f"  {meanings}", "  "),
        ]
    )


def _fitted(rows: list[list[str]]) -> str:
    """Returns the table with names short enough for 100 columns."""
    left = (1, 2, len(rows[0]) - 1)
    for width in range(_LONGEST_NAME, _SHORTEST_NAME - 1, -1):
        cut = [[row[0], shortened(row[1], width), *row[2:]] for row in rows]
        text = aligned(cut, left)
        if max(map(len, text.split("\n"))) <= WIDTH:
            break
    return text


def _cells(row: dict[str, Any]) -> list[str]:
    activation = row["activation"]
    if row["normalization"] != "none":
        activation = f"{row['normalization']}+{activation}"
    numbers = [number_text(row.get(column), form) for _, column, form, _ in _COLUMNS]
    return [
        str(row["layer"]),
        shortened(row["name"], _LONGEST_NAME),
        shortened(activation, _LONGEST_ACTIVATION),
        str(row["units"]),
        *numbers,
    ]


def _folded(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the texts of layers that are alike: the median of each number."""
    medians = []
    for _, column, form, _ in _COLUMNS:
        values = [row[column] for row in rows if _is_number(row.get(column))]
        medians.append(number_text(statistics.median(values) if values else math.nan, form))
    numbers = f"{rows[0]['layer']}-{rows[-1]['layer']}"
    return [numbers, f"({len(rows)} alike: medians)", "", str(rows[0]["units"]), *medians]


def _worst(texts: list[str]) -> str:
    """Returns the worst sign of each premise and promise."""
    order = [VERDICT_SIGNS[word] for word in ("unknown", "holds", "strained", "fails")]
    return "".join(max(column, key=order.index) for column in zip(*texts, strict=True))


def _runs(card: CardContents) -> list[list[dict[str, Any]]]:
    """Returns runs of layers of one kind."""
    runs: list[list[dict[str, Any]]] = []
    previous = None
    for row in card.rows:
        columns = ("kind", "units", "activation", "normalization")
        alike = tuple(row[name] for name in columns)
        if runs and alike == previous:
            runs[-1].append(row)
        else:
            runs.append([row])
        previous = alike
    return runs


def _printed_notes(card: CardContents) -> list[str]:
    notes = []
    for note in card.notes:
        usual = note.startswith(_USUAL_NOTES) or note.startswith("No SELU in this model")
        if not usual:
            notes.append(note)
    return notes


def wrapped(text: str, indent: str = "") -> str:
    """Returns a text in lines of at most 100 columns, all but the first indented."""
    lines = textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False
    )
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
