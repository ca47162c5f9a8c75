"""One connection to an MLflow store: makes it once under a lock, and sends one flat run per trial."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

# Before mlflow is imported: nothing is sent that the user did not ask for, and an absent server is noticed in seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from harness.schema import TrackingConfig
from harness.store import writes
from harness.store.records import Record
from harness.tracking import figure, page, views

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_MARKER = "mlflow.json"
# Layer profiles sent as metrics with the layer as the step: everything else is in the layer table, an artifact.
_PROFILES = {
    "pre_activation_variance": "z_variance", "activation_mean": "mean", "activation_variance": "variance", "gradient_product": "gradient",
    "predicted_activation_mean": "mean_predicted", "predicted_activation_variance": "variance_predicted", "predicted_gradient_product": "gradient_predicted",
}  # fmt: skip
_COLUMNS = {*_PROFILES, *figure.COLUMNS}
_SCORES = ("test_accuracy", "validation_accuracy", "train_accuracy", "best_validation_accuracy")
_CURVES = ("train_loss", "validation_loss", "validation_accuracy", "learning_rate")
_LOSSES = ("train_loss", "validation_loss", "test_loss")
_COSTS = ("seconds", "steps", "parameters", "pack_size")


class Connection:
    """An open tracking store and its experiment."""

    def __init__(self, settings: TrackingConfig, runs: Path) -> None:
        self.settings, self.runs = settings, runs
        self.uri = settings.uri or f"sqlite:///{runs / 'mlflow.db'}"
        with _locked(runs / ".mlflow.lock"):
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment()
            views.save(self.client, self.experiment_id)

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.settings.experiment)
        if known is not None:
            return known.experiment_id
        place = self.settings.artifacts
        if place is None and self.settings.uri is None:
            place = (self.runs / "mlartifacts").as_uri()
        made = self.client.create_experiment(self.settings.experiment, artifact_location=place)
        self.client.set_experiment_tag(made, "mlflow.note.content", views.DESCRIPTION)
        return made

    def send(self, record: Record) -> bool:
        """Send a finished trial unless that was done; a run that an earlier attempt left unfinished is replaced."""
        marker = record.folder / _MARKER
        earlier = json.loads(marker.read_text()) if marker.exists() else {}
        same_place = earlier.get("uri") == self.uri and earlier.get("experiment_id") == self.experiment_id
        if same_place and earlier.get("complete"):
            return False
        if same_place:
            with contextlib.suppress(Exception):  # it may never have come to exist
                self.client.delete_run(earlier["run_id"])
        run = self._create(record)
        run_id = run.info.run_id
        state = {"uri": self.uri, "experiment_id": self.experiment_id, "run_id": run_id}
        writes.write_json(marker, state | {"complete": False}, sync=False)
        layers = record.columns("layers", _COLUMNS | page.columns())
        self.client.log_batch(run_id, metrics=list(metrics(record, layers)), params=params(record))
        self.client.log_inputs(run_id, [DatasetInput(Dataset(record.axes["dataset"], _digest(record), "local", json.dumps({"name": record.axes["dataset"]})))])
        self._send_files(run, record, layers)
        self.client.set_terminated(run_id, "FINISHED", _milliseconds(record.ended))
        writes.write_json(marker, state | {"complete": True}, sync=False)
        return True

    def _create(self, record: Record) -> Run:
        tags = {axis: str(value) for axis, value in record.axes.items()}
        tags |= {"trial_id": record.trial_id, "cell": record.cell_id, "seed": str(record.seed), "status": record.status}
        tags |= {name: str(value) for name, value in record.summary.items() if name.startswith("verdict_") and isinstance(value, str)}
        if record.diverged_step is not None:
            tags["diverged_step"] = str(record.diverged_step)
        tags["mlflow.note.content"] = describe(record)
        return self.client.create_run(self.experiment_id, start_time=_milliseconds(record.started), tags=tags, run_name=run_name(record))

    def _send_files(self, run: Run, record: Record, layers: Mapping[str, NDArray]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            writes.write_json(Path(folder) / "config.json", {"trial_id": record.trial_id, "seed": record.seed, "spec": record.spec}, sync=False)
            shutil.copy(record.folder / "layers.parquet", folder)
            if self.settings.figures and len(layers["layer"]):
                profile = figure.layer_profile(layers, run_name(record))
                (Path(folder) / "layers.svg").write_text(profile)
                (Path(folder) / "diagnosis.html").write_text(page.diagnosis(record, layers, run_name(record), profile), encoding="utf-8")
            # The client's own way asks the server first where the run keeps its files, which its creation has told.
            get_artifact_repository(run.info.artifact_uri, self.uri).log_artifacts(folder)

    def links(self) -> list[str]:
        """How to open the saved views."""
        if self.uri.startswith("http"):
            return [f"MLflow {name}: {self.uri.rstrip('/')}/{link}" for name, link in views.links(self.experiment_id)]
        return [f"MLflow: mlflow ui --backend-store-uri {self.uri}, then"] + [f"  {name}: http://127.0.0.1:5000/{link}" for name, link in views.links(self.experiment_id)]


def run_name(record: Record) -> str:
    """What differs first, and short: the list shows about fifteen characters."""
    axes = record.axes
    normalization = "" if axes["normalization"] == "none" else f" {axes['normalization']}"
    return f"{axes['activation'].rpartition(':')[2]} {axes['depth']} {axes['initializer'].removesuffix('_normal')}{normalization} s{record.seed}"


def describe(record: Record) -> str:
    """The run's description in Markdown."""
    score = "diverged at step " + str(record.diverged_step) if record.diverged_step is not None else f"test accuracy {record.summary['test_accuracy']:.4f}"
    axes = "\n".join(f"| {name} | {value} |" for name, value in record.axes.items())
    said = [str(record.summary[name]) for name in ("prediction_sentence", "verdict_sentence") if record.summary.get(name)]
    return "\n\n".join([f"**{score}**", *said, f"| axis | value |\n| --- | --- |\n{axes}"])


def params(record: Record) -> list[Param]:
    """The axes and the seed."""
    return [Param(name, str(value)) for name, value in (record.axes | {"seed": record.seed}).items()]


def metrics(record: Record, layers: Mapping[str, NDArray]) -> Iterator[Metric]:
    """Scores as single points, curves over training steps, and layer profiles over the layer's number."""
    when = _milliseconds(record.ended)
    for section, names in (("accuracy", _SCORES), ("loss", _LOSSES), ("cost", _COSTS)):
        for name in names:
            if _number(record.summary.get(name)):
                key = {"accuracy": f"accuracy/{name.removesuffix('_accuracy')}", "loss": f"loss/{name.removesuffix('_loss')}"}.get(section, f"cost/{name}")
                yield Metric(key, float(record.summary[name]), when, 0)
    curves = record.columns("curves", {"step", *_CURVES})
    for name in _CURVES:
        values = curves[name].tolist()
        if name == "learning_rate" and len(set(values)) == 1:
            continue  # a constant one is a parameter, and every point costs a sixth of a millisecond
        for step, value in zip(curves["step"].tolist(), values):
            if _number(value):
                yield Metric(f"curve/{name}", value, when, step)
    for phase in ("init", "end"):
        chosen = layers["phase"] == phase
        numbers = layers["layer"][chosen].tolist()
        for column, short in _PROFILES.items():
            for layer, value in zip(numbers, layers[column][chosen].tolist() if column in layers else ()):
                gradient = short.startswith("gradient")
                if _number(value) and (value > 0 or not gradient):
                    yield Metric(f"{phase}/log10_{short}" if gradient else f"{phase}/{short}", math.log10(value) if gradient else float(value), when, layer)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record.spec["dataset"], sort_keys=True).encode()).hexdigest()[:8]


def _milliseconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock while the store is made: processes that race through the creation of its tables ruin it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
