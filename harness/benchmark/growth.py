"""Growth: how the work around the training grows with the number of trials.

That work is composing, checking, skipping what is done, storing, collecting and reporting. The
trials are synthetic, so that nothing trains.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness import train
from harness.benchmark.multirun import command_line
from harness.benchmark.synthetic_trials import (
    OVERRIDES,
    SEEDS_OF_CELL,
    cell_configs,
    store_results,
    sweep_axes,
)
from harness.configuration.schema import Config
from harness.configuration.trial import Trial
from harness.reports import report
from harness.reports.evidence import gather
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cells import Cell, cell

Result = TypeVar("Result")

# Jobs by which Hydra's own launcher is timed, for comparison.
BASIC_JOBS = 24


@dataclass(frozen=True)
class Growth:
    """Times of the work around so many trials.

    Attributes:
        trials: the number of trials.
        jobs: the number of Hydra's jobs, each a cell of `SEEDS_OF_CELL` seeds.
        seconds: by kind of work.
        basic_job: the seconds of one finished job with the launcher that comes with Hydra.
        store_bytes: the size of the stored trials.
    """

    trials: int
    jobs: int
    seconds: dict[str, float]
    basic_job: float
    store_bytes: int


class _Timer:
    """Times pieces of work, and says each time."""

    def __init__(self, trials: int, say: Callable[[str], None]) -> None:
        self.trials = trials
        self.say = say
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """Does a piece of work, and returns its result."""
        started = time.perf_counter()
        result = work()
        self.seconds[name] = time.perf_counter() - started
        self.say(f"growth, {self.trials:,} trials: {name} {self.seconds[name]:.2f} s")
        return result


def measure(trials: int, folder: Path, say: Callable[[str], None]) -> Growth:
    """Times every kind of work once, on a store of its own.

    Args:
        trials: the trials; rounded up to whole cells.
        folder: holds the stores.
        say: is told each time.
    """
    jobs = -(-trials // SEEDS_OF_CELL)
    runs = folder / f"runs-{trials}"
    store = Store(runs)
    timer = _Timer(trials, say)
    configs = cell_configs(jobs, runs)
    cells = timer.run("checking the cells", lambda: [cell(config) for config in configs])
    synthetic = _trials_of(cells)
    timer.run("storing", lambda: store_results(store, synthetic))
    timer.run("skipping all of them", lambda: _skip(configs))
    timer.run("composing, checking, skipping by Hydra", lambda: _multirun(jobs, runs))
    tables = timer.run("collecting", lambda: collect(store))
    timer.run("writing the tables", lambda: tables.write(runs / "tables"))
    timer.run("reporting", lambda: report.write(gather(tables, {}), runs / "report", "growth"))
    files = [path for path in (runs / "trials").rglob("*") if path.is_file()]
    store_bytes = sum(path.stat().st_size for path in files)
    basic_job = _basic_job_seconds(folder / "runs-basic")
    return Growth(len(synthetic), len(cells), timer.seconds, basic_job, store_bytes)


def _trials_of(cells: Sequence[Cell]) -> list[Trial]:
    trials = []
    for one_cell in cells:
        trials += [job.trial for job in one_cell.jobs]
    return trials


def _skip(configs: Sequence[Config]) -> None:
    """Lets a sweep find that everything is done."""
    with contextlib.redirect_stderr(io.StringIO()):
        sweep.prefetch(configs)


def _basic_job_seconds(runs: Path) -> float:
    """Returns the seconds of one finished job by the launcher that comes with Hydra."""
    if not runs.exists():
        cells = [cell(config) for config in cell_configs(BASIC_JOBS, runs)]
        store_results(Store(runs), _trials_of(cells))
    started = time.perf_counter()
    _multirun(BASIC_JOBS, runs, "hydra/launcher=basic")
    return (time.perf_counter() - started) / BASIC_JOBS


def _multirun(jobs: int, runs: Path, *options: str) -> None:
    """Starts the sweep of so many cells as a user does."""
    with command_line(
        "--multirun",
        *OVERRIDES,
        *sweep_axes(jobs),
        f"seeds={SEEDS_OF_CELL}",
        f"runs={runs}",
        *options,
    ):
        train.main()
