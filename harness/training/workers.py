"""Workers: packs trained at the same time, each by a thread with its own share of the cores.

Threads suffice and start at once: torch holds Python's lock only between operations, and one
operation of a pack is long. On a CPU one core per worker beats all cores on one pack, because no
operation then waits for its slowest core.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from harness.cores import cores

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

# A thread that is busy in Python (the store, the tracker) passes Python's lock on after this time.
# The default of 5 ms is as long as fifty operations of a worker.
_SWITCH_SECONDS = 5e-5


class Stopped(BaseException):
    """Raised inside a worker's task when the sweep is being interrupted."""


def most_workers(device: torch.device) -> int:
    """Returns the packs that train at the same time where nobody says how many.

    Two on a GPU: one trains while the host sees to the results of the other. One per core on a CPU,
    or fewer where OMP_NUM_THREADS says so.
    """
    if device.type == "cuda":
        return min(2, cores())
    return max(1, min(cores(), torch.get_num_threads()))


class Workers:
    """Threads that take tasks in order.

    A task that runs long calls `check` now and then, so that an interruption reaches it.

    Args:
        count: the number of threads.
        threads: the threads of torch's operations in each of them.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self.threads = threads
        self._stop = threading.Event()

    def check(self) -> None:
        """Raises `Stopped` once the sweep is being interrupted."""
        if self._stop.is_set():
            raise Stopped

    def map(self, function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yields the outcomes of all tasks as they come.

        An error of a task, or one thrown into this generator (Ctrl-C), stops the other tasks and
        is raised. A single worker is the calling thread: nothing is started for it.
        """
        with _operation_threads(self.threads):
            if self.count == 1:
                yield from map(function, tasks)
            else:
                yield from self._map_in_threads(function, tasks)

    def _map_in_threads(
        self, function: Callable[[Task], Outcome], tasks: Sequence[Task]
    ) -> Iterator[Outcome]:
        with ThreadPoolExecutor(
            self.count, "worker", torch.set_num_threads, (self.threads,)
        ) as pool:
            waiting: set[Future[Outcome]] = {
                pool.submit(self._guarded, function, task) for task in tasks
            }
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        # A stopped task is passed over: the error that stopped it is another's.
                        if not isinstance(future.exception(), Stopped):
                            yield future.result()
            except BaseException:
                self._stop.set()
                for future in waiting:
                    future.cancel()
                raise

    def _guarded(self, function: Callable[[Task], Outcome], task: Task) -> Outcome:
        """Runs a task, and tells the others to stop when it fails."""
        self.check()
        try:
            return function(task)
        except BaseException:
            self._stop.set()
            raise


@contextlib.contextmanager
def _operation_threads(threads: int) -> Iterator[None]:
    """Sets the threads of torch's operations, and Python's switch interval, for the context."""
    threads_before = torch.get_num_threads()
    interval_before = sys.getswitchinterval()
    torch.set_num_threads(threads)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        sys.setswitchinterval(interval_before)
