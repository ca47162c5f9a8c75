"""A diagnosis as one self-contained HTML page: sentence, figures, tables, lint and notes."""

from __future__ import annotations

from html import escape

import pandas
from matplotlib.figure import Figure

from harness.diagnosis.card import Card, table_html
from harness.reports import assumption_figures as figures
from harness.reports.pictures import picture
from harness.verdicts.criteria import load

_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #1b1b1b; background: #fff; }}
h2 {{ margin-top: 2em; border-bottom: 1px solid #ccc; }} img {{ max-width: 100%; background: #fff; }} figure {{ margin: 1.2em 0; }}
figcaption {{ color: #555; font-size: 13px; }} table {{ border-collapse: collapse; font-size: 13px; }} td, th {{ padding: 3px 8px; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }}
.scroll {{ overflow: auto; max-height: 36em; }} dt {{ font-weight: 600; margin-top: 1em; }} dd {{ margin-left: 1.2em; }}
{"".join(f"td.{word} {{ background: {colour}; color: #000; }}" for word, colour in figures.VERDICT_COLOURS.items())}
"""


def page(card: Card) -> str:
    """The page of a card."""
    title = f"Diagnosis of {card.model}"
    shape = " x ".join(map(str, card.shape))
    parts = [
        f"<h1>{escape(title)}</h1><p>{card.parameters:,} parameters, {len(card.layers)} activated layers, measured on {card.samples} samples of shape {shape} ({escape(card.device)}).</p>",
        f"<p><b>{escape(card.summary['verdict_sentence'])}</b></p>",
        "<h2>Lint</h2>",
        _lint(card),
        "<h2>Verdicts by layer</h2>",
        table_html(card),
        _drawn(
            figures.verdict_map(card.verdicts),
            "What SELU assumes, layer by layer. The effect size decides the colour; a dot says that theory missed: its 99 % band and that of the measurement have nothing in common.",
        ),
        "<h2>Layer profiles</h2>",
        _drawn(
            figures.profiles(card.layers),
            "Measured values with their 99 % intervals over samples and units, and what theory predicts for independent weights of each layer's scale.",
        ),
        "<h2>Mean and variance</h2>",
        _drawn(
            figures.trajectories(card.layers),
            "Pooled mean and variance of every layer's activations on the vector field of SELU's map g (omega = 0, tau = 1).",
        ),
        "<h2>Attribution</h2>",
        _drawn(
            figures.ladder(card.layers),
            "Each unit's mean and variance predicted with one assumption less a line; what is left in the last line is nothing.",
        ),
        "<h2>Criteria</h2>",
        _criteria(card),
        "<h2>Notes</h2>",
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in card.notes) + "</ul>",
        "<h2>All columns</h2>",
        _columns(card),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    )


def _drawn(figure: Figure | None, caption: str) -> str:
    return picture(figure, caption, missing="<p>There is nothing to draw.</p>")


def _lint(card: Card) -> str:
    if not card.findings:
        return "<p>Nothing found.</p>"
    said = []
    for finding in card.findings:
        where = escape(", ".join(finding.layers))
        said.append(
            f"<dt>{escape(finding.rule)}</dt><dd>Where: {where}</dd><dd>Found: {escape(finding.found)}</dd><dd>So: {escape(finding.consequence)}</dd><dd>Fix: {escape(finding.fix)}</dd>"
        )
    return f"<dl>{''.join(said)}</dl>"


def _criteria(card: Card) -> str:
    rows = [
        (
            criterion.assumption,
            criterion.name,
            criterion.column,
            f"[{criterion.holds[0]:g}, {criterion.holds[1]:g}]",
            f"[{criterion.strained[0]:g}, {criterion.strained[1]:g}]",
            "yes" if criterion.decides else "reported only",
            criterion.source,
        )
        for criterion in load().criteria
    ]
    table = pandas.DataFrame(
        rows,
        columns=[
            "assumption",
            "criterion",
            "column",
            "effect that holds",
            "strained",
            "decides",
            "source",
        ],
    )
    return f'<p>Version {load().version}.</p><div class="scroll">{table.to_html(index=False, border=0)}</div>'


def _columns(card: Card) -> str:
    table = card.layers.drop(columns=["step", "phase"]).set_index("layer").T
    return f'<div class="scroll">{table.map(_text).to_html(border=0)}</div>'


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)
