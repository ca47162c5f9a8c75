"""Durability: what it costs that nothing is lost, and whether memory grows with the trials.

The share of the time is that of one sweep in packs at default settings. Its checkpoints are written
more often than by default, so that there are some to be timed, and then counted as often as the
default writes them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import train
from harness.benchmark import machine
from harness.benchmark.multirun import command_line
from harness.benchmark.stopwatch import Stopwatch
from harness.configuration.schema import PROJECT_ROOT, Config
from harness.store import claims, wholeness, writes
from harness.store.trials import Store
from harness.sweeps import pack_checkpoints
from harness.sweeps.pack_checkpoints import Keeper, PackCheckpoints

SECONDS_PER_MINUTE = 60.0
# Everything that is done only so that nothing is lost, by what it is.
_PARTS: dict[str, tuple[Any, str]] = {
    "waiting for the disk": (writes, "sync_paths"),
    "digests of results": (wholeness, "marker"),
    "checks of results": (wholeness, "check"),
    "locks": (claims, "take"),
    "looking for checkpoints": (Keeper, "restore"),
    "removing checkpoints": (PackCheckpoints, "clean"),
}
_CHECKPOINTS = "checkpoints"
_SWEEP = ("activation=selu,relu", "initializer=lecun_normal,he_normal", "seeds=16", "tracking=none")
_QUICK = ("budget=short", "seeds=4")
# Minutes between the checkpoints that are timed.
_OFTEN = 0.02
# Small networks of few steps, as it is the numbers of trials and of cells that count. Even the
# smallest sweep has two packs: the second is trained with everything loaded that sends the first.
_SEEDS_OF_CELL = 10
_TRIALS_OF_PACK = 25
_SMALL = (
    *("depth=2", "width=8", f"seeds={_SEEDS_OF_CELL}", "tracking.figures=false"),
    *("budget.epochs=null", "budget.steps=4", "budget.evaluations=2", "budget.probes=2"),
    *("probe.samples=32", "hydra.launcher.workers=1", f"hydra.launcher.pack={_TRIALS_OF_PACK}"),
)


@dataclass(frozen=True)
class Cost:
    """The cost of durability in one sweep.

    Attributes:
        trials: the trials of the sweep.
        seconds: the whole time of the sweep, without the checkpoints that are more than usual.
        shares: the parts of the time per worker, by name; checkpoints as often as by default.
        checkpoints: the checkpoints that were written.
        checkpoint_seconds: the time of one.
    """

    trials: int
    seconds: float
    shares: dict[str, float]
    checkpoints: int
    checkpoint_seconds: float

    @property
    def share(self) -> float:
        """All parts together."""
        return sum(self.shares.values())


@dataclass(frozen=True)
class Memory:
    """The most memory that a sweep's process held, with so many trials."""

    trials: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class Durability:
    """The cost of durability, and the memory of a small and of a large sweep."""

    cost: Cost
    memory: list[Memory]


def measure(
    device: torch.device, folder: Path, quick: bool, say: Callable[[str], None]
) -> Durability:
    """Measures the cost of one sweep, and the memory of a small and of a large one.

    Args:
        device: the device of the sweeps.
        folder: holds their results.
        quick: trains shorter and fewer trials.
        say: is told each value.
    """
    cost = measure_cost(device, folder / "cost", _QUICK if quick else ())
    say(f"durability: {100 * cost.share:.2f} % of {cost.seconds:.1f} s, {cost.trials} trials")
    memory = []
    for cells in (5, 20) if quick else (5, 200):
        memory.append(measure_memory(cells, device, folder / f"memory-{cells}"))
        peak = memory[-1].peak_bytes / 2**20
        say(f"durability: {memory[-1].trials:,} trials, at most {peak:,.0f} MiB")
    return Durability(cost, memory)


def measure_cost(device: torch.device, runs: Path, words: tuple[str, ...] = ()) -> Cost:
    """Runs a sweep in packs at default settings, and times what keeps it from being lost.

    Args:
        device: where it is trained.
        runs: the folder for results.
        words: more overrides.
    """
    watch = Stopwatch(device)
    written: list[float] = []
    ordinary = pack_checkpoints.write

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        ordinary(*arguments)
        written.append(time.perf_counter() - started)

    more = (f"checkpoint_minutes={_OFTEN}", f"device={device}", f"runs={runs}")
    pack_checkpoints.write = timed
    try:
        with watch.watching(_PARTS), command_line("--multirun", *_SWEEP, *words, *more):
            started = time.perf_counter()
            train.main()
            seconds = time.perf_counter() - started
    finally:
        pack_checkpoints.write = ordinary
    # Each part is called by as many workers as train at a time.
    workers = max(1, watch.at_once["locks"], watch.at_once["waiting for the disk"])
    seconds -= sum(written) / workers
    shares = {part: watch.seconds[part] / workers / seconds for part in _PARTS}
    each = sum(written) / len(written) if written else 0.0
    shares[_CHECKPOINTS] = each / (Config.checkpoint_minutes * SECONDS_PER_MINUTE)
    return Cost(len(Store(runs).trial_ids()), seconds, shares, len(written), each)


def measure_memory(cells: int, device: torch.device, runs: Path) -> Memory:
    """Runs a sweep of so many cells in a process of its own, everything sent to MLflow.

    Raises:
        RuntimeError: it fails.
    """
    rates = ",".join(f"{0.001 * 1.01**index:.6g}" for index in range(cells))
    words = [*_SMALL, f"optimizer.learning_rate={rates}", f"device={device}", f"runs={runs}"]
    command = [sys.executable, "-m", "harness.train", "--multirun", *words]
    path = os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])
    seconds, peak_bytes = machine.run_to_end(command, os.environ | {"PYTHONPATH": path})
    return Memory(cells * _SEEDS_OF_CELL, peak_bytes, seconds)


def markdown(durability: Durability) -> str:
    """Returns the section of the page."""
    cost = durability.cost
    first, last = durability.memory[0], durability.memory[-1]
    lines = [
        "## What it costs that nothing is lost",
        f"{100 * cost.share:.2f} % of {cost.seconds:.1f} s for {cost.trials} trials in packs, with "
        f"a checkpoint every {Config.checkpoint_minutes:g} minutes; one takes "
        f"{1000 * cost.checkpoint_seconds:.0f} ms ({cost.checkpoints} were timed).",
        "\n".join(
            [
                "| part | share of the time |",
                "| --- | --- |",
                *(f"| {part} | {100 * share:.3f} % |" for part, share in cost.shares.items()),
            ]
        ),
        f"A sweep of {first.trials:,} trials held at most {first.peak_bytes / 2**20:,.0f} MiB, one "
        f"of {last.trials:,} trials {last.peak_bytes / 2**20:,.0f} MiB: "
        f"{_growth(first, last) / 2**10:+.1f} KiB for every further trial.",
    ]
    return "\n\n".join(lines)


def _growth(first: Memory, last: Memory) -> float:
    """Returns the bytes of every further trial."""
    return (last.peak_bytes - first.peak_bytes) / (last.trials - first.trials)
