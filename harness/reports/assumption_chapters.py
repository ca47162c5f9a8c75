"""Chapters on premises and promises: layer profiles, verdicts, misses, and repairs."""

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
        "Do premises and promises hold: layer profiles",
        "chapter_layers.html.j2",
        values,
        {"layers": table} if len(table) else {},
    )


def verdict(evidence: Evidence) -> Chapter:
    """Returns the chapter on verdicts by cell, two example trials, misses and repairs."""
    cells = assumptions.by_cell(evidence)
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
        "Do premises and promises hold: verdicts",
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
    """Returns one row per cell: its axes, then its premises and promises."""
    if not len(cells):
        return cells
    axes = cells.drop_duplicates("cell_id").set_index("cell_id")[list(evidence.varied)]
    texts = {}
    for name in load().names:
        of_name = cells[cells["condition"] == name]
        at_first = of_name[of_name["phase"] == "init"].set_index("cell_id")
        at_end = of_name[of_name["phase"] == "end"].set_index("cell_id")
        texts[name] = [_verdict_text(at_first.loc[cell], at_end.loc[cell]) for cell in axes.index]
    return axes.assign(**texts).reset_index(drop=True)


def _verdict_text(first: pandas.Series, last: pandas.Series) -> str:
    """Returns text such as `holds 1.00 [0.79, 1.00] to mixed 0.50 [0.20, 0.80]`."""
    parts = []
    for row in (first, last):
        if pandas.notna(row["share"]):
            parts.append(f"{row['word']} {_share_text(row)}")
    return " to ".join(parts) or "unknown"


def _share_text(row: pandas.Series) -> str:
    if pandas.isna(row["low"]):
        return f"{row['share']:.2f}"
    return f"{row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _repairs_shown(repairs: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the table of repairs as texts."""
    if not len(repairs):
        return repairs
    shown = repairs[["repair", "context", "pairs"]].copy()
    shown["accuracy without"] = repairs["score_without"].map(number_text)
    shown["difference"] = interval_texts(repairs, "difference", "low", "high")
    for name in load().names:
        for phase in ("init", "end"):
            if f"{name}_{phase}" in repairs:
                texts = [_change_text(row, f"{name}_{phase}") for row in repairs.to_dict("records")]
                shown[f"{name}, {phase}"] = texts
    return shown


def _change_text(row: Mapping[Any, Any], name: str) -> str:
    """Returns text such as `0.00 to 1.00`: the share of layers that hold, without and with."""
    if pandas.isna(row[name]):
        return ""
    return f"{row[f'{name}_without']:.2f} to {row[name]:.2f}"
