"""Chapters that cross premises, promises and outcome, and the map over four axes."""

from __future__ import annotations

import functools

import pandas

from harness.reports import cross_tables, map_figures
from harness.reports.chapter import (
    Block,
    Chapter,
    Heading,
    Picture,
    Table,
    Text,
    number_text,
    percent_text,
)
from harness.reports.evidence import Evidence
from harness.reports.share_tables import cell_shares

_MAPS = (
    ("start", "layers in the domain, initialisation"),
    ("end", "layers in the domain, end of training"),
    ("accuracy", "test accuracy"),
)


def cross(evidence: Evidence) -> Chapter:
    """Returns the chapter that crosses premises, promises and outcome of all cells."""
    table = cross_tables.cross(evidence)
    shown = pandas.DataFrame(
        {
            "premises at initialisation": table["premises"],
            "moments at initialisation": table["promise_start"],
            "moments at the end": table["promise_end"],
            "cells": table["cells"],
            "trials": table["trials"],
            "trials that train": _percents(table),
            "mean accuracy": table["accuracy"].map(number_text),
        }
    )
    blocks: list[Block] = [
        Text(
            "Each cell is graded by the share of its layers that hold: at least nine of ten is "
            "holds, at most one of ten fails, between is mixed. Premises are what the theorem "
            "assumes (the mean share over input, weights, gaussianity and dependence); moments "
            "inside Theorem 1's domain are what it promises; a trial trains that gets half way "
            "from guessing to a perfect score on its training samples."
        ),
        Table(
            shown,
            "Read along a row: what became of the cells with these grades. Where rows of different "
            "grades train alike, the grade does not decide. Brackets are 95 % Wilson intervals "
            "over trials.",
        ),
    ]
    tables = {"cross": table}
    words = cross_tables.by_word(evidence)
    if len(words):
        tables["outcome_by_word"] = words
        tables["cell_shares"] = cell_shares(evidence)
        blocks += [
            Heading("Each premise and promise by itself"),
            Table(
                _words_shown(words),
                "One row for each word that occurs; cells that were only initialised are counted. "
                "The share that trains and the accuracy are means over the cells that were "
                "trained. Early is the first probe at or after a tenth of the steps.",
            ),
        ]
    return Chapter("cross", "Premises, promises and outcome", tuple(blocks), tables)


def domain_map(evidence: Evidence) -> Chapter:
    """Returns the chapter on the map over initializer, depth, normalization and preprocessing."""
    table = cross_tables.map_cells(evidence)
    title = "Map: initializer, depth, preprocessing, normalization"
    activation = table["activation"].iloc[0] if len(table) else "no activation"
    blocks: list[Block] = [Text(f"Networks with {activation}. Other axes and seeds are averaged.")]
    for column, label in _MAPS:
        blocks.append(
            Picture(
                functools.partial(map_figures.domain_map, table, column, label),
                f"Colour and number: {label}, in percent. A panel is one preprocessing and one "
                "normalization; in it initializers stand below each other and depth grows to the "
                "right. Yellow is all, dark blue is none, blank was not run.",
            )
        )
    return Chapter("map", title, tuple(blocks), {"map": table})


def _percents(table: pandas.DataFrame) -> list[str]:
    rows = zip(table["trains"], table["low"], table["high"], strict=True)
    return [percent_text(*row) for row in rows]


def _words_shown(words: pandas.DataFrame) -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "name": words["name"],
            "phase": words["phase"],
            "grade": words["word"],
            "cells": words["cells"],
            "mean share of layers": words["share"].map(percent_text),
            "share that trains": words["trains"].map(percent_text),
            "mean accuracy": words["accuracy"].map(number_text),
        }
    )
