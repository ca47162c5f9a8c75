"""Grades of a trial: the share of its layers that hold, in three phases of training.

The word of a single layer is the worst of its criteria, which tells layers apart. The worst word of
a whole network is the same for nearly all networks, so a network is graded by shares instead: the
share of layers that hold at initialisation, early in training and at the end, the first layer that
does not hold, and the first probe at which fewer than nine of ten layers hold.

Everything here works on scores, which are numbers: an effect in units of its thresholds. A score is
at most 1 where a layer holds, at most 2 where it is strained, above 2 where it fails, and NaN where
it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy
import pandas
from numpy.typing import NDArray

# A network holds where at least this share of its layers does, and fails where at most LOW does.
HIGH = 0.9
LOW = 0.1
# The middle phase is the first probe at or after this share of the steps.
EARLY_SHARE = 0.1
PHASES = ("init", "early", "end")


def word(share: float) -> str:
    """Returns the word of a share of layers: holds, mixed, fails, or unknown for NaN."""
    if math.isnan(share):
        return "unknown"
    if share >= HIGH:
        return "holds"
    return "fails" if share <= LOW else "mixed"


def shares(layers: Mapping[str, NDArray], names: Iterable[str]) -> pandas.DataFrame:
    """Returns one row per trial and probe with the share of layers that hold.

    Args:
        layers: columns of the layer table: trial_id (may be missing for one trial), step, layer,
            and `score_<name>` for every name that was judged.
        names: premises and promises.

    Returns:
        trial_id, step and for each name `share_<name>` (NaN where no layer is known) and
        `first_layer_<name>`, the lowest layer that does not hold (NaN where all known ones hold).
    """
    frame = pandas.DataFrame(
        {"step": numpy.asarray(layers["step"]), "layer": numpy.asarray(layers["layer"], float)}
    )
    frame.insert(0, "trial_id", layers.get("trial_id", ""))
    names = list(names)
    for name in names:
        score = numpy.asarray(layers.get(f"score_{name}", numpy.full(len(frame), numpy.nan)), float)
        known = ~numpy.isnan(score)
        frame[f"share_{name}"] = numpy.where(known, score <= 1.0, numpy.nan)
        frame[f"first_layer_{name}"] = numpy.where(known & (score > 1.0), frame["layer"], numpy.nan)
    rules = {f"share_{name}": "mean" for name in names}
    rules |= {f"first_layer_{name}": "min" for name in names}
    grouped = frame.groupby(["trial_id", "step"], sort=True, observed=True)
    return grouped.agg(rules).reset_index()


def phase_steps(steps: NDArray, last: float) -> dict[str, float]:
    """Returns the probed step of each phase; NaN where no probe falls into it.

    Args:
        steps: the probed steps of a trial.
        last: the steps of its budget; a trial that diverged before has no end.
    """
    steps = numpy.sort(numpy.asarray(steps, float))
    early = steps[(steps > 0) & (steps >= EARLY_SHARE * last) & (steps < last)]
    return {
        "init": 0.0 if len(steps) and steps[0] == 0 else math.nan,
        "early": float(early[0]) if len(early) else math.nan,
        "end": float(last) if last > 0 and last in steps else math.nan,
    }


def grades(
    probes: pandas.DataFrame, names: Iterable[str], last_steps: Mapping[Any, float]
) -> pandas.DataFrame:
    """Returns one row per trial with its grades.

    Args:
        probes: as `shares` returns it.
        names: premises and promises.
        last_steps: by trial_id the steps of its budget.

    Returns:
        Indexed by trial_id. For each name and phase `share_<name>_<phase>`, the share of layers
        that hold, and `first_layer_<name>_<phase>`, the lowest layer that does not; and
        `left_step_<name>`, the first probed step at which fewer than nine of ten layers hold
        (NaN where that is never seen).
    """
    names = list(names)
    trials = probes["trial_id"].unique()
    result = pandas.DataFrame(index=pandas.Index(trials, name="trial_id"))
    steps = probes.groupby("trial_id", observed=True)["step"].apply(lambda part: part.to_numpy())
    chosen = pandas.DataFrame(
        {trial: phase_steps(steps[trial], last_steps[trial]) for trial in trials}
    ).T
    by_step = probes.set_index(["trial_id", "step"])
    for phase in PHASES:
        keys = pandas.MultiIndex.from_arrays([trials, chosen.loc[trials, phase].to_numpy()])
        rows = by_step.reindex(keys)
        for name in names:
            result[f"share_{name}_{phase}"] = rows[f"share_{name}"].to_numpy()
            result[f"first_layer_{name}_{phase}"] = rows[f"first_layer_{name}"].to_numpy()
    for name in names:
        left = probes[probes[f"share_{name}"] < HIGH].groupby("trial_id", observed=True)["step"]
        result[f"left_step_{name}"] = left.min().reindex(trials).to_numpy(float)
    return result
