"""The monitor: reads a model's layers at log-spaced steps of its user's own training loop."""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn

from harness.diagnosis.card_notes import unread_notes
from harness.diagnosis.first_samples import Samples, first_samples, placed
from harness.diagnosis.gradient_pass import measure_gradients
from harness.diagnosis.layer_columns import LayerMeasurements
from harness.diagnosis.layer_table import add_gradients, add_ratios, layer_table
from harness.diagnosis.model_checks import check_model, check_samples, check_structure
from harness.diagnosis.undisturbed import undisturbed
from harness.errors import RequestError
from harness.monitoring.monitor_report import MonitorReport, Readings
from harness.monitoring.sinks import ActiveRunSink, FolderSink
from harness.monitoring.stability import Stability, measure_stability
from harness.networks.tracing.structure import Layer, Structure
from harness.networks.tracing.trace import Listeners, Trace
from harness.networks.tracing.tracer import run_traced
from harness.probes.measurement import QUICK, STANDARD
from harness.probes.traced_readings import read_samples
from harness.verdicts.judging import judgements, score_columns

_NAME = "monitored"


@dataclass(frozen=True)
class Cadence:
    """The number of samples that a monitor reads, and the steps at which it does.

    Attributes:
        samples: number of samples to keep.
        per_decade: probes in each factor of ten of steps; three are at 1, 2, 5, 10, 22, 46, ...
        share_of_time: the most of the loop's time that probes between the first and the last one
            take; None for no limit, so that every due step is probed.

    Raises:
        RequestError: a number is out of range.
    """

    samples: int = 256
    per_decade: int = 3
    share_of_time: float | None = 0.05

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if self.per_decade < 1:
            raise RequestError(f"per_decade={self.per_decade}: expected an integer of at least 1")
        share = self.share_of_time
        if share is not None and not 0 < share <= 1:
            raise RequestError(f"share_of_time={share}: expected a number in (0, 1], or None")

    def due_after(self, step: int) -> int:
        """Returns the first step after `step`, which is at least 1, at which a probe is due."""
        index = math.floor(math.log10(step) * self.per_decade)
        due = step
        while due <= step:
            due = round(10 ** (index / self.per_decade))
            index += 1
        return due


_DEFAULT = Cadence()


class Monitor:
    """Watches a model while its user trains it.

    The layers are read on one fixed batch: when the monitor is made, at log-spaced steps, and when
    it is closed. The model is in evaluation mode while it is read, and as before afterwards. A
    probe that would take too much of the loop's time waits until it does not.

        monitor = Monitor(model, (images, labels), optimizer=optimizer, folder="monitored")
        for images, labels in loader:
            ...
            optimizer.step()
            monitor.step()
        print(monitor.close())

    Args:
        model: any module that `diagnose` reads.
        batch: the fixed samples: inputs, (inputs, labels), a mapping, or a loader of such batches,
            of which the first samples are kept. Labels give the loss of the gradients and the
            stability margin.
        optimizer: gives the learning rate and momentum of the stability margin.
        folder: receives `layers.parquet` (one row per layer and probe) and `summary.json`.
        mlflow: whether the user's active MLflow run receives the columns as metrics.
        layers: names of the layers to read, or one name, patterns such as `features.*` included;
            all of them by default.
        cadence: how many samples are read, and when.

    Raises:
        RequestError: the model or the batch cannot be read, no layer has one of the names, the
            folder cannot be made, or there is no active MLflow run.
        NotStored: the folder cannot be written; `step` and `close` raise it too.
    """

    def __init__(  # noqa: PLR0913 - all but the first two are keywords with defaults
        self,
        model: nn.Module,
        batch: Any,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        folder: str | Path | None = None,
        mlflow: bool = False,
        layers: str | Sequence[str] | None = None,
        cadence: Cadence = _DEFAULT,
    ) -> None:
        check_model(model)
        self.model = model
        self.optimizer = optimizer
        self._samples: Samples = first_samples(batch, cadence.samples)
        self._patterns = _listed(layers)
        self._cadence = cadence
        self._sinks: list[FolderSink | ActiveRunSink] = []
        if folder is not None:
            self._sinks.append(FolderSink(Path(folder)))
        if mlflow:
            self._sinks.append(ActiveRunSink())
        self._steps = 0
        self._next = 1
        self._spent = 0.0
        self._longest = 0.0
        # Steps at which a reading was due and had no time.
        self._postponed: set[int] = set()
        self._unread: tuple[str, ...] = ()
        self._tables: list[pandas.DataFrame] = []
        self._report: MonitorReport | None = None
        self._probe(0, last=False)
        self._started = time.perf_counter()
        self._spent = 0.0

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def layers(self) -> pandas.DataFrame:
        """The layer table so far: one row per layer and probe, with `step` and the columns."""
        return pandas.concat(self._tables, ignore_index=True)

    @property
    def seconds(self) -> float:
        """Seconds that all probes but the first have taken."""
        return self._spent

    def step(self, step: int | None = None) -> bool:
        """Tells the monitor that the model has taken a step; reads its layers where that is due.

        Args:
            step: the number of steps taken; counted by the monitor where it is not given.

        Returns:
            Whether the layers were read.
        """
        self._steps = self._steps + 1 if step is None else step
        if self._report is not None or self._steps < self._next:
            return False
        if not self._has_time():
            self._postpone()
            return False
        self._probe(self._steps, last=False)
        return True

    def close(self) -> MonitorReport:
        """Reads the layers a last time, and returns and writes what the whole course says."""
        if self._report is None:
            self._probe(self._steps, last=True)
            stability = self._stability()
            judged = _judged(self.layers, self._steps)
            self._report = MonitorReport(
                self.layers, judged, stability, self._steps, self._readings()
            )
            for sink in self._sinks:
                sink.finish(self._report)
        return self._report

    def lightning_callback(self) -> Any:
        """Returns a callback for Lightning's Trainer; see `harness.monitoring.callbacks`."""
        from harness.monitoring.callbacks import lightning_callback

        return lightning_callback(self)

    def trainer_callback(self) -> Any:
        """Returns a callback for Hugging Face's Trainer; see `harness.monitoring.callbacks`."""
        from harness.monitoring.callbacks import trainer_callback

        return trainer_callback(self)

    def _has_time(self) -> bool:
        share = self._cadence.share_of_time
        if share is None:
            return True
        return self._spent + self._longest <= share * (time.perf_counter() - self._started)

    def _postpone(self) -> None:
        """Takes note of the due steps up to this one that are not read in time."""
        due = self._next
        while due <= self._steps:
            self._postponed.add(due)
            due = self._cadence.due_after(due)

    def _readings(self) -> Readings:
        folders = [sink.folder for sink in self._sinks if isinstance(sink, FolderSink)]
        return Readings(
            len(self._postponed),
            self._cadence.share_of_time,
            self._unread,
            folders[0] if folders else None,
        )

    def _probe(self, step: int, *, last: bool) -> None:
        """Reads the layers once; a step that was read already is read anew as the last one."""
        begun = time.perf_counter()
        table = self._read(step, STANDARD if last or step == 0 else QUICK)
        if self._tables and int(self._tables[-1]["step"].iloc[0]) == step:
            self._tables.pop()
        self._tables.append(table)
        while self._next <= step:
            self._next = self._cadence.due_after(self._next)
        for sink in self._sinks:
            sink.add(table, self._tables)
        taken = time.perf_counter() - begun
        self._spent += taken
        self._longest = max(self._longest, taken) if step else taken

    def _read(self, step: int, statistics: Any) -> pandas.DataFrame:
        inputs = placed(self._samples.inputs, self.model)
        with undisturbed(self.model):
            measurements = LayerMeasurements(statistics, self._is_chosen)
            listeners = Listeners(on_activation=measurements, keep=read_samples)
            with torch.no_grad():
                trace = run_traced(self.model, inputs.clone(), listeners)
            structure = trace.structure
            check_structure(structure)
            self._check_names(structure)
            self._add_gradients(measurements, inputs, trace)
        self._unread = tuple(unread_notes(structure))
        add_ratios(measurements)
        nothing: list[dict[str, float]] = [{} for _ in structure.activated]
        table = layer_table(structure, measurements, nothing, step, "monitor")
        chosen = [self._is_chosen(layer) for layer in structure.activated]
        table = table[chosen].reset_index(drop=True)
        return table.assign(**score_columns(table))

    def _add_gradients(self, measurements: LayerMeasurements, inputs: Any, trace: Trace) -> None:
        numbers = trace.numbers // max(1, len(inputs))
        labels = self._samples.labels
        gradients = measure_gradients(self.model, inputs, labels, numbers, trace.structure)
        add_gradients(measurements, gradients, trace.structure)

    def _is_chosen(self, layer: Layer) -> bool:
        return self._patterns is None or any(_fits(layer, text) for text in self._patterns)

    def _check_names(self, structure: Structure) -> None:
        """Refuses a pattern that no layer has, and later on only what leaves no layer at all.

        A model may change while it is trained.
        """
        patterns = self._patterns or []
        absent = [pattern for pattern in patterns if not _fits_any(structure.activated, pattern)]
        if absent and (not self._tables or len(absent) == len(patterns)):
            known = ", ".join(layer.label for layer in structure.activated)
            raise RequestError(f"no activated layer is called {absent[0]}; there are {known}")

    def _stability(self) -> Stability:
        inputs = placed(self._samples.inputs, self.model)
        with undisturbed(self.model):
            return measure_stability(self.model, inputs, self._samples.labels, self.optimizer)


def _listed(layers: str | Sequence[str] | None) -> list[str] | None:
    """Returns the patterns of the layers to read; None for all layers.

    Raises:
        RequestError: the list is empty.
    """
    if layers is None:
        return None
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if not patterns:
        raise RequestError("layers=[]: no layer is chosen; give names, or None for all")
    return patterns


def _fits(layer: Layer, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (layer.label, layer.name))


def _fits_any(layers: Iterable[Layer], pattern: str) -> bool:
    return any(_fits(layer, pattern) for layer in layers)


def _judged(layers: pandas.DataFrame, steps: int) -> dict[str, Any]:
    """Returns the grades and words of the whole course, as a trial's summary has them."""
    table = layers.assign(trial_id=_NAME)
    return dict(judgements(table, {_NAME: float(steps)}).iloc[0])
