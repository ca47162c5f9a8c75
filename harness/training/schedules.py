"""Learning-rate schedules by name: the multiplier of the learning rate at a step, and the steps at which to look."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.registry import Registry

schedules: Registry = Registry("schedule")


@schedules.register("constant")
def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


@schedules.register("cosine")
def cosine(progress: float, final_share: float = 0.0) -> float:
    """Half a cosine from 1 to `final_share` (Loshchilov and Hutter 2017, without restarts)."""
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))


@schedules.register("warmup_cosine")
def warmup_cosine(progress: float, warmup_share: float = 0.1, final_share: float = 0.0) -> float:
    """Linear from 0 to 1 over the first `warmup_share` of the steps, then half a cosine to `final_share`."""
    if progress < warmup_share:
        return progress / warmup_share
    return cosine((progress - warmup_share) / (1.0 - warmup_share), final_share)


def multiplier(spec: dict, step: int, steps: int) -> float:
    """The learning rate's multiplier for update `step` (1-based) of `steps`, taken at the middle of the step."""
    chosen = {key: value for key, value in spec.items() if key != "name"}
    return schedules[spec["name"]]((step - 0.5) / steps, **chosen)


def evaluation_steps(steps: int, count: int) -> list[int]:
    """Step 0 and `count` evenly spaced steps, the last among them."""
    return sorted({0} | {round(steps * index / count) for index in range(1, count + 1)})


def probe_steps(steps: int, count: int) -> list[int]:
    """`count` steps: initialisation, the end, and logarithmically spaced ones between."""
    if count <= 1 or steps == 0:
        return [0] * min(count, 1)
    between = (
        {round(steps ** (index / (count - 2))) for index in range(count - 2)}
        if count > 2
        else set()
    )
    return sorted({0, steps} | between)


@dataclass(frozen=True)
class Plan:
    """When a trial steps, is evaluated and is probed: `steps` updates of `batch_size` samples."""

    steps: int
    batch_size: int
    evaluations: frozenset[int]
    probes: frozenset[int]

    def steps_per_epoch(self, training_samples: int) -> int:
        """Steps in which a trial sees its samples once; a last, partial batch is left out."""
        return training_samples // self.batch_size

    @property
    def stops(self) -> list[int]:
        """The steps after which something is looked at, in order, the last step among them."""
        return sorted(self.evaluations | self.probes | {self.steps})


def plan(spec: dict, training_samples: int) -> Plan:
    """The plan of a trial's specification for a training split. Trials with equal plans can train side by side."""
    budget = spec["budget"]
    batch_size = min(budget["batch_size"], training_samples)
    steps = (
        budget["steps"]
        if "steps" in budget
        else max(1, round(budget["epochs"] * (training_samples // batch_size)))
    )
    return Plan(
        steps,
        batch_size,
        frozenset(evaluation_steps(steps, budget["evaluations"])),
        frozenset(probe_steps(steps, budget["probes"])),
    )
