"""What a run says of a trial, but its files: one description, however MLflow is made to store it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.store.records import Record

# Layer profiles sent as metrics with the layer as the step: everything else is in the layer table, an artifact.
_PROFILES = {
    "pre_activation_variance": "z_variance",
    "activation_mean": "mean",
    "activation_variance": "variance",
    "gradient_product": "gradient",
    "predicted_activation_mean": "mean_predicted",
    "predicted_activation_variance": "variance_predicted",
    "predicted_gradient_product": "gradient_predicted",
}
_SCORES = ("test_accuracy", "validation_accuracy", "train_accuracy", "best_validation_accuracy")
_CURVES = ("train_loss", "validation_loss", "validation_accuracy", "learning_rate")
_LOSSES = ("train_loss", "validation_loss", "test_loss")
_COSTS = ("seconds", "steps", "parameters", "pack_size")

COLUMNS = ("phase", "layer", *_PROFILES)


class Point(NamedTuple):
    """One value of a metric; the time in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


class Dataset(NamedTuple):
    """What a trial was trained on, as an input of its run."""

    name: str
    digest: str
    source_type: str
    source: str


@dataclass(frozen=True)
class Contents:
    """A run; times in milliseconds since 1970, None where the trial's are not known."""

    name: str
    started: int | None
    ended: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[Point]
    dataset: Dataset


def contents(record: Record, layers: Mapping[str, NDArray]) -> Contents:
    """What is told of a finished trial, from its record and the `COLUMNS` of its layer table."""
    return Contents(
        name=run_name(record),
        started=_milliseconds(record.started),
        ended=_milliseconds(record.ended),
        tags=_tags(record),
        params={name: str(value) for name, value in (record.axes | {"seed": record.seed}).items()},
        metrics=list(_metrics(record, layers)),
        dataset=Dataset(
            record.axes["dataset"],
            _digest(record),
            "local",
            json.dumps({"name": record.axes["dataset"]}),
        ),
    )


def run_name(record: Record) -> str:
    """What differs first, and short: the list shows about fifteen characters."""
    axes = record.axes
    normalization = "" if axes["normalization"] == "none" else f" {axes['normalization']}"
    return f"{axes['activation'].rpartition(':')[2]} {axes['depth']} {axes['initializer'].removesuffix('_normal')}{normalization} s{record.seed}"


def _tags(record: Record) -> dict[str, str]:
    tags = {axis: str(value) for axis, value in record.axes.items()}
    tags |= {
        "trial_id": record.trial_id,
        "cell": record.cell_id,
        "seed": str(record.seed),
        "status": record.status,
    }
    tags |= {
        name: str(value)
        for name, value in record.summary.items()
        if name.startswith("verdict_") and isinstance(value, str)
    }
    if record.diverged_step is not None:
        tags["diverged_step"] = str(record.diverged_step)
    return tags | {"mlflow.note.content": _description(record)}


def _description(record: Record) -> str:
    """The run's description in Markdown."""
    score = (
        "diverged at step " + str(record.diverged_step)
        if record.diverged_step is not None
        else f"test accuracy {record.summary['test_accuracy']:.4f}"
    )
    axes = "\n".join(f"| {name} | {value} |" for name, value in record.axes.items())
    said = [
        str(record.summary[name])
        for name in ("prediction_sentence", "verdict_sentence")
        if record.summary.get(name)
    ]
    return "\n\n".join([f"**{score}**", *said, f"| axis | value |\n| --- | --- |\n{axes}"])


def _metrics(record: Record, layers: Mapping[str, NDArray]) -> Iterator[Point]:
    """Scores as single points, curves over training steps, and layer profiles over the layer's number."""
    when = _milliseconds(record.ended)
    for section, names in (("accuracy", _SCORES), ("loss", _LOSSES), ("cost", _COSTS)):
        for name in names:
            if _number(record.summary.get(name)):
                key = {
                    "accuracy": f"accuracy/{name.removesuffix('_accuracy')}",
                    "loss": f"loss/{name.removesuffix('_loss')}",
                }.get(section, f"cost/{name}")
                yield Point(key, float(record.summary[name]), when, 0)
    curves = record.columns("curves", {"step", *_CURVES})
    for name in _CURVES:
        values = curves[name].tolist()
        if name == "learning_rate" and len(set(values)) == 1:
            continue  # a constant one is a parameter, and a server takes a fifth of a millisecond for every point
        for step, value in zip(curves["step"].tolist(), values):
            if _number(value):
                yield Point(f"curve/{name}", value, when, step)
    for phase in ("init", "end"):
        chosen = layers["phase"] == phase
        numbers = layers["layer"][chosen].tolist()
        for column, short in _PROFILES.items():
            for layer, value in zip(
                numbers, layers[column][chosen].tolist() if column in layers else ()
            ):
                gradient = short.startswith("gradient")
                if _number(value) and (value > 0 or not gradient):
                    yield Point(
                        f"{phase}/log10_{short}" if gradient else f"{phase}/{short}",
                        math.log10(value) if gradient else float(value),
                        when,
                        layer,
                    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record.spec["dataset"], sort_keys=True).encode()).hexdigest()[
        :8
    ]


def _milliseconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)
