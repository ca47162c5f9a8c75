"""A trial's diagnosis as one HTML page for the artifact view: what was predicted, the verdicts by layer and probe, what each assumption costs."""

from __future__ import annotations

from html import escape

import pandas

from harness.assumptions.verdicts import verdicts
from harness.store.records import Record

_COLOURS = {"holds": "#56b4e9", "strained": "#e69f00", "fails": "#d55e00", "unknown": "#e5e5e5"}
_LETTERS = {"holds": "+", "strained": "~", "fails": "X", "unknown": "?"}
_RUNGS = (("ladder_map", "g, all units alike"), ("ladder_weights", "+ omega and tau"), ("ladder_moments", "+ mean and covariance of inputs"), ("ladder_empirical", "+ distribution of z (exact)"))
_STYLE = "body{font:14px/1.5 sans-serif;margin:1.5em;color:#1b1b1b;background:#fff}table{border-collapse:collapse;font-size:12px;margin:.6em 0}td,th{padding:2px 7px;border:1px solid #ddd;text-align:center}th{font-weight:600}svg{max-width:100%;height:auto}"


def diagnosis(record: Record, layers: pandas.DataFrame, title: str, profile: str) -> str:
    """The page; `profile` is the figure of the layers as SVG. It loads nothing and runs nothing."""
    said = [str(record.summary[name]) for name in ("verdict_sentence", "prediction_sentence") if record.summary.get(name)]
    parts = [f"<p>{escape(text)}</p>" for text in said] + [profile]
    if len(layers):
        parts += ["<h2>Verdicts by layer and probe</h2>", _key(), _grid(verdicts(layers)), _ladder(layers)]
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{"".join(parts)}</body></html>\n'


def _key() -> str:
    return "<p>" + " ".join(f'<span style="background:{colour};padding:1px 7px">{_LETTERS[word]} {word}</span>' for word, colour in _COLOURS.items()) + ". Hover a cell for its number; bold: theory's 99 % band was missed.</p>"


def _grid(judged: pandas.DataFrame) -> str:
    """One row a layer; for each assumption one column a probe."""
    assumptions, steps = list(judged["assumption"].unique()), sorted(judged["step"].unique())
    heads = "".join(f'<th colspan="{len(steps)}">{escape(name)}</th>' for name in assumptions)
    under = "".join(f"<th>{int(step)}</th>" for _ in assumptions for step in steps)
    cells = {(row.layer, row.assumption, row.step): row for row in judged.itertuples()}
    rows = []
    for layer in sorted(judged["layer"].unique()):
        marks = (cells.get((layer, name, step)) for name in assumptions for step in steps)
        rows.append(f"<tr><th>{int(layer)}</th>{''.join(_cell(mark) for mark in marks)}</tr>")
    return f'<table><tr><th rowspan="2">layer</th>{heads}</tr><tr>{under}</tr>{"".join(rows)}</table>'


def _cell(row) -> str:  # noqa: ANN001 - a named tuple of pandas
    if row is None:
        return "<td></td>"
    told = row.reason if row.verdict == "unknown" else f"{row.criterion}: measured {row.measured:.4g}, predicted {row.predicted:.4g}"
    letter = f"<b>{_LETTERS[row.verdict]}</b>" if row.theory_missed else _LETTERS[row.verdict]
    return f'<td style="background:{_COLOURS[row.verdict]}" title="{escape(str(told))}">{letter}</td>'


def _ladder(layers: pandas.DataFrame) -> str:
    """Error of the predicted (mean, variance) of a unit at the last probe that has it, one assumption less a column."""
    known = [(column, name) for column, name in _RUNGS if column in layers]
    rows = layers.dropna(subset=[column for column, _ in known]) if known else layers.head(0)
    if not len(rows):
        return ""
    last = rows[rows["step"] == rows["step"].max()].sort_values("layer")
    head = "".join(f"<th>{escape(name)}</th>" for _, name in known)
    body = "".join(f"<tr><th>{int(row['layer'])}</th>{''.join(f'<td>{row[column]:.3g}</td>' for column, _ in known)}</tr>" for _, row in last.iterrows())
    return f"<h2>What each assumption costs, step {int(last['step'].iloc[0])}</h2><p>Error of a unit's predicted mean and variance, with one assumption less in every column.</p><table><tr><th>layer</th>{head}</tr>{body}</table>"
