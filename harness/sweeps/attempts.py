"""Attempts at packs: claimed, trained, stored; a pack that fails is tried in halves."""

from __future__ import annotations

import contextlib
import gc
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.configuration.messages import first_line
from harness.store.trials import Store
from harness.sweeps.cell_results import has_result
from harness.sweeps.cells import Job
from harness.sweeps.pack_checkpoints import Keeper, PackCheckpoints
from harness.sweeps.packing import PlannedPack
from harness.sweeps.progress import say
from harness.sweeps.runner import run_pack
from harness.sweeps.signal_requests import requests
from harness.training import devices


@dataclass
class Attempts:
    """Trains packs of one sweep, several at a time where several threads call `train`.

    Attributes:
        store: takes the results.
        failed: when each trial failed before this sweep, by id: a failure after that, in whatever
            sweep, is the trial's outcome.
        progressed: is called with the number of trial-steps done since its last call; a negative
            number takes back steps that were lost.
        skipped: is called with the number of trial-steps that a checkpoint has already.
        check: is called now and then; raises where the sweep is being interrupted.
        too_large: the smallest size for which memory did not suffice, by the key of a pack.
    """

    store: Store
    failed: dict[str, str]
    progressed: Callable[[int], None]
    skipped: Callable[[int], None]
    check: Callable[[], None]
    too_large: dict[str, int] = field(default_factory=dict)

    def train(self, pack: PlannedPack) -> tuple[list[Job], list[Job]]:
        """Trains a pack.

        Returns the jobs that have an outcome now, and those that another process is training.
        """
        requests.check()
        claimed: list[Job] = []
        held_by_others: list[Job] = []
        with contextlib.ExitStack() as held:
            for job in pack.jobs:
                claim = self.store.claim(job.trial_id, job.config.keep_weights)
                if claim is not None:
                    held.enter_context(claim)
                    if not self._failed_meanwhile(job.trial_id):
                        claimed.append(job)
                elif not has_result(self.store, job):
                    held_by_others.append(job)
            with requests.training():
                for job in claimed:
                    self._begin(job)
                self._attempt(pack.with_jobs(claimed))
        held_ids = {job.trial_id for job in held_by_others}
        with_outcome = [job for job in pack.jobs if job.trial_id not in held_ids]
        return with_outcome, held_by_others

    def _failed_meanwhile(self, trial_id: str) -> bool:
        """Returns whether another sweep tried the trial since this one looked, and failed.

        That failure is reported here too, and the next sweep tries the trial again.
        """
        failed_at = self.store.failed_at(trial_id)
        return failed_at is not None and failed_at != self.failed.get(trial_id)

    def _begin(self, job: Job) -> None:
        trial = job.trial
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

    def _attempt(self, pack: PlannedPack) -> None:
        """Trains a pack and stores its results.

        A pack that fails is tried in halves, so that one bad trial, or too little memory, costs no
        other trial.
        """
        jobs = pack.jobs
        if not jobs:
            return
        known_too_large = len(jobs) >= self.too_large.get(pack.key, len(jobs) + 1)
        if len(jobs) > 1 and known_too_large:
            self._attempt_halves(pack)
            return
        keeper = self._keeper(pack)
        steps = _StepCounter(self, keeper, len(jobs))
        try:
            results = run_pack(jobs, pack.program, steps.count, keeper, self._check)
        except Exception as error:
            # Kept with its traceback in the store, whatever it was: the rest of the sweep goes on.
            if len(jobs) == 1:
                text = f"{type(error).__name__}: {error}"
                self.store.fail(jobs[0].trial_id, text, traceback.format_exc())
                keeper.remove()
                return
            steps.take_back()
            self._note_failed_pack(pack, error)
        else:
            for job, result in zip(jobs, results, strict=True):
                self.store.finish(job.trial_id, **vars(result))
            keeper.remove()
            self._checkpoints.clean(self.store.is_done)
            return
        # Outside the handler, whose traceback holds the tensors of the failed pack.
        _free_memory()
        self._attempt_halves(pack)

    def _check(self) -> None:
        """Stops the attempt where the sweep is being interrupted."""
        requests.check()
        self.check()

    @property
    def _checkpoints(self) -> PackCheckpoints:
        return PackCheckpoints(self.store.runs)

    def _keeper(self, pack: PlannedPack) -> Keeper:
        trial_ids = [job.trial_id for job in pack.jobs]
        minutes = pack.jobs[0].config.checkpoint_minutes
        return Keeper(self._checkpoints, trial_ids, pack.program, minutes)

    def _note_failed_pack(self, pack: PlannedPack, error: Exception) -> None:
        size = len(pack.jobs)
        if devices.out_of_memory(error):
            self.too_large[pack.key] = min(size, self.too_large.get(pack.key, size))
        reason = f"{type(error).__name__}: {first_line(error)}"
        say(f"a pack of {size} failed ({reason}); trying it in halves", sys.stderr)

    def _attempt_halves(self, pack: PlannedPack) -> None:
        half = (len(pack.jobs) + 1) // 2
        self._attempt(pack.with_jobs(pack.jobs[:half]))
        self._attempt(pack.with_jobs(pack.jobs[half:]))


class _StepCounter:
    """Reports the steps of one attempt to the sweep, and keeps their number."""

    def __init__(self, attempts: Attempts, keeper: Keeper, trials: int) -> None:
        self._attempts = attempts
        self._keeper = keeper
        self._trials = trials
        self._counted = 0
        self._skipped = 0

    def count(self, trial_steps: int) -> None:
        """Counts steps."""
        if self._keeper.resumed_steps and not self._skipped:
            self._skipped = self._keeper.resumed_steps * self._trials
            self._attempts.skipped(self._skipped)
        self._counted += trial_steps
        self._attempts.progressed(trial_steps)

    def take_back(self) -> None:
        """Takes back what was reported, as the attempt failed."""
        self._attempts.skipped(-self._skipped)
        self._attempts.progressed(-self._counted)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        # torch refuses after a recording that broke off.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
