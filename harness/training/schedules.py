"""Schedules: how the learning rate changes over a training, and the steps at which to look.

A learning-rate schedule is one registered function of the progress, a number in (0, 1), and of the
options that `conf/schedule` names; it returns the factor on the learning rate. `Plan` says when a
trial is evaluated and probed. This module loads no torch, so that requests are checked at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.registry import Registry

# Trials are judged at initialisation, at the first probe after this share of the steps, and at the
# end (`harness.verdicts.grading`). Sharpness, which is costly, is measured at these three.
EARLY_SHARE = 0.1

schedules: Registry = Registry("schedule")


@schedules.register("constant")
def constant(progress: float) -> float:
    """Returns 1 throughout."""
    return 1.0


@schedules.register("cosine")
def cosine(progress: float, final_share: float = 0.0) -> float:
    """Returns half a cosine from 1 to `final_share`.

    Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts.
    """
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))


@schedules.register("warmup_cosine")
def warmup_cosine(progress: float, warmup_share: float = 0.1, final_share: float = 0.0) -> float:
    """Returns a line from 0 to 1, then half a cosine to `final_share`.

    The line takes the first `warmup_share` of the steps.
    """
    if progress < warmup_share:
        return progress / warmup_share
    return cosine((progress - warmup_share) / (1.0 - warmup_share), final_share)


def multiplier(spec: dict[str, Any], step: int, steps: int) -> float:
    """Returns the factor on the learning rate at update `step` of `steps`.

    Updates are counted from 1, and the schedule is read at the middle of the update.

    Args:
        spec: the schedule's specification, such as `{"name": "cosine", "final_share": 0.0}`.
        step: the number of the update.
        steps: the updates of the whole training.

    Raises:
        RequestError: no schedule has the name.
    """
    options = {name: value for name, value in spec.items() if name != "name"}
    return schedules[spec["name"]]((step - 0.5) / steps, **options)


def evaluation_steps(steps: int, count: int) -> list[int]:
    """Returns step 0 and `count` evenly spaced steps, the last step among them."""
    evenly_spaced = {round(steps * index / count) for index in range(1, count + 1)}
    return sorted({0} | evenly_spaced)


def probe_steps(steps: int, count: int) -> list[int]:
    """Returns at most `count` steps: initialisation, the end, and logarithmic ones between."""
    if count <= 1 or steps == 0:
        return [0] * min(count, 1)
    between = {round(steps ** (index / (count - 2))) for index in range(count - 2)}
    return sorted({0, steps} | between)


@dataclass(frozen=True)
class Plan:
    """The steps of a trial, and those after which it is evaluated and probed.

    Trials with equal plans can train side by side.

    Attributes:
        steps: the number of updates.
        batch_size: samples per update.
        evaluations: steps after which validation loss and accuracy are read.
        probes: steps after which the layers are measured.
    """

    steps: int
    batch_size: int
    evaluations: frozenset[int]
    probes: frozenset[int]

    def steps_per_epoch(self, training_samples: int) -> int:
        """Returns the steps of one pass over the samples; a last, partial batch is left out."""
        return training_samples // self.batch_size

    @property
    def stops(self) -> list[int]:
        """The steps after which something is read, ascending, the last step among them."""
        return sorted(self.evaluations | self.probes | {self.steps})

    @property
    def sharpness_probes(self) -> set[int]:
        """The first probe, the last one, and the first after `EARLY_SHARE` of the steps."""
        early = [step for step in self.probes if EARLY_SHARE * self.steps <= step < self.steps]
        wanted = {0, self.steps, min(early, default=0)}
        return wanted & self.probes


def plan(spec: dict[str, Any], training_samples: int) -> Plan:
    """Returns the plan of a trial's specification for a training split.

    Args:
        spec: the trial's specification; its `budget` has either `steps` or `epochs`.
        training_samples: samples of the training split, which bound the batch size.
    """
    budget = spec["budget"]
    batch_size = min(budget["batch_size"], training_samples)
    if "steps" in budget:
        steps = budget["steps"]
    else:
        steps_per_epoch = training_samples // batch_size
        steps = max(1, round(budget["epochs"] * steps_per_epoch))
    return Plan(
        steps,
        batch_size,
        frozenset(evaluation_steps(steps, budget["evaluations"])),
        frozenset(probe_steps(steps, budget["probes"])),
    )
