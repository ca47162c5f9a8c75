"""`hydra/launcher=packed`: trains the jobs of a sweep together, then runs each as Hydra would.

The launcher passes all jobs to the task function's attribute `prefetch`, which trains what is not
done yet, many trials as one program; each job then finds its result. Hydra executes this module at
every start of every app in the environment, outside sys.modules: it imports nothing heavy, keeps no
state, and has no postponed annotations, which a dataclass could not look up.
"""

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core import utils
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.harness_packed.compose_once import ComposeOnce
from omegaconf import DictConfig, OmegaConf, open_dict


@dataclass
class PackedLauncherConf:
    """Options of the launcher, which `prefetch` receives."""

    _target_: str = "hydra_plugins.harness_packed.launcher.PackedLauncher"
    pack: Any = "auto"
    program: str = "auto"
    workers: Any = "auto"
    retry: bool = True
    # Where packs are trained: none (in this process), slurm, local or debug, by submitit.
    executor: str = "none"
    # Options of submitit by their names there; null leaves one to it. Any other option of SLURM
    # goes into additional_parameters: `+hydra.launcher.additional_parameters.reservation=week`.
    partition: str | None = None
    timeout_min: int = 240
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array_parallelism: int | None = None
    max_num_timeout: int = 100
    signal_delay_s: int = 120
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)


# The options that say how packs are made; the others but the executor are submitit's.
_OF_PACKS = ("pack", "program", "workers", "retry")

ConfigStore.instance().store(
    group="hydra/launcher", name="packed", node=PackedLauncherConf, provider="harness_packed"
)


class PackedLauncher(Launcher):
    """Calls the task function's `prefetch`, if it has one, before the jobs run one by one.

    A job whose result `prefetch` returns was done before; it is not run again, so that it gets no
    folder and callbacks do not hear of it.
    """

    def __init__(self, executor: str = "none", **options: Any) -> None:
        for name in options:
            if name not in PackedLauncherConf.__dataclass_fields__:
                raise TypeError(
                    f"PackedLauncher.__init__() got an unexpected keyword argument '{name}'"
                )
        self.options = {name: options.pop(name) for name in _OF_PACKS}
        if executor != "none":
            plain = {name: _plain(value) for name, value in options.items()}
            self.options |= {"executor": executor, "cluster": plain}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what Hydra gives, with a loader that composes once for every choice of files."""
        hydra_context.config_loader = ComposeOnce(hydra_context.config_loader)
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Trains all jobs together, then runs each in a folder of its own."""
        setup_globals()
        self._configure_log()
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        results = self._prefetch(job_overrides, sweep_dir)
        sweep_dir.mkdir(parents=True, exist_ok=True)
        state = Singleton.get_state()
        returns = []
        for index, overrides in enumerate(job_overrides):
            if results[index] is not None:
                returns.append(_finished_before(overrides, results[index]))
                continue
            # Composed again and not kept: thousands of configurations would fill the memory.
            job = self._compose(overrides, initial_job_idx + index)
            Singleton.set_state(state)
            job_return = utils.run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=job,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            if hasattr(self.task_function, "prefetch"):
                _forget_configurations(job_return)
            returns.append(job_return)
            self._configure_log()
        _join_failures(returns)
        return returns

    def _prefetch(self, job_overrides: Sequence[Sequence[str]], sweep_dir: Path) -> list[Any]:
        """Returns the results of the jobs that were done before, None for the others."""
        prefetch = getattr(self.task_function, "prefetch", None)
        nothing = [None for _ in job_overrides]
        if prefetch is None:
            return nothing
        jobs = (self._compose(overrides, 0) for overrides in job_overrides)
        try:
            return prefetch(jobs, **self.options) or nothing
        except Exception:
            _remove_if_unused(sweep_dir)
            raise

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def _configure_log(self) -> None:
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


def _plain(value: Any) -> Any:
    """Returns a list or a dict of the configuration as Python's own."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _forget_configurations(job_return: JobReturn) -> None:
    """Leaves out of a job's return what a sweep of thousands of jobs would fill the memory with.

    Those are the configurations, and what the frames of a failure hold. Callbacks have seen them;
    sweepers read the value, the status and the overrides.
    """
    job_return.cfg = None
    job_return.hydra_cfg = None
    if job_return.status == JobStatus.FAILED:
        # Reading the public `return_value` would print and raise the error.
        traceback.clear_frames(job_return._return_value.__traceback__)


def _finished_before(overrides: Sequence[str], result: Any) -> JobReturn:
    done = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    done.return_value = result
    return done


def _remove_if_unused(sweep_dir: Path) -> None:
    """Deletes what Hydra wrote for a sweep that was refused before its first job."""
    names = {path.name for path in sweep_dir.glob("*")}
    if names == {"multirun.yaml"}:
        # The disk may refuse this as well; the error that stopped the sweep matters more.
        with contextlib.suppress(OSError):
            (sweep_dir / "multirun.yaml").unlink()
            sweep_dir.rmdir()


def _join_failures(returns: list[JobReturn]) -> None:
    """Lets the first failed job's error name the failures of all, where errors can be joined.

    The sweeper raises that error alone.
    """
    failed = [job for job in returns if job.status == JobStatus.FAILED]
    # Reading the public `return_value` would print and raise the error.
    errors = [job._return_value for job in failed]
    if len(failed) < 2 or not all(hasattr(error, "failures") for error in errors):
        return
    failures: dict[str, str] = {}
    for error in errors:
        failures |= error.failures
    failed[0].return_value = type(errors[0])(failures)
