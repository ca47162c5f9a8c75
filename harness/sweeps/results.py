"""From a pack's events to what the store keeps of each trial: a summary, its curves and its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.configuration.trial import Trial
from harness.networks.trial_prediction import Prediction
from harness.training.events import Evaluated, Event, Finished, Probed
from harness.training.schedules import Plan, multiplier
from harness.verdicts.evaluation import verdict_columns
from harness.verdicts.sentences import summarize

Columns = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One trial's outcome; `curves` and `layers` are columns of equal length. `diverged_step` is None for a trial that ended well."""

    diverged_step: int | None
    summary: dict[str, Any]
    curves: Columns
    layers: Columns


def results(
    events: list[Event], trials: list[Trial], plan: Plan, samples: Sequence[int]
) -> list[Result]:
    """The results of a pack's trials, in order; `samples` are each one's in its training split."""
    finished = next(event for event in events if isinstance(event, Finished))
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    probes = [event for event in events if isinstance(event, Probed)]
    curves = _stacked(
        [
            {
                key: getattr(event, key)
                for key in ("train_loss", "validation_loss", "validation_accuracy")
            }
            for event in evaluations
        ]
    )
    layers = _stacked([layer.columns for event in probes for layer in event.layers])
    scores = _stacked([finished.scores])
    diverged = finished.diverged_step.cpu().numpy()
    return [
        _result(
            trial,
            plan,
            plan.steps_per_epoch(samples[index]),
            finished.step,
            int(diverged[index]),
            evaluations,
            probes,
            *(
                {key: values[:, index] for key, values in table.items()}
                for table in (curves, layers, scores)
            ),
        )
        for index, trial in enumerate(trials)
    ]


def add_prediction(result: Result, prediction: Prediction) -> None:
    """Put what theory predicted beside what was measured: `predicted_*` columns on the rows at initialisation, scalars in the summary.

    A column that was measured under such a name is left as it is.
    """
    layers = result.layers
    rows = [row for row, phase in enumerate(layers["phase"]) if phase == "init"]
    for name, values in prediction.columns.items():
        if name not in layers:
            column = np.full(len(layers["phase"]), np.nan)
            column[rows] = [values[layers["layer"][row] - 1] for row in rows]
            layers[name] = column
    result.summary.update(
        prediction.scalars | {"prediction_share_in_band": _share_in_band(layers, rows)}
    )


def add_verdicts(result: Result) -> None:
    """Judge SELU's assumptions at every layer and probe; call it behind `add_prediction`, whose columns the judgement uses."""
    result.summary.update(summarize(verdict_columns(result.layers)))


def _share_in_band(layers: Columns, rows: list[int]) -> float:
    """Of all layers and columns with a measurement and a band, the share whose measurement lies in it; NaN where there is none."""
    inside = []
    for name in [
        name.removeprefix("predicted_").removesuffix("_low")
        for name in layers
        if name.startswith("predicted_") and name.endswith("_low")
    ]:
        if name in layers:
            measured, low, high = (
                np.asarray(layers[key], dtype=float)[rows]
                for key in (name, f"predicted_{name}_low", f"predicted_{name}_high")
            )
            compared = np.isfinite(measured) & np.isfinite(low) & (high > low)
            inside.append(((measured >= low) & (measured <= high))[compared])
    every = np.concatenate(inside) if inside else np.empty(0)
    return float(every.mean()) if len(every) else float("nan")


def _stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """Rows of (trials,) columns as float64 arrays (rows, trials); one transfer from the device a column. NaN where a row lacks one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    blank = torch.full_like(next(iter(rows[0].values())).double(), torch.nan) if rows else None
    return {
        name: torch.stack([row.get(name, blank).double() for row in rows]).cpu().numpy()
        for name in names
    }


def _result(
    trial: Trial,
    plan: Plan,
    steps_per_epoch: int,
    last: int,
    diverged: int,
    evaluations: list[Evaluated],
    probes: list[Probed],
    curves: Columns,
    layers: Columns,
    scores: Columns,
) -> Result:
    schedule, rate = trial.spec["schedule"], trial.spec["optimizer"]["learning_rate"]
    steps = np.array([event.step for event in evaluations])
    # What a trial showed after it diverged says nothing about it.
    kept = steps <= diverged if diverged >= 0 else np.ones(len(steps), bool)
    curves = {
        "step": steps[kept],
        "epoch": steps[kept] / steps_per_epoch,
        "learning_rate": [
            rate * multiplier(schedule, max(int(step), 1), max(plan.steps, 1))
            for step in steps[kept]
        ],
    } | {name: values[kept] for name, values in curves.items()}
    summary = {name: float(values[0]) for name, values in scores.items()}
    summary |= {
        name: float(curves[name][-1]) for name in ("validation_loss", "validation_accuracy")
    }
    known = curves["validation_accuracy"][np.isfinite(curves["validation_accuracy"])]
    summary["best_validation_accuracy"] = float(known.max()) if len(known) else float("nan")
    if diverged >= 0:
        summary |= dict.fromkeys(
            (
                "validation_loss",
                "validation_accuracy",
                "train_loss",
                "train_accuracy",
                "test_loss",
                "test_accuracy",
            ),
            float("nan"),
        )
    steps = (
        diverged if diverged >= 0 else last
    )  # how long the others of its pack went on is nothing of a diverged trial
    summary |= {"steps": steps, "epochs": steps / steps_per_epoch}
    return Result(
        diverged if diverged >= 0 else None,
        summary,
        curves,
        _layers(plan, steps_per_epoch, diverged, probes, layers),
    )


def _layers(
    plan: Plan, steps_per_epoch: int, diverged: int, probes: list[Probed], columns: Columns
) -> Columns:
    rows = [
        (event.step, number, layer)
        for event in probes
        for number, layer in enumerate(event.layers, 1)
    ]
    kept = [index for index, (step, _, _) in enumerate(rows) if diverged < 0 or step < diverged]
    told = [rows[index] for index in kept]
    return {
        "step": [step for step, _, _ in told],
        "epoch": [step / steps_per_epoch for step, _, _ in told],
        "phase": [
            "init" if step == 0 else "end" if step == plan.steps else "training"
            for step, _, _ in told
        ],
        "layer": [number for _, number, _ in told],
        "name": [layer.name for _, _, layer in told],
        "kind": [layer.kind for _, _, layer in told],
        "units": [layer.units for _, _, layer in told],
        "fan_in": [layer.fan_in for _, _, layer in told],
        "absent": [layer.absent for _, _, layer in told],
    } | {name: values[kept] for name, values in columns.items()}
