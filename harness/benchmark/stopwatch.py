"""Where the time goes: functions of the harness timed from outside while a benchmark runs."""

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
    """Adds up the time of named parts over all threads: `seconds` by the clock, `processor` of the calling thread alone.

    `at_once` is how many calls of a part ran side by side at most. On a GPU a part waits for the device, before and after.
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
        """Time the attributes `(owner, name)` as long as the context lasts."""
        originals = [(owner, name, getattr(owner, name)) for owner, name in parts.values()]
        for part, (owner, name, original) in zip(parts, originals):
            setattr(owner, name, self._timed(part, original))
        try:
            yield self
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            devices.wait(self.device)
            with self._lock:
                self._running[part] += 1
                self.at_once[part] = max(self.at_once[part], self._running[part])
            started, used = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                devices.wait(self.device)
                with self._lock:
                    self._running[part] -= 1
                    self.seconds[part] += time.perf_counter() - started
                    self.processor[part] += time.thread_time() - used

        return timed
