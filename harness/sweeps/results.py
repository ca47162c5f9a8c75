"""Turns the events of a pack into results: summary, curves and layers of each trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.configuration.trial import Trial
from harness.networks.trial_prediction import Prediction
from harness.training.events import Evaluated, Event, Finished, Probed, ProbedLayer
from harness.training.schedules import Plan, multiplier
from harness.training.sharpness import stability_margin
from harness.verdicts.criteria import load
from harness.verdicts.judging import judgements, score_columns

Columns = dict[str, Any]

_CURVES = ("train_loss", "validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class Result:
    """The outcome of one trial.

    `curves` and `layers` are columns of equal length; the column `histogram` of `layers` holds an
    array of counts in each row, or None. `diverged_step` is None for a trial that did not diverge.
    `weights` says which weights are kept and holds their file; None where none are kept.
    """

    diverged_step: int | None
    summary: dict[str, Any]
    curves: Columns
    layers: Columns
    weights: tuple[str, bytes] | None = None


def results(
    events: list[Event], trials: list[Trial], plan: Plan, samples: Sequence[int]
) -> list[Result]:
    """Returns the results of a pack's trials, in order.

    `samples` are the sizes of the trials' training splits.
    """
    tables = _PackTables(events, plan)
    return [
        tables.result(index, trial, plan.steps_per_epoch(count))
        for index, (trial, count) in enumerate(zip(trials, samples, strict=True))
    ]


def add_prediction(result: Result, prediction: Prediction) -> None:
    """Puts what theory predicted beside what was measured.

    Adds `predicted_*` columns to the rows at initialisation, and scalars to the summary. A column
    that was measured under such a name is left as it is.
    """
    layers = result.layers
    rows = [row for row, phase in enumerate(layers["phase"]) if phase == "init"]
    for name, values in prediction.columns.items():
        if name not in layers:
            column = np.full(len(layers["phase"]), np.nan)
            column[rows] = [values[layers["layer"][row] - 1] for row in rows]
            layers[name] = column
    share = _share_in_band(layers, rows)
    result.summary.update(prediction.scalars | {"prediction_share_in_band": share})


def add_verdicts(results: Sequence[Result], steps: int) -> None:
    """Adds scores to the layers of a pack's trials, and grades and words to their summaries.

    They use the columns of `add_prediction`, which has to come first.

    Args:
        results: the results of all trials of a pack, which are graded at once.
        steps: the steps of their budget.
    """
    names = ("step", "layer", *(f"score_{name}" for name in load().names))
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("trial_id", *names)}
    for index, result in enumerate(results):
        result.layers.update(score_columns(result.layers))
        for name in names:
            columns[name].append(np.asarray(result.layers[name], float))
        columns["trial_id"].append(np.full(len(result.layers["step"]), index))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    last_steps = {index: float(steps) for index in range(len(results))}
    judged = judgements(joined, last_steps)
    for result, row in zip(results, judged.to_dict("records"), strict=True):
        result.summary.update({str(name): value for name, value in row.items()})


def _share_in_band(layers: Columns, rows: list[int]) -> float:
    """Returns the share of measurements that lie within their predicted band.

    Counts every layer and column that has a measurement and a band; NaN where there is none.
    """
    inside = []
    for low_name in layers:
        if not (low_name.startswith("predicted_") and low_name.endswith("_low")):
            continue
        name = low_name.removeprefix("predicted_").removesuffix("_low")
        if name not in layers:
            continue
        measured = np.asarray(layers[name], dtype=float)[rows]
        low = np.asarray(layers[low_name], dtype=float)[rows]
        high = np.asarray(layers[f"predicted_{name}_high"], dtype=float)[rows]
        compared = np.isfinite(measured) & np.isfinite(low) & (high > low)
        inside.append(((measured >= low) & (measured <= high))[compared])
    every = np.concatenate(inside) if inside else np.empty(0)
    return float(every.mean()) if len(every) else float("nan")


class _PackTables:
    """The events of a pack as arrays, from which the results of single trials are cut."""

    def __init__(self, events: list[Event], plan: Plan) -> None:
        finished = next(event for event in events if isinstance(event, Finished))
        evaluations = [event for event in events if isinstance(event, Evaluated)]
        probes = [event for event in events if isinstance(event, Probed)]
        self._plan = plan
        self._last_step = finished.step
        self._diverged = finished.diverged_step.cpu().numpy()
        self._evaluation_steps = np.array([event.step for event in evaluations])
        self._curves = _stacked([_curve_values(event) for event in evaluations])
        self._scores = _stacked([finished.scores])
        # One row for every layer at every probe: the step, the layer's number from 1, the layer.
        self._rows: list[tuple[int, int, ProbedLayer]] = []
        for event in probes:
            for number, layer in enumerate(event.layers, 1):
                self._rows.append((event.step, number, layer))
        self._layers = _stacked([layer.columns for _, _, layer in self._rows])
        # (rows, trials, bins), -1 where a layer has no histogram.
        self._histograms = _stacked_histograms([layer.histogram for _, _, layer in self._rows])
        # (trials,) by the step of the probe; probes that do not measure it are left out.
        self._sharpness: dict[int, np.ndarray] = {}
        for event in probes:
            if event.sharpness is not None:
                self._sharpness[event.step] = event.sharpness.cpu().numpy()

    def result(self, index: int, trial: Trial, steps_per_epoch: int) -> Result:
        """Returns the result of the pack's trial number `index`."""
        first_bad_step = int(self._diverged[index])
        diverged_step = first_bad_step if first_bad_step >= 0 else None
        curves = self._trial_curves(index, trial, steps_per_epoch, diverged_step)
        summary = self._summary(index, curves, diverged_step)
        # How long the others of its pack went on says nothing about a diverged trial.
        steps = self._last_step if diverged_step is None else diverged_step
        summary |= {"steps": steps, "epochs": steps / steps_per_epoch}
        layers = self._trial_layers(index, steps_per_epoch, diverged_step)
        stability = self._stability(index, trial, diverged_step)
        summary |= _stability_summary(stability, self._plan.steps)
        for name, values in stability.items():
            layers[name] = [values.get(step, float("nan")) for step in layers["step"]]
        return Result(diverged_step, summary, curves, layers)

    def _trial_curves(
        self, index: int, trial: Trial, steps_per_epoch: int, diverged_step: int | None
    ) -> Columns:
        steps = self._evaluation_steps
        kept = np.ones(len(steps), bool)
        if diverged_step is not None:
            # What a trial showed after it diverged says nothing about it.
            kept = steps <= diverged_step
        steps = steps[kept]
        curves = {
            "step": steps,
            "epoch": steps / steps_per_epoch,
            "learning_rate": [self._learning_rate(trial, int(step)) for step in steps],
        }
        return curves | {name: values[kept, index] for name, values in self._curves.items()}

    def _summary(self, index: int, curves: Columns, diverged_step: int | None) -> dict[str, Any]:
        summary = {name: float(values[0, index]) for name, values in self._scores.items()}
        for name in ("validation_loss", "validation_accuracy"):
            summary[name] = float(curves[name][-1])
        scores = list(summary)
        accuracies = curves["validation_accuracy"]
        finite = accuracies[np.isfinite(accuracies)]
        summary["best_validation_accuracy"] = float(finite.max()) if len(finite) else float("nan")
        if diverged_step is not None:
            # They say nothing about a trial that diverged.
            summary |= dict.fromkeys(scores, float("nan"))
        return summary

    def _trial_layers(self, index: int, steps_per_epoch: int, diverged_step: int | None) -> Columns:
        kept = list(range(len(self._rows)))
        if diverged_step is not None:
            kept = [row for row in kept if self._rows[row][0] < diverged_step]
        steps = [self._rows[row][0] for row in kept]
        layers = [self._rows[row][2] for row in kept]
        columns = {
            "step": steps,
            "epoch": [step / steps_per_epoch for step in steps],
            "phase": [self._phase(step) for step in steps],
            "layer": [self._rows[row][1] for row in kept],
            "name": [layer.name for layer in layers],
            "kind": [layer.kind for layer in layers],
            "units": [layer.units for layer in layers],
            "fan_in": [layer.fan_in for layer in layers],
            "absent": [layer.absent for layer in layers],
        }
        columns |= {name: values[kept, index] for name, values in self._layers.items()}
        histograms = [self._histograms[row, index] for row in kept]
        columns["histogram"] = [counts if counts[0] >= 0 else None for counts in histograms]
        return columns

    def _stability(
        self, index: int, trial: Trial, diverged_step: int | None
    ) -> dict[str, dict[int, float]]:
        """Returns `sharpness` and `stability_margin` of a trial by the step of the probe."""
        sharpness: dict[int, float] = {}
        margins: dict[int, float] = {}
        for step, values in self._sharpness.items():
            if diverged_step is None or step < diverged_step:
                sharpness[step] = float(values[index])
                rate = self._learning_rate(trial, step)
                margins[step] = stability_margin(sharpness[step], rate, trial.spec["optimizer"])
        return {"sharpness": sharpness, "stability_margin": margins}

    def _learning_rate(self, trial: Trial, step: int) -> float:
        """Returns the learning rate of update `step`; at step 0 that of the first update."""
        factor = multiplier(trial.spec["schedule"], max(step, 1), max(self._plan.steps, 1))
        return trial.spec["optimizer"]["learning_rate"] * factor

    def _phase(self, step: int) -> str:
        if step == 0:
            return "init"
        return "end" if step == self._plan.steps else "training"


def _stability_summary(stability: dict[str, dict[int, float]], last_step: int) -> dict[str, float]:
    """Returns each quantity at the first and last step, and its largest value; NaN for none."""
    summary = {}
    for name, values in stability.items():
        finite = [value for value in values.values() if math.isfinite(value)]
        summary[f"{name}_init"] = values.get(0, math.nan)
        summary[f"{name}_end"] = values.get(last_step, math.nan) if last_step > 0 else math.nan
        summary[f"{name}_max"] = max(finite, default=math.nan)
    return summary


def _stacked_histograms(rows: list[torch.Tensor]) -> np.ndarray:
    """Returns rows of (trials, bins) as one array (rows, trials, bins), in one transfer."""
    if not rows:
        return np.empty((0, 0, 0), np.int32)
    return torch.stack(rows).cpu().numpy()


def _curve_values(event: Evaluated) -> dict[str, torch.Tensor]:
    return {name: getattr(event, name) for name in _CURVES}


def _stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """Returns rows of (trials,) columns as float64 arrays (rows, trials).

    Moves each column from the device in one transfer. NaN where a row lacks a column.
    """
    if not rows:
        return {}
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    blank = torch.full_like(next(iter(rows[0].values())).double(), torch.nan)
    columns = {}
    for name in names:
        column = torch.stack([row.get(name, blank).double() for row in rows])
        columns[name] = column.cpu().numpy()
    return columns
