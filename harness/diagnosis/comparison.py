"""Two diagnoses side by side: layer by layer before and after, and findings gone and new."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.diagnosis.card_contents import CardContents
from harness.diagnosis.card_text import WIDTH, aligned, course, shortened, wrapped
from harness.errors import RequestError

# (heading, column of the layer table, format)
COMPARED = (
    ("tau", "tau_mean", "{:.3g}"),
    ("z var", "pre_activation_variance", "{:.3g}"),
    ("mean", "activation_mean", "{:.3f}"),
    ("var", "activation_variance", "{:.3g}"),
    ("grad^2", "gradient_product", "{:.3g}"),
)
_LONGEST_NAME = 20


@dataclass(frozen=True)
class Earlier:
    """The part of the other diagnosis that a comparison needs.

    Attributes:
        label: the name of the other model.
        course: its course in one sentence.
        layers: one mapping for each activated layer, with the columns of the layer table.
        rules: the layers of each finding, by the name of the rule.
    """

    label: str
    course: str
    layers: list[dict[str, Any]]
    rules: dict[str, tuple[str, ...]]


def of_card(card: CardContents, label: str) -> Earlier:
    """Returns what a comparison needs of a card."""
    rules = {finding.rule: finding.layers for finding in card.findings}
    return Earlier(label, course(card.rows), card.rows, rules)


def of_file(path: Path) -> Earlier:
    """Reads a card that was written with `--json`.

    Raises:
        RequestError: the file holds no card.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        layers = [_numbers(row) for row in read["layers"]]
        rules = {finding["rule"]: tuple(finding["layers"]) for finding in read["findings"]}
        return Earlier(path.name, read["summary"].get("course", ""), layers, rules)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(
            f"{path} holds no diagnosis; diagnose.py MODEL --data DATA --json > {path.name} writes "
            "one"
        ) from None


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of a JSON file with NaN where it has no number."""
    numbers: dict[str, Any] = {}
    for name, value in row.items():
        is_infinite = value in ("inf", "-inf")
        numbers[name] = math.nan if value is None else float(value) if is_infinite else value
    return numbers


def pairs(card: CardContents, earlier: Earlier) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the layers of both, (before, after), by name; {} where there is no counterpart.

    Networks without a common name are paired by the positions of their layers.
    """
    after = card.rows
    before = {row["name"]: row for row in earlier.layers}
    if not any(row["name"] in before for row in after):
        longest = max(len(after), len(earlier.layers))
        padded = [[*rows, *[{}] * (longest - len(rows))] for rows in (earlier.layers, after)]
        return list(zip(*padded, strict=True))
    names = {row["name"] for row in after}
    paired = [(before.get(row["name"], {}), row) for row in after]
    return paired + [(row, {}) for row in earlier.layers if row["name"] not in names]


def comparison_text(card: CardContents, earlier: Earlier) -> str:
    """Returns both diagnoses side by side as text of at most 100 columns."""
    rows = [["layer", *(heading for heading, *_ in COMPARED)]]
    for before, after in pairs(card, earlier):
        name = shortened((after or before)["name"], _LONGEST_NAME)
        rows.append([name, *cells(before, after)])
    lines = [f"Compared with {earlier.label} (before > after)"]
    lines += [wrapped(f"  before: {earlier.course}", " " * 10)]
    lines += [wrapped(f"  after:  {course(card.rows)}", " " * 10)]
    lines.append(aligned(rows, left=(0,)))
    lines += [f"  {line}" for line in finding_lines(card, earlier)]
    return "\n".join(_cut(line) for text in lines for line in text.split("\n"))


def cells(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns `before > after` for each compared column."""
    texts = []
    for _, column, form in COMPARED:
        values = [row.get(column, math.nan) for row in (before, after)]
        shown = [_shown(value, form) for value in values]
        texts.append(" > ".join(shown))
    return texts


def finding_lines(card: CardContents, earlier: Earlier) -> list[str]:
    """Returns the findings that are gone, new, and still there."""
    now = {finding.rule for finding in card.findings}
    groups = (
        ("gone", [rule for rule in earlier.rules if rule not in now]),
        ("new", [rule for rule in now if rule not in earlier.rules]),
        ("still there", [rule for rule in earlier.rules if rule in now]),
    )
    return [f"{word}: {', '.join(sorted(rules))}" for word, rules in groups if rules]


def _shown(value: Any, form: str) -> str:
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "-"
    return form.format(value)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 2]}.."
