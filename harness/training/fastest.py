"""Which program, how many trials side by side and how many packs at a time are fastest here: tried, not assumed.

Nothing of this changes a trial's identity, and its numbers only as rounding does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from harness.configuration.trial import Trial
from harness.networks.layout import layer_sizes
from harness.training import devices
from harness.training.events import PackData
from harness.training.loop import Stepper
from harness.training.packs import Pack
from harness.training.schedules import Plan
from harness.training.workers import Workers

# A reading: steps until the clock has moved enough, after the first ones, which make the optimizer's state and a GPU's graph.
_WARM_UP_STEPS = 5
_READING_SECONDS = 0.15
_MOST_STEPS = 60
# A size is worth its memory when it is faster by this factor; after two that are not, larger ones are not tried.
_WORTHWHILE = 1.03
# A program that at the best size so far is slower than this share of the best rate is not tried at other sizes.
_HOPEFUL = 0.8
# What trials take where nothing was measured: enough to say whether measuring can pay. Rates are low on purpose.
_ASSUMED_FLOPS = {"cpu": 2e10, "cuda": 5e12}
_ASSUMED_SECONDS_PER_STEP = {"cpu": 1e-5, "cuda": 1e-6}
# Without a measurement: a size at which a small network's operations are long and its numbers still in the caches.
UNMEASURED_PACK = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class Choice:
    """`program` (`batched` or `stacked`), trials in a pack, packs at a time, and the trial-steps per second that were measured (0: none were).

    `threads` are each worker's: one where several share the cores, else all of them, or one for what is over at once.
    """

    program: str
    pack: int
    workers: int
    rate: float = 0.0
    brief: bool = False

    @property
    def threads(self) -> int:
        """Threads of each worker's operations."""
        return 1 if self.workers > 1 or self.brief else torch.get_num_threads()


def expected_seconds(
    trial: Trial, shape: tuple[int, int, int], classes: int, trial_steps: int, device: torch.device
) -> float:
    """A cautious guess of how long so many steps take."""
    sizes = layer_sizes(trial.spec, shape, classes)
    products = sum(size.fan_in * size.units * size.height * size.width for size in sizes)
    flops = 6 * products * trial.spec["budget"]["batch_size"]
    return trial_steps * (
        flops / _ASSUMED_FLOPS[device.type] + len(sizes) * _ASSUMED_SECONDS_PER_STEP[device.type]
    )


def fastest(
    candidates: Sequence[Choice], measure: Callable[[Choice], float], sizes: Sequence[int]
) -> Choice:
    """The fastest of the candidates, each at the pack sizes in order as long as larger ones are faster.

    Args:
        candidates: programs and numbers of workers to try; their pack sizes are ignored.
        measure: trial-steps per second of a choice, 0 for one that does not run.
        sizes: pack sizes to try, ascending.
    """
    best = replace(candidates[0], pack=sizes[0])
    for candidate in candidates:
        if best.rate and measure(replace(candidate, pack=best.pack)) < _HOPEFUL * best.rate:
            continue
        own, disappointing = replace(candidate, pack=sizes[0]), 0
        for size in sizes:
            rate = measure(replace(candidate, pack=size))
            if rate > own.rate * _WORTHWHILE:
                own, disappointing = replace(candidate, pack=size, rate=rate), 0
            else:
                disappointing += 1
            if disappointing == 2:
                break
        best = max(best, own, key=lambda choice: choice.rate)
    return best


@dataclass
class Measurement:
    """Times choices on copies of one trial, with the data that it will train on."""

    trial: Trial
    shape: tuple[int, int, int]
    classes: int
    device: torch.device
    data_for: Callable[[int], PackData]
    plan: Plan

    def __call__(self, choice: Choice) -> float:
        """Trial-steps per second with all workers busy; 0 where memory does not suffice."""
        try:
            steppers = [self._stepper(choice) for _ in range(choice.workers)]
            return sum(Workers(choice.workers, choice.threads).map(self._rate, steppers))
        except (RuntimeError, MemoryError) as error:
            if not devices.out_of_memory(error):
                raise
            return 0.0

    def _stepper(self, choice: Choice) -> Stepper:
        pack = Pack(
            [self.trial] * choice.pack, self.shape, self.classes, self.device, choice.program
        )
        steps = _WARM_UP_STEPS + _MOST_STEPS + 2
        return Stepper(
            pack, self.data_for(choice.pack), replace(self.plan, steps=steps, probes=frozenset())
        )

    def _rate(self, stepper: Stepper) -> float:
        devices.prepare(self.device, self.trial.spec["precision"])
        trials = len(stepper.pack.trials)
        self._take(stepper, _WARM_UP_STEPS)
        taken, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < _READING_SECONDS and taken < _MOST_STEPS:
            self._take(stepper, 2)
            taken += 2
        return trials * taken / max(spent, 1e-9)

    def _take(self, stepper: Stepper, steps: int) -> None:
        stepper.take_steps(stepper.done + steps)
        devices.wait(self.device)


def kind(trial: Trial, shape: tuple[int, int, int], classes: int) -> dict:
    """What the speed of a trial depends on: everything that shapes a step, and nothing that only changes its numbers."""
    spec = trial.spec
    return {
        "shape": list(shape),
        "classes": classes,
        "architecture": spec["architecture"],
        "depth": spec["depth"],
        "width": spec["width"],
        "normalization": spec["normalization"],
        "dropout": spec["dropout"]["name"],
        "optimizer": spec["optimizer"]["name"],
        "batch_size": spec["budget"]["batch_size"],
        "precision": spec["precision"],
    }
