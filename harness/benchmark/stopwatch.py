"""Stopwatch: functions of the harness are timed from outside while a benchmark runs."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.training import devices


class Stopwatch:
    """Adds up the time of named parts over all threads.

    On a GPU a part begins and ends with a wait for what its thread has ordered, so that the work is
    counted where it was ordered.

    Attributes:
        seconds: by part, the time on the clock.
        processor: by part, the processor time of the thread that called it.
        at_once: by part, the most calls that ran side by side.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)
        self.at_once: dict[str, int] = defaultdict(int)
        self._running: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, parts: dict[str, tuple[Any, str]]) -> Iterator[Stopwatch]:
        """Times functions within the context.

        Args:
            parts: by the part's name, the object that holds a function, and the function's name.
        """
        originals = {
            part: (owner, name, getattr(owner, name)) for part, (owner, name) in parts.items()
        }
        for part, (owner, name, original) in originals.items():
            setattr(owner, name, self._timed(part, original))
        try:
            yield self
        finally:
            for owner, name, original in originals.values():
                setattr(owner, name, original)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            devices.wait_for_thread(self.device)
            with self._lock:
                self._running[part] += 1
                self.at_once[part] = max(self.at_once[part], self._running[part])
            started = time.perf_counter()
            processor_started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                devices.wait_for_thread(self.device)
                with self._lock:
                    self._running[part] -= 1
                    self.seconds[part] += time.perf_counter() - started
                    self.processor[part] += time.thread_time() - processor_started

        return timed
