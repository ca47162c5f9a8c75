"""The jobs of a sweep on a cluster: submitted, waited for, and found again by a later sweep.

Whether a trial has an outcome is read from the store alone. A sweep that waits may end at any time:
its jobs go on, and the same command waits for those that are still queued or running.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.store import claims, writes
from harness.store.trials import Store
from harness.sweeps.cell_results import has_result
from harness.sweeps.cells import Job
from harness.sweeps.cluster import Cluster, TrainingJob
from harness.sweeps.code_version import code_version
from harness.sweeps.packing import PackOptions, cut_into_jobs
from harness.sweeps.progress import say

# SLURM refuses larger arrays unless it was configured otherwise (MaxArraySize is 1001).
_LARGEST_ARRAY = 1000
_SQUEUE_SECONDS = 60


@dataclass(frozen=True)
class _Submission:
    """A job that was submitted, with the ids of its trials.

    `handle` is submitit's; None for the job of an earlier sweep.
    """

    job_id: str
    trials: frozenset[str]
    handle: Any = None


class ClusterJobs:
    """Trains trials of one sweep as jobs.

    Args:
        store: the store that the jobs write to.
        cluster: where they go.
        options: how packs are made.
        failed: when each trial failed before this sweep, by id.

    Attributes:
        lost: the reason for each trial that its job left without an outcome, by id.
    """

    def __init__(
        self, store: Store, cluster: Cluster, options: PackOptions, failed: Mapping[str, str]
    ) -> None:
        self.lost: dict[str, str] = {}
        self._store = store
        self._cluster = cluster
        self._options = options
        self._failed = failed
        self._folder = store.runs.resolve() / "packs" / "jobs"

    def train(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Submits what nobody trains yet; gives trials as they get an outcome.

        Raises:
            RequestError: submitit refuses an option, or there is no such cluster.
            NotStored: the submission cannot be recorded.
        """
        waiting = {job.trial_id: job for job in jobs}
        submissions = self._earlier(waiting)
        taken = {trial_id for each in submissions for trial_id in each.trials}
        new = [job for job in jobs if job.trial_id not in taken and not self._is_held(job.trial_id)]
        if submissions:
            say(f"{len(submissions)} jobs of an earlier sweep go on; waiting for them", sys.stderr)
        submissions += self._submit(new)
        while waiting:
            running = self._running(submissions)
            # Looked at after the jobs: a job that is over has written all that it will write.
            finished = [job for job in waiting.values() if self._has_outcome(job)]
            for job in finished:
                del waiting[job.trial_id]
            if finished:
                yield finished
            in_jobs = {trial_id for each in running for trial_id in each.trials}
            for trial_id in list(waiting):
                if trial_id not in in_jobs and not self._is_held(trial_id):
                    del waiting[trial_id]
                    self.lost[trial_id] = self._problem(trial_id, submissions)
            if waiting:
                time.sleep(self._cluster.poll_seconds)

    def _submit(self, jobs: Sequence[Job]) -> list[_Submission]:
        """Submits jobs in arrays, one job for each pack, and records them."""
        device_type = "cuda" if self._cluster.has_gpus else "cpu"
        parts = cut_into_jobs(jobs, self._store.runs, self._options, device_type)
        if not parts:
            return []
        with writes.storing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        executor = self._cluster.make_executor(self._folder)
        submissions = []
        for start in range(0, len(parts), _LARGEST_ARRAY):
            array = parts[start : start + _LARGEST_ARRAY]
            with executor.batch():
                handles = [executor.submit(self._work(part)) for part in array]
            for part, handle in zip(array, handles, strict=True):
                trials = frozenset(job.trial_id for job in part)
                submissions.append(_Submission(str(handle.job_id), trials, handle))
        for submission in submissions:
            self._write_record(submission)
        job_word = "job" if len(parts) == 1 else "jobs"
        say(
            f"submitted {len(parts)} {job_word} to {self._cluster.executor}; "
            f"their output is in {self._folder}",
            sys.stderr,
        )
        return submissions

    def _work(self, part: list[Job]) -> TrainingJob:
        failed = {
            job.trial_id: self._failed[job.trial_id] for job in part if job.trial_id in self._failed
        }
        runs = self._store.runs.resolve()
        return TrainingJob(runs, part, self._options, failed, code_version())

    def _write_record(self, submission: _Submission) -> None:
        record = {
            "executor": self._cluster.executor,
            "trials": sorted(submission.trials),
            "code": code_version(),
        }
        with writes.storing(self._folder):
            writes.write_json(self._record(submission.job_id), record, sync=False)

    def _record(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    def _earlier(self, waiting: Collection[str]) -> list[_Submission]:
        """Returns jobs of earlier sweeps that are queued or running and have trials we wait for.

        Only a cluster knows jobs that another process submitted.
        """
        if self._cluster.executor != "slurm":
            return []
        earlier = []
        for path in self._folder.glob("[!.]*.json"):
            try:
                trials = frozenset(json.loads(path.read_bytes())["trials"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if trials & set(waiting):
                earlier.append(_Submission(path.stem, trials))
        return self._running(earlier)

    def _running(self, submissions: Sequence[_Submission]) -> list[_Submission]:
        """Returns the jobs that are queued or running."""
        if self._cluster.executor != "slurm":
            return [each for each in submissions if not each.handle.done()]
        unfinished = [
            each
            for each in submissions
            if each.handle is None or not each.handle.paths.result_pickle.exists()
        ]
        queued = _queued([each.job_id for each in unfinished])
        return [each for each in unfinished if queued is None or each.job_id in queued]

    def _has_outcome(self, job: Job) -> bool:
        if has_result(self._store, job):
            return True
        failed_at = self._store.failed_at(job.trial_id)
        return failed_at is not None and failed_at != self._failed.get(job.trial_id)

    def _is_held(self, trial_id: str) -> bool:
        return claims.is_locked(self._store.folder(trial_id) / "lock")

    def _problem(self, trial_id: str, submissions: Sequence[_Submission]) -> str:
        """Returns why a trial has no outcome although its job is over."""
        for submission in submissions:
            if trial_id in submission.trials and submission.handle is not None:
                reason = _result(submission.handle) or "ended without a word"
                return f"job {submission.job_id} {reason}; its output is in {self._folder}"
        return "the sweep that trained it ended; the same command trains it"


def _result(handle: Any) -> str:
    """Returns what a job that is over says about itself in one line, or nothing."""
    if hasattr(handle, "paths") and not handle.paths.result_pickle.exists():
        return ""
    try:
        answer = str(handle.result())
    except Exception as error:  # of any kind: it is the job's own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"failed: {lines[-1]}"
    return f"trained nothing: {answer}" if answer else ""


def _queued(job_ids: Sequence[str]) -> set[str] | None:
    """Returns the jobs that SLURM has queued or running; None where it does not answer.

    The queue is asked, and not the accounting, which not every cluster has.
    """
    if not job_ids:
        return set()
    command = ["squeue", "--noheader", "--array", "--format=%i", "--me"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_SQUEUE_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split()) & set(job_ids)
