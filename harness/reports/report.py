"""The report: one self-contained HTML file with its tables beside it as CSV.

It says what was run, whether it matters for accuracy, which premises and promises held, what
diverged, by which rules, and how to run it again.
"""

from __future__ import annotations

from pathlib import Path

import pandas

from harness.reports import (
    answer_chapters,
    assumption_chapters,
    outcome_chapters,
    reproduction,
    rules,
)
from harness.reports.chapter import Chapter, first_rows
from harness.reports.evidence import Evidence
from harness.reports.rendering import render


def write(evidence: Evidence, folder: Path, title: str) -> Path:
    """Writes `report.html` and one CSV for each table into `folder`.

    Returns:
        The path of the report.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chapters = _chapters(evidence)
    for chapter in chapters:
        for name, table in chapter.tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
    path = folder / "report.html"
    page = render("report.html.j2", title=title, chapters=chapters)
    path.write_text(page, encoding="utf-8")
    return path


def _chapters(evidence: Evidence) -> list[Chapter]:
    return [
        outcome_chapters.summary(evidence),
        answer_chapters.claims(evidence),
        outcome_chapters.accuracy(evidence),
        outcome_chapters.comparison(evidence),
        answer_chapters.matters(evidence),
        answer_chapters.tuning(evidence),
        assumption_chapters.layers(evidence),
        assumption_chapters.verdict(evidence),
        outcome_chapters.divergence(evidence),
        _rules(),
        _commands(evidence),
    ]


def _rules() -> Chapter:
    table = pandas.DataFrame(rules.RULES, columns=["rule", "how it is applied"])
    title = f"Rules of comparison, version {rules.VERSION}"
    return Chapter(title, "chapter_rules.html.j2", {"rules": first_rows(table)})


def _commands(evidence: Evidence) -> Chapter:
    commands = reproduction.commands(evidence)
    values = {
        "commands": [command.text for command in commands],
        "more": sum(command.grid - command.cells for command in commands),
    }
    return Chapter("How to run it again", "chapter_commands.html.j2", values)
