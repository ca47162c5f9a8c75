"""Chapters on how the report was made: what was run, rules, versions, machine, commands."""

from __future__ import annotations

import platform
from importlib import metadata

import pandas

from harness.reports import reproduction, rules
from harness.reports.axis_values import plain_value
from harness.reports.chapter import Block, Chapter, Code, Heading, Points, Table, Text
from harness.reports.evidence import Evidence
from harness.verdicts.criteria import load

_PACKAGES = ("harness", "torch", "numpy", "scipy", "pandas", "statsmodels", "matplotlib")
# Columns of the table of trials that say where a trial was trained.
_MACHINE = ("device", "host", "machine", "commit", "torch_version")


def method(evidence: Evidence) -> Chapter:
    """Returns the chapter on what was run, and by which rules."""
    table = pandas.DataFrame(rules.RULES, columns=["rule", "how it is applied"])
    counts = evidence.trials["status"].value_counts()
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    varied = []
    for axis in evidence.varied:
        levels = ", ".join(str(level) for level in evidence.levels(axis))
        varied.append(f"{axis}: {levels}")
    blocks: list[Block] = [
        Text(
            f"{len(evidence.cells)} cells, {len(evidence.trials)} trials ({statuses}), usually "
            f"{evidence.seeds} seed(s) a cell. Varied: {'' if varied else 'nothing, one cell.'}"
        ),
    ]
    if varied:
        blocks.append(Points(tuple(varied)))
    blocks += [
        Heading(f"Rules of comparison, version {rules.VERSION}"),
        Table(table),
        Heading("Versions and machine"),
        Points(tuple(_versions(evidence))),
    ]
    return Chapter("method", "What was run, and by which rules", tuple(blocks))


def commands(evidence: Evidence) -> Chapter:
    """Returns the chapter with the commands that run the cells again."""
    lines = reproduction.commands(evidence)
    blocks: list[Block] = [Code(line.text) for line in lines]
    more = sum(line.grid - line.cells for line in lines)
    if more:
        blocks.append(
            Text(
                "These cells are not the full grid of their values: the command runs "
                f"{more} cells more than are reported here."
            )
        )
    blocks.append(
        Text(
            "Run it from the project's folder; it trains only what is not in its folder of runs "
            "yet. Data sets that are not bundled also need their dataset.root."
        )
    )
    return Chapter("commands", "How to run it again", tuple(blocks))


def _versions(evidence: Evidence) -> list[str]:
    """Returns the versions that made the report, and the machines that trained its trials."""
    lines = [f"Criteria version {load().version}, rules version {rules.VERSION}."]
    installed = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            installed.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    lines.append(f"Reported with {', '.join(installed)} on {platform.machine()}.")
    for column in _MACHINE:
        if column in evidence.finished:
            values = evidence.finished[column].dropna().map(plain_value).astype(str).unique()
            if len(values):
                lines.append(f"{column.replace('_', ' ').capitalize()}: {', '.join(values)}.")
    return lines
