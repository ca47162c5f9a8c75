"""torch's own fused optimizers on a pack's parameters, with a schedule and options for every trial.

All are elementwise, so that a parameter of a run of trials with equal settings is one tensor to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from harness.configuration.trial import Trial
from harness.registry import Registry
from harness.training.packs import Pack, update_settings
from harness.training.schedules import multiplier

optimizers: Registry = Registry("optimizer")


@dataclass(frozen=True)
class Kind:
    """An optimizer of torch's: from its parameter groups, and a trial's options of it in torch's words."""

    build: Callable[..., torch.optim.Optimizer]
    options: Callable[[dict[str, Any]], dict[str, Any]]
    # On a GPU the whole step may be replayed as a graph, which these counters must be told.
    counts: bool = False


def _adam_options(spec: dict[str, Any]) -> dict[str, Any]:
    return {"betas": (spec["beta1"], spec["beta2"]), "eps": spec["epsilon"]}


optimizers.register("sgd")(Kind(torch.optim.SGD, lambda spec: {}))
optimizers.register("momentum")(Kind(torch.optim.SGD, lambda spec: {"momentum": spec["momentum"]}))
optimizers.register("adam")(Kind(torch.optim.Adam, _adam_options, counts=True))
optimizers.register("adamw")(Kind(torch.optim.AdamW, _adam_options, counts=True))


@dataclass(frozen=True)
class _Run:
    """Neighbouring trials `start:stop` of a pack that are updated alike, by the settings of `trial`."""

    start: int
    stop: int
    trial: Trial


class PackOptimizer:
    """Updates a pack's parameters; a run of neighbouring trials with equal settings is one parameter group.

    Learning rates are a tensor on the device, so that a schedule can change them inside a replayed step.
    """

    def __init__(self, pack: Pack) -> None:
        kind: Kind = optimizers[pack.trials[0].spec["optimizer"]["name"]]
        self.pack, self.runs = pack, _runs(pack)
        on_gpu = pack.device.type == "cuda"
        # Fused kernels take a rate from a GPU as float32 and from the host as float64.
        dtype = torch.float32 if on_gpu else torch.float64
        specs = [run.trial.spec["optimizer"] for run in self.runs]
        self.base_rates = torch.tensor(
            [spec["learning_rate"] for spec in specs], dtype=dtype, device=pack.device
        )
        self.rates = self.base_rates.clone()
        stored = [
            span.stored(tensor.detach())
            for span, tensor in zip(pack.spans.values(), pack.state.values())
        ]
        groups = [
            {
                "params": [tensor[run.start : run.stop] for tensor in stored],
                "lr": rate,
                "weight_decay": spec["weight_decay"],
                **kind.options(spec),
            }
            for run, spec, rate in zip(self.runs, specs, self.rates)
        ]
        self.optimizer = kind.build(
            groups, fused=True, **({"capturable": on_gpu} if kind.counts else {})
        )

    def multipliers(self, steps: int) -> Tensor:
        """What the learning rates are multiplied by in each of `steps` updates, (steps, runs), by each run's schedule."""
        columns = {
            str(spec): [multiplier(spec, step, steps) for step in range(1, steps + 1)]
            for spec in (run.trial.spec["schedule"] for run in self.runs)
        }
        chosen = [columns[str(run.trial.spec["schedule"])] for run in self.runs]
        return (
            torch.tensor(chosen, dtype=self.rates.dtype, device=self.rates.device).t().contiguous()
        )

    def step(self, gradients: Sequence[Tensor], multipliers: Tensor) -> None:
        """Update the parameters from the gradients of `pack.state`'s tensors; a run's learning rate is its own times its entry of `multipliers`."""
        torch.mul(self.base_rates, multipliers, out=self.rates)
        stored = self.pack.stored_gradients(gradients)
        for run, group in zip(self.runs, self.optimizer.param_groups):
            for parameter, gradient in zip(group["params"], stored):
                parameter.grad = gradient[run.start : run.stop]
        self.optimizer.step()
        self.optimizer.zero_grad(
            set_to_none=True
        )  # or the next step would hold two sets of gradients


def _runs(pack: Pack) -> list[_Run]:
    runs, start = [], 0
    for _, members in groupby(pack.trials, key=update_settings):
        alike = list(members)
        runs.append(_Run(start, start + len(alike), alike[0]))
        start += len(alike)
    return runs
