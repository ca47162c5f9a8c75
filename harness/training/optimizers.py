"""torch's own fused optimizers on a pack's parameter matrix, with a learning rate and a weight decay for every trial.

All are elementwise, so that a run of trials with equal settings is one tensor to them, whatever the depth of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from harness.registry import Registry
from harness.training.packs import Pack

optimizers: Registry = Registry("optimizer")

Groups = list[dict]

optimizers.register("sgd")(lambda groups, spec: torch.optim.SGD(groups, fused=True))
optimizers.register("momentum")(lambda groups, spec: torch.optim.SGD(groups, momentum=spec["momentum"], fused=True))
optimizers.register("adam")(lambda groups, spec: torch.optim.Adam(groups, betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"], fused=True))
optimizers.register("adamw")(lambda groups, spec: torch.optim.AdamW(groups, betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"], fused=True))


class PackOptimizer:
    """Takes steps on `pack.parameters` (trials, numbers) from `pack.gradients`."""

    def __init__(self, pack: Pack) -> None:
        spec = pack.trials[0].spec["optimizer"]
        build: Callable[[Groups, dict], torch.optim.Optimizer] = optimizers[spec["name"]]
        self.optimizer = build(_groups(pack), spec)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, multiplier: float) -> None:
        """Update the parameters; a trial's learning rate is its own times the schedule's `multiplier`."""
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * multiplier
        self.optimizer.step()


def _groups(pack: Pack) -> Groups:
    """One parameter group for every run of neighbouring trials with the same learning rate and weight decay."""
    settings = [(trial.spec["optimizer"]["learning_rate"], trial.spec["optimizer"]["weight_decay"]) for trial in pack.trials]
    groups, start = [], 0
    for (learning_rate, weight_decay), members in groupby(settings):
        stop = start + len(list(members))
        groups.append({"params": [_with_gradient(pack, start, stop)], "lr": learning_rate, "weight_decay": weight_decay})
        start = stop
    return groups


def _with_gradient(pack: Pack, start: int, stop: int) -> Tensor:
    rows = pack.parameters[start:stop]
    rows.grad = pack.gradients[start:stop]
    return rows
