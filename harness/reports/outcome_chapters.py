"""Chapters on the outcome: what was run, accuracy, comparisons, and divergence."""

from __future__ import annotations

from typing import Any

import pandas

from harness.reports import comparisons, factors, statistics, sweep_figures
from harness.reports.chapter import (
    Chapter,
    first_rows,
    interval_text,
    interval_texts,
    note,
    number_text,
)
from harness.reports.evidence import Evidence
from harness.reports.figure_style import THEOREM_1_DOMAIN
from harness.reports.pictures import data_uri
from harness.reports.rules import SIGNIFICANT

_MOST_SENTENCES = 200


def summary(evidence: Evidence) -> Chapter:
    """Returns the chapter on what was run and what came out."""
    counts = evidence.trials["status"].value_counts()
    varied = []
    for axis in evidence.varied:
        varied.append((axis, ", ".join(str(level) for level in evidence.levels(axis))))
    values = {
        "cells": len(evidence.cells),
        "trials": len(evidence.trials),
        "counts": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "seeds": evidence.seeds,
        "varied": varied,
        "best": _best_cell(evidence),
        "sentences": _domain_sentences(evidence),
    }
    return Chapter("What was run, and what came out", "chapter_summary.html.j2", values)


def accuracy(evidence: Evidence) -> Chapter:
    """Returns the chapter on accuracy by cell."""
    if not evidence.trained:
        return note("Accuracy", "No trial took a step: these are probes at initialisation.")
    cells = evidence.cells.sort_values("score", ascending=False).reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    table["test accuracy"] = interval_texts(cells, "score", "score_low", "score_high")
    table["chance"] = cells["chance"].map(number_text)
    if cells["majority_share"].notna().any():
        table["majority share"] = cells["majority_share"].map(number_text)
    table["learning rates"] = cells["learning_rates"]
    table["seeds"] = _ratios(cells, "finished", "expected")
    table["diverged"] = cells["diverged"].astype(int)
    table["validation accuracy"] = cells["validation_accuracy"].map(number_text)
    table["training loss"] = cells["train_loss"].map(number_text)
    values = {
        "accuracy": data_uri(sweep_figures.accuracy(evidence)),
        "table": first_rows(table),
        "curves": data_uri(sweep_figures.curves(evidence)),
    }
    tables = {"cells": cells}
    return Chapter("Does it matter: accuracy by cell", "chapter_accuracy.html.j2", values, tables)


def comparison(evidence: Evidence) -> Chapter:
    """Returns the chapter on arms compared by seed, and on which factor matters."""
    if not evidence.trained:
        return note("Comparisons", "Nothing to compare.")
    title = "Comparisons, paired by seed"
    pairs = comparisons.paired(evidence)
    if not len(pairs):
        return note(title, "No axis varies along which arms could be compared.")
    summaries = comparisons.summaries(pairs)
    shown = pandas.DataFrame(
        {
            "family": summaries["family"],
            "arm": summaries["arm"],
            "against": summaries["baseline"],
            "learning rates": summaries["learning_rates"],
            "tasks": summaries["tasks"],
            "mean difference in accuracy": interval_texts(summaries, "difference", "low", "high"),
            "better": summaries["better"],
            "worse": summaries["worse"],
            "undecided": summaries["undecided"],
        }
    )
    tables = {"comparisons": pairs.drop(columns=["by_seed"]), "comparison_summary": summaries}
    values: dict[str, Any] = {
        "summary": first_rows(shown),
        "significant": SIGNIFICANT,
        "effects": None,
    }
    effects = factors.effects(evidence)
    if effects is not None:
        shares = first_rows(effects.shares.map(number_text))
        values["effects"] = {"note": effects.note, "table": shares}
        if shares:
            tables |= {"effect_shares": effects.shares, "effect_levels": effects.levels}
    return Chapter(title, "chapter_comparisons.html.j2", values, tables)


def divergence(evidence: Evidence) -> Chapter:
    """Returns the chapter on cells with diverged trials, and on failed trials."""
    cells = evidence.cells[evidence.cells["finished"] > 0].reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    table["diverged"] = _ratios(cells, "diverged", "finished")
    shares = []
    for diverged, finished in zip(cells["diverged"], cells["finished"], strict=True):
        share = statistics.wilson(int(diverged), int(finished))
        shares.append(interval_text(share.value, share.low, share.high))
    table["share with 95 % Wilson interval"] = shares
    steps = evidence.finished.groupby("cell_id")["diverged_step"].median()
    table["median step"] = cells["cell_id"].map(steps).map(number_text)
    failed = evidence.trials[evidence.trials["status"] == "failed"]
    values = {
        "diverged": first_rows(table[cells["diverged"] > 0]),
        "failed": first_rows(failed[["trial_id", "error"]]) if len(failed) else None,
    }
    return Chapter("What diverged", "chapter_divergence.html.j2", values, {"divergence": table})


def _best_cell(evidence: Evidence) -> dict[str, str] | None:
    """Returns the complete cell that is best by validation, a diverged seed counting as chance."""
    best = evidence.best_cell
    if best is None:
        return None
    row: Any = evidence.cells.loc[best]
    return {
        "label": evidence.label(best),
        "accuracy": interval_text(row["score"], row["score_low"], row["score_high"]),
    }


def _domain_sentences(evidence: Evidence) -> list[str]:
    """Returns a sentence per initializer of SELU without normalization, on Theorem 1's domain.

    It gives the share of trials of which every layer's pooled mean and variance stay inside at
    initialisation, with a Wilson interval over trials.
    """
    layers = evidence.of_cells(evidence.layers, ["activation", "initializer", "normalization"])
    if not len(layers):
        return []
    start = layers[
        (layers["phase"] == "init")
        & (layers["normalization"] == "none")
        & (layers["activation"] == "selu")
    ]
    sentences = []
    for initializer, group in start.groupby("initializer", sort=False):
        inside = pandas.Series(True, index=group.index)
        for column, domain in THEOREM_1_DOMAIN.items():
            inside &= group[column].between(*domain)
        sentences.append(_domain_sentence(str(initializer), group, inside))
    return sentences[:_MOST_SENTENCES]


def _domain_sentence(initializer: str, layers: pandas.DataFrame, inside: pandas.Series) -> str:
    by_trial = inside.groupby(layers["trial_id"]).all()
    share = statistics.wilson(int(by_trial.sum()), len(by_trial))
    sentence = (
        f"selu with {initializer}, no normalization: every layer's pooled mean and variance inside"
        f" Theorem 1's box in {share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
        f" of {share.n} trials at initialisation"
    )
    first_outside = layers[~inside].groupby("trial_id")["layer"].min()
    if len(first_outside):
        sentence += f", first left at layer {int(first_outside.median())} (median)"
    return f"{sentence}."


def _ratios(cells: pandas.DataFrame, part: str, whole: str) -> list[str]:
    """Returns counts such as `7/10` from two columns."""
    return [
        f"{int(count)}/{int(total)}" for count, total in zip(cells[part], cells[whole], strict=True)
    ]
