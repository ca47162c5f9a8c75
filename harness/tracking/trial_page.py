"""A trial's diagnosis as one HTML page for the artifact view: what was predicted, the verdicts by layer and probe, what each assumption costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy
from numpy.typing import NDArray

from harness.store.records import Record
from harness.verdicts import criteria
from harness.verdicts.evaluation import KEYS, verdict_columns

_COLOURS = {"holds": "#56b4e9", "strained": "#e69f00", "fails": "#d55e00", "unknown": "#e5e5e5"}
_LETTERS = {"holds": "+", "strained": "~", "fails": "X", "unknown": "?"}
_RUNGS = (
    ("ladder_map", "g, all units alike"),
    ("ladder_weights", "+ omega and tau"),
    ("ladder_moments", "+ mean and covariance of inputs"),
    ("ladder_empirical", "+ distribution of z (exact)"),
)
_CELL = ("verdict", "reason", "criterion", "measured", "predicted", "theory_missed")
_JUDGED = ("layer", "assumption", "step", *_CELL)
_STYLE = "body{font:14px/1.5 sans-serif;margin:1.5em;color:#1b1b1b;background:#fff}table{border-collapse:collapse;font-size:12px;margin:.6em 0}td,th{padding:2px 7px;border:1px solid #ddd;text-align:center}th{font-weight:600}svg{max-width:100%;height:auto}"


def columns() -> set[str]:
    """The columns of a layer table that the page reads."""
    return {*criteria.load().columns, *KEYS, "absent", *(column for column, _ in _RUNGS)}


def judge(tables: Sequence[Mapping[str, NDArray]]) -> list[dict[str, NDArray]]:
    """The verdicts on each of several layer tables, of their `columns`. Tables with the same columns are judged as one, which takes little more than one of them."""
    judged: list[dict[str, NDArray]] = [{} for _ in tables]
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, table in enumerate(tables):
        alike.setdefault(tuple(table), []).append(number)
    for names, numbers in alike.items():
        together = verdict_columns(
            {
                name: numpy.concatenate([tables[number][name] for number in numbers])
                for name in names
            }
        )
        ends = numpy.searchsorted(
            together["row"], numpy.cumsum([len(tables[number]["layer"]) for number in numbers])
        )
        for name in _JUDGED:
            for number, part in zip(numbers, numpy.split(together[name], ends[:-1])):
                judged[number][name] = part
    return judged


def diagnosis(
    record: Record,
    layers: Mapping[str, NDArray],
    judged: Mapping[str, NDArray],
    title: str,
    profile: str,
) -> str:
    """The page, of a layer table's `columns` and what `judge` says of it; `profile` is the figure of the layers as SVG. It loads nothing and runs nothing."""
    said = [
        str(record.summary[name])
        for name in ("verdict_sentence", "prediction_sentence")
        if record.summary.get(name)
    ]
    parts = [f"<p>{escape(text)}</p>" for text in said] + [profile]
    if len(layers["layer"]):
        parts += ["<h2>Verdicts by layer and probe</h2>", _key(), _grid(judged), _ladder(layers)]
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{"".join(parts)}</body></html>\n'


def _key() -> str:
    return (
        "<p>"
        + " ".join(
            f'<span style="background:{colour};padding:1px 7px">{_LETTERS[word]} {word}</span>'
            for word, colour in _COLOURS.items()
        )
        + ". Hover a cell for its number; bold: theory's 99 % band was missed.</p>"
    )


def _grid(judged: Mapping[str, NDArray]) -> str:
    """One row a layer; for each assumption one column a probe."""
    assumptions, steps = (
        list(dict.fromkeys(judged["assumption"])),
        sorted(set(judged["step"].tolist())),
    )
    heads = "".join(f'<th colspan="{len(steps)}">{escape(name)}</th>' for name in assumptions)
    under = "".join(f"<th>{int(step)}</th>" for _ in assumptions for step in steps)
    cells = dict(
        zip(
            zip(*(judged[name].tolist() for name in ("layer", "assumption", "step"))),
            map(_cell, *(judged[name].tolist() for name in _CELL)),
        )
    )
    rows = []
    for layer in sorted(set(judged["layer"].tolist())):
        marks = (
            cells.get((layer, name, step), "<td></td>") for name in assumptions for step in steps
        )
        rows.append(f"<tr><th>{int(layer)}</th>{''.join(marks)}</tr>")
    return (
        f'<table><tr><th rowspan="2">layer</th>{heads}</tr><tr>{under}</tr>{"".join(rows)}</table>'
    )


def _cell(
    verdict: str,
    reason: str,
    criterion: str,
    measured: float,
    predicted: float,
    theory_missed: bool,
) -> str:
    told = (
        reason
        if verdict == "unknown"
        else f"{criterion}: measured {measured:.4g}, predicted {predicted:.4g}"
    )
    letter = f"<b>{_LETTERS[verdict]}</b>" if theory_missed else _LETTERS[verdict]
    return f'<td style="background:{_COLOURS[verdict]}" title="{escape(told)}">{letter}</td>'


def _ladder(layers: Mapping[str, NDArray]) -> str:
    """Error of the predicted (mean, variance) of a unit at the last probe that has it, one assumption less a column."""
    known = [(column, name) for column, name in _RUNGS if column in layers]
    whole = (
        numpy.isfinite([layers[column] for column, _ in known]).all(0)
        if known
        else numpy.zeros(len(layers["layer"]), bool)
    )
    if not whole.any():
        return ""
    step = layers["step"][whole].max()
    rows = [
        row
        for row in numpy.argsort(layers["layer"], kind="stable")
        if whole[row] and layers["step"][row] == step
    ]
    head = "".join(f"<th>{escape(name)}</th>" for _, name in known)
    body = "".join(
        f"<tr><th>{int(layers['layer'][row])}</th>{''.join(f'<td>{layers[column][row]:.3g}</td>' for column, _ in known)}</tr>"
        for row in rows
    )
    return f"<h2>What each assumption costs, step {int(step)}</h2><p>Error of a unit's predicted mean and variance, with one assumption less in every column.</p><table><tr><th>layer</th>{head}</tr>{body}</table>"
