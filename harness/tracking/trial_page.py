"""The page of a trial in MLflow: predictions, verdicts and ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from markupsafe import Markup
from numpy.typing import NDArray

from harness.reports.figure_style import RUNGS
from harness.reports.rendering import render
from harness.store.records import Record
from harness.verdicts import criteria
from harness.verdicts.evaluation import KEYS, verdict_columns

Columns = Mapping[str, NDArray]

_TEMPLATES = Path(__file__).with_name("templates")
_PLACE = ("layer", "condition", "step")
_VERDICT = ("verdict", "reason", "criterion", "measured", "predicted", "theory_missed")


def columns() -> set[str]:
    """Returns the columns of a layer table that the page reads."""
    return {*criteria.load().columns, *KEYS, "absent", *(rung.column for rung in RUNGS)}


def judge(tables: Sequence[Columns]) -> list[dict[str, NDArray]]:
    """Returns the verdicts on each of several layer tables.

    Tables with the same columns are judged as one, which takes little more time than one of them.

    Args:
        tables: the `columns` of each layer table, as far as it has them.
    """
    judged: list[dict[str, NDArray]] = [{} for _ in tables]
    by_names: dict[tuple[str, ...], list[int]] = {}
    for index, table in enumerate(tables):
        by_names.setdefault(tuple(table), []).append(index)
    for names, indices in by_names.items():
        joined = {}
        for name in names:
            joined[name] = numpy.concatenate([tables[index][name] for index in indices])
        verdicts = verdict_columns(joined)
        rows = numpy.cumsum([len(tables[index]["layer"]) for index in indices])
        ends = numpy.searchsorted(verdicts["row"], rows)
        for name in (*_PLACE, *_VERDICT):
            parts = numpy.split(verdicts[name], ends[:-1])
            for index, part in zip(indices, parts, strict=True):
                judged[index][name] = part
    return judged


def diagnosis(
    record: Record, layers: Columns, judged: Columns, title: str, figures: Sequence[str]
) -> str:
    """Returns the page of a trial, which loads nothing and runs nothing.

    Args:
        record: the trial.
        layers: the `columns` of its layer table.
        judged: its verdicts, from `judge`.
        title: the heading.
        figures: SVG of its layers, which is put into the page as it is.
    """
    sentences = [
        record.summary.get("verdict_sentence"),
        record.summary.get("prediction_sentence"),
    ]
    return render(
        "trial.html.j2",
        _TEMPLATES,
        title=title,
        sentences=[str(sentence) for sentence in sentences if sentence],
        figures=[Markup(figure) for figure in figures],
        grid=_grid(judged) if len(layers["layer"]) else None,
        ladder=_ladder(layers),
    )


def _grid(judged: Columns) -> dict[str, Any]:
    """Returns the verdicts as rows of layers, with one column per condition and probe."""
    places = zip(*(judged[name].tolist() for name in _PLACE), strict=True)
    verdicts = zip(*(judged[name].tolist() for name in _VERDICT), strict=True)
    cells = {place: _cell(*verdict) for place, verdict in zip(places, verdicts, strict=True)}
    conditions = list(dict.fromkeys(judged["condition"]))
    steps = sorted(set(judged["step"].tolist()))
    rows = []
    for layer in sorted(set(judged["layer"].tolist())):
        row = []
        for name in conditions:
            row += [cells.get((layer, name, step)) for step in steps]
        rows.append({"layer": int(layer), "cells": row})
    return {"conditions": conditions, "steps": [int(step) for step in steps], "rows": rows}


def _cell(
    verdict: str,
    reason: str,
    criterion: str,
    measured: float,
    predicted: float,
    theory_missed: bool,
) -> tuple[str, str, bool]:
    """Returns a verdict's word, its hint, and whether theory missed.

    A tuple, which a template reads faster than names: a page has hundreds of them.
    """
    if verdict == "unknown":
        return verdict, reason, theory_missed
    hint = f"{criterion}: measured {measured:.4g}, predicted {predicted:.4g}"
    return verdict, hint, theory_missed


def _ladder(layers: Columns) -> dict[str, Any] | None:
    """Returns the attribution ladder at the last probe that has all of it, or None."""
    rungs = [rung for rung in RUNGS if rung.column in layers]
    if not rungs or not len(layers["layer"]):
        return None
    whole = numpy.isfinite([layers[rung.column] for rung in rungs]).all(axis=0)
    if not whole.any():
        return None
    step = layers["step"][whole].max()
    rows = []
    for row in numpy.argsort(layers["layer"], kind="stable"):
        if whole[row] and layers["step"][row] == step:
            errors = [f"{layers[rung.column][row]:.3g}" for rung in rungs]
            rows.append({"layer": int(layers["layer"][row]), "errors": errors})
    return {"step": int(step), "heads": [rung.label for rung in rungs], "rows": rows}
