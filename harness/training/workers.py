"""Packs trained at the same time: each worker is a thread with its own share of the cores.

Threads are enough, and start at once: torch holds Python's lock only between operations, and an operation of a pack is
long. On a CPU one core a worker beats all cores on one pack, because no operation waits for its slowest core.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

# A thread that is busy in Python (the store, the tracker) hands its lock on after so long: the default, 5 ms, is fifty operations.
_SWITCH_SECONDS = 5e-5


class Stopped(BaseException):
    """Raised inside a worker's task when the sweep is being interrupted."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_workers(device: torch.device) -> int:
    """Packs that may train at the same time: one on a GPU, one a core otherwise, or fewer where OMP_NUM_THREADS says so."""
    return 1 if device.type == "cuda" else max(1, min(cores(), torch.get_num_threads()))


class Workers:
    """`count` threads that take tasks in order. `stop` is looked at by the tasks, through `check`."""

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.threads = count, threads
        self._stop = threading.Event()

    def check(self) -> None:
        """Raise `Stopped` once the sweep is being interrupted."""
        if self._stop.is_set():
            raise Stopped

    def map(self, function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come. An error of a task, or one thrown in here (Ctrl-C), stops the others and is raised.

        A single worker is this very thread: nothing is started for it.
        """
        if self.count == 1:
            with _threads_per_worker(self.threads):
                yield from map(function, tasks)
            return
        with (
            _threads_per_worker(self.threads),
            ThreadPoolExecutor(
                self.count, "worker", torch.set_num_threads, (self.threads,)
            ) as pool,
        ):
            waiting: set[Future[Outcome]] = {
                pool.submit(self._guarded, function, task) for task in tasks
            }
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        if not isinstance(
                            future.exception(), Stopped
                        ):  # what stopped it is among the others
                            yield future.result()
            except BaseException:
                self._stop.set()
                for future in waiting:
                    future.cancel()
                raise

    def _guarded(self, function: Callable[[Task], Outcome], task: Task) -> Outcome:
        self.check()
        try:
            return function(task)
        except BaseException:
            self._stop.set()
            raise


@contextlib.contextmanager
def _threads_per_worker(threads: int) -> Iterator[None]:
    before, interval = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(threads)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        sys.setswitchinterval(interval)
