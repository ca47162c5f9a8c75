"""How the work around the training grows with the number of trials: composing, skipping, storing, collecting, reporting.

The trials are synthetic: real specifications with results of the real shape, made up, so that nothing trains.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.core import utils

from harness import train
from harness.benchmark.stopwatch import Stopwatch
from harness.benchmark.throughput import command_line
from harness.configuration.composing import compose
from harness.configuration.schema import Config
from harness.configuration.trial import Trial
from harness.reports.evidence import gather
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cells import Cell, cell

SEEDS_OF_CELL = 3
_EVALUATIONS, _PROBES = 11, 5
_OVERRIDES = ["dataset=digits", "tracking=none", "depth=8", "width=64"]
# Axis values, crossed until there are enough cells: what a large sweep looks like.
_AXES = {
    "activation": ("selu", "relu", "elu", "gelu", "silu", "tanh"),
    "initializer": ("lecun_normal", "he_normal", "orthogonal", "lecun_uniform"),
    "normalization": ("none", "batch", "layer"),
    "dropout": ("none", "standard", "alpha"),
    "preprocessing": ("none", "global", "per_pixel", "per_sample"),
}
# Jobs by which Hydra's own launcher is timed, for comparison.
_BASIC_JOBS = 24


@dataclass(frozen=True)
class Growth:
    """Seconds for so many trials, by kind of work; `jobs` is the number of Hydra jobs, each a cell of `SEEDS_OF_CELL` seeds.

    Of their seconds, `in_run_job` are Hydra's for running them, without our share: folders, logs, files, copies of the configuration.
    `basic_job` is what a job takes with the launcher that comes with Hydra.
    """

    trials: int
    jobs: int
    seconds: dict[str, float]
    in_run_job: float
    basic_job: float
    store_bytes: int


def measure(trials: int, folder: Path, say: Callable[[str], None]) -> Growth:
    """Time every kind of work once, on a store of its own below `folder`, for the whole cells that so many trials need."""
    jobs = -(-trials // SEEDS_OF_CELL)
    runs = folder / f"runs-{trials}"
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        started = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - started
        say(f"growth, {trials:,} trials: {name} {seconds[name]:.2f} s")
        return result

    requests = _requests(jobs, runs)
    cells: list[Cell] = timed("checking the cells", lambda: [cell(request) for request in requests])
    made = [member.trial for one in cells for member in one.jobs]
    timed("storing", lambda: _store(Store(runs), made))
    timed("skipping all of them", lambda: _skip(requests))
    watch = Stopwatch(torch.device("cpu"))
    with watch.watching(
        {
            "running jobs": (utils, "run_job"),
            "reading": (train, "to_config"),
            "results": (sweep, "run_cell"),
        }
    ):
        timed("composing, checking, skipping by Hydra", lambda: _by_hydra(jobs, runs))
    in_run_job = watch.seconds["running jobs"] - watch.seconds["reading"] - watch.seconds["results"]
    tables = timed("collecting", lambda: collect(Store(runs)))
    timed("writing the tables", lambda: tables.write(runs / "tables"))
    timed("reporting", lambda: _report(tables, runs / "report"))
    size = sum(path.stat().st_size for path in (runs / "trials").rglob("*") if path.is_file())
    return Growth(
        len(made), len(cells), seconds, in_run_job, _basic_job(folder / "runs-basic"), size
    )


def _basic_job(runs: Path) -> float:
    """Seconds for a finished job of a sweep by the launcher that comes with Hydra."""
    if not runs.exists():
        _store(
            Store(runs),
            [
                member.trial
                for request in _requests(_BASIC_JOBS, runs)
                for member in cell(request).jobs
            ],
        )
    started = time.perf_counter()
    _by_hydra(_BASIC_JOBS, runs, "hydra/launcher=basic")
    return (time.perf_counter() - started) / _BASIC_JOBS


def _axes(jobs: int) -> tuple[str, ...]:
    """A sweep of `jobs` cells on the command line: as many axes as give no more, and learning rates until there are enough."""
    axes, cells = [], 1
    for name, values in _AXES.items():
        if cells * len(values) <= jobs:
            axes.append(f"{name}={','.join(values)}")
            cells *= len(values)
    return (
        *axes,
        f"optimizer.learning_rate={','.join(_rate(index) for index in range(-(-jobs // cells)))}",
    )


def _rate(index: int) -> str:
    return f"{0.001 * 1.02**index:.6g}"


def _requests(jobs: int, runs: Path) -> list[Config]:
    """The same cells without Hydra's share: one composition for each combination of files, and the rates set in it."""
    axes = [axis.partition("=") for axis in _axes(jobs)]
    combinations: list[list[str]] = [[]]
    for name, _, values in axes:
        combinations = [
            [*chosen, f"{name}={value}"] for chosen in combinations for value in values.split(",")
        ]
    composed: dict[tuple[str, ...], Config] = {}
    requests = []
    for chosen in combinations:
        files, rate = tuple(chosen[:-1]), float(chosen[-1].partition("=")[2])
        if files not in composed:
            composed[files] = compose(
                [*_OVERRIDES, *files, f"seeds={SEEDS_OF_CELL}", f"runs={runs}"]
            )
        base = composed[files]
        requests.append(_with(base, optimizer=_with(base.optimizer, learning_rate=rate)))
    return requests


def _with(section, **changes):
    return type(section)(
        **{name: getattr(section, name) for name in section.__dataclass_fields__} | changes
    )


def _skip(requests: list[Config]) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        sweep.prefetch(requests)


def _by_hydra(jobs: int, runs: Path, *options: str) -> None:
    with command_line(
        "--multirun", *_OVERRIDES, *_axes(jobs), f"seeds={SEEDS_OF_CELL}", f"runs={runs}", *options
    ):
        train.main()


def _store(store: Store, trials: list[Trial]) -> None:
    store.check_writable()
    numbers = np.random.default_rng(0)
    for trial in trials:
        with store.claim(trial.trial_id):
            store.begin(
                {
                    "trial_id": trial.trial_id,
                    "cell_id": trial.cell_id,
                    "rules_version": trial.spec["rules_version"],
                    "seed": trial.seed,
                    "axes": trial.axes,
                    "spec": trial.spec,
                }
            )
            store.finish(trial.trial_id, **_result(numbers, trial.spec["depth"]))


def _result(numbers: np.random.Generator, depth: int) -> dict:
    """A result of the usual shape: 11 evaluations and 5 probes with 30 columns a layer."""
    accuracy = numbers.uniform(0.8, 1.0, _EVALUATIONS)
    steps = np.arange(_EVALUATIONS) * 48
    curves = {"step": steps, "epoch": steps / 16, "learning_rate": np.full(_EVALUATIONS, 0.01)}
    curves |= {
        name: numbers.uniform(0.0, 1.0, _EVALUATIONS) for name in ("train_loss", "validation_loss")
    } | {"validation_accuracy": accuracy}
    rows = depth * _PROBES
    probe = np.repeat([0, 1, 8, 61, 480], depth)
    layers = {
        "step": probe,
        "epoch": probe / 16,
        "phase": np.repeat(["init", "training", "training", "training", "end"], depth).tolist(),
        "layer": np.tile(np.arange(1, depth + 1), _PROBES),
        "name": [f"layer_{number:02d}" for number in range(1, depth + 1)] * _PROBES,
        "kind": ["linear"] * rows,
        "units": np.full(rows, 64),
        "fan_in": np.full(rows, 64),
    }
    columns = (
        "pre_activation_mean",
        "pre_activation_variance",
        "activation_mean",
        "activation_variance",
        "gradient_square",
        "gradient_gain",
        "gradient_product",
        "saturated_share",
        "dead_share",
    )
    layers |= {
        name: numbers.uniform(0.5, 1.5, rows)
        for name in columns + tuple(f"column_{number:02d}" for number in range(21))
    }
    scores = dict.fromkeys(
        ("train_accuracy", "test_accuracy", "validation_accuracy", "best_validation_accuracy"),
        float(accuracy[-1]),
    )
    summary = (
        scores
        | dict.fromkeys(
            ("train_loss", "test_loss", "validation_loss"), float(curves["validation_loss"][-1])
        )
        | {"steps": 480, "epochs": 30.0, "seconds": 0.1, "pack_size": 16, "parameters": 33_000}
    )
    return {"summary": summary, "curves": curves, "layers": layers}


def _report(tables, folder: Path) -> None:
    from harness.reports import report

    report.write(gather(tables, {}), folder, "growth")
