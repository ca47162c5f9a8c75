"""Throughput: trials per minute and training steps per second, several ways in turn.

Every way trains the same kind of trial, with everything logged unless its name says otherwise. A
repeat goes once through all ways, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from harness.benchmark import jax_peer, machine
from harness.benchmark.cases import Case, step_flops
from harness.benchmark.jax_peer import JaxTrials
from harness.benchmark.multirun import timed_multirun
from harness.benchmark.plain import Log, PlainTrial, plain_data
from harness.benchmark.plain_processes import PlainProcesses
from harness.store.trials import Store
from harness.sweeps import runner
from harness.sweeps.choices import choose
from harness.sweeps.inputs import pack_data
from harness.training import devices
from harness.training.arrangements import Arrangement, SpeedMeasurement
from harness.training.events import PackData
from harness.training.packs import Pack
from harness.training.schedules import plan

SECONDS_PER_MINUTE = 60.0
# Names of the yardsticks. (a) calls the tracker once for every value, or once for every dict.
PLAIN_EACH_VALUE = "(a) DataLoader, hooks, log_metric"
PLAIN_EACH_DICT = "(a) the same, log_metrics"
PLAIN_UNTRACKED = "(b) tensors on the device, no tracking"
PLAIN_IN_PROCESSES = "(b2) the same, one process a core"
# The `program` of a reading that is a yardstick.
PLAIN = "plain"
# Seeds of one job of a benchmark's sweep: the default of `seeds`, and a divisor of every pack size
# but 1.
_SEEDS_OF_JOB = 4
# Trials side by side in JAX: one, and as many as were fastest on the machines that were tried.
_JAX_PACKS = (1, 4, 32)


@dataclass
class Reading:
    """One way of training a case. The lists have one value per repeat.

    Attributes:
        name: the way in words.
        pack: trials side by side.
        workers: packs at a time.
        program: the program of the packs, or `plain` for a yardstick.
        trials: the trials that are trained in one repeat.
        seconds: of these trials, everything counted.
        step_rate: trial-steps per second of training alone.
        peak_bytes: what was added to the memory in use before; empty for (b2), whose processes
            have memory of their own.
        shares: parts of the wall time, by name.
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
        """The median over repeats."""
        return SECONDS_PER_MINUTE * self.trials / median(self.seconds)

    @property
    def steps_per_second(self) -> float:
        """Trial-steps per second of training alone, the median over repeats."""
        return median(self.step_rate)

    def share(self, part: str) -> float:
        """Returns the median share of the wall time that a part took; 0 for one never seen."""
        if not self.shares:
            return 0.0
        return median([shares.get(part, 0.0) for shares in self.shares])


@dataclass
class Peer:
    """Another library that takes training steps of a case, and does nothing else.

    Attributes:
        name: the way in words.
        pack: trials side by side.
        step_rate: trial-steps per second, once per repeat.
    """

    name: str
    pack: int
    step_rate: list[float] = field(default_factory=list)


@dataclass
class Throughput:
    """All readings of a case.

    Attributes:
        case: the case in words.
        steps: the steps of one trial.
        flops_per_step: floating-point operations of one step of one trial.
        readings: one for each way; the last is the one that the harness chooses by itself.
        product_rates: FLOP/s of one large matrix product in the library that is fastest at it,
            once per repeat.
        batched_rate: FLOP/s of the products of a pack's layers.
        peers: other libraries, for their training steps alone.
    """

    case: str
    steps: int
    flops_per_step: int
    readings: list[Reading]
    product_rates: list[float]
    batched_rate: float
    peers: list[Peer] = field(default_factory=list)

    def reading(self, name: str) -> Reading:
        """Returns the reading of a way; KeyError where there is none."""
        by_name = {reading.name: reading for reading in self.readings}
        return by_name[name]


def measure(
    case: Case, device: torch.device, repeats: int, folder: Path, say: Callable[[str], None]
) -> Throughput:
    """Measures a case, all ways in turn.

    Args:
        case: what is trained.
        device: where it is trained.
        repeats: how often everything is measured.
        folder: holds the stores of the results.
        say: is told each value.
    """
    with contextlib.closing(_Bench(case, device, folder)) as bench:
        readings, peers = bench.readings(), bench.peers()
        product_rates = []
        for repeat in range(repeats):
            product_rates.append(machine.product_rate(device))
            turn = f"repeat {repeat + 1} of {repeats}"
            for reading in readings:
                bench.take(reading)
                trials_per_minute = SECONDS_PER_MINUTE * reading.trials / reading.seconds[-1]
                say(
                    f"{case.name}: {reading.name}, {turn}: {trials_per_minute:,.0f} trials a "
                    f"minute, {reading.step_rate[-1]:,.0f} trial-steps/s"
                )
            for peer in peers:
                peer.step_rate.append(bench.jax_step_rate(peer.pack))
                say(f"{case.name}: {peer.name}, {turn}: {peer.step_rate[-1]:,.0f} trial-steps/s")
    if not peers:
        say(f"{case.name}: (e) is left out: {jax_peer.why_absent(device)}")
    spec = bench.trial.spec
    batched_rate = machine.batched_rate(
        device, max(case.packs), spec["budget"]["batch_size"], spec["width"]
    )
    flops = step_flops(bench.trial, bench.info)
    return Throughput(
        case.name, bench.plan.steps, flops, readings, product_rates, batched_rate, peers
    )


class _Bench:
    """One case on one device: its data, its plan, and the ways to train it."""

    def __init__(self, case: Case, device: torch.device, folder: Path) -> None:
        self.case = case
        self.device = device
        self.runs = folder / "runs"
        self.jobs, self.info = case.jobs(1, str(self.runs), f"device={device}")
        self.trial = self.jobs[0].trial
        self.view = runner.view_of(self.jobs[0])
        self.plan = plan(self.trial.spec, self.info.training_samples)
        # Every sweep trains new seeds, because a finished trial would be skipped.
        self.seeds = itertools.count()
        log_each_value, log_each_dict = _mlflow_logs(folder)
        self.plain_logs: dict[str, Log | None] = {
            PLAIN_EACH_VALUE: log_each_value,
            PLAIN_EACH_DICT: log_each_dict,
            PLAIN_UNTRACKED: None,
        }
        # Several processes would take turns on a GPU.
        self.processes = PlainProcesses(case) if device.type == "cpu" else None
        # Makes the tracker's tables, and whatever else is made once.
        self._sweep(Reading("warm-up", 1, 1, "batched", _SEEDS_OF_JOB))

    def close(self) -> None:
        """Ends the processes of yardstick (b2)."""
        if self.processes is not None:
            self.processes.close()

    def peers(self) -> list[Peer]:
        """Returns empty readings of (e), none where JAX cannot be compared."""
        if jax_peer.why_absent(self.device):
            return []
        return [Peer(f"(e) JAX, vmap and scan, {pack} at once", pack) for pack in _JAX_PACKS]

    def jax_step_rate(self, pack: int) -> float:
        """Returns the trial-steps per second of JAX with so many trials side by side."""
        copies = Pack([self.trial] * pack, self.info.shape, self.info.classes, self.device)
        split = self.view.prepared.training
        trials = JaxTrials(copies, split.images, split.labels)
        return trials.steps_per_second(self.plan.batch_size)

    def readings(self) -> list[Reading]:
        """Returns empty readings: (a), (b), (c), (d), and what the harness chooses by itself."""
        copies = self.jobs * max(self.case.packs)
        choice = choose(copies, self.runs)
        program, workers = choice.program, choice.workers
        plain = [Reading(name, 1, 1, PLAIN, 1) for name in self.plain_logs]
        if self.processes is not None:
            count = self.processes.count
            plain.append(Reading(PLAIN_IN_PROCESSES, 1, count, PLAIN, count))
        single = Reading("(c) harness, one trial at a time", 1, 1, program, self.case.single_trials)
        packs = [
            Reading(f"(d) packs of {pack}", pack, workers, program, _whole_jobs(pack * workers))
            for pack in self.case.packs
        ]
        chosen_trials = _whole_jobs(choice.pack * workers)
        chosen = Reading("harness, as it chooses", choice.pack, workers, program, chosen_trials)
        return [*plain, single, *packs, chosen]

    def take(self, reading: Reading) -> None:
        """Adds one value to every list of a reading."""
        machine.reset_peak_memory(self.device)
        before = machine.peak_memory(self.device)
        if reading.name == PLAIN_IN_PROCESSES:
            reading.seconds.append(self.processes.seconds())
            reading.step_rate.append(self.processes.steps_per_second())
        elif reading.program == PLAIN:
            log = self.plain_logs[reading.name]
            reading.seconds.append(self._plain_seconds(log))
            reading.step_rate.append(self._plain_trial(log is not None).steps_per_second())
            reading.peak_bytes.append(machine.peak_memory(self.device) - before)
        else:
            seconds, shares = self._sweep(reading)
            reading.seconds.append(seconds)
            reading.shares.append(shares)
            reading.peak_bytes.append(machine.peak_memory(self.device) - before)
            reading.step_rate.append(self._step_rate(reading))

    def _step_rate(self, reading: Reading) -> float:
        """Returns trial-steps per second of training alone, by the harness."""
        measurement = SpeedMeasurement(
            self.trial,
            self.info.shape,
            self.info.classes,
            self.device,
            self._copies_data,
            self.plan,
        )
        return measurement(Arrangement(reading.program, reading.pack, reading.workers))

    def _copies_data(self, copies: int) -> PackData:
        return pack_data([self.view.prepared] * copies, 2, self.device, "auto")

    def _plain_seconds(self, log: Log | None) -> float:
        """Returns the seconds of one plain trial from nothing to its final scores."""
        started = time.perf_counter()
        if log is None:
            self._plain_trial(logged=False).run(lambda metrics, step: None)
        else:
            with self._mlflow_run():
                self._plain_trial(logged=True).run(log)
        devices.wait(self.device)
        return time.perf_counter() - started

    def _plain_trial(self, logged: bool) -> PlainTrial:
        data = plain_data(self.view.prepared, self.trial.spec["probe"]["samples"])
        return PlainTrial(self.trial, data, self.plan, self.info.classes, self.device, logged)

    @contextlib.contextmanager
    def _mlflow_run(self) -> Iterator[None]:
        """Opens a run of MLflow with the parameters that a user would log."""
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

    def _sweep(self, reading: Reading) -> tuple[float, dict[str, float]]:
        """Runs a multirun of new seeds; returns its seconds, and the shares of its parts."""
        seeds_of_job = min(_SEEDS_OF_JOB, reading.trials)
        jobs = []
        for _ in range(reading.trials // seeds_of_job):
            jobs.append([next(self.seeds) for _ in range(seeds_of_job)])
        seeds = ",".join(str(job).replace(" ", "") for job in jobs)
        overrides = [
            *self.case.overrides,
            *self.case.extra,
            f"runs={self.runs}",
            f"device={self.device}",
            f"seeds={seeds}",
            f"hydra.launcher.pack={reading.pack}",
            f"hydra.launcher.workers={reading.workers}",
            f"hydra.launcher.program={reading.program}",
        ]
        seconds, shares = timed_multirun(overrides, self.device)
        self._check_done(list(itertools.chain.from_iterable(jobs)))
        return seconds, shares

    def _check_done(self, seeds: list[int]) -> None:
        """Raises RuntimeError unless the trials of all seeds have a result."""
        store = Store(self.runs)
        jobs, _ = self.case.jobs(
            0, str(self.runs), f"seeds={seeds}".replace(" ", ""), f"device={self.device}"
        )
        missing = len(seeds) - sum(store.is_done(job.trial_id) for job in jobs)
        if missing:
            raise RuntimeError(f"{missing} of {len(seeds)} trials of the benchmark have no result")


def _whole_jobs(trials: int) -> int:
    """Returns the number of trials rounded up to whole jobs."""
    return -(-trials // _SEEDS_OF_JOB) * _SEEDS_OF_JOB


def _mlflow_logs(folder: Path) -> tuple[Log, Log]:
    """Returns two ways in which a user's program logs to a store of its own.

    One calls MLflow for every value, the other for every dict of values.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow  # reads these variables when it is imported

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'plain.db'}")
    artifacts = (folder / "plain").as_uri()
    experiment_id = mlflow.create_experiment("plain", artifact_location=artifacts)
    mlflow.set_experiment(experiment_id=experiment_id)

    def log_each_value(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            mlflow.log_metric(name, value, step)

    def log_each_dict(metrics: dict[str, float], step: int) -> None:
        mlflow.log_metrics(metrics, step)

    return log_each_value, log_each_dict
