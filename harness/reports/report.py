"""One self-contained HTML file with the tables beside it as CSV: what was run, whether it matters, what held, what diverged."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas

from harness.reports import (
    assumption_figures,
    assumptions,
    comparisons,
    figures,
    reproduction,
    rules,
    statistics,
)
from harness.reports.evidence import Evidence
from harness.reports.pictures import picture
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import verdicts

_MOST_ROWS = 200


@dataclass(frozen=True)
class Section:
    """One chapter: text, then parts that are HTML already, and tables to be written as CSV by name."""

    title: str
    parts: list[str]
    tables: dict[str, pandas.DataFrame]


def write(evidence: Evidence, folder: Path, title: str) -> Path:
    """Write `report.html` and one CSV for each table into `folder`; returns the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [
        section(evidence)
        for section in (
            _summary,
            _accuracy,
            _comparisons,
            _layers,
            _assumptions,
            _divergence,
            _rules,
            _reproduce,
        )
    ]
    for section in sections:
        for name, table in section.tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
    path = folder / "report.html"
    path.write_text(_page(title, sections), encoding="utf-8")
    return path


def _summary(evidence: Evidence) -> Section:
    trials = evidence.trials
    counts = ", ".join(
        f"{count} {status}" for status, count in trials["status"].value_counts().items()
    )
    varied = (
        "; ".join(
            f"<b>{escape(axis)}</b>: {escape(', '.join(str(level) for level in evidence.levels(axis)))}"
            for axis in evidence.varied
        )
        or "nothing: one cell"
    )
    parts = [
        f"<p>{len(evidence.cells)} cells, {len(trials)} trials ({escape(counts)}), usually {evidence.seeds} seed(s) a cell. Varied: {varied}.</p>"
    ]
    if evidence.seeds == 1:
        parts.append(
            "<p><b>One seed has no interval:</b> nothing here is decided; run with seeds=3 or more.</p>"
        )
    complete = evidence.cells[evidence.cells["complete"]]
    if evidence.trained and len(complete) and complete["validation_accuracy"].notna().any():
        best = complete["validation_accuracy"].idxmax()
        row = complete.loc[best]
        parts.append(
            f"<p>Best cell by validation accuracy: <b>{escape(evidence.label(best))}</b> with test accuracy {_interval(row['score'], row['score_low'], row['score_high'])}.</p>"
        )
    parts += [f"<p>{escape(text)}</p>" for text in _layer_findings(evidence)]
    return Section("What was run, and what came out", parts, {})


def _layer_findings(evidence: Evidence) -> list[str]:
    """For SELU without normalization, by initializer: the share of trials whose layers all stay in Theorem 1's box at initialisation."""
    layers = (
        evidence.of_cells(evidence.layers, ["activation", "initializer", "normalization"])
        if len(evidence.layers)
        else evidence.layers
    )
    if not len(layers):
        return []
    start = layers[
        (layers["phase"] == "init")
        & (layers["normalization"] == "none")
        & (layers["activation"] == "selu")
    ]
    lines = []
    for initializer, group in start.groupby("initializer", sort=False):
        inside = group["activation_mean"].between(-0.1, 0.1) & group["activation_variance"].between(
            0.8, 1.5
        )
        by_trial = inside.groupby(group["trial_id"]).all()
        share = statistics.wilson(int(by_trial.sum()), len(by_trial))
        first = group[~inside].groupby("trial_id")["layer"].min()
        left = f", first left at layer {int(first.median())} (median)" if len(first) else ""
        lines.append(
            f"selu with {initializer}, no normalization: every layer's pooled mean and variance inside Theorem 1's box in {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n} trials at initialisation{left}."
        )
    return lines[:_MOST_ROWS]


def _accuracy(evidence: Evidence) -> Section:
    if not evidence.trained:
        return Section(
            "Accuracy", ["<p>No trial took a step: these are probes at initialisation.</p>"], {}
        )
    cells = evidence.cells.sort_values("score", ascending=False).reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    table["test accuracy"] = [
        _interval(*row) for row in zip(cells["score"], cells["score_low"], cells["score_high"])
    ]
    table["seeds"] = [
        f"{int(done)}/{int(expected)}"
        for done, expected in zip(cells["finished"], cells["expected"])
    ]
    table["diverged"] = cells["diverged"].astype(int)
    table["validation accuracy"] = cells["validation_accuracy"].map(_number)
    table["training loss"] = cells["train_loss"].map(_number)
    parts = [
        picture(
            figures.accuracy(evidence),
            "Mean test accuracy over seeds; bars are 95 % Student-t intervals. A diverged trial scores chance level.",
        )
    ]
    parts += [
        _table(table),
        picture(
            figures.curves(evidence),
            "Training loss at equal steps, mean over the seeds that did not diverge; thin lines have a normalization.",
        ),
    ]
    return Section(
        "Does it matter: accuracy by cell", parts, {"cells": cells.drop(columns=["chance"])}
    )


def _comparisons(evidence: Evidence) -> Section:
    if not evidence.trained:
        return Section("Comparisons", ["<p>Nothing to compare.</p>"], {})
    pairs = comparisons.paired(evidence)
    if not len(pairs):
        return Section(
            "Comparisons, paired by seed",
            ["<p>No axis varies along which arms could be compared.</p>"],
            {},
        )
    summary = comparisons.summaries(pairs, evidence)
    shown = pandas.DataFrame(
        {
            "family": summary["family"],
            "arm": summary["arm"],
            "against": summary["baseline"],
            "tasks": summary["tasks"],
            "mean difference in accuracy": [
                _interval(*row)
                for row in zip(summary["difference"], summary["low"], summary["high"])
            ],
            "better": summary["better"],
            "worse": summary["worse"],
            "undecided": summary["undecided"],
        }
    )
    parts = [
        "<p>Per-seed differences with everything else equal; better and worse are decided by Holm-adjusted paired t tests at 0.05. Undecided is not the same as equal.</p>",
        _table(shown),
    ]
    effects = comparisons.effects(evidence)
    tables = {"comparisons": pairs.drop(columns=["by_seed"]), "comparison_summary": summary}
    if effects is not None:
        parts.append(
            "<h3>Which factor matters</h3>"
            + (f"<p>{escape(effects.note)}</p>" if effects.note else "")
        )
        if len(effects.shares):
            parts.append(_table(effects.shares.map(_number)))
            tables |= {"effect_shares": effects.shares, "effect_levels": effects.levels}
    return Section("Comparisons, paired by seed", parts, tables)


def _layers(evidence: Evidence) -> Section:
    explain = "Lines are means over the seeds of a cell, for the deepest cells. Grey: Theorem 1's domain of mean and variance (Klambauer et al. 2017), which speaks of SELU only."
    parts = [
        picture(figures.profiles(evidence, "init"), f"At initialisation. {explain}"),
        picture(figures.profiles(evidence, "end"), f"At the end of training. {explain}"),
        picture(
            figures.gradients(evidence),
            "At initialisation: mean squared gradient at each layer relative to the last one. Flat is neither exploding nor vanishing.",
        ),
    ]
    table = evidence.of_cells(evidence.layers) if len(evidence.layers) else evidence.layers
    if len(table):
        numbers = table.select_dtypes("number").columns.difference(
            ["seed", "step", "layer", "epoch"]
        )
        table = (
            table[table["phase"].isin(("init", "end"))]
            .groupby(["cell_id", "phase", "layer"], sort=False)[list(numbers)]
            .mean()
            .reset_index()
        )
    return Section(
        "Do the assumptions hold: layer profiles", parts, {"layers": table} if len(table) else {}
    )


def _assumptions(evidence: Evidence) -> Section:
    """Verdicts by cell, where theory missed, two trials layer by layer, and what repairs brought back."""
    cells, shares = assumptions.by_cell(evidence), assumptions.layer_shares(evidence)
    cells = (
        cells.merge(shares, on=["cell_id", "assumption"], how="left")
        if len(cells) and len(shares)
        else cells
    )
    misses, repairs = assumptions.theory_misses(evidence), assumptions.repairs(evidence)
    parts = [
        f"<p>A trial's verdict is its worst at any layer and probe; criteria version {load().version}. The effect size decides, the band says whether theory is at fault. In brackets: the share of layers at which it holds, at the first and at the last probe.</p>"
    ]
    if len(cells):
        words = cells.apply(
            lambda row: ", ".join(
                f"{row[word]} {word}"
                for word in ("holds", "strained", "fails", "unknown")
                if row[word]
            ),
            axis=1,
        )
        words += cells.apply(_layers_that_hold, axis=1)
        wide = cells.assign(verdict=words).pivot(
            index="cell_id", columns="assumption", values="verdict"
        )[list(load().assumptions)]
        axes = cells.drop_duplicates("cell_id").set_index("cell_id")[list(evidence.varied)]
        parts.append(_table(axes.join(wide).reset_index(drop=True)))
    for title, layers in assumptions.examples(evidence):
        judged = verdicts(layers)
        parts += [
            f"<h3>{escape(title)}</h3>",
            picture(
                assumption_figures.verdict_map(judged),
                "Verdicts; a dot says that theory missed: its 99 % band and that of the measurement have nothing in common.",
            ),
        ]
        parts.append(
            picture(
                assumption_figures.trajectories(layers),
                "Pooled mean and variance of each layer's activations on the vector field of SELU's map g, with the theorems' boxes.",
            )
        )
        parts.append(
            picture(
                assumption_figures.profiles(layers),
                "Layer profiles against theory's prediction at initialisation and its 99 % band; where a trial had probe=full, with the 99 % intervals of what was measured.",
            )
        )
        parts.append(
            picture(
                assumption_figures.ladder(layers),
                "Attribution: each unit's mean and variance predicted with one assumption less a line.",
            )
        )
    if len(misses):
        parts.append(
            "<h3>Where theory missed</h3><p>Readings at initialisation whose 99 % band and that of theory have nothing in common; about 0.01 is chance, and less where the measurement has a band of its own.</p>"
            + _table(misses.map(_number))
        )
    if len(repairs):
        parts.append(
            "<h3>What repairs brought back</h3><p>Repaired against not, at the same seeds; verdicts are the usual ones, with the number of seeds that got better or worse.</p>"
            + _table(_repairs_shown(repairs))
        )
    tables = {"verdicts": cells, "theory_misses": misses, "repairs": repairs}
    return Section(
        "Do the assumptions hold: verdicts",
        parts,
        {name: table for name, table in tables.items() if len(table)},
    )


def _layers_that_hold(row: pandas.Series) -> str:
    shares = [
        row[name]
        for name in ("layers_hold_at_first", "layers_hold_at_the_end")
        if name in row and pandas.notna(row[name])
    ]
    return f" ({' to '.join(f'{share:.0%}' for share in shares)})" if shares else ""


def _repairs_shown(repairs: pandas.DataFrame) -> pandas.DataFrame:
    shown = repairs[["repair", "context", "pairs"]].copy()
    shown["accuracy without"] = repairs["score_without"].map(_number)
    shown["difference"] = [
        _interval(*row) for row in zip(repairs["difference"], repairs["low"], repairs["high"])
    ]
    for name in load().assumptions:
        if name in repairs:
            changes = zip(
                repairs[f"{name}_without"],
                repairs[name],
                repairs[f"{name}_better"],
                repairs[f"{name}_worse"],
            )
            shown[name] = [
                before
                if before == after and not better + worse
                else f"{before} to {after} ({better} better, {worse} worse)"
                for before, after, better, worse in changes
            ]
    return shown


def _divergence(evidence: Evidence) -> Section:
    cells = evidence.cells[evidence.cells["finished"] > 0].reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    shares = [
        statistics.wilson(int(diverged), int(finished))
        for diverged, finished in zip(cells["diverged"], cells["finished"])
    ]
    table["diverged"] = [
        f"{int(diverged)}/{int(finished)}"
        for diverged, finished in zip(cells["diverged"], cells["finished"])
    ]
    table["share with 95 % Wilson interval"] = [
        _interval(share.value, share.low, share.high) for share in shares
    ]
    steps = evidence.finished.groupby("cell_id")["diverged_step"].median()
    table["median step"] = cells["cell_id"].map(steps).map(_number)
    bad = table[cells["diverged"] > 0]
    failed = evidence.trials[evidence.trials["status"] == "failed"]
    parts = [_table(bad) if len(bad) else "<p>No trial diverged.</p>"]
    if len(failed):
        parts.append("<h3>Failed trials</h3>" + _table(failed[["trial_id", "error"]]))
    return Section("What diverged", parts, {"divergence": table})


def _rules(evidence: Evidence) -> Section:
    table = pandas.DataFrame(rules.RULES, columns=["rule", "how it is applied"])
    return Section(f"Rules of comparison, version {rules.VERSION}", [_table(table)], {})


def _reproduce(evidence: Evidence) -> Section:
    made = reproduction.commands(evidence)
    parts = ["".join(f"<pre>{escape(command.text)}</pre>" for command in made)]
    more = sum(command.grid - command.cells for command in made)
    if more:
        parts.append(
            f"<p>These cells are not the full grid of their values: the command runs {more} cells more than are reported here.</p>"
        )
    parts.append(
        "<p>Run it from the project's folder; it trains only what is not in <code>runs</code> yet. Data sets that are not bundled also need their <code>dataset.root</code>.</p>"
    )
    return Section("How to run it again", parts, {})


def _table(table: pandas.DataFrame) -> str:
    more = (
        f"<p>The first {_MOST_ROWS} of {len(table)} rows; all are in the CSV.</p>"
        if len(table) > _MOST_ROWS
        else ""
    )
    return f'<div class="scroll">{table.head(_MOST_ROWS).to_html(index=False, border=0, na_rep="")}</div>{more}'


def _interval(value: float, low: float, high: float) -> str:
    if pandas.isna(value):
        return ""
    return f"{value:.3f}" if pandas.isna(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: object) -> str:
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}"
    return str(value)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1b1b1b; background: #fff; }
h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc; } img { max-width: 100%; background: #fff; } figure { margin: 1.2em 0; }
figcaption { color: #666; font-size: 13px; } table { border-collapse: collapse; font-size: 13px; } td, th { padding: 3px 10px; text-align: left; border-bottom: 1px solid #ddd; }
.scroll { overflow: auto; max-height: 32em; } pre { background: #f3f3f3; padding: 1em; white-space: pre-wrap; } nav a { margin-right: 1.2em; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } pre { background: #262626; } td, th { border-color: #333; } a { color: #8ab4f8; } }
"""


def _page(title: str, sections: list[Section]) -> str:
    contents = "".join(
        f'<a href="#s{index}">{escape(section.title)}</a> '
        for index, section in enumerate(sections)
    )
    chapters = []
    for index, section in enumerate(sections):
        files = " ".join(f'<a href="{name}.csv">{name}.csv</a>' for name in section.tables)
        chapters.append(
            f'<h2 id="s{index}">{escape(section.title)}</h2>{"".join(section.parts)}'
            + (f"<p>Data: {files}</p>" if files else "")
        )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1><nav>{contents}</nav>{"".join(chapters)}</body></html>\n'
