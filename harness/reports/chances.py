"""The score of guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas

from harness.data.catalog import PUBLISHED


def chances(trials: pandas.DataFrame) -> pandas.Series:
    """Returns each trial's chance level, which trials of one data set tell each other."""
    levels = [chance_level(row) for row in trials.to_dict("records")]
    known = pandas.Series(levels, index=trials.index, dtype=float)
    names = [str(name) for name in trials]
    settings = [name for name in names if name == "dataset" or name.startswith("spec.dataset.")]
    if not settings or known.notna().all():
        return known
    data_sets = trials[settings].astype(str).agg("|".join, axis=1)
    return known.fillna(known.groupby(data_sets).transform("first"))


def chance_level(trial: Mapping[Any, Any]) -> float:
    """Returns 1/classes of a trial's data set; NaN where that is unknown."""
    for name in ("classes", "spec.dataset.classes"):
        classes = trial.get(name)
        if isinstance(classes, (int, float)) and classes > 0:
            return 1.0 / classes
    published = PUBLISHED.get(trial.get("dataset", ""))
    if published is None or published.classes is None:
        return math.nan
    return 1.0 / published.classes
