"""Packs as jobs of a cluster, by submitit: `hydra.launcher.executor=slurm`, `local` or `debug`.

Every pack is one job of an array. A job trains and stores its trials in the shared `runs` folder
and knows nothing of the sweep that submitted it; see `cluster_jobs`. A job that is pre-empted or
reaches its time limit writes a checkpoint, is queued again by submitit, and goes on from there.

The submitted pickles lie in `runs/packs/jobs` and are read by the jobs of the user who wrote them.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.configuration.trial import edited_callable
from harness.errors import RequestError
from harness.store.trials import Store
from harness.sweeps.attempts import Attempts
from harness.sweeps.cell_results import has_result
from harness.sweeps.cells import EXECUTORS, Job
from harness.sweeps.code_version import code_version
from harness.sweeps.packing import PackOptions, plan_packs
from harness.sweeps.signal_requests import Terminated, requests
from harness.training.workers import Workers

# Options of submitit that all executors understand; the others are SLURM's own.
_SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")


@dataclass(frozen=True)
class Cluster:
    """The place where jobs go, and what they get there.

    Attributes:
        executor: `slurm`, `local` (processes of this machine) or `debug` (this process).
        parameters: options of submitit by their names there; None leaves one to submitit.
        poll_seconds: the time between two looks at the jobs.
    """

    executor: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    poll_seconds: float = 5.0

    @classmethod
    def of(cls, executor: str, parameters: Mapping[str, Any]) -> Cluster | None:
        """Returns the cluster that options of the launcher mean; None trains in this process.

        Raises:
            RequestError: there is no such executor, or submitit is not installed.
        """
        if executor not in EXECUTORS:
            raise RequestError(
                f"hydra.launcher.executor={executor}: expected one of {', '.join(EXECUTORS)}"
            )
        if executor == "none":
            return None
        if importlib.util.find_spec("submitit") is None:
            raise RequestError(
                f"hydra.launcher.executor={executor} needs submitit: pip install submitit"
            )
        return cls(executor, parameters, 5.0 if executor == "slurm" else 0.2)

    @property
    def has_gpus(self) -> bool:
        """True where a job gets GPUs."""
        return bool(self.parameters.get("gpus_per_node"))

    def make_executor(self, folder: Path) -> Any:
        """Returns submitit's executor, whose files go below `folder`.

        Raises:
            RequestError: submitit refuses an option, or there is no such cluster.
        """
        import submitit

        given = {name: value for name, value in self.parameters.items() if value is not None}
        limit = given.pop("max_num_timeout", None)
        arguments = {} if limit is None else {f"{self.executor}_max_num_timeout": limit}
        if self.executor == "debug":
            arguments = {}
        shared = {name: given.pop(name) for name in _SHARED if name in given}
        others = {f"slurm_{name}": value for name, value in given.items()}
        try:
            executor = submitit.AutoExecutor(folder / "%j", cluster=self.executor, **arguments)
            executor.update_parameters(name="harness", **shared, **others)
        except (RuntimeError, NameError, AssertionError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"hydra.launcher.executor={self.executor}: {reason}") from None
        return executor


@dataclass(frozen=True)
class TrainingJob:
    """The work of one job: trains and stores some trials.

    Attributes:
        runs: the absolute folder of results, which the node sees under the same name.
        jobs: the trials.
        options: how packs are made.
        failed: when trials failed before, by id.
        code: the version of the code at submission.
    """

    runs: Path
    jobs: list[Job]
    options: PackOptions
    failed: dict[str, str]
    code: str

    def __call__(self) -> str:
        """Trains what is not done; returns why nothing could be trained, or nothing."""
        resubmit: Any = signal.getsignal(signal.SIGUSR2)
        if not str(getattr(resubmit, "__module__", "")).startswith("submitit"):
            return self._train()
        try:
            # Submitit itself would interrupt a step; here packs are stopped between two. SIGTERM
            # announces that SLURM will end the job: one that ended by itself in the time of grace
            # would not be queued again.
            with requests.handled(ending=(signal.SIGUSR2,)):
                return self._train()
        except Terminated:
            resubmit(signal.SIGUSR2, None)
            sys.exit(requests.exit_code)

    def checkpoint(self) -> Any:
        """Returns what submitit queues again: the same job, which finds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _train(self) -> str:
        now = code_version()
        if now != self.code:
            return f"the code was {self.code} at submission and is {now} on the node"
        for job in self.jobs:
            edited = edited_callable(job.trial.spec)
            if edited is not None:
                return f"{edited} was edited after the submission"
        store = Store(self.runs)
        unfinished = [job for job in self.jobs if not has_result(store, job)]
        for layout, packs in plan_packs(unfinished, self.runs, self.options).items():
            workers = Workers(layout.workers, layout.threads)
            attempts = Attempts(store, self.failed, _ignore, _ignore, workers.check)
            for _ in workers.map(attempts.train, packs):
                pass
        return ""


def _ignore(trial_steps: int) -> None:
    """Progress is seen in the store."""
