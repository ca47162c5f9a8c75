"""A sweep: cells in, finished trials in the store and in the tracker out.

`prefetch` takes all cells of a multirun at once and trains what is not done yet, pack by pack; `run_cell` then reads one
cell's result, or trains it when it was never prefetched.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from omegaconf import DictConfig

from harness import tracking
from harness.configuration.composing import to_config
from harness.configuration.schema import Config
from harness.data.catalog import DatasetInfo
from harness.errors import TrialsFailed
from harness.networks.activations import build_activation
from harness.store import claims
from harness.store.claims import Claim
from harness.store.trials import Store
from harness.sweeps.cells import Cell, Member, cell, check_options, program_key, unique
from harness.sweeps.choices import choose
from harness.sweeps.progress import Progress, say
from harness.sweeps.runner import run_pack, trained_as, view_of
from harness.training import devices
from harness.training.arrangements import Arrangement
from harness.training.packs import activation_key, neighbour_key
from harness.training.schedules import Plan, plan
from harness.training.workers import Workers

_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A member with the facts of its data set, and the steps it will take."""

    member: Member
    facts: DatasetInfo

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self.member.trial.trial_id

    @functools.cached_property
    def plan(self) -> Plan:
        """When the trial steps and is looked at."""
        return plan(self.member.trial.spec, self.facts.training_samples)

    @property
    def steps(self) -> int:
        """Updates of the trial."""
        return self.plan.steps


def prefetch(
    configs: Iterable[Config | DictConfig],
    *,
    pack: int | str = "auto",
    program: str = "auto",
    workers: int | str = "auto",
    retry: bool = True,
) -> None:
    """Train every trial of these cells that is not done yet. Failures are kept in the store; `run_cell` reports them.

    Args:
        configs: one request for each cell, as Hydra composed it or as a Config.
        pack: the most trials side by side, or "auto" for what is fastest and fits into memory.
        program: the kind of program, see `harness.sweeps.cells.PROGRAMS`.
        workers: packs trained at the same time, or "auto" for what is fastest.
        retry: whether trials that failed before are tried again. One that another sweep tries meanwhile, and fails, is not: that is its outcome.

    Raises:
        RequestError: a cell is impossible, or data cannot be read; nothing has been written then.
        NotStored: a result could not be written, as on a full disk.
    """
    cells = _checked([one if isinstance(one, Config) else to_config(one) for one in configs])
    check_options(pack, program, workers)
    fixed = Fixed(program, None if pack == "auto" else pack, None if workers == "auto" else workers)
    for runs in dict.fromkeys(one.runs for one in cells):
        here = [one for one in cells if one.runs == runs]
        _Sweep(Store(runs), here, fixed, retry).run()


def run_cell(config: Config) -> float:
    """Train a cell unless that was tried, and return its mean validation accuracy; a diverged trial scores chance level.

    Raises:
        RequestError: the request is impossible; nothing has been written then.
        NotStored: a result could not be written, as on a full disk.
        TrialsFailed: some seeds failed.
    """
    one = cell(config)
    store = Store(one.runs)
    ids = [member.trial.trial_id for member in one.members]
    if not all(store.is_done(trial_id) or store.has_failed(trial_id) for trial_id in ids):
        prefetch([config])
    records = [store.read(trial_id) for trial_id in ids]
    failures = {
        record.trial_id: record.error or "no result" for record in records if not record.finished
    }
    if failures:
        raise TrialsFailed(failures)
    scores = [
        1.0 / one.facts.classes
        if record.status == "diverged"
        else record.summary["validation_accuracy"]
        for record in records
    ]
    return sum(scores) / len(scores)


def _checked(configs: Sequence[Config]) -> list[Cell]:
    """All cells, with everything checked that can be checked without pixels."""
    cells = [cell(config) for config in configs]
    for config in {(one.config.device, one.config.precision): one.config for one in cells}.values():
        devices.resolve(config.device, config.precision)
    specs = (one.members[0].trial.spec["activation"] for one in cells)
    for activation in {str(spec): spec for spec in specs}.values():
        build_activation(activation)
    for settings in {str(one.config.tracking): one.config.tracking for one in cells}.values():
        tracking.check(settings)
    return cells


@dataclass(frozen=True)
class Fixed:
    """What the user fixed of how trials are trained; None where the fastest is to be found."""

    program: str
    pack: int | None
    workers: int | None


@dataclass(frozen=True)
class _PackOfJobs:
    """Jobs to train side by side, by a program."""

    jobs: list[Job]
    program: str
    kind: str


def _of_one_program(group: list[Job], choice: Arrangement) -> list[list[Job]]:
    """A group in the order in which its packs are cut, so that neighbours have most in common; apart where a program runs one activation only."""
    group = sorted(group, key=lambda job: neighbour_key(trained_as(job.member)))
    if choice.program != "stacked":
        return [group]
    return [
        list(alike)
        for _, alike in groupby(group, key=lambda job: activation_key(trained_as(job.member)))
    ]


def _even_parts(group: list[Job], choice: Arrangement) -> list[list[Job]]:
    """Even packs: 65 trials with room for 64 make 33 and 32; and enough of them to keep all workers busy."""
    count = -(-len(group) // choice.pack)
    count = min(len(group), -(-count // choice.workers) * choice.workers)
    return [
        group[len(group) * index // count : len(group) * (index + 1) // count]
        for index in range(count)
    ]


@dataclass
class _Sweep:
    """The cells of one `runs` folder."""

    store: Store
    cells: list[Cell]
    fixed: Fixed
    retry: bool
    # The smallest pack of each kind for which memory did not suffice.
    too_large: dict[str, int] = field(default_factory=dict, init=False)
    # When each trial that failed before this sweep did so: what fails later, in whatever sweep, has its outcome.
    failed: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Train what is left pack by pack, then wait for what another sweep on the same folder is training."""
        jobs = [Job(member, facts) for member, facts in unique(self.cells)]
        left = [job for job in jobs if not self.store.is_done(job.trial_id)]
        done = len(jobs) - len(left)
        self.failed = {
            job.trial_id: when
            for job in left
            if (when := self.store.failed_at(job.trial_id)) is not None
        }
        if not self.retry:
            left = [job for job in left if job.trial_id not in self.failed]
        for view in dict.fromkeys(view_of(job.member) for job in left):
            view.check()
        plans = self._plans(left)
        count = sum(len(packs) for packs in plans.values())
        _say(
            f"{len(jobs)} trials: {done} done, {len(self.failed)} failed, {len(left)} to run, in {count} pack{'s' * (count != 1)}"
        )
        self.store.check_writable()
        self.lock = threading.Lock()
        self.progress = Progress(len(left), sum(job.steps for job in left))
        elsewhere: list[Job] = []
        try:
            for (workers, threads), packs in plans.items():
                self.workers = Workers(workers, threads)
                for mine, others in self.workers.map(self._train, packs):
                    elsewhere += self._note(mine, others)
            self._finish_elsewhere(elsewhere)
        finally:
            self.progress.close()
        self.tracker.log(
            self.store, [job.trial_id for job in jobs if self.store.is_done(job.trial_id)]
        )
        for line in self.tracker.links():
            _say(line)

    @functools.cached_property
    def tracker(self) -> tracking.Tracker:
        """Opened once there is something to send: MLflow's imports and the making of its store take seconds, in which the workers train."""
        return tracking.open(self.cells[0].config.tracking, self.store.runs)

    def _plans(self, jobs: list[Job]) -> dict[tuple[int, int], list[_PackOfJobs]]:
        """Packs of jobs that one program can run, by the number of packs to train at a time and of threads for each; longest first."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(
                program_key(job.member, trained_as(job.member), job.plan, mixed_activations=True),
                [],
            ).append(job)
        plans: dict[tuple[int, int], list[_PackOfJobs]] = {}
        for kind, group in groups.items():
            choice = choose(
                [job.member for job in group],
                group[0].facts,
                self.store.runs,
                self.fixed.program,
                self.fixed.pack,
                self.fixed.workers,
            )
            choice = replace(
                choice, pack=max(1, min(choice.pack, claims.most_held() // choice.workers))
            )  # all claims of a pack are held while it trains
            for alike in _of_one_program(group, choice):
                plans.setdefault((choice.workers, choice.threads), []).extend(
                    _PackOfJobs(part, choice.program, kind) for part in _even_parts(alike, choice)
                )
        for packs in plans.values():
            packs.sort(key=lambda pack: -sum(job.steps for job in pack.jobs))
        return plans

    def _train(self, pack: _PackOfJobs) -> tuple[list[Job], list[Job]]:
        """Train a pack; returns the jobs that have an outcome now, and those that another process is training."""
        with contextlib.ExitStack() as held:
            mine, elsewhere = [], []
            for job in pack.jobs:
                claim: Claim | None = self.store.claim(job.trial_id)
                if claim is not None:
                    held.enter_context(claim)
                    if not self._failed_meanwhile(job.trial_id):
                        mine.append(job)
                elif not self.store.is_done(job.trial_id):
                    elsewhere.append(job)
            for job in mine:
                trial = job.member.trial
                self.store.begin(
                    {
                        "trial_id": trial.trial_id,
                        "cell_id": trial.cell_id,
                        "rules_version": trial.spec["rules_version"],
                        "seed": trial.seed,
                        "axes": trial.axes,
                        "spec": trial.spec,
                    }
                )
            self._attempt(replace(pack, jobs=mine))
        others = {job.trial_id for job in elsewhere}
        return [job for job in pack.jobs if job.trial_id not in others], elsewhere

    def _failed_meanwhile(self, trial_id: str) -> bool:
        """Whether another sweep tried the trial since this one looked, and failed: it is reported here too, and the next sweep tries it again."""
        return self.store.failed_at(trial_id) not in (None, self.failed.get(trial_id))

    def _attempt(self, pack: _PackOfJobs) -> None:
        """Train and store; what fails together is tried in halves, so that one bad trial, or too little memory, costs no other."""
        jobs = pack.jobs
        if not jobs:
            return
        if 1 < len(jobs) >= self.too_large.get(pack.kind, len(jobs) + 1):
            return self._attempt_halves(pack)
        stepped = 0

        def on_steps(trial_steps: int) -> None:
            nonlocal stepped
            self.workers.check()
            stepped += trial_steps
            self._progressed(trial_steps)

        try:
            outcomes = run_pack([job.member for job in jobs], jobs[0].facts, pack.program, on_steps)
        except Exception as error:  # kept with its traceback in the store, whatever it was: the rest of the sweep goes on
            if len(jobs) == 1:
                self.store.fail(
                    jobs[0].trial_id, f"{type(error).__name__}: {error}", traceback.format_exc()
                )
                return
            self._progressed(-stepped)
            if devices.out_of_memory(error):
                self.too_large[pack.kind] = min(len(jobs), self.too_large.get(pack.kind, len(jobs)))
            _say(
                f"a pack of {len(jobs)} failed ({type(error).__name__}: {_first_line(error)}); trying it in halves"
            )
        else:
            for job, result in zip(jobs, outcomes):
                self.store.finish(job.trial_id, **dict(vars(result).items()))
            return
        gc.collect()
        if torch.cuda.is_available():
            with contextlib.suppress(
                RuntimeError
            ):  # torch refuses after a recording that broke off
                torch.cuda.empty_cache()
        self._attempt_halves(pack)

    def _attempt_halves(self, pack: _PackOfJobs) -> None:
        half = (len(pack.jobs) + 1) // 2
        self._attempt(replace(pack, jobs=pack.jobs[:half]))
        self._attempt(replace(pack, jobs=pack.jobs[half:]))

    def _progressed(self, trial_steps: int) -> None:
        with self.lock:  # several workers report
            self.progress.stepped(trial_steps)

    def _finish_elsewhere(self, jobs: list[Job]) -> None:
        """Wait for trials that another process holds, and take over those that it lets go unfinished."""
        jobs = [job for job in jobs if not self.store.is_done(job.trial_id)]
        if jobs:
            self.workers = Workers(1, 1)
            _say(
                f"{len(jobs)} trials are being trained by another sweep on {self.store.runs}; waiting for them"
            )
        packs = [pack for alike in self._plans(jobs).values() for pack in alike]
        while packs:
            time.sleep(_WAIT_SECONDS)
            packs = [
                replace(pack, jobs=others)
                for pack in packs
                if (others := self._note(*self._train(pack)))
            ]

    def _note(self, mine: list[Job], others: list[Job]) -> list[Job]:
        """Count and send the jobs that have an outcome; returns the others."""
        self.progress.trials_finished(len(mine))
        self.tracker.log(
            self.store, [job.trial_id for job in mine if self.store.is_done(job.trial_id)]
        )
        return others


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _say(text: str) -> None:
    say(f"{text}\n", sys.stderr)
