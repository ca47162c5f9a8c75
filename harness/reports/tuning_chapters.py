"""The chapter on tuning: the score of each arm against its learning rate."""

from __future__ import annotations

import pandas

from harness.reports import matter_figures, tuning
from harness.reports.chapter import Block, Chapter, Picture, Table, Text, number_text
from harness.reports.evidence import Evidence


def tuning_curves(evidence: Evidence) -> Chapter:
    """Returns the chapter on the searches for a learning rate."""
    title = "Tuning curves"
    curves = tuning.tuning_curves(evidence)
    if not len(curves):
        text = (
            "No search for a learning rate is among these trials, so arms are compared at the "
            "rates that were given. search=learning_rate tunes every arm with the same draws."
        )
        return Chapter("tuning", title, (Text(text),))
    best = tuning.expected_best(evidence)
    blocks: tuple[Block, ...] = (
        Picture(
            lambda: matter_figures.tuning(curves),
            "Validation score of each draw, mean over the tuning seeds; the same draws for every "
            "arm. A star is the rate that was chosen and confirmed with new seeds, a ring the "
            "default. A broad top needs no tuning; a star at the edge asks for a wider range.",
        ),
        Table(
            _by_draws(best).map(number_text),
            "The expected validation score of the best of k draws: what a search of that size is "
            "worth. A row that rises late needs more tuning.",
        ),
    )
    tables = {"tuning_curves": curves, "expected_best": best}
    return Chapter("tuning", title, blocks, tables)


def _by_draws(best: pandas.DataFrame) -> pandas.DataFrame:
    """Returns one row per task and arm, and one column per number of draws."""
    wide = best.pivot(index=["task", "arm"], columns="draws", values="expected_best")
    counts = [int(draws) for draws in wide.columns]
    wide.columns = ["1 draw" if draws == 1 else f"{draws} draws" for draws in counts]
    return wide.reset_index()
