"""Tables of searches: what tuning tried, what it chose, and how much tuning an arm needs.

Tuning trials stand here and in no comparison: the best of several draws is too good by chance.
"""

from __future__ import annotations

import numpy
import pandas

from harness.reports.axis_values import value_label
from harness.reports.evidence import CONFIRMATION, TUNING, Evidence
from harness.reports.statistics import expected_best

_DRAW_COLUMNS = (
    "search",
    "arm",
    "learning_rate",
    "draw",
    "seeds",
    "diverged",
    "validation",
    "test",
    "chosen",
    "at_the_end_of_the_range",
)


def draws(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per arm and draw of a search.

    Columns: `search`, `arm`, `learning_rate`, `draw`, tuning `seeds`, `diverged` ones, `validation`
    and `test` (means over tuning seeds, a diverged one with chance), `chosen` where confirmed
    trials have this rate, and `at_the_end_of_the_range` for a chosen rate that was tried against
    none on one of its sides. Empty without a search.
    """
    trials = evidence.finished_with_tuning
    if "search" not in trials:
        return pandas.DataFrame(columns=list(_DRAW_COLUMNS))
    role = evidence.role[trials.index]
    diverged = trials["status"] == "diverged"
    validation = trials["validation_accuracy"].where(~diverged, trials["chance"])
    trials = trials.assign(validation=validation, diverged=diverged)
    confirmed = trials[role == CONFIRMATION].groupby("search")["learning_rate"].first()
    rows = []
    for search, group in trials[role == TUNING].groupby("search", sort=False):
        ends = (group["learning_rate"].min(), group["learning_rate"].max())
        for rate, seeds in group.groupby("learning_rate"):
            chosen = bool(confirmed.get(search) == rate)
            rows.append(
                {
                    "search": search,
                    "arm": _arm(evidence, seeds),
                    "learning_rate": rate,
                    "draw": seeds["search_draw"].min() if "search_draw" in seeds else numpy.nan,
                    "seeds": len(seeds),
                    "diverged": int(seeds["diverged"].sum()),
                    "validation": seeds["validation"].mean(skipna=False),
                    "test": seeds["score"].mean(skipna=False),
                    "chosen": chosen,
                    "at_the_end_of_the_range": chosen and rate in ends,
                }
            )
    return pandas.DataFrame(rows, columns=list(_DRAW_COLUMNS))


def budgets(evidence: Evidence) -> pandas.DataFrame:
    """Returns the expected test score of the best of k draws, one row per arm and k.

    The best is chosen by validation among k of the draws. Scores are those of tuning seeds, so they
    show how much tuning an arm needs, not how good it is.
    """
    rows = []
    for search, table in draws(evidence).groupby("search", sort=False):
        table = table.dropna(subset=["validation", "test"])
        for count in range(1, len(table) + 1):
            best = expected_best(table["validation"], table["test"], count)
            arm = table["arm"].iloc[0]
            rows.append({"search": search, "arm": arm, "draws": count, "expected_best": best})
    return pandas.DataFrame(rows, columns=["search", "arm", "draws", "expected_best"])


def _arm(evidence: Evidence, trials: pandas.DataFrame) -> str:
    shown = [axis for axis in evidence.varied if axis != "learning_rate"]
    words = [value_label(axis, trials[axis].iloc[0]) for axis in shown]
    return ", ".join(words) or value_label("activation", trials["activation"].iloc[0])
