"""Decided claims as text, Markdown, JSON and a table."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pandas

from harness.reports.chapter import number_text
from harness.reports.claims.claim import WORDS, DecidedClaim

_WIDTH = 96
_MOST_ROWS = 40


def as_text(decided: Sequence[DecidedClaim]) -> str:
    """Returns the claims for a terminal: a line of counts, then each claim with its number."""
    lines = [counts(decided), ""]
    for entry in decided:
        lines.append(f"{entry.decision.word.upper()}  {entry.claim.name}")
        lines.append(_wrapped(f"Claim: {entry.claim.text}"))
        lines.append(_wrapped(entry.decision.sentence))
        lines.append(_wrapped(f"Source: {entry.claim.source}. Matters: {entry.claim.matters}."))
        lines.append("")
    return "\n".join(lines)


def as_markdown(decided: Sequence[DecidedClaim]) -> str:
    """Returns the claims as a Markdown table, with the tables of the claims below."""
    lines = [
        counts(decided),
        "",
        "| claim | verdict | number | source |",
        "| --- | --- | --- | --- |",
    ]
    for entry in decided:
        cells = (entry.claim.text, entry.decision.word, entry.decision.sentence, entry.claim.source)
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    for entry in decided:
        if entry.decision.rows:
            lines += ["", f"### {entry.claim.name}", "", *_markdown_rows(entry.decision.rows)]
    return "\n".join(lines) + "\n"


def as_json(decided: Sequence[DecidedClaim]) -> str:
    """Returns the claims as JSON; a number that is missing is null."""
    return json.dumps([_record(entry) for entry in decided], indent=2, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[DecidedClaim]], str]] = {
    "text": as_text,
    "md": as_markdown,
    "json": as_json,
}


def as_table(decided: Sequence[DecidedClaim]) -> pandas.DataFrame:
    """Returns one row per claim: name, claim, verdict, number, matters, source, command."""
    rows = []
    for entry in decided:
        rows.append(
            {
                "name": entry.claim.name,
                "claim": entry.claim.text,
                "verdict": entry.decision.word,
                "number": entry.decision.sentence,
                "matters": entry.claim.matters,
                "source": entry.claim.source,
                "command": entry.claim.command,
            }
        )
    return pandas.DataFrame(rows)


def counts(decided: Sequence[DecidedClaim]) -> str:
    """Returns how many claims have each word, as a sentence."""
    words = [entry.decision.word for entry in decided]
    told = [f"{words.count(word)} {word}" for word in WORDS if word in words]
    return f"{len(words)} claims: {', '.join(told)}."


def rows_table(decided: DecidedClaim) -> pandas.DataFrame:
    """Returns the table of one claim with four digits; empty where it has none."""
    return pandas.DataFrame(decided.decision.rows).map(number_text)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _markdown_rows(rows: Sequence[dict[str, object]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    for row in rows[:_MOST_ROWS]:
        cells = [_cell(number_text(row.get(name, ""))) for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    if len(rows) > _MOST_ROWS:
        lines += ["", f"The first {_MOST_ROWS} of {len(rows)} rows."]
    return lines


def _record(entry: DecidedClaim) -> dict[str, Any]:
    return {
        "name": entry.claim.name,
        "claim": entry.claim.text,
        "verdict": entry.decision.word,
        "sentence": entry.decision.sentence,
        "numbers": _plain(entry.decision.numbers),
        "matters": entry.claim.matters,
        "source": entry.claim.source,
        "command": entry.claim.command,
        "rows": [_plain(row) for row in entry.decision.rows],
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Returns values that JSON has: no NumPy numbers, null for NaN and infinity."""
    plain = {}
    for name, value in values.items():
        value = value.item() if isinstance(value, numpy.generic) else value
        missing = isinstance(value, float) and not math.isfinite(value)
        plain[name] = None if missing else value
    return plain
