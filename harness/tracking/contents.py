"""The contents of a run but its files, however they are stored.

Metrics of a run: `accuracy/`, `loss/`, `share/`, `stability/`, `axis/` and `cost/` are single
numbers, `curve/` runs over training steps, and `init/` and `end/` are profiles over the layers,
whose step is the layer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.store.records import Record
from harness.tracking import run_names

# Profiles that are sent as metrics, by column of the layer table; the table itself is an artifact.
_PROFILES = {
    "pre_activation_variance": "z_variance",
    "activation_mean": "mean",
    "activation_variance": "variance",
    "gradient_product": "gradient",
    "predicted_activation_mean": "mean_predicted",
    "predicted_activation_variance": "variance_predicted",
    "predicted_gradient_product": "gradient_predicted",
}
# Single numbers of a trial's summary, by the name of the metric.
_SCORES = {
    "accuracy/test": "test_accuracy",
    "accuracy/validation": "validation_accuracy",
    "accuracy/train": "train_accuracy",
    "accuracy/best_validation": "best_validation_accuracy",
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "loss/test": "test_loss",
    "cost/seconds": "seconds",
    "cost/steps": "steps",
    "cost/parameters": "parameters",
    "cost/pack_size": "pack_size",
}
# Numbers of the summary that are sent, by how their names begin there and in MLflow, whose charts
# have a section for each word before a slash.
_GRADES = {
    "share_": "share/",
    "stability_margin_": "stability/margin_",
    "sharpness_": "stability/sharpness_",
}
_CURVES = ("train_loss", "validation_loss", "validation_accuracy", "learning_rate")

COLUMNS = ("phase", "layer", *_PROFILES)
# The tag by which the run of a trial is found.
TRIAL_TAG = "trial_id"


class Point(NamedTuple):
    """A value of a metric; `timestamp` is in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


class Dataset(NamedTuple):
    """The data set of a trial, as an input of its run."""

    name: str
    digest: str
    source_type: str
    source: str


@dataclass(frozen=True)
class Contents:
    """A run; times are in milliseconds since 1970, None where the trial's are unknown."""

    name: str
    started: int | None
    ended: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[Point]
    dataset: Dataset


def contents(
    record: Record, layers: Mapping[str, NDArray], differing: Sequence[str] = ()
) -> Contents:
    """Returns the run of a finished trial.

    Args:
        record: the trial.
        layers: the `COLUMNS` of its layer table, as far as it has them.
        differing: the axes that its name begins with.
    """
    settings = record.axes | {"seed": record.seed}
    return Contents(
        name=run_names.of_trial(record, differing),
        started=milliseconds(record.started),
        ended=milliseconds(record.ended),
        tags=_tags(record),
        params={name: str(value) for name, value in settings.items()},
        metrics=list(metric_points(record, layers)),
        dataset=dataset_of(record),
    )


def metric_points(record: Record, layers: Mapping[str, NDArray]) -> Iterator[Point]:
    """Gives the points of all metrics of a trial: scores, then curves, then layer profiles."""
    time = milliseconds(record.ended)
    for key, value in score_metrics(record.summary).items():
        yield Point(key, value, time, 0)
    for key, number in {**axis_metrics(record.axes), **grade_metrics(record.summary)}.items():
        yield Point(key, number, time, 0)
    yield from _curve_points(record, time)
    yield from _profile_points(layers, time)


def score_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns the final scores of a trial and what it cost, by metric."""
    values = {key: summary.get(name) for key, name in _SCORES.items()}
    return {key: float(value) for key, value in values.items() if is_number(value)}


def axis_metrics(axes: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numeric axes as metrics, because params are sorted and compared as text."""
    return {f"axis/{name}": float(value) for name, value in axes.items() if is_number(value)}


def grade_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns the shares of layers that hold, and the numbers of stability, by metric."""
    metrics = {}
    for name, value in summary.items():
        for beginning, section in _GRADES.items():
            if name.startswith(beginning) and is_number(value):
                metrics[f"{section}{name.removeprefix(beginning)}"] = float(value)
    return metrics


def _curve_points(record: Record, time: int | None) -> Iterator[Point]:
    curves = record.columns("curves", {"step", *_CURVES})
    steps = curves["step"].tolist()
    for name in _CURVES:
        values = curves[name].tolist()
        if name == "learning_rate" and len(set(values)) == 1:
            # A constant is a param already, and a server takes 0.2 milliseconds for every point.
            continue
        for step, value in zip(steps, values, strict=True):
            if is_number(value):
                yield Point(f"curve/{name}", value, time, step)


def _profile_points(layers: Mapping[str, NDArray], time: int | None) -> Iterator[Point]:
    for phase in ("init", "end"):
        rows = layers["phase"] == phase
        numbers = layers["layer"][rows].tolist()
        for column, short in _PROFILES.items():
            if column not in layers:
                continue
            for layer, value in zip(numbers, layers[column][rows].tolist(), strict=True):
                if not is_number(value):
                    continue
                if not short.startswith("gradient"):
                    yield Point(f"{phase}/{short}", float(value), time, layer)
                elif value > 0:
                    yield Point(f"{phase}/log10_{short}", math.log10(value), time, layer)


def _tags(record: Record) -> dict[str, str]:
    tags = {axis: str(value) for axis, value in record.axes.items()}
    tags["kind"] = "trial"
    tags[TRIAL_TAG] = record.trial_id
    tags["cell"] = record.cell_id
    tags["seed"] = str(record.seed)
    tags["status"] = record.status
    for name, value in record.summary.items():
        # A phase that was not probed has no word.
        if name.startswith("verdict_") and isinstance(value, str) and value != "unknown":
            tags[name] = value
    if "criteria_version" in record.summary:
        tags["criteria_version"] = str(record.summary["criteria_version"])
    if record.diverged_step is not None:
        tags["diverged_step"] = str(record.diverged_step)
    tags["mlflow.note.content"] = _description(record)
    return tags


def _description(record: Record) -> str:
    """Returns the run's description in Markdown."""
    if record.diverged_step is not None:
        score = f"diverged at step {record.diverged_step}"
    else:
        score = f"test accuracy {record.summary['test_accuracy']:.4f}"
    paragraphs = [f"**{score}**"]
    for name in ("prediction_sentence", "verdict_sentence"):
        if record.summary.get(name):
            paragraphs.append(str(record.summary[name]))
    return "\n\n".join([*paragraphs, axes_table(record.axes)])


def axes_table(axes: Mapping[str, Any]) -> str:
    """Returns the axes as a table in Markdown."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in axes.items())
    return f"| axis | value |\n| --- | --- |\n{rows}"


def dataset_of(record: Record) -> Dataset:
    """Returns the data set of a trial as MLflow describes it."""
    name = record.axes["dataset"]
    specification = json.dumps(record.spec["dataset"], sort_keys=True)
    digest = hashlib.sha256(specification.encode()).hexdigest()[:8]
    return Dataset(name, digest, "local", json.dumps({"name": name}))


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number that can be a metric."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def milliseconds(time: str | None) -> int | None:
    """Returns a time in ISO 8601 as milliseconds since 1970."""
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)
