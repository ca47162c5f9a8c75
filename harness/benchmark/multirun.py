"""Multiruns as a user starts them, with the shares of their time.

The benchmark runs sweeps by the same function as `python -m harness.train --multirun`, so that
everything is counted: composing, checking, training, probing, storing and tracking.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from harness import tracking, train
from harness.benchmark.stopwatch import Stopwatch
from harness.sweeps import runner, sweep
from harness.training import loop, stepper

# Functions whose time is told apart, by part. Those of a pack run in the workers.
_WORKER_PARTS: dict[str, tuple[Any, str]] = {
    "training steps": (stepper.Stepper, "take_steps"),
    "probes": (loop, "probe"),
    "evaluation": (loop, "evaluate"),
    "initial weights": (runner, "Pack"),
    "predictions": (runner, "prediction_of"),
    "verdicts": (runner, "add_verdicts"),
    "store": (sweep.Store, "finish"),
}
# The others run in the main thread.
_MAIN_PARTS: dict[str, tuple[Any, str]] = {
    "tracking": (tracking.Tracker, "log"),
    "opening the tracker": (tracking, "open"),
    "everything but Hydra": (sweep, "prefetch"),
}


def timed_multirun(overrides: list[str], device: torch.device) -> tuple[float, dict[str, float]]:
    """Runs a multirun; returns its seconds, and the shares of its parts by name.

    The shares of what runs in packs are of the time on the clock, per worker. The tracker works
    beside the workers on the same cores, where the clock would count its waiting for them: its
    share is of the processor time that all workers have. The share of Hydra is the rest of the
    main thread's time.
    """
    watch = Stopwatch(device)
    with watch.watching(_WORKER_PARTS | _MAIN_PARTS), command_line("--multirun", *overrides):
        started = time.perf_counter()
        train.main()
        seconds = time.perf_counter() - started
    workers = max(watch.at_once[part] for part in _WORKER_PARTS)
    shares = {part: watch.seconds[part] / workers / seconds for part in _WORKER_PARTS}
    tracking_seconds = watch.processor["tracking"] + watch.processor["opening the tracker"]
    shares["tracking"] = tracking_seconds / workers / seconds
    shares["Hydra"] = 1.0 - watch.seconds["everything but Hydra"] / seconds
    return seconds, shares


@contextlib.contextmanager
def command_line(*arguments: str) -> Iterator[None]:
    """Sets the command line that Hydra reads, and silences standard output and error."""
    before = sys.argv
    sys.argv = ["harness.train", *arguments]
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        sys.argv = before
