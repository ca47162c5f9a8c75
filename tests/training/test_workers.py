"""Workers do what a loop would, at the same time, and stop together."""

from __future__ import annotations

import threading

import pytest
import torch

from harness.training.workers import Stopped, Workers


@pytest.mark.parametrize("count", [1, 2, 3])
def test_workers_do_every_task_once(count):
    threads_before = torch.get_num_threads()
    squares = Workers(count, 1).map(lambda task: task**2, range(20))
    assert sorted(squares) == [task**2 for task in range(20)]
    assert torch.get_num_threads() == threads_before


def test_workers_run_at_the_same_time_with_their_share_of_threads():
    both = threading.Barrier(2, timeout=20)

    def task(number: int) -> int:
        both.wait()
        return torch.get_num_threads()

    assert list(Workers(2, 1).map(task, range(4))) == [1, 1, 1, 1]


def test_error_or_interruption_stops_the_other_workers():
    workers = Workers(2, 1)
    started = threading.Event()
    stopped = []

    def task(number: int) -> int:
        if number == 0:
            started.wait(20)
            raise KeyboardInterrupt
        started.set()
        try:
            while True:
                workers.check()
        except Stopped:
            stopped.append(number)
            raise

    with pytest.raises(KeyboardInterrupt):
        list(workers.map(task, range(6)))
    # The running task stopped, the waiting ones never began.
    assert stopped == [1]
