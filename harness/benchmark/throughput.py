"""Trials per minute and training steps per second: plain PyTorch, this harness alone, and packs, in turns within one run."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness import tracking, train
from harness.benchmark import machine
from harness.benchmark.cases import Case, step_flops
from harness.benchmark.plain import Log, PlainData, PlainTrial
from harness.benchmark.stopwatch import Stopwatch
from harness.store.trials import Store
from harness.sweeps import runner, sweep
from harness.sweeps.choices import choose
from harness.sweeps.inputs import pack_data
from harness.training import devices, loop
from harness.training.fastest import Choice, Measurement
from harness.training.schedules import plan

SECONDS_PER_MINUTE = 60.0
# A job of a benchmark's sweep trains so many seeds: the default of `seeds`, and a divisor of every pack size but 1.
_SEEDS_OF_JOB = 4
# Plain training steps are timed for this long.
_STEPS_SECONDS = 1.0

# Functions whose time is told apart; those of packs run in the workers, the others in the main thread.
_IN_WORKERS: dict[str, tuple[Any, str]] = {
    "training steps": (loop.Stepper, "take_steps"),
    "probes": (loop, "probe"),
    "evaluation": (loop, "evaluate"),
    "initial weights": (runner, "Pack"),
    "predictions": (runner, "prediction_of"),
    "verdicts": (runner, "add_verdicts"),
    "store": (sweep.Store, "finish"),
}
_IN_MAIN: dict[str, tuple[Any, str]] = {
    "tracking": (tracking.Tracker, "log"),
    "opening the tracker": (tracking, "open"),
    "everything but Hydra": (sweep, "prefetch"),
}


@dataclass
class Reading:
    """One way of training a case. Each list has one value a repeat.

    `seconds` are of `trials` trials, everything counted; `step_rate` is trial-steps per second of training alone;
    `shares` are parts of the wall time; `peak_bytes` what was added to the memory in use before.
    """

    name: str
    pack: int
    workers: int
    program: str
    trials: int
    seconds: list[float] = field(default_factory=list)
    step_rate: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    shares: list[dict[str, float]] = field(default_factory=list)

    @property
    def trials_per_minute(self) -> float:
        """Median over repeats."""
        return SECONDS_PER_MINUTE * self.trials / median(self.seconds)

    @property
    def steps_per_second(self) -> float:
        """Median over repeats, of training alone."""
        return median(self.step_rate)

    def share(self, part: str) -> float:
        """Median share of the wall time that a part took; 0 where nothing of it was seen."""
        return median([shares.get(part, 0.0) for shares in self.shares]) if self.shares else 0.0


@dataclass
class Throughput:
    """All readings of a case; `product_rates` are FLOP/s of one large matrix product, `batched_rate` of a pack's layers."""

    case: str
    steps: int
    flops_per_step: int
    readings: list[Reading]
    product_rates: list[float]
    batched_rate: float

    def reading(self, name: str) -> Reading:
        """By name; KeyError where there is none."""
        return {one.name: one for one in self.readings}[name]


def measure(
    case: Case, device: torch.device, repeats: int, folder: Path, say: Callable[[str], None]
) -> Throughput:
    """Measure a case `repeats` times, all ways in turn, with everything logged to stores below `folder`."""
    bench = _Bench(case, device, folder)
    readings = bench.readings()
    product_rates = []
    for repeat in range(repeats):
        product_rates.append(machine.product_rate(device))
        for reading in readings:
            bench.take(reading)
            say(
                f"{case.name}: {reading.name}, repeat {repeat + 1} of {repeats}: {SECONDS_PER_MINUTE * reading.trials / reading.seconds[-1]:,.0f} trials a minute, {reading.step_rate[-1]:,.0f} trial-steps/s"
            )
    spec = bench.trial.spec
    batched = machine.batched_rate(
        device, max(case.packs), spec["budget"]["batch_size"], spec["width"]
    )
    return Throughput(
        case.name,
        bench.plan.steps,
        step_flops(bench.trial, bench.facts),
        readings,
        product_rates,
        batched,
    )


class _Bench:
    """One case on one device: its data, its plan, and the ways to train it."""

    def __init__(self, case: Case, device: torch.device, folder: Path) -> None:
        self.case, self.device, self.runs = case, device, folder / "runs"
        self.members, self.facts = case.members(1, str(self.runs), f"device={device}")
        self.trial, self.view = self.members[0].trial, runner.view_of(self.members[0])
        self.plan = plan(self.trial.spec, self.facts.training_samples)
        self.seeds = itertools.count()
        self.log_one, self.log_dict = _mlflow(folder)
        self._sweep(
            _SEEDS_OF_JOB, 1, 1, "batched"
        )  # the tracker's tables, and whatever else is made once

    def readings(self) -> list[Reading]:
        """(a), (b), (c), (d) by name, and what the harness chooses by itself."""
        everything = choose(self.members * max(self.case.packs), self.runs)
        workers = everything.workers
        single = Reading(
            "(c) harness, one trial at a time", 1, 1, everything.program, self.case.single_trials
        )
        packs = [
            Reading(
                f"(d) packs of {pack}", pack, workers, everything.program, _whole(pack * workers)
            )
            for pack in self.case.packs
        ]
        chosen = Reading(
            "harness, as it chooses",
            everything.pack,
            workers,
            everything.program,
            _whole(everything.pack * workers),
        )
        plain = [
            Reading(name, 1, 1, "plain", 1)
            for name in (
                "(a) DataLoader, hooks, log_metric",
                "(a) the same, log_metrics",
                "(b) tensors on the device, no tracking",
            )
        ]
        return [*plain, single, *packs, chosen]

    def take(self, reading: Reading) -> None:
        """Add one value to every list of a reading."""
        machine.reset_peak_memory(self.device)
        before = machine.peak_memory(self.device)
        if reading.program == "plain":
            logged = reading.name.startswith("(a)")
            reading.seconds.append(
                self._plain(
                    logged, self.log_one if reading.name.endswith("log_metric") else self.log_dict
                )
            )
            reading.step_rate.append(self._plain_steps(logged))
        else:
            seconds, shares = self._sweep(
                reading.trials, reading.pack, reading.workers, reading.program
            )
            reading.seconds.append(seconds)
            reading.shares.append(shares)
        reading.peak_bytes.append(machine.peak_memory(self.device) - before)
        if reading.program != "plain":
            copies = Measurement(
                self.trial,
                self.facts.shape,
                self.facts.classes,
                self.device,
                lambda size: pack_data([self.view.prepared] * size, 2, self.device, "auto"),
                self.plan,
            )
            reading.step_rate.append(copies(Choice(reading.program, reading.pack, reading.workers)))

    def _plain(self, logged: bool, log: Log) -> float:
        """Seconds for one trial from nothing to its final scores."""
        started = time.perf_counter()
        with self._run(logged):
            self._plain_trial(logged).run(log if logged else lambda metrics, step: None)
        devices.wait(self.device)
        return time.perf_counter() - started

    def _plain_steps(self, logged: bool) -> float:
        """Steps per second of training alone."""
        one = self._plain_trial(logged)
        for _ in range(5):
            one.step()
        devices.wait(self.device)
        taken, started = 0, time.perf_counter()
        while time.perf_counter() - started < _STEPS_SECONDS:
            for _ in range(10):
                one.step()
            taken += 10
        devices.wait(self.device)
        return taken / (time.perf_counter() - started)

    def _plain_trial(self, logged: bool) -> PlainTrial:
        prepared, samples = self.view.prepared, self.trial.spec["probe"]["samples"]
        training, validation, test = (
            (split.images, split.labels)
            for split in (prepared.training, prepared.validation, prepared.test)
        )
        data = PlainData(
            training, validation, test, (validation[0][:samples], validation[1][:samples])
        )
        return PlainTrial(
            self.trial, data, self.plan, self.facts.shape, self.facts.classes, self.device, logged
        )

    @contextlib.contextmanager
    def _run(self, logged: bool) -> Iterator[None]:
        if not logged:
            yield
            return
        import mlflow

        with mlflow.start_run():
            mlflow.log_params(
                {
                    "depth": self.trial.spec["depth"],
                    "width": self.trial.spec["width"],
                    "seed": self.trial.seed,
                    "learning_rate": self.trial.spec["optimizer"]["learning_rate"],
                }
            )
            yield

    def _sweep(
        self, trials: int, pack: int, workers: int, program: str
    ) -> tuple[float, dict[str, float]]:
        """Seconds for a multirun of new seeds as a user starts it, and the shares of its parts."""
        size = min(_SEEDS_OF_JOB, trials)
        jobs = ",".join(
            f"[{','.join(str(next(self.seeds)) for _ in range(size))}]"
            for _ in range(trials // size)
        )
        overrides = [
            *self.case.overrides,
            *self.case.extra,
            f"runs={self.runs}",
            f"device={self.device}",
            f"seeds={jobs}",
        ]
        launcher = [
            f"hydra.launcher.pack={pack}",
            f"hydra.launcher.workers={workers}",
            f"hydra.launcher.program={program}",
        ]
        seconds, shares = watched_sweep([*overrides, *launcher], self.device)
        left = trials - sum(
            Store(self.runs).is_done(trial.trial_id)
            for trial in (member.trial for member in self._trained(jobs))
        )
        if left:
            raise RuntimeError(f"{left} of {trials} trials of the benchmark have no result")
        return seconds, shares

    def _trained(self, jobs: str) -> list:
        seeds = jobs.replace("],[", ",")
        return self.case.members(0, str(self.runs), f"seeds={seeds}", f"device={self.device}")[0]


def watched_sweep(overrides: list[str], device: torch.device) -> tuple[float, dict[str, float]]:
    """Seconds for a multirun as a user starts it, and the shares of its parts.

    Those of packs are by the clock, per worker. The tracker is opened and sent to beside the workers, on the same cores, where the
    clock would count its waiting for them: its share is of the processor time that all workers have.
    """
    watch = Stopwatch(device)
    with watch.watching(_IN_WORKERS | _IN_MAIN), command_line("--multirun", *overrides):
        started = time.perf_counter()
        train.main()
        seconds = time.perf_counter() - started
    workers = max(watch.at_once[part] for part in _IN_WORKERS)
    shares = {part: watch.seconds[part] / workers / seconds for part in _IN_WORKERS}
    shares["tracking"] = (
        (watch.processor["tracking"] + watch.processor["opening the tracker"]) / workers / seconds
    )
    return seconds, shares | {"Hydra": 1.0 - watch.seconds["everything but Hydra"] / seconds}


def _whole(trials: int) -> int:
    """A number of trials that makes whole jobs."""
    return -(-trials // _SEEDS_OF_JOB) * _SEEDS_OF_JOB


def _mlflow(folder: Path) -> tuple[Log, Log]:
    """How a user's program logs to a store of its own: one call for every value, and one for every dict."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'plain.db'}")
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment(
            "plain", artifact_location=(folder / "plain").as_uri()
        )
    )

    def log_one(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            mlflow.log_metric(name, value, step)

    return log_one, lambda metrics, step: mlflow.log_metrics(metrics, step)


@contextlib.contextmanager
def command_line(*arguments: str) -> Iterator[None]:
    """Hydra reads its arguments from `sys.argv`, and the harness talks on standard error."""
    before = sys.argv
    sys.argv = ["harness.train", *arguments]
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        sys.argv = before
