"""A chapter of the report, and how numbers and tables stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas
from markupsafe import Markup

from harness.reports.rendering import table_html

_MOST_ROWS = 200


@dataclass(frozen=True)
class Chapter:
    """One chapter of the report.

    Attributes:
        title: its heading.
        template: the file name of its template.
        values: the names that the template uses.
        tables: the tables that are written as CSV, by file name without suffix.
    """

    title: str
    template: str
    values: Mapping[str, Any]
    tables: Mapping[str, pandas.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a table as HTML: `shown` of `total` rows."""

    html: Markup
    shown: int
    total: int


def note(title: str, text: str) -> Chapter:
    """Returns a chapter that has nothing but a sentence."""
    return Chapter(title, "chapter_note.html.j2", {"note": text})


def first_rows(table: pandas.DataFrame) -> FirstRows | None:
    """Returns the first 200 rows as HTML, or None for a table without rows."""
    if not len(table):
        return None
    shown = min(len(table), _MOST_ROWS)
    return FirstRows(table_html(table.head(shown)), shown, len(table))


def interval_text(value: float, low: float, high: float) -> str:
    """Returns an estimate with its interval, without one where there is none, or no text."""
    if pandas.isna(value):
        return ""
    if pandas.isna(low):
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def interval_texts(table: pandas.DataFrame, value: str, low: str, high: str) -> list[str]:
    """Returns `interval_text` for each row, from the columns of these names."""
    rows = zip(table[value], table[low], table[high], strict=True)
    return [interval_text(*row) for row in rows]


def number_text(value: object) -> str:
    """Returns a number with four digits, no text for NaN, and anything else as it is."""
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}"
    return str(value)
