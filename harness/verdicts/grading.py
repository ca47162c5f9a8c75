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
from numpy.typing import ArrayLike, NDArray

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


def shares(layers: Mapping[str, Any], names: Iterable[str]) -> pandas.DataFrame:
    """Returns one row per trial and probe with the share of layers that hold.

    Args:
        layers: columns of the layer table: trial_id (may be missing for one trial), step, layer,
            and `score_<name>` for every name that was judged.
        names: premises and promises.

    Returns:
        trial_id, step and for each name `share_<name>` (NaN where no layer is known) and
        `first_layer_<name>`, the lowest layer that does not hold (NaN where all known ones hold).
    """
    steps = numpy.asarray(layers["step"], float)
    numbers = numpy.asarray(layers["layer"], float)
    group, result = _probes(layers.get("trial_id", ""), steps)
    count = len(result["step"])
    for name in names:
        score = numpy.asarray(layers.get(f"score_{name}", math.nan), float)
        known = numpy.broadcast_to(~numpy.isnan(score), steps.shape)
        left = numpy.broadcast_to(score > 1.0, steps.shape)
        judged = numpy.bincount(group[known], minlength=count)
        lost = numpy.bincount(group[left], minlength=count)
        first = numpy.full(count, math.inf)
        numpy.minimum.at(first, group[left], numbers[left])
        with numpy.errstate(invalid="ignore"):
            result[f"share_{name}"] = (judged - lost) / judged
        result[f"first_layer_{name}"] = numpy.where(numpy.isinf(first), math.nan, first)
    return pandas.DataFrame(result)


def phase_steps(steps: ArrayLike, last: float) -> dict[str, float]:
    """Returns the probed step of each phase; NaN where no probe falls into it.

    Args:
        steps: the probed steps of a trial.
        last: the steps of its budget; a trial that diverged before has no end.
    """
    steps = numpy.sort(numpy.asarray(steps, float))
    chosen = {}
    for phase, inside in _inside_phases(steps, numpy.full(len(steps), last)).items():
        chosen[phase] = float(steps[inside][0]) if inside.any() else math.nan
    return chosen


def grades(
    probes: pandas.DataFrame, names: Iterable[str], last_steps: Mapping[Any, float]
) -> pandas.DataFrame:
    """Returns one row per trial with its grades.

    Args:
        probes: as `shares` returns it.
        names: premises and promises.
        last_steps: by trial_id the steps of its budget; every trial of it gets a row.

    Returns:
        Indexed by trial_id. For each name and phase `share_<name>_<phase>`, the share of layers
        that hold, and `first_layer_<name>_<phase>`, the lowest layer that does not; and
        `left_step_<name>`, the first probed step at which fewer than nine of ten layers hold
        (NaN where that is never seen).
    """
    index = pandas.Index(list(last_steps), name="trial_id")
    probes = probes.sort_values("step", kind="stable")
    trial = index.get_indexer(probes["trial_id"])
    steps = probes["step"].to_numpy(float)
    lasts = numpy.array(list(last_steps.values()), float)[trial]
    phases = {
        phase: _first_rows(trial, inside, len(index))
        for phase, inside in _inside_phases(steps, lasts).items()
    }
    columns = {}
    for name in names:
        share = probes[f"share_{name}"].to_numpy(float)
        first_layer = probes[f"first_layer_{name}"].to_numpy(float)
        for phase, rows in phases.items():
            columns[f"share_{name}_{phase}"] = _taken(share, rows)
            columns[f"first_layer_{name}_{phase}"] = _taken(first_layer, rows)
        left = _first_rows(trial, share < HIGH, len(index))
        columns[f"left_step_{name}"] = _taken(steps, left)
    return pandas.DataFrame(columns, index)


def _probes(
    trials: ArrayLike, steps: NDArray[numpy.float64]
) -> tuple[NDArray[numpy.intp], dict[str, NDArray]]:
    """Returns the number of each row's probe, and trial_id and step of all probes in order."""
    if isinstance(trials, str):
        trials = numpy.full(len(steps), trials, object)
    # Step by step is ten times as fast as sorting pairs: identities are text.
    trial_codes, trial_ids = pandas.factorize(numpy.asarray(trials), sort=True)
    step_codes, step_values = pandas.factorize(steps, sort=True)
    pairs = trial_codes * max(len(step_values), 1) + step_codes
    distinct, group = numpy.unique(pairs, return_inverse=True)
    trial, step = numpy.divmod(distinct, max(len(step_values), 1))
    return group, {"trial_id": trial_ids[trial], "step": step_values[step]}


def _inside_phases(
    steps: NDArray[numpy.float64], lasts: NDArray[numpy.float64]
) -> dict[str, NDArray[numpy.bool_]]:
    """Returns which probes are of each phase; of several early ones the first counts."""
    early = (steps > 0) & (steps >= EARLY_SHARE * lasts) & (steps < lasts)
    return {"init": steps == 0, "early": early, "end": (steps == lasts) & (lasts > 0)}


def _first_rows(
    trial: NDArray[numpy.intp], chosen: NDArray[numpy.bool_], trials: int
) -> NDArray[numpy.intp]:
    """Returns for each trial its first chosen row, -1 where it has none."""
    rows = numpy.full(trials, -1)
    backwards = numpy.flatnonzero(chosen & (trial >= 0))[::-1]
    # Of several values for one trial the last one stays, which is the first row.
    rows[trial[backwards]] = backwards
    return rows


def _taken(values: NDArray[numpy.float64], rows: NDArray[numpy.intp]) -> NDArray[numpy.float64]:
    """Returns the values of these rows, NaN for -1."""
    if not len(values):
        return numpy.full(len(rows), math.nan)
    return numpy.where(rows < 0, math.nan, values[rows])
