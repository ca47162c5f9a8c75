"""Chapters on the outcome: what was run, accuracy, comparisons, and divergence."""

from __future__ import annotations

import pandas

from harness.reports import (
    comparisons,
    duration_figures,
    factors,
    forest_figures,
    matter_figures,
    signal_tables,
    statistics,
    sweep_figures,
)
from harness.reports.arms import arms
from harness.reports.chapter import (
    Block,
    Chapter,
    Heading,
    Picture,
    Table,
    Text,
    interval_text,
    interval_texts,
    number_text,
)
from harness.reports.evidence import Evidence
from harness.reports.rules import SIGNIFICANT

# Columns of the table of trials that may hold the address of a trial's page in a tracker.
_ADDRESSES = ("run_url", "mlflow_url")


def accuracy(evidence: Evidence) -> Chapter:
    """Returns the chapter on accuracy by cell."""
    title = "Accuracy by cell"
    if not evidence.trained:
        text = "No trial took a step: these are probes at initialisation."
        return Chapter("accuracy", title, (Text(text),))
    evidence = evidence.of_trained
    cells = evidence.cells.sort_values("score", ascending=False).reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    table["test accuracy"] = interval_texts(cells, "score", "score_low", "score_high")
    table["chance"] = cells["chance"].map(number_text)
    if cells["majority_share"].notna().any():
        table["majority share"] = cells["majority_share"].map(number_text)
    table["learning rates"] = cells["learning_rates"]
    table["seeds"] = _ratios(cells, "finished", "expected")
    table["diverged"] = cells["diverged"].astype(int)
    table["validation accuracy of survivors"] = cells["validation_accuracy"].map(number_text)
    table["training loss of survivors"] = cells["train_loss"].map(number_text)
    addresses = _cell_addresses(evidence, cells["cell_id"])
    blocks = (
        Picture(
            lambda: sweep_figures.accuracy(evidence),
            "Mean test accuracy over seeds with 95 % intervals; a diverged trial scores chance. "
            "Lines whose intervals do not overlap differ; for those that do, the paired "
            "comparisons decide, because seeds are shared.",
        ),
        Table(table, "One row a cell, the best first.", {"test accuracy": addresses}),
        Picture(
            lambda: duration_figures.curves(
                signal_tables.training_curves(evidence), arms(evidence)
            ),
            "Training loss by epoch, geometric mean over the seeds that did not diverge, with 95 % "
            "intervals over seeds. This is trainability; the accuracy above is generalisation.",
        ),
    )
    return Chapter("accuracy", title, blocks, {"cells": cells})


def comparison(evidence: Evidence) -> Chapter:
    """Returns the chapter on arms compared by seed, and on which factor matters."""
    title = "Paired comparisons"
    if not evidence.trained:
        return Chapter("comparisons", title, (Text("Nothing to compare."),))
    evidence = evidence.of_trained
    pairs = comparisons.paired(evidence)
    if not len(pairs):
        text = "No axis varies along which arms could be compared."
        return Chapter("comparisons", title, (Text(text),))
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
    blocks: list[Block] = [
        Text(
            "Per-seed differences with everything else equal; better and worse are decided by "
            f"Holm-adjusted paired t tests at {SIGNIFICANT}. Undecided is not the same as equal."
        ),
        Picture(
            lambda: forest_figures.forest(
                _lines(summaries), "difference in test accuracy, arm - baseline"
            ),
            "Mean difference over complete contexts with its 95 % interval over seeds. An interval "
            "right of 0 (green) says that the arm is better than its baseline, one left of 0 (red) "
            "that it is worse; a blue one leaves it open.",
        ),
        Table(shown),
    ]
    tables = {"comparisons": pairs.drop(columns=["by_seed"]), "comparison_summary": summaries}
    effects = factors.effects(evidence)
    if effects is not None:
        blocks.append(Heading("Which factor matters"))
        if effects.note:
            blocks.append(Text(effects.note))
        if len(effects.shares):
            caption = "The share of the variance of scores that a factor explains."
            blocks.append(Table(effects.shares.map(number_text), caption))
            tables |= {"effect_shares": effects.shares, "effect_levels": effects.levels}
    return Chapter("comparisons", title, tuple(blocks), tables)


def divergence(evidence: Evidence) -> Chapter:
    """Returns the chapter on cells with diverged trials, and on failed trials.

    Networks that took no step could not diverge, and are not counted.
    """
    failed = evidence.trials[evidence.trials["status"] == "failed"]
    evidence = evidence.of_trained
    cells = evidence.cells[evidence.cells["finished"] > 0].reset_index()
    table = pandas.DataFrame({axis: cells[axis] for axis in evidence.varied})
    table["diverged"] = _ratios(cells, "diverged", "finished")
    table["share with 95 % Wilson interval"] = _wilson_texts(cells)
    steps = evidence.finished.groupby("cell_id")["diverged_step"].median()
    table["median step"] = cells["cell_id"].map(steps).map(number_text)
    blocks: list[Block] = []
    if (cells["diverged"] > 0).any():
        blocks += [
            Picture(
                lambda: matter_figures.divergence(_diverged_shares(evidence), arms(evidence)),
                "The share of trained networks that diverged, with 95 % Wilson intervals over "
                "trials. A line that rises at a smaller rate belongs to an arm with less room for "
                "the rate.",
            ),
            Table(table[cells["diverged"] > 0], "Cells with at least one diverged trial."),
        ]
    else:
        blocks.append(Text("No trial diverged."))
    if len(failed):
        blocks += [Heading("Failed trials"), Table(failed[["trial_id", "error"]])]
    return Chapter("divergence", "What diverged", tuple(blocks), {"divergence": table})


def _lines(summaries: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the lines of the forest plot; rates are named where both kinds were run."""
    both = summaries["learning_rates"].nunique() > 1
    rates = ", " + summaries["learning_rates"] + " rate"
    return pandas.DataFrame(
        {
            "group": summaries["family"] + " against " + summaries["baseline"],
            "line": summaries["arm"] + (rates if both else ""),
            "value": summaries["difference"],
            "low": summaries["low"],
            "high": summaries["high"],
        }
    )


def _diverged_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of finished trials that diverged, by arm, depth and learning rate."""
    trials = evidence.finished.assign(arm=arms(evidence).names)
    diverged = trials["status"] == "diverged"
    keys = ["arm", "depth", "learning_rate"]
    rows = []
    for names, part in diverged.groupby([trials[key] for key in keys], sort=False):
        share = statistics.wilson(int(part.sum()), len(part))
        numbers = {"share": share.value, "low": share.low, "high": share.high}
        rows.append(dict(zip(keys, names, strict=True)) | numbers)
    return pandas.DataFrame(rows, columns=[*keys, "share", "low", "high"])


def _wilson_texts(cells: pandas.DataFrame) -> list[str]:
    """Returns the share of diverged trials of each cell; equal counts are computed once."""
    texts = {}
    counts = list(zip(cells["diverged"].astype(int), cells["finished"].astype(int), strict=True))
    for diverged, finished in set(counts):
        share = statistics.wilson(diverged, finished)
        texts[diverged, finished] = interval_text(share.value, share.low, share.high)
    return [texts[count] for count in counts]


def _cell_addresses(evidence: Evidence, cell_ids: pandas.Series) -> tuple[str, ...]:
    """Returns the address of a run of each cell in a tracker, "" where none is known."""
    for column in _ADDRESSES:
        if column in evidence.finished:
            known = evidence.finished.dropna(subset=[column])
            first = known.groupby("cell_id")[column].first()
            return tuple(cell_ids.map(first).fillna(""))
    return ("",) * len(cell_ids)


def _ratios(cells: pandas.DataFrame, part: str, whole: str) -> list[str]:
    """Returns counts such as `7/10` from two columns."""
    return [
        f"{int(count)}/{int(total)}" for count, total in zip(cells[part], cells[whole], strict=True)
    ]
