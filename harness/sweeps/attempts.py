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
from harness.sweeps.cells import Job
from harness.sweeps.packing import PlannedPack
from harness.sweeps.progress import say
from harness.sweeps.runner import run_pack
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
        check: is called now and then; raises where the sweep is being interrupted.
        too_large: the smallest size for which memory did not suffice, by the key of a pack.
    """

    store: Store
    failed: dict[str, str]
    progressed: Callable[[int], None]
    check: Callable[[], None]
    too_large: dict[str, int] = field(default_factory=dict)

    def train(self, pack: PlannedPack) -> tuple[list[Job], list[Job]]:
        """Trains a pack.

        Returns the jobs that have an outcome now, and those that another process is training.
        """
        claimed: list[Job] = []
        held_by_others: list[Job] = []
        with contextlib.ExitStack() as held:
            for job in pack.jobs:
                claim = self.store.claim(job.trial_id)
                if claim is not None:
                    held.enter_context(claim)
                    if not self._failed_meanwhile(job.trial_id):
                        claimed.append(job)
                elif not self.store.is_done(job.trial_id):
                    held_by_others.append(job)
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
        steps = _StepCounter(self)
        try:
            results = run_pack(jobs, pack.program, steps.count)
        except Exception as error:
            # Kept with its traceback in the store, whatever it was: the rest of the sweep goes on.
            if len(jobs) == 1:
                text = f"{type(error).__name__}: {error}"
                self.store.fail(jobs[0].trial_id, text, traceback.format_exc())
                return
            self.progressed(-steps.counted)
            self._note_failed_pack(pack, error)
        else:
            for job, result in zip(jobs, results, strict=True):
                self.store.finish(job.trial_id, **vars(result))
            return
        # Outside the handler, whose traceback holds the tensors of the failed pack.
        _free_memory()
        self._attempt_halves(pack)

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

    def __init__(self, attempts: Attempts) -> None:
        self.counted = 0
        self._attempts = attempts

    def count(self, trial_steps: int) -> None:
        """Counts steps; stops the attempt where the sweep is being interrupted."""
        self._attempts.check()
        self.counted += trial_steps
        self._attempts.progressed(trial_steps)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        # torch refuses after a recording that broke off.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
