"""Tables of searches: the score against the learning rate, and the best of so many draws.

They speak of tuning trials, which are no results: only the trials that confirm a draw are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy
import pandas

from harness.reports import statistics
from harness.reports.axis_values import label_words, plain_value
from harness.reports.evidence import FINISHED, Evidence
from harness.reports.rules import ARM_AXES
from harness.store.searches import CONFIRMATION, TUNING

# The axis that is searched, which is neither a part of an arm nor of a task.
_SEARCHED = "learning_rate"
_CURVE_COLUMNS = (
    "task",
    "arm",
    "learning_rate",
    "score",
    "seeds",
    "diverged",
    "default",
    "chosen",
)
_BEST_COLUMNS = ("task", "arm", "draws", "expected_best")


def tuning_curves(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per task, arm and learning rate that was tried, in order of the rates.

    Columns: `task` and `arm`, in words; `learning_rate`; `score`, the mean validation accuracy over
    the `seeds` tuning seeds, with chance level for those that diverged; `diverged`, their share;
    `default`, true for the configured rate (draw 0); `chosen`, true for a rate that was confirmed.
    """
    return _table(_CURVE_COLUMNS, _curve_rows(evidence))


def expected_best(evidence: Evidence) -> pandas.DataFrame:
    """Returns the expected best validation accuracy of k draws, for each task and arm.

    Columns: `task` and `arm`, in words; `draws`, k from 1 to the number of rates tried;
    `expected_best`, the mean over all sets of k of these rates of the best score in the set.
    """
    rows = []
    curves = tuning_curves(evidence).dropna(subset=["score"])
    for (task, arm), curve in curves.groupby(["task", "arm"], sort=False):
        scores = curve["score"]
        for draws in range(1, len(scores) + 1):
            rows.append((task, arm, draws, statistics.expected_best(scores, scores, draws)))
    return _table(_BEST_COLUMNS, rows)


def _curve_rows(evidence: Evidence) -> Iterator[tuple]:
    trials = evidence.trials
    if "search_role" not in trials:
        return
    trials = trials[trials["status"].isin(FINISHED)]
    tuned = trials[trials["search_role"] == TUNING]
    if not len(tuned):
        return
    others = [axis for axis in evidence.axes if axis != _SEARCHED]
    # Axes as text, in which two missing options are equal.
    cells = trials[others].map(plain_value).astype(str).agg("|".join, axis="columns")
    confirmed = trials["search_role"] == CONFIRMATION
    chosen = set(zip(cells[confirmed], trials[_SEARCHED][confirmed], strict=True))
    varied = [axis for axis in others if tuned[axis].map(plain_value).nunique() > 1]
    arm_axes = [axis for axis in varied if axis.partition(".")[0] in ARM_AXES]
    task_axes = [axis for axis in varied if axis not in arm_axes]
    for cell, rows in tuned.groupby(cells[tuned.index], sort=False):
        task = _words(rows, task_axes, "all trials")
        arm = _words(rows, arm_axes, str(rows["activation"].iloc[0]))
        for rate, draw in rows.groupby(_SEARCHED, sort=True):
            diverged = draw["status"] == "diverged"
            scores = draw["validation_accuracy"].where(~diverged, draw["chance"])
            yield (
                task,
                arm,
                rate,
                float(scores.mean(skipna=False)),
                len(draw),
                float(diverged.mean()),
                bool((draw["search_draw"] == 0).any()),
                (cell, rate) in chosen,
            )


def _words(rows: pandas.DataFrame, axes: Sequence[str], otherwise: str) -> str:
    """Returns the values that all rows share on some axes, as words."""
    words = label_words(axes, rows.iloc[0].to_dict())
    return ", ".join(words) or otherwise


def _table(columns: Sequence[str], rows: Iterator[tuple] | list[tuple]) -> pandas.DataFrame:
    table = pandas.DataFrame(list(rows), columns=list(columns))
    numbers = {name: numpy.float64 for name in ("score", "expected_best") if name in table}
    return table.astype(numbers)
