"""A diagnosis as one self-contained HTML page: sentence, lint, figures, tables and notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
from markupsafe import Markup

from harness.diagnosis.card_contents import CardContents
from harness.diagnosis.card_table import (
    HEADINGS,
    condition_names,
    layer_cells,
    share_cells,
    verdicts_by_layer,
)
from harness.diagnosis.card_text import attribution, course, has_selu
from harness.diagnosis.comparison import (
    COMPARED,
    Earlier,
    cells,
    finding_lines,
    of_card,
    pairs,
)
from harness.diagnosis.comparison_figures import propagation
from harness.reports import layer_figures, moment_figures, verdict_figures
from harness.reports.pictures import data_uri
from harness.reports.rendering import render, table_html
from harness.verdicts.criteria import load
from harness.verdicts.criteria_reference import criteria_table

_TEMPLATES = Path(__file__).with_name("templates")


def page(card: CardContents, against: Sequence[Earlier] = ()) -> str:
    """Returns the page of a card and of comparisons with others; it runs no model."""
    return render(
        "diagnosis.html.j2",
        _TEMPLATES,
        title=f"Diagnosis of {card.model}",
        card=card,
        course=course(card.rows),
        attribution=attribution(card),
        any_selu=has_selu(card),
        headings=[*HEADINGS, *condition_names()],
        rows=_rows(card),
        shares=share_cells(card.summary),
        verdict_map=data_uri(verdict_figures.verdict_map(card.verdicts)),
        profiles=data_uri(layer_figures.profiles(card.layers)),
        trajectories=data_uri(moment_figures.trajectories(card.layers)),
        ladder=data_uri(layer_figures.ladder(card.layers)),
        comparisons=[_comparison(card, earlier) for earlier in against],
        propagation=_propagation(card, against),
        criteria_version=load().version,
        criteria=table_html(criteria_table()),
        columns=_columns(card),
    )


def _comparison(card: CardContents, earlier: Earlier) -> dict[str, Any]:
    """Returns the texts of one comparison."""
    rows = []
    for before, after in pairs(card, earlier):
        texts = dict(zip([heading for heading, *_ in COMPARED], cells(before, after), strict=True))
        rows.append({"layer": (after or before)["name"]} | texts)
    return {
        "label": earlier.label,
        "course": earlier.course,
        "table": table_html(pandas.DataFrame(rows)),
        "findings": finding_lines(card, earlier),
    }


def _propagation(card: CardContents, against: Sequence[Earlier]) -> str | None:
    if not against:
        return None
    return data_uri(propagation([*against, of_card(card, card.model)]))


def _rows(card: CardContents) -> list[dict[str, Any]]:
    """Returns the texts of each layer, and its verdicts with the hint of each."""
    judged = verdicts_by_layer(card.verdicts)
    rows = []
    for layer in card.layers.to_dict("records"):
        verdicts = []
        for name in condition_names():
            verdict = judged[layer["layer"], name]
            verdicts.append({"word": verdict["verdict"], "hint": _hint(verdict)})
        rows.append({"cells": layer_cells(layer), "verdicts": verdicts})
    return rows


def _hint(verdict: dict[str, Any]) -> str:
    """Returns the number that decided a verdict, or why there is none."""
    if verdict["verdict"] == "unknown":
        return verdict["reason"]
    text = f"{verdict['criterion']}: {verdict['column']} = {verdict['measured']:.4g}"
    if pandas.notna(verdict["measured_low"]):
        low, high = verdict["measured_low"], verdict["measured_high"]
        text += f" (99 % interval {low:.4g} to {high:.4g})"
    if pandas.notna(verdict["predicted"]):
        source = "theory says" if verdict["by_theory"] else "assumed"
        text += f", {source} {verdict['predicted']:.4g}"
    return text


def _columns(card: CardContents) -> Markup:
    """Returns all columns of the layer table, a row for each and a column for each layer."""
    table = card.layers.drop(columns=["step", "phase"]).set_index("layer").T
    return table_html(table.map(_text), index=True)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)
