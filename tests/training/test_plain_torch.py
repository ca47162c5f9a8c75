"""Listed and residual networks train in a pack as in plain torch, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.feeds import feed
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU = torch.device("cpu")
SHAPE, CLASSES, TRAINING_SAMPLES, STEPS = (1, 8, 8), 10, 130, 5
LISTED = [
    {"conv": 4, "kernel": 5, "padding": "valid", "pool": "max", "pool_size": 3, "pool_stride": 1},
    {"conv": 6, "stride": 2, "padding": "circular", "groups": 2},
    {"dense": 9},
]
SIZES = {"depth": "${listed_depth:8}", "width": "${listed_width:64}"}


class PlainStack(nn.Module):
    """What `LISTED` says, as anyone would write it, with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5)
        self.first_norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2)
        self.second_norm = nn.BatchNorm2d(6)
        self.third = nn.Linear(6, 9)
        self.third_norm = nn.BatchNorm1d(9)
        self.readout = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.selu(self.first_norm(self.first(x))), 3, 1)
        x = torch.selu(self.second_norm(self.second(x)))
        x = torch.selu(self.third_norm(self.third(x.flatten(1))))
        return self.readout(x)


class PlainResidual(nn.Module):
    """A residual network of two dense blocks; `multiplied` has learned scalars."""

    def __init__(self, scale: float, multiplied: bool) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Linear(64, 12)
        self.blocks = nn.ModuleList()
        self.multipliers = nn.ParameterList()
        for _ in range(2):
            if multiplied:
                self.multipliers.append(nn.Parameter(torch.ones(1)))
            self.blocks.append(nn.ModuleList([nn.Linear(12, 12), nn.Linear(12, 12)]))
        self.readout = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for number, (first, second) in enumerate(self.blocks):
            branch = second(torch.selu(first(torch.selu(x))))
            if len(self.multipliers):
                branch = self.multipliers[number] * branch
            x = self.scale * x + self.scale * branch
        return self.readout(torch.selu(x))


def resnet(form: str) -> dict:
    return {"architecture": "resnet", "architecture.residual": form, "depth": 5, "width": 12}


CASES = {
    "stack": (
        {"architecture": "stack", "architecture.layers": LISTED, "normalization": "batch"} | SIZES,
        PlainStack,
    ),
    "plain": (resnet("plain"), lambda: PlainResidual(1.0, False)),
    "scaled": (resnet("scaled"), lambda: PlainResidual(0.5**0.5, False)),
    "skip_init": (resnet("skip_init"), lambda: PlainResidual(1.0, True)),
    "fixup": (resnet("fixup"), lambda: PlainResidual(1.0, True)),
}


def in_order(names: list[str]) -> list[str]:
    """Returns parameter names with each block's multiplier behind its weights."""
    return sorted(names, key=lambda name: (name.endswith("multiplier"), names.index(name)))


@pytest.mark.parametrize("program", ["batched", "stacked"])
@pytest.mark.parametrize("case", CASES)
def test_a_pack_takes_the_steps_of_plain_torch(make_trial, make_data, budget, case, program):
    settings, make_plain = CASES[case]
    trials = [make_trial(seed=seed, **budget | settings) for seed in range(2)]
    pack = Pack(trials, SHAPE, CLASSES, CPU, program)
    data = make_data([TRAINING_SAMPLES] * 2)
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    stepper = Stepper(pack, data, trial_plan)
    plain = make_plain()
    names = in_order(list(pack.state))
    theirs = dict(plain.named_parameters())
    pairs = list(zip(names, in_order_of_plain(theirs), strict=True))
    for name, other in pairs:
        theirs[other].data.copy_(pack.state[name].detach()[1])
    options = trials[1].spec["optimizer"]
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=options["learning_rate"], momentum=options["momentum"]
    )
    batches = feed(make_data([TRAINING_SAMPLES]).source, [trials[1].seed], trial_plan)
    for step in range(STEPS):
        batches.prepare(step)
        x, labels = batches.take()
        optimizer.zero_grad()
        functional.cross_entropy(plain(x[0]), labels[0]).backward()
        optimizer.step()
        stepper.take_steps(step + 1)
        for name, other in pairs:
            own = pack.state[name].detach()[1]
            torch.testing.assert_close(own, theirs[other].data, rtol=2e-4, atol=2e-6)


def in_order_of_plain(parameters: dict[str, Tensor]) -> list[str]:
    """Returns the names of the plain network, its multipliers last."""
    return sorted(parameters, key=lambda name: name.startswith("multipliers"))
