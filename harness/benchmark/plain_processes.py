"""Yardstick (b2): plain PyTorch, one trial in each of as many processes as there are cores.

It is what a user does who wants all cores at work without packs. Each process has one thread, its
own data, and trains as yardstick (b) does.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from harness.benchmark.cases import Case
from harness.benchmark.plain import PlainTrial, plain_data
from harness.cores import cores
from harness.sweeps.runner import view_of
from harness.training.schedules import plan

_CPU = torch.device("cpu")


class PlainProcesses:
    """As many processes as there are cores; `close` ends them.

    Args:
        case: what is trained.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.count = cores()
        self._pool = ProcessPoolExecutor(
            self.count,
            multiprocessing.get_context("spawn"),
            torch.set_num_threads,
            (1,),
        )
        # Loads torch and the data, which a user's processes keep too.
        self.steps_per_second()

    def seconds(self) -> float:
        """Returns the seconds of one whole trial in every process, all at once."""
        started = time.perf_counter()
        list(self._pool.map(_train, [self.case] * self.count))
        return time.perf_counter() - started

    def steps_per_second(self) -> float:
        """Returns the trial-steps per second of training alone, of all processes together."""
        return sum(self._pool.map(_steps_per_second, [self.case] * self.count))

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


def _train(case: Case) -> None:
    _trial(case).run(lambda metrics, step: None)


def _steps_per_second(case: Case) -> float:
    return _trial(case).steps_per_second()


def _trial(case: Case) -> PlainTrial:
    make = _maker(case)
    return make()


@functools.lru_cache(maxsize=1)
def _maker(case: Case) -> functools.partial[PlainTrial]:
    """Returns a maker of trials whose data is loaded once in a process."""
    jobs, info = case.jobs(1, "runs", "device=cpu")
    trial = jobs[0].trial
    return functools.partial(
        PlainTrial,
        trial,
        plain_data(view_of(jobs[0]).prepared, trial.spec["probe"]["samples"]),
        plan(trial.spec, info.training_samples),
        info.classes,
        _CPU,
        logged=False,
    )
