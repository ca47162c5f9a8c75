"""Optimizers: torch's own, with options and a schedule for every trial of a pack.

They are fused where torch has such a form. An optimizer is one registered `OptimizerSpec`; its
options are those of `conf/optimizer`. All are elementwise, so that one parameter of a run of trials
with equal settings is one tensor to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from harness.configuration.trial import Trial
from harness.registry import Registry
from harness.training.packs import Pack, update_key
from harness.training.schedules import multiplier

optimizers: Registry = Registry("optimizer")

# Entries that are one number for each parameter; all others have the parameter's shape.
_COUNTERS = ("step", "mu_product")
_ADAM_ENTRIES = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class OptimizerSpec:
    """One of torch's optimizers.

    Attributes:
        build: makes the optimizer from its parameter groups.
        options: translates a trial's options into those of torch, without learning rate and
            weight decay, which all optimizers share.
        copies: tensors of the parameters' shape that training keeps at most, the parameters
            among them: `harness.training.memory` counts with them.
        keeps: returns, for a trial's options, the names of torch's entries for each parameter that
            every step but the first one needs.
        counts_steps: whether the optimizer counts its steps. The count must be a tensor on a GPU,
            where the whole step is replayed (`capturable`).
        fused: whether torch has a fused form; without it the rate is a tensor for the form that
            takes all parameters at once (`foreach`) on a GPU.
    """

    build: Callable[..., torch.optim.Optimizer]
    options: Callable[[dict[str, Any]], dict[str, Any]]
    copies: int
    keeps: Callable[[dict[str, Any]], tuple[str, ...]]
    counts_steps: bool = False
    fused: bool = True


def _no_options(spec: dict[str, Any]) -> dict[str, Any]:
    return {}


def _momentum_options(spec: dict[str, Any]) -> dict[str, Any]:
    return {"momentum": spec["momentum"]}


def _adam_options(spec: dict[str, Any]) -> dict[str, Any]:
    return {"betas": (spec["beta1"], spec["beta2"]), "eps": spec["epsilon"]}


def _nadam_options(spec: dict[str, Any]) -> dict[str, Any]:
    return _adam_options(spec) | {"momentum_decay": spec["momentum_decay"]}


def _adadelta_options(spec: dict[str, Any]) -> dict[str, Any]:
    return {"rho": spec["rho"], "eps": spec["epsilon"]}


def _momentum_entries(spec: dict[str, Any]) -> tuple[str, ...]:
    return ("momentum_buffer",) if spec["momentum"] else ()


# Copies: the parameter, its gradient, the parameter before an update that is probed, and what the
# optimizer keeps and passes through.
optimizers.register("sgd")(
    OptimizerSpec(torch.optim.SGD, _no_options, copies=3, keeps=lambda spec: ())
)
optimizers.register("momentum")(
    OptimizerSpec(torch.optim.SGD, _momentum_options, copies=4, keeps=_momentum_entries)
)
optimizers.register("adam")(
    OptimizerSpec(
        torch.optim.Adam,
        _adam_options,
        copies=6,
        keeps=lambda spec: _ADAM_ENTRIES,
        counts_steps=True,
    )
)
optimizers.register("adamw")(
    OptimizerSpec(
        torch.optim.AdamW,
        _adam_options,
        copies=6,
        keeps=lambda spec: _ADAM_ENTRIES,
        counts_steps=True,
    )
)
optimizers.register("nadam")(
    OptimizerSpec(
        torch.optim.NAdam,
        _nadam_options,
        copies=7,
        keeps=lambda spec: (*_ADAM_ENTRIES, "mu_product"),
        counts_steps=True,
        fused=False,
    )
)
optimizers.register("adadelta")(
    OptimizerSpec(
        torch.optim.Adadelta,
        _adadelta_options,
        copies=7,
        keeps=lambda spec: ("step", "square_avg", "acc_delta"),
        counts_steps=True,
        fused=False,
    )
)


@dataclass(frozen=True)
class UpdatedRun:
    """Neighbouring trials `start:stop` of a pack with equal settings of optimizer and schedule.

    `trial` is the first of them.
    """

    start: int
    stop: int
    trial: Trial


class PackOptimizer:
    """Updates the parameters of a pack.

    Each run of neighbouring trials with equal settings is one parameter group. Learning rates are
    a tensor on the device, so that a schedule can change them within a replayed step.

    Attributes:
        runs: the runs, in the pack's order.
        rates: (runs,), the learning rates of the last update.
    """

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self.runs = _updated_runs(pack)
        on_gpu = pack.device.type == "cuda"
        # Fused kernels take a rate from a GPU as float32 and from the host as float64.
        self.base_rates = torch.tensor(
            [run.trial.spec["optimizer"]["learning_rate"] for run in self.runs],
            dtype=torch.float32 if on_gpu else torch.float64,
            device=pack.device,
        )
        self.rates = self.base_rates.clone()
        spec: OptimizerSpec = optimizers[pack.trials[0].spec["optimizer"]["name"]]
        self._spec = spec
        counter = {"capturable": on_gpu} if spec.counts_steps else {}
        form = {"fused": True} if spec.fused else {"foreach": on_gpu}
        self.optimizer = spec.build(self._parameter_groups(spec), **form, **counter)

    def multipliers(self, steps: int) -> Tensor:
        """Returns the factors on the learning rates in each of `steps` updates, (steps, runs)."""
        factors_of_schedule: dict[str, list[float]] = {}
        factors = []
        for run in self.runs:
            schedule = run.trial.spec["schedule"]
            key = str(schedule)
            if key not in factors_of_schedule:
                factors_of_schedule[key] = [
                    multiplier(schedule, step, steps) for step in range(1, steps + 1)
                ]
            factors.append(factors_of_schedule[key])
        by_run = torch.tensor(factors, dtype=self.rates.dtype, device=self.rates.device)
        return by_run.t().contiguous()

    def step(self, gradients: Sequence[Tensor], multipliers: Tensor) -> None:
        """Updates the parameters once.

        Args:
            gradients: those of the tensors of `pack.state`, in order.
            multipliers: (runs,), the factors on the learning rates.
        """
        torch.mul(self.base_rates, multipliers, out=self.rates)
        gradients = self.pack.gradients_in_memory_order(gradients)
        for run, group in zip(self.runs, self.optimizer.param_groups, strict=True):
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient[run.start : run.stop]
        self.optimizer.step()
        # Otherwise the next step would hold two sets of gradients.
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Returns what the optimizer keeps besides the parameters, (trials, ...) by name.

        A name is that of torch's entry, a slash, and the name of the parameter. Torch counts steps
        in a tensor without dimensions, which stands here for each of its trials.
        """
        names = dict.fromkeys(
            name for _, _, kept in self._kept() for name, value in kept.items() if _is_kept(value)
        )
        parts: dict[str, list[Tensor]] = {}
        for run, (parameter_name, parameter), kept in self._kept():
            for name in names:
                value = kept.get(name)
                if not _is_kept(value):
                    # A run without momentum keeps nothing and never looks at it.
                    value = torch.zeros_like(parameter)
                own = value if value.dim() else value.expand(run.stop - run.start)
                parts.setdefault(f"{name}/{parameter_name}", []).append(own)
        return {name: torch.cat(tensors) for name, tensors in parts.items()}

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuses a state that is not one of this pack.

        Raises:
            ValueError: a tensor is missing, unknown, of another shape, or of other numbers.
        """
        names = dict.fromkeys(name.partition("/")[0] for name in state)
        for run in self.runs:
            missing = set(self._spec.keeps(run.trial.spec["optimizer"])).difference(names)
            if missing:
                raise ValueError(f"optimizer state without {min(missing)}")
        expected = {f"{name}/{parameter}" for name in names for parameter in self.pack.spans}
        if set(state) != expected:
            raise ValueError(f"optimizer state of {len(state)} tensors, not of {len(expected)}")
        trials = len(self.pack.trials)
        for _, (parameter_name, parameter), _ in self._kept():
            for name in names:
                own = state[f"{name}/{parameter_name}"]
                one_number = name in _COUNTERS
                shape = (trials,) if one_number else (trials, *parameter.shape[1:])
                numbers = torch.float32 if one_number else parameter.dtype
                if own.shape != shape or own.dtype != numbers:
                    raise ValueError(f"optimizer state {name} of {parameter_name} is no such one")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Sets what the optimizer keeps to what `state` returned."""
        names = dict.fromkeys(name.partition("/")[0] for name in state)
        for run, (parameter_name, parameter), _ in self._kept():
            own = {}
            for name in names:
                value = state[f"{name}/{parameter_name}"][run.start : run.stop]
                if value.dim() < parameter.dim():
                    value = value[0]
                own[name] = value.to(parameter.device).clone()
            self.optimizer.state[parameter] = own

    def _kept(self) -> Iterator[tuple[UpdatedRun, tuple[str, Tensor], Mapping[str, Any]]]:
        """Gives every parameter of every run with its name and what torch keeps for it.

        The dimensions of the parameter are in the order of memory.
        """
        for run, group in zip(self.runs, self.optimizer.param_groups, strict=True):
            for named in zip(self.pack.spans, group["params"], strict=True):
                yield run, named, self.optimizer.state.get(named[1], {})

    def _parameter_groups(self, spec: OptimizerSpec) -> list[dict[str, Any]]:
        tensors = [
            span.in_memory_order(tensor.detach())
            for span, tensor in zip(self.pack.spans.values(), self.pack.state.values(), strict=True)
        ]
        groups = []
        for run, rate in zip(self.runs, self.rates, strict=True):
            options = run.trial.spec["optimizer"]
            group = {
                "params": [tensor[run.start : run.stop] for tensor in tensors],
                "lr": rate,
                "weight_decay": options["weight_decay"],
            }
            groups.append(group | spec.options(options))
        return groups


def _is_kept(value: Any) -> bool:
    return isinstance(value, Tensor)


def _updated_runs(pack: Pack) -> list[UpdatedRun]:
    runs = []
    start = 0
    for _, members in groupby(pack.trials, key=update_key):
        trials = list(members)
        runs.append(UpdatedRun(start, start + len(trials), trials[0]))
        start += len(trials)
    return runs
