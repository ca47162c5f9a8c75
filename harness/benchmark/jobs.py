"""What a user runs by itself and waits for: the main job, all statistics of one deep network, the diagnosis of a known one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.benchmark import machine
from harness.benchmark.throughput import watched_sweep
from harness.configuration.schema import PROJECT_ROOT
from harness.probes import timing
from harness.store.trials import Store

_EXPERIMENT = "experiment=quickstart"
_DIAGNOSED = (
    "torchvision.models:vgg11_bn",
    "--data",
    "digits",
    "--image-size",
    "32",
    "--channels",
    "3",
    "--samples",
    "512",
    "--argument",
    "num_classes=10",
)
# Linux counts the largest resident set in KiB, macOS in bytes.
_RESIDENT_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Job:
    """One job: seconds from its start to its end, bytes that its process held at most (0: not told apart), shares of its time (see `watched_sweep`)."""

    name: str
    seconds: float
    peak_bytes: int = 0
    shares: dict[str, float] = field(default_factory=dict)


def measure(device: torch.device, folder: Path, say: Callable[[str], None]) -> list[Job]:
    """Every job once, the main job with its results below `folder`."""
    jobs = []
    for work in (
        lambda: _main_job(device, folder / "main"),
        _full_probe,
        lambda: _diagnosis(folder / "diagnosis.html"),
    ):
        jobs.append(work())
        say(f"{jobs[-1].name}: {jobs[-1].seconds:.2f} s")
    return jobs


def _main_job(device: torch.device, runs: Path) -> Job:
    """The sweep of the quickstart, from composing to the last line; the imports before it are not counted."""
    machine.reset_peak_memory(device)
    seconds, shares = watched_sweep([_EXPERIMENT, f"runs={runs}", f"device={device}"], device)
    trials = len(Store(runs).trial_ids())
    return Job(
        f"main job: {_EXPERIMENT}, {trials} trials", seconds, machine.peak_memory(device), shares
    )


def _full_probe() -> Job:
    """Medians of seven, the forward and the backward pass and the intervals included."""
    found = timing.seconds()
    parts = {
        "statistics": found["median"],
        "their intervals": found["intervals"],
        "forward and backward pass": found["passes"],
    }
    total = sum(parts.values())
    return Job(
        "full probe, 2,048 samples, MLP 32 x 256",
        total,
        0,
        {part: seconds / total for part, seconds in parts.items()},
    )


def _diagnosis(page: Path) -> Job:
    """A process of its own from its start on, imports included."""
    started = time.perf_counter()
    command = [
        sys.executable,
        str(PROJECT_ROOT / "scripts" / "diagnose.py"),
        *_DIAGNOSED,
        "--html",
        str(page),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Job(
        "diagnose vgg11_bn, 512 images of 32 x 32",
        time.perf_counter() - started,
        usage.ru_maxrss * _RESIDENT_UNIT,
    )
