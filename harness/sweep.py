"""A sweep: cells in, finished trials in the store and in the tracker out.

`prefetch` takes all cells of a multirun at once and trains what is not done yet, pack by pack; `run_cell` then reads one
cell's result, or trains it when it was never prefetched.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from omegaconf import DictConfig

from harness import tracking
from harness.cells import Cell, Member, cell, program_key, unique
from harness.data.catalog import Facts
from harness.command import to_config
from harness.errors import RequestError, TrialsFailed
from harness.networks.activations import build_activation
from harness.progress import Progress
from harness.runner import run_pack, trained_as, view_of
from harness.schema import Config
from harness.store.claims import Claim
from harness.store.trials import Store
from harness.training import devices
from harness.training.memory import largest_pack
from harness.training.packs import PROGRAMS, activation_key
from harness.training.schedules import plan

_WAIT_SECONDS = 0.5
# On a CPU a pack much larger than the caches gains nothing more.
_LARGEST_CPU_PACK = 64


@dataclass(frozen=True)
class Job:
    """A member with the facts of its data set, and the steps it will take."""

    member: Member
    facts: Facts

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self.member.trial.trial_id

    @property
    def steps(self) -> int:
        """Updates of the trial."""
        return plan(self.member.trial.spec, self.facts.training_samples).steps


def prefetch(configs: Sequence[Config | DictConfig], *, pack: int | str = "auto", program: str = "auto", retry: bool = True) -> None:
    """Train every trial of these cells that is not done yet. Failures are kept in the store; `run_cell` reports them.

    Args:
        configs: one request for each cell, as Hydra composed it or as a Config.
        pack: the most trials side by side, or "auto" for what memory allows.
        program: the kind of program, see `harness.training.packs.PROGRAMS`.
        retry: whether trials that failed before are tried again.
    Raises:
        RequestError: a cell is impossible, or data cannot be read; nothing has been written then.
    """
    cells = _checked([one if isinstance(one, Config) else to_config(one) for one in configs])
    _check_options(pack, program)
    for runs in dict.fromkeys(one.runs for one in cells):
        here = [one for one in cells if one.runs == runs]
        _Sweep(Store(runs), here, pack, program, retry).run()


def run_cell(config: Config) -> float:
    """Train a cell unless that was tried, and return its mean validation accuracy; a diverged trial scores chance level.

    Raises:
        RequestError: the request is impossible; nothing has been written then.
        TrialsFailed: some seeds failed.
    """
    one = cell(config)
    store = Store(one.runs)
    ids = [member.trial.trial_id for member in one.members]
    if not all(store.is_done(trial_id) or _has_failed(store, trial_id) for trial_id in ids):
        prefetch([config])
    records = [store.read(trial_id) for trial_id in ids]
    failures = {record.trial_id: record.error or "no result" for record in records if not record.finished}
    if failures:
        raise TrialsFailed(failures)
    scores = [1.0 / one.facts.classes if record.status == "diverged" else record.summary["validation_accuracy"] for record in records]
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


def _check_options(pack: int | str, program: str) -> None:
    if pack != "auto" and not (isinstance(pack, int) and pack >= 1):
        raise RequestError(f"hydra.launcher.pack={pack}: expected auto or an integer of at least 1")
    if program not in PROGRAMS:
        raise RequestError(f"hydra.launcher.program={program}: expected one of {', '.join(PROGRAMS)}")


def _has_failed(store: Store, trial_id: str) -> bool:
    return store.folder(trial_id).exists() and not store.is_done(trial_id) and store.read(trial_id).status == "failed"


@dataclass
class _Sweep:
    """The cells of one `runs` folder."""

    store: Store
    cells: list[Cell]
    pack: int | str
    program: str
    retry: bool
    smallest_failed: int | None = field(default=None, init=False)

    def run(self) -> None:
        """Train what is left pack by pack, then wait for what another sweep on the same folder is training."""
        jobs = [Job(member, facts) for member, facts in unique(self.cells)]
        left = [job for job in jobs if not self.store.is_done(job.trial_id)]
        done = len(jobs) - len(left)
        failed = {job.trial_id for job in left if _has_failed(self.store, job.trial_id)}
        if not self.retry:
            left = [job for job in left if job.trial_id not in failed]
        for view in dict.fromkeys(view_of(job.member) for job in left):
            view.check()
        packs = self._packs(left)
        _say(f"{len(jobs)} trials: {done} done, {len(failed)} failed, {len(left)} to run, in {len(packs)} pack{'s' * (len(packs) != 1)}")
        self.store.check_writable()
        tracker = tracking.open(self.cells[0].config.tracking, self.store.runs)
        self.progress = Progress(len(left), sum(job.steps for job in left))
        elsewhere: list[Job] = []
        try:
            for jobs_of_pack in packs:
                elsewhere += self._train(jobs_of_pack, tracker)
            self._finish_elsewhere(elsewhere, tracker)
        finally:
            self.progress.close()
        tracker.log(self.store, [job.trial_id for job in jobs if self.store.is_done(job.trial_id)])
        for line in tracker.links():
            _say(line)

    def _packs(self, jobs: list[Job]) -> list[list[Job]]:
        """Jobs of one program side by side, as many as memory and `pack` allow, longest programs first."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(program_key(job.member, trained_as(job.member), self.program != "stacked"), []).append(job)
        packs = []
        for group in groups.values():
            group.sort(key=lambda job: activation_key(trained_as(job.member)))
            size = self._pack_size(group[0])
            count = -(-len(group) // size)
            # Even packs: 65 trials with room for 64 make 33 and 32.
            packs += [group[len(group) * index // count : len(group) * (index + 1) // count] for index in range(count)]
        return sorted(packs, key=lambda pack: -sum(job.steps for job in pack))

    def _pack_size(self, job: Job) -> int:
        config = job.member.config
        device = devices.resolve(config.device, config.precision)
        fits = largest_pack(trained_as(job.member).spec, job.facts.shape, job.facts.classes, devices.free_memory(device))
        if self.pack != "auto":
            return min(int(self.pack), fits)
        return min(fits, _LARGEST_CPU_PACK) if device.type == "cpu" else fits

    def _train(self, jobs: list[Job], tracker: tracking.Tracker) -> list[Job]:
        """Train a pack; returns the jobs that another process is training."""
        with contextlib.ExitStack() as held:
            mine, elsewhere = [], []
            for job in jobs:
                claim: Claim | None = self.store.claim(job.trial_id)
                if claim is not None:
                    held.enter_context(claim)
                    mine.append(job)
                elif not self.store.is_done(job.trial_id):
                    elsewhere.append(job)
            for job in mine:
                trial = job.member.trial
                self.store.begin({"trial_id": trial.trial_id, "cell_id": trial.cell_id, "rules_version": trial.spec["rules_version"], "seed": trial.seed, "axes": trial.axes, "spec": trial.spec})
            self._attempt(mine)
            self.progress.trials_finished(len(jobs) - len(elsewhere))
        tracker.log(self.store, [job.trial_id for job in mine if self.store.is_done(job.trial_id)])
        return elsewhere

    def _attempt(self, jobs: list[Job]) -> None:
        """Train and store; what fails together is tried in halves, so that one bad trial, or too little memory, costs no other."""
        if not jobs:
            return
        if self.smallest_failed is not None and len(jobs) >= self.smallest_failed:
            return self._attempt_halves(jobs)
        stepped = 0

        def on_steps(trial_steps: int) -> None:
            nonlocal stepped
            stepped += trial_steps
            self.progress.stepped(trial_steps)

        try:
            outcomes = run_pack([job.member for job in jobs], jobs[0].facts, self.program, on_steps)
        except Exception as error:  # kept with its traceback in the store, whatever it was: the rest of the sweep goes on
            if len(jobs) == 1:
                self.store.fail(jobs[0].trial_id, f"{type(error).__name__}: {error}", traceback.format_exc())
                return
            self.progress.stepped(-stepped)
            if _out_of_memory(error):
                self.smallest_failed = len(jobs)
            _say(f"a pack of {len(jobs)} failed ({type(error).__name__}: {_first_line(error)}); trying it in halves")
        else:
            for job, result in zip(jobs, outcomes):
                self.store.finish(job.trial_id, **{name: value for name, value in vars(result).items()})
            return
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._attempt_halves(jobs)

    def _attempt_halves(self, jobs: list[Job]) -> None:
        half = (len(jobs) + 1) // 2
        self._attempt(jobs[:half])
        self._attempt(jobs[half:])

    def _finish_elsewhere(self, jobs: list[Job], tracker: tracking.Tracker) -> None:
        """Wait for trials that another process holds, and take over those that it lets go unfinished."""
        jobs = [job for job in jobs if not self.store.is_done(job.trial_id)]
        if jobs:
            _say(f"{len(jobs)} trials are being trained by another sweep on {self.store.runs}; waiting for them")
        while jobs:
            time.sleep(_WAIT_SECONDS)
            held = {job.trial_id for job in self._train(jobs, tracker)}
            jobs = [job for job in jobs if job.trial_id in held]


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
