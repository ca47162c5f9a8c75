"""Arrangements: the program, the trials per pack and the packs at a time that train fastest.

Which arrangement is fastest depends on the machine and the networks, so it is measured and not
assumed: copies of one trial are trained for a fraction of a second in each candidate. An
arrangement changes no trial's identity, and its numbers only as rounding does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.configuration.trial import Trial
from harness.networks.layout import layer_sizes
from harness.training import devices
from harness.training.events import PackData
from harness.training.packs import Pack
from harness.training.schedules import Plan
from harness.training.stepper import Stepper
from harness.training.workers import Workers

# Steps before a reading, in which the optimizer makes its state and a GPU records its graph.
_WARM_UP_STEPS = 5
# A reading ends after this time, or after this many steps.
_READING_SECONDS = 0.15
_MOST_STEPS = 60
# Steps between two looks at the clock.
_STEPS_AT_ONCE = 2
# A larger pack is worth its memory when it is faster by this factor.
_WORTHWHILE = 1.03
# After this many sizes in a row that are not worth their memory, larger ones are not tried.
_MOST_DISAPPOINTING = 2
# A candidate that is slower than this share of the best rate, at the best size so far, is not
# tried at other sizes.
_HOPEFUL = 0.8
# Speeds that are assumed before anything is measured, low on purpose: they only decide whether
# measuring can pay.
_ASSUMED_FLOPS = {"cpu": 2e10, "cuda": 5e12}
_ASSUMED_SECONDS_PER_LAYER = {"cpu": 1e-5, "cuda": 1e-6}
# Floating-point operations of a training step per weight and sample: a multiplication and an
# addition in the forward pass, twice as many in the backward pass.
_FLOPS_PER_WEIGHT = 6
# The size of a pack where nothing is measured: operations of a small network are then long, and
# its numbers still fit into the caches.
UNMEASURED_PACK_SIZE = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class Arrangement:
    """A way to train many trials of one shape.

    Attributes:
        program: `batched` or `stacked`.
        pack: trials in a pack.
        workers: packs that train at the same time.
        rate: the trial-steps per second that were measured; 0 where none were.
        brief: whether the sweep is so short that one thread does it.
    """

    program: str
    pack: int
    workers: int
    rate: float = 0.0
    brief: bool = False

    @property
    def threads(self) -> int:
        """The threads of each worker's operations.

        One where several workers share the cores and in a brief sweep, else all.
        """
        if self.workers > 1 or self.brief:
            return 1
        return torch.get_num_threads()


def expected_seconds(
    trial: Trial, shape: tuple[int, int, int], classes: int, trial_steps: int, device: torch.device
) -> float:
    """Returns a cautious guess of the seconds that training takes.

    Args:
        trial: one of the trials.
        shape: channels, height and width of the images.
        classes: the number of classes.
        trial_steps: steps of all trials together.
        device: where they train.
    """
    sizes = layer_sizes(trial.spec, shape, classes)
    products_per_sample = 0
    for size in sizes:
        products_per_sample += size.fan_in * size.units * size.height * size.width
    flops = _FLOPS_PER_WEIGHT * products_per_sample * trial.spec["budget"]["batch_size"]
    seconds_of_products = flops / _ASSUMED_FLOPS[device.type]
    seconds_of_launches = len(sizes) * _ASSUMED_SECONDS_PER_LAYER[device.type]
    return trial_steps * (seconds_of_products + seconds_of_launches)


def fastest_arrangement(
    candidates: Sequence[Arrangement],
    measure: Callable[[Arrangement], float],
    sizes: Sequence[int],
) -> Arrangement:
    """Returns the fastest candidate at its fastest pack size.

    Sizes of a candidate are tried in order as long as larger ones are faster.

    Args:
        candidates: programs and numbers of workers to try; their pack sizes are ignored.
        measure: returns the trial-steps per second of an arrangement, 0 where it cannot run.
        sizes: pack sizes to try, ascending.
    """
    best = replace(candidates[0], pack=sizes[0])
    for candidate in candidates:
        if best.rate:
            rate = measure(replace(candidate, pack=best.pack))
            if rate < _HOPEFUL * best.rate:
                continue
        at_best_size = _at_fastest_size(candidate, measure, sizes)
        if at_best_size.rate > best.rate:
            best = at_best_size
    return best


def _at_fastest_size(
    candidate: Arrangement, measure: Callable[[Arrangement], float], sizes: Sequence[int]
) -> Arrangement:
    best = replace(candidate, pack=sizes[0])
    disappointing = 0
    for size in sizes:
        tried = replace(candidate, pack=size)
        rate = measure(tried)
        if rate > best.rate * _WORTHWHILE:
            best = replace(tried, rate=rate)
            disappointing = 0
        else:
            disappointing += 1
        if disappointing == _MOST_DISAPPOINTING:
            break
    return best


@dataclass
class SpeedMeasurement:
    """Times arrangements on copies of one trial, with the data on which it will train.

    Attributes:
        trial: the trial.
        shape: channels, height and width of the images.
        classes: the number of classes.
        device: where it trains.
        data_for: returns the data of a pack of so many copies.
        plan: the trial's plan.
    """

    trial: Trial
    shape: tuple[int, int, int]
    classes: int
    device: torch.device
    data_for: Callable[[int], PackData]
    plan: Plan

    def __call__(self, arrangement: Arrangement) -> float:
        """Returns the trial-steps per second with all workers busy.

        0 where memory does not suffice.
        """
        try:
            steppers = [self._stepper(arrangement) for _ in range(arrangement.workers)]
            workers = Workers(arrangement.workers, arrangement.threads)
            return sum(workers.map(self._rate, steppers))
        except (RuntimeError, MemoryError) as error:
            if not devices.out_of_memory(error):
                raise
            return 0.0

    def _stepper(self, arrangement: Arrangement) -> Stepper:
        copies = [self.trial] * arrangement.pack
        pack = Pack(copies, self.shape, self.classes, self.device, arrangement.program)
        steps = _WARM_UP_STEPS + _MOST_STEPS + _STEPS_AT_ONCE
        plan = replace(self.plan, steps=steps, probes=frozenset())
        return Stepper(pack, self.data_for(arrangement.pack), plan)

    def _rate(self, stepper: Stepper) -> float:
        """Returns the trial-steps per second of one worker."""
        devices.prepare(self.device, self.trial.spec["precision"])
        with devices.on_thread_stream(self.device):
            self._take_steps(stepper, _WARM_UP_STEPS)
            taken = 0
            started = time.perf_counter()
            spent = 0.0
            while spent < _READING_SECONDS and taken < _MOST_STEPS:
                self._take_steps(stepper, _STEPS_AT_ONCE)
                taken += _STEPS_AT_ONCE
                spent = time.perf_counter() - started
        trials = len(stepper.pack.trials)
        return trials * taken / max(spent, 1e-9)

    def _take_steps(self, stepper: Stepper, steps: int) -> None:
        stepper.take_steps(stepper.done + steps)
        devices.wait_for_thread(self.device)


def speed_settings(trial: Trial, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Returns everything on which the speed of a trial depends.

    That is what shapes a step; what only changes its numbers is left out.

    Args:
        trial: the trial.
        shape: channels, height and width of the images.
        classes: the number of classes.
    """
    spec = trial.spec
    augmentation = {}
    if "augmentation" in spec:
        augmentation["augmentation"] = spec["augmentation"]["name"]
    return augmentation | {
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
