"""Jobs that a user starts and waits for.

They are the sweep of the quickstart, all statistics of one deep network, and the diagnosis of a
known network.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.benchmark import machine
from harness.benchmark.multirun import timed_multirun
from harness.configuration.schema import PROJECT_ROOT
from harness.probes import timing
from harness.store.trials import Store

_EXPERIMENT = "experiment=quickstart"
_DIAGNOSED_MODEL = "torchvision.models:vgg11_bn"
_DIAGNOSIS_OPTIONS = {
    "--argument": "num_classes=10",
    "--data": "digits",
    "--image-size": "32",
    "--channels": "3",
    "--samples": "512",
}


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: the job in words.
        seconds: from its start to its end.
        peak_bytes: the most memory that its process held; 0 where that cannot be told apart.
        shares: the parts of its time, by name.
    """

    name: str
    seconds: float
    peak_bytes: int = 0
    shares: dict[str, float] = field(default_factory=dict)


def measure(device: torch.device, folder: Path, say: Callable[[str], None]) -> list[Job]:
    """Runs every job once, and returns them.

    Args:
        device: the device of the sweep.
        folder: where the jobs write.
        say: is told each result.
    """
    jobs = []
    for work in (
        lambda: _quickstart(device, folder / "main"),
        _full_probe,
        lambda: _diagnosis(folder / "diagnosis.html"),
    ):
        job = work()
        say(f"{job.name}: {job.seconds:.2f} s")
        jobs.append(job)
    return jobs


def _quickstart(device: torch.device, runs: Path) -> Job:
    """Runs the sweep of the quickstart, from composing to the last line, without the imports."""
    machine.reset_peak_memory(device)
    overrides = [_EXPERIMENT, f"runs={runs}", f"device={device}"]
    seconds, shares = timed_multirun(overrides, device)
    trials = len(Store(runs).trial_ids())
    name = f"main job: {_EXPERIMENT}, {trials} trials"
    return Job(name, seconds, machine.peak_memory(device), shares)


def _full_probe() -> Job:
    """Measures all statistics and their intervals, the passes included; medians of seven."""
    seconds = timing.seconds()
    parts = {
        "statistics": seconds["median"],
        "their intervals": seconds["intervals"],
        "forward and backward pass": seconds["passes"],
    }
    total = sum(parts.values())
    shares = {part: part_seconds / total for part, part_seconds in parts.items()}
    return Job("full probe, 2,048 samples, MLP 32 x 256", total, 0, shares)


def _diagnosis(page: Path) -> Job:
    """Runs the diagnosis in a process of its own, the imports included."""
    script = PROJECT_ROOT / "scripts" / "diagnose.py"
    options = itertools.chain.from_iterable(_DIAGNOSIS_OPTIONS.items())
    command = [sys.executable, str(script), _DIAGNOSED_MODEL, *options, "--html", str(page)]
    seconds, peak_bytes = machine.run_to_end(command, os.environ)
    return Job("diagnose vgg11_bn, 512 images of 32 x 32", seconds, peak_bytes)
