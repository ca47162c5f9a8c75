"""Chapters on the assumptions: layer profiles, verdicts, misses of theory, and repairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

from harness.reports import (
    assumptions,
    layer_figures,
    moment_figures,
    sweep_figures,
    verdict_figures,
)
from harness.reports.chapter import Chapter, first_rows, interval_texts, number_text
from harness.reports.evidence import Evidence
from harness.reports.pictures import data_uri
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import verdicts

_WORDS = ("holds", "strained", "fails", "unknown")
_NO_MEAN = ["seed", "step", "layer", "epoch"]


def layers(evidence: Evidence) -> Chapter:
    """Returns the chapter on profiles over the layers."""
    values = {
        "start": data_uri(sweep_figures.profiles(evidence, "init")),
        "end": data_uri(sweep_figures.profiles(evidence, "end")),
        "gradients": data_uri(sweep_figures.gradients(evidence)),
    }
    table = _layer_means(evidence)
    return Chapter(
        "Do the assumptions hold: layer profiles",
        "chapter_layers.html.j2",
        values,
        {"layers": table} if len(table) else {},
    )


def verdict(evidence: Evidence) -> Chapter:
    """Returns the chapter on verdicts by cell, two example trials, misses and repairs."""
    cells = assumptions.by_cell(evidence)
    shares = assumptions.layer_shares(evidence)
    if len(cells) and len(shares):
        cells = cells.merge(shares, on=["cell_id", "assumption"], how="left")
    misses = assumptions.theory_misses(evidence)
    repairs = assumptions.repairs(evidence)
    examples = []
    for title, table in assumptions.examples(evidence):
        examples.append({"title": title, **_pictures(table)})
    values = {
        "criteria_version": load().version,
        "verdicts": first_rows(_verdicts_shown(evidence, cells)),
        "examples": examples,
        "misses": first_rows(misses.map(number_text)),
        "repairs": first_rows(_repairs_shown(repairs)),
    }
    tables = {"verdicts": cells, "theory_misses": misses, "repairs": repairs}
    return Chapter(
        "Do the assumptions hold: verdicts",
        "chapter_assumptions.html.j2",
        values,
        {name: table for name, table in tables.items() if len(table)},
    )


def _layer_means(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per cell, phase and layer: every number's mean over seeds."""
    table = evidence.of_cells(evidence.layers)
    if not len(table):
        return table
    numbers = table.select_dtypes("number").columns.difference(_NO_MEAN)
    ends = table[table["phase"].isin(("init", "end"))]
    groups = ends.groupby(["cell_id", "phase", "layer"], sort=False)
    return groups[list(numbers)].mean().reset_index()


def _pictures(table: pandas.DataFrame) -> dict[str, str | None]:
    """Returns the figures of one trial's layer table."""
    return {
        "verdicts": data_uri(verdict_figures.verdict_map(verdicts(table))),
        "trajectories": data_uri(moment_figures.trajectories(table)),
        "profiles": data_uri(layer_figures.profiles(table)),
        "ladder": data_uri(layer_figures.ladder(table)),
    }


def _verdicts_shown(evidence: Evidence, cells: pandas.DataFrame) -> pandas.DataFrame:
    """Returns one row per cell: its axes, then its verdicts."""
    if not len(cells):
        return cells
    texts = [_verdict_text(row) for row in cells.to_dict("records")]
    wide = cells.assign(verdict=texts).pivot(
        index="cell_id", columns="assumption", values="verdict"
    )
    axes = cells.drop_duplicates("cell_id").set_index("cell_id")[list(evidence.varied)]
    return axes.join(wide[list(load().assumptions)]).reset_index(drop=True)


def _verdict_text(row: Mapping[Any, Any]) -> str:
    """Returns text such as `2 holds, 1 fails (50 % to 25 %)`; brackets hold shares of layers."""
    text = ", ".join(f"{row[word]} {word}" for word in _WORDS if row[word])
    shares = []
    for column in ("layers_hold_at_first", "layers_hold_at_the_end"):
        if pandas.notna(row.get(column)):
            shares.append(f"{row[column]:.0%}")
    if shares:
        text += f" ({' to '.join(shares)})"
    return text


def _repairs_shown(repairs: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the table of repairs as texts."""
    if not len(repairs):
        return repairs
    shown = repairs[["repair", "context", "pairs"]].copy()
    shown["accuracy without"] = repairs["score_without"].map(number_text)
    shown["difference"] = interval_texts(repairs, "difference", "low", "high")
    for name in load().assumptions:
        if name in repairs:
            shown[name] = [_change_text(row, name) for row in repairs.to_dict("records")]
    return shown


def _change_text(row: Mapping[Any, Any], assumption: str) -> str:
    before = row[f"{assumption}_without"]
    after = row[assumption]
    better = row[f"{assumption}_better"]
    worse = row[f"{assumption}_worse"]
    if before == after and not better and not worse:
        return before
    return f"{before} to {after} ({better} better, {worse} worse)"
