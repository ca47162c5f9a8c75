"""The time that a monitor takes of its user's training loop."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from harness.monitoring.monitor import Monitor

# Samples of a step and of the monitor's batch, and numbers of a sample.
_BATCH = 64
_WATCHED = 256
_INPUTS = 784
_CLASSES = 10


@dataclass(frozen=True)
class MonitorCost:
    """The cost of a monitor in a loop.

    Attributes:
        steps: steps of the loop.
        probes: probes, the first and the last one included.
        alone: seconds of the loop without a monitor.
        watched: seconds of the loop with one, from the first step to the last.
        inside: seconds of the probes within the loop.
        ends: seconds of the first and the last probe, which stand outside the loop.
    """

    steps: int
    probes: int
    alone: float
    watched: float
    inside: float
    ends: float

    @property
    def share(self) -> float:
        """The share of the loop's time that probes take.

        Two loops differ by more than that on most machines, so that it is not taken from them.
        """
        return self.inside / self.watched


def measure_monitor(steps: int, depth: int = 8, width: int = 256) -> MonitorCost:
    """Times a loop of a dense SELU network, first alone and then with a monitor.

    Args:
        steps: steps of each loop.
        depth: hidden layers.
        width: units of a hidden layer.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_WATCHED, _INPUTS, generator=generator)
    labels = torch.arange(_WATCHED) % _CLASSES
    alone = _Loop(depth, width, inputs, labels)
    alone.run(min(steps, 10))  # The first steps load what later ones have.
    seconds_alone = alone.run(steps)
    watched = _Loop(depth, width, inputs, labels)
    begun = time.perf_counter()
    monitor = Monitor(watched.model, (inputs, labels), optimizer=watched.optimizer)
    ends = time.perf_counter() - begun
    seconds = watched.run(steps, monitor)
    inside = monitor.seconds
    begun = time.perf_counter()
    report = monitor.close()
    ends += time.perf_counter() - begun
    probes = len(report.summary()["probed_steps"])
    return MonitorCost(steps, probes, seconds_alone, seconds, inside, ends)


class _Loop:
    """A plain training loop on a fixed batch."""

    def __init__(self, depth: int, width: int, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for fan_in in (_INPUTS, *(width for _ in range(depth - 1))):
            layers += [nn.Linear(fan_in, width), nn.SELU()]
        self.model = nn.Sequential(*layers, nn.Linear(width, _CLASSES))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01)
        self._inputs = inputs[:_BATCH]
        self._labels = labels[:_BATCH]

    def run(self, steps: int, monitor: Monitor | None = None) -> float:
        """Takes the steps and returns their seconds."""
        begun = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(self._inputs), self._labels).backward()
            self.optimizer.step()
            if monitor is not None:
                monitor.step()
        return time.perf_counter() - begun
