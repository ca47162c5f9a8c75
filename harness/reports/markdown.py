"""Chapters as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas

from harness.reports.chapter import Block, Chapter, Code, Heading, Picture, Points, Table, Text

_MOST_ROWS = 60

# Stores a picture and returns its address, or None where there is nothing to draw.
Draw = Callable[[Picture], str | None]


def chapters_text(chapters: Iterable[Chapter], draw: Draw | None = None) -> str:
    """Returns chapters as Markdown, each below a heading of the second level.

    Args:
        chapters: what is written.
        draw: stores the pictures; without it they are left out.
    """
    parts = []
    for chapter in chapters:
        parts.append(f"## {chapter.title}")
        parts += [text for block in chapter.blocks if (text := block_text(block, draw))]
    return "\n\n".join(parts) + "\n"


def block_text(block: Block, draw: Draw | None = None) -> str:
    """Returns one block as Markdown; no text for a picture that is not drawn."""
    if isinstance(block, Heading):
        return f"### {block.text}"
    if isinstance(block, Code):
        return f"```\n{block.text}\n```"
    if isinstance(block, Points):
        return "\n".join(f"- {escaped(text)}" for text in block.texts)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Text):
        return escaped(block.text)
    address = draw(block) if draw else None
    if address is None:
        return ""
    caption = escaped(block.caption)
    return f"![{caption}]({address})\n\n*{caption}*"


def escaped(text: str) -> str:
    """Returns a text in one line without HTML and emphasis of its own."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;")
    return " ".join(plain.replace("*", r"\*").replace("_", r"\_").split())


def _table(table: Table) -> str:
    """Returns the first 40 rows as a table of Markdown."""
    shown = table.rows.head(_MOST_ROWS)
    lines = [_row(shown.columns), _row(["---"] * len(shown.columns))]
    lines += [_row(row) for row in shown.itertuples(index=False)]
    if len(table.rows) > len(shown):
        lines += ["", f"Only the first {len(shown)} of {len(table.rows)} rows are shown."]
    captions = [text for text in (table.summary, table.caption) if text]
    caption = [f"{escaped(' '.join(captions))}\n"] if captions else []
    return "\n".join([*caption, *lines])


def _row(values: Sequence[Any] | pandas.Index) -> str:
    texts = ["" if pandas.isna(value) else escaped(str(value)) for value in values]
    return f"| {' | '.join(text.replace('|', '&#124;') for text in texts)} |"
