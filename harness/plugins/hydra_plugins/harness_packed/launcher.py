"""`hydra/launcher=packed`: shows all jobs of a sweep to the task function's `prefetch`, then runs each as Hydra would.

The prefetch trains what is not done yet, many trials as one program; each job then finds its result. Hydra executes this
module at every start of every app in the environment, outside sys.modules: it imports nothing heavy, keeps no state, and
has no postponed annotations, which a dataclass could not look up.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core import utils
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.harness_packed.composing import ComposeOnce
from omegaconf import DictConfig, open_dict


@dataclass
class PackedLauncherConf:
    """What is handed to `prefetch`."""

    _target_: str = "hydra_plugins.harness_packed.launcher.PackedLauncher"
    pack: Any = "auto"
    program: str = "auto"
    workers: Any = "auto"
    retry: bool = True


ConfigStore.instance().store(
    group="hydra/launcher", name="packed", node=PackedLauncherConf, provider="harness_packed"
)


class PackedLauncher(Launcher):
    """A task function with an attribute `prefetch` has that called with all composed jobs first, and with the launcher's options."""

    def __init__(self, pack: Any, program: str, workers: Any, retry: bool) -> None:
        self.options = {"pack": pack, "program": program, "workers": workers, "retry": retry}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        hydra_context.config_loader = ComposeOnce(hydra_context.config_loader)
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        prefetch = getattr(self.task_function, "prefetch", None)
        if prefetch is not None:
            try:
                prefetch(
                    (self._compose(list(overrides), 0) for overrides in job_overrides),
                    **self.options,
                )
            except Exception:
                _remove_if_unused(sweep_dir)
                raise
        sweep_dir.mkdir(parents=True, exist_ok=True)
        state = Singleton.get_state()
        returns = []
        for index, overrides in enumerate(job_overrides):
            # Composed again rather than kept: thousands of configurations would fill the memory.
            job = self._compose(list(overrides), initial_job_idx + index)
            Singleton.set_state(state)
            returns.append(
                utils.run_job(
                    hydra_context=self.hydra_context,
                    task_function=self.task_function,
                    config=job,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
            )
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        _join_failures(returns)
        return returns

    def _compose(self, overrides: list[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config


def _remove_if_unused(sweep_dir: Path) -> None:
    """Delete what Hydra wrote for a sweep that was refused before its first job, where the folder still allows it."""
    if {path.name for path in sweep_dir.glob("*")} == {"multirun.yaml"}:
        with contextlib.suppress(OSError):
            (sweep_dir / "multirun.yaml").unlink()
            sweep_dir.rmdir()


def _join_failures(returns: list[JobReturn]) -> None:
    """The sweeper raises the first failed job's error: let that one speak for all, where errors can be joined."""
    failed = [job for job in returns if job.status == JobStatus.FAILED]
    errors = [job._return_value for job in failed]
    if len(failed) > 1 and all(hasattr(error, "failures") for error in errors):
        failed[0]._return_value = type(errors[0])(
            {key: text for error in errors for key, text in error.failures.items()}
        )
