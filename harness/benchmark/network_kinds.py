"""Training steps per second of each kind of network: a plain loop, one trial alone, and packs.

Only training is timed. The plain loop is yardstick (b): the same network in plain PyTorch with all
tensors on the device. A trial alone should be no slower than that, and a trial in a pack no slower
than alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from harness.benchmark.plain import PlainTrial, plain_data
from harness.configuration.composing import compose
from harness.sweeps import runner
from harness.sweeps.cells import cell
from harness.sweeps.inputs import pack_data
from harness.training.arrangements import Arrangement, SpeedMeasurement
from harness.training.events import PackData
from harness.training.program_choice import programs_for
from harness.training.schedules import plan

# Overrides by the kind in words; all train on digits in batches of 64.
_KINDS = {
    "MLP 8 x 64": ("depth=8", "width=64"),
    "CNN 4 x 16": ("architecture=cnn", "depth=4", "width=16", "architecture.pool=max"),
    "residual MLP 9 x 64": ("architecture=resnet", "depth=9", "width=64"),
    "residual CNN 5 x 16": (
        "architecture=resnet",
        "architecture.layer=conv",
        "depth=5",
        "width=16",
    ),
    "ResNet-18 of torchvision": ("architecture=torchvision", "architecture.name=resnet18"),
}
# Trials side by side; `_LARGE_PACKS` for networks of more weights than `_MOST_WEIGHTS`.
_PACKS = (4, 16)
_LARGE_PACKS = (2,)
_MOST_WEIGHTS = 10**6


@dataclass
class KindSpeed:
    """Trial-steps per second of one kind of network.

    Attributes:
        kind: the kind in words.
        program: the program of the packs.
        plain: of the plain loop, once per repeat.
        packs: of so many trials side by side, 1 among them, once per repeat.
    """

    kind: str
    program: str
    plain: list[float] = field(default_factory=list)
    packs: dict[int, list[float]] = field(default_factory=dict)

    @property
    def times_plain(self) -> float:
        """The rate of a trial alone over that of the plain loop, of the medians."""
        return median(self.packs[1]) / median(self.plain)

    def times_alone(self, pack: int) -> float:
        """Returns the rate in a pack over that of a trial alone, of the medians."""
        return median(self.packs[pack]) / median(self.packs[1])


def measure(
    device: torch.device, repeats: int, folder: Path, say: Callable[[str], None]
) -> list[KindSpeed]:
    """Measures every kind of network, all ways in turn.

    Args:
        device: where they train.
        repeats: how often everything is measured.
        folder: stands for the folder of results, of which there are none.
        say: is told each kind when it is measured.
    """
    speeds = []
    for kind, overrides in _KINDS.items():
        bench = _Bench(overrides, device, folder)
        speed = KindSpeed(kind, bench.program, packs={pack: [] for pack in (1, *bench.packs)})
        for _ in range(repeats):
            speed.plain.append(bench.plain_rate())
            for pack, rates in speed.packs.items():
                rates.append(bench.rate(pack))
        say(f"{kind}: alone x {speed.times_plain:.2f} of a plain loop")
        speeds.append(speed)
    return speeds


class _Bench:
    """One kind of network on one device."""

    def __init__(self, overrides: tuple[str, ...], device: torch.device, folder: Path) -> None:
        words = [*overrides, "seeds=1", f"runs={folder / 'runs'}", f"device={device}"]
        request = cell(compose([*words, "dataset=digits", "budget.batch_size=64"]))
        self.trial, self.info, self.device = request.jobs[0].trial, request.info, device
        self.plan = plan(self.trial.spec, self.info.training_samples)
        self.prepared = runner.view_of(request.jobs[0]).prepared
        self.program = programs_for(self.trial, self.info.shape, self.info.classes)[0]
        data = plain_data(self.prepared, self.trial.spec["probe"]["samples"])
        self.plain = PlainTrial(
            self.trial, data, self.plan, self.info.classes, device, logged=False
        )
        weights = sum(parameter.numel() for parameter in self.plain.network.parameters())
        self.packs = _LARGE_PACKS if weights > _MOST_WEIGHTS else _PACKS

    def plain_rate(self) -> float:
        """Returns the steps per second of the plain loop."""
        return self.plain.steps_per_second()

    def rate(self, pack: int) -> float:
        """Returns the trial-steps per second of so many trials side by side."""
        measurement = SpeedMeasurement(
            self.trial, self.info.shape, self.info.classes, self.device, self._data, self.plan
        )
        return measurement(Arrangement(self.program, pack, 1))

    def _data(self, copies: int) -> PackData:
        return pack_data([self.prepared] * copies, 2, self.device, "auto")
