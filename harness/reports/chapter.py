"""A chapter of the report as a list of blocks, and how numbers stand in its tables.

The same blocks make the HTML page, the Markdown and the JSON of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pandas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    """A paragraph; a `lead` paragraph is set larger, because it holds the answer."""

    text: str
    lead: bool = False
    form: ClassVar[str] = "text"


@dataclass(frozen=True)
class Heading:
    """A heading inside a chapter."""

    text: str
    form: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    texts: tuple[str, ...]
    form: ClassVar[str] = "points"


@dataclass(frozen=True)
class Code:
    """A command line."""

    text: str
    form: ClassVar[str] = "code"


@dataclass(frozen=True)
class Picture:
    """A figure with the sentences that say how to read it.

    Attributes:
        draw: returns the figure, or None where there is nothing to draw; called for a page only.
        caption: what is drawn, and how to read it.
    """

    draw: Callable[[], Figure | None]
    caption: str
    form: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Table:
    """A table as readers see it.

    Attributes:
        rows: the table with its texts; not more than the first 200 rows are shown on a page.
        caption: what it shows and how to read it; may be empty.
        links: by column, the addresses that its texts link to, one a row; "" for no link.
        summary: the line under which the table is folded away; empty for a table in sight.
    """

    rows: pandas.DataFrame
    caption: str = ""
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    summary: str = ""
    form: ClassVar[str] = "table"


Block = Text | Heading | Points | Code | Picture | Table


@dataclass(frozen=True)
class Chapter:
    """One chapter of the report.

    Attributes:
        name: its name in addresses and in JSON.
        title: its heading.
        blocks: what stands in it, in order.
        tables: the tables that are written as CSV, by file name without suffix.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    tables: Mapping[str, pandas.DataFrame] = field(default_factory=dict)


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


def percent_text(value: float, low: float = float("nan"), high: float = float("nan")) -> str:
    """Returns a share in percent with its interval, without one where there is none."""
    if pandas.isna(value):
        return "unknown"
    if pandas.isna(low) or pandas.isna(high):
        return f"{value:.0%}"
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def number_text(value: object) -> str:
    """Returns a number with four digits, no text for NaN, and anything else as it is."""
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}"
    return str(value)
