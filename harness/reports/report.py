"""The report: one self-contained HTML file with its tables beside it as CSV.

It gives the answer first, then claims, premises and promises against outcome, how long they last,
whether that matters, and how to run it again. Markdown and JSON hold the same chapters.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas
from markupsafe import Markup

from harness.reports import (
    answer_chapters,
    assumption_chapters,
    cross_chapters,
    lasting_chapters,
    matter_chapters,
    method_chapters,
    outcome_chapters,
    published_chapters,
    tuning_chapters,
)
from harness.reports.chapter import Block, Chapter, Code, Heading, Picture, Points, Table, Text
from harness.reports.claims.claim import decide_all
from harness.reports.evidence import Evidence
from harness.reports.markdown import chapters_text
from harness.reports.pictures import inline_svg
from harness.reports.rendering import linked_table_html, render

_MOST_ROWS = 200
# Shorter tables are seen at once.
_FEWEST_FILTERED_ROWS = 9
# Texts up to this length stand in one line of a table.
_LONGEST_UNBROKEN = 60


def write(evidence: Evidence, folder: Path, title: str, csv: bool = True) -> Path:
    """Writes `report.html` and one CSV for each table into `folder`.

    Equal tables give equal bytes.

    Args:
        evidence: the trials.
        folder: is made where it is missing.
        title: the page's title.
        csv: without it only the page is written.

    Returns:
        The path of the report.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report_chapters = chapters(evidence)
    for chapter in report_chapters:
        for name, table in chapter.tables.items() if csv else ():
            table.to_csv(folder / f"{name}.csv", index=False)
    path = folder / "report.html"
    shown = [_for_page(chapter, csv) for chapter in report_chapters]
    page = render("report.html.j2", title=title, chapters=shown)
    path.write_text(page, encoding="utf-8")
    return path


def markdown(evidence: Evidence) -> str:
    """Returns the chapters as Markdown, without figures."""
    return chapters_text(chapters(evidence))


def as_json(evidence: Evidence) -> str:
    """Returns the chapters as JSON: texts, commands and whole tables, without figures."""
    entries = []
    for chapter in chapters(evidence):
        texts = [block.text for block in chapter.blocks if isinstance(block, (Text, Heading))]
        commands = [block.text for block in chapter.blocks if isinstance(block, Code)]
        for block in chapter.blocks:
            if isinstance(block, Points):
                texts += block.texts
        entries.append(
            {
                "name": chapter.name,
                "title": chapter.title,
                "texts": texts,
                "commands": commands,
                "tables": {name: _records(table) for name, table in chapter.tables.items()},
            }
        )
    return json.dumps({"chapters": entries}, indent=2, allow_nan=False) + "\n"


def chapters(evidence: Evidence) -> list[Chapter]:
    """Returns the chapters of a report in their order."""
    decided = decide_all(evidence)
    return [
        answer_chapters.answer(evidence, decided),
        answer_chapters.claims(decided),
        cross_chapters.cross(evidence),
        cross_chapters.domain_map(evidence),
        lasting_chapters.duration(evidence),
        lasting_chapters.distributions(evidence),
        matter_chapters.matter(evidence),
        outcome_chapters.accuracy(evidence),
        tuning_chapters.tuning_curves(evidence),
        outcome_chapters.comparison(evidence),
        assumption_chapters.theory(evidence),
        assumption_chapters.layers(evidence),
        outcome_chapters.divergence(evidence),
        published_chapters.published(evidence),
        method_chapters.method(evidence),
        method_chapters.commands(evidence),
    ]


def _for_page(chapter: Chapter, csv: bool) -> dict[str, Any]:
    """Returns what the template shows of a chapter; its figures are drawn here.

    Tables are linked where they are written beside the page.
    """
    blocks = [shown for block in chapter.blocks if (shown := _page_block(block)) is not None]
    return {
        "name": chapter.name,
        "title": chapter.title,
        "blocks": blocks,
        "tables": chapter.tables if csv else {},
    }


def _page_block(block: Block) -> Any:
    """Returns a block as its macro takes it; None for a figure that has nothing to draw."""
    if isinstance(block, Picture):
        figure = block.draw()
        if figure is None:
            return None
        svg = inline_svg(figure, block.caption)
        return {"form": block.form, "svg": svg, "caption": block.caption}
    if isinstance(block, Table):
        return {
            "form": block.form,
            "html": _table_html(block),
            "caption": block.caption,
            "summary": block.summary,
            "shown": min(len(block.rows), _MOST_ROWS),
            "total": len(block.rows),
            "filtered": len(block.rows) >= _FEWEST_FILTERED_ROWS,
        }
    return block


def _table_html(table: Table) -> Markup:
    rows = table.rows.head(_MOST_ROWS)
    longest = max((len(str(value)) for value in rows.to_numpy().flat), default=0)
    return linked_table_html(rows, table.links, wrapped=longest > _LONGEST_UNBROKEN)


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    """Returns rows with plain values; what is no finite number is null."""
    records = []
    for row in table.to_dict("records"):
        records.append({str(name): _plain(value) for name, value in row.items()})
    return records


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
