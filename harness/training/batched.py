"""The batched program: a plain stack of layers, run on tensors with a leading trial dimension.

It walks through nested `nn.Sequential`s and residual blocks and runs every leaf by its rule in
`harness.training.batched_layers`. Modules without parameters, buffers and children, such as
activations, are elementwise and run as they are. This is faster than the stacked program for most
networks, and trials of one pack may differ in their activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.residual import Residual
from harness.training.batched_layers import LayerState, Rule, layer_rule, residual_sum
from harness.training.programs import Mode, Record, State, is_tapped


@dataclass(frozen=True)
class Group:
    """Trials `start:stop` of a pack, which share the activation modules of `network`."""

    start: int
    stop: int
    network: nn.Module


def groups_between(groups: Sequence[Group], start: int, stop: int) -> list[Group]:
    """Returns the groups of trials `start:stop`, counted from `start`."""
    between = []
    for group in groups:
        first = max(group.start, start) - start
        end = min(group.stop, stop) - start
        if first < end:
            between.append(Group(first, end, group.network))
    return between


@dataclass(frozen=True)
class _Step:
    """A leaf with its rule, None for an elementwise one; or a residual block with its branch."""

    name: str
    module: nn.Module
    rule: Rule | None = None
    branch: list[_Step] | None = None


@dataclass(frozen=True)
class _Pass:
    """The arguments that all steps of a forward pass share; see `programs.Program`."""

    parameters: State
    buffers: State
    mode: Mode
    record: Record | None


class Batched:
    """The program for sequential networks, residual blocks included.

    Args:
        groups: cover the pack in order, one for every distinct activation.
    """

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.group_sizes = [group.stop - group.start for group in groups]
        self.steps = _steps(groups[0].network)
        self.modules_of_groups = [dict(group.network.named_modules()) for group in groups]

    def part(self, start: int, stop: int) -> Batched:
        """Returns the program for trials `start:stop` alone."""
        return Batched(groups_between(self.groups, start, stop))

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        """Returns logits (trials, samples, classes); see `programs.Program`."""
        return self._run(self.steps, images, _Pass(parameters, buffers, mode, record))

    def _run(
        self, steps: list[_Step], entering: Tensor, own: _Pass, is_branch: bool = False
    ) -> Tensor:
        """Returns what steps make of `entering`, which a branch must leave as it is."""
        x = entering
        for step in steps:
            state = LayerState(own.parameters, own.buffers, step.name)
            if step.branch is not None:
                branch = self._run(step.branch, x, own, is_branch=True)
                x = residual_sum(step.module, state, x, branch)
                continue
            if step.rule is not None:
                y = step.rule(step.module, state, x, own.mode)
            else:
                is_needed = own.record is not None or (is_branch and x is entering)
                y = self._elementwise(step.name, step.module, x, overwrite=not is_needed)
            if own.record is not None and is_tapped(step.name):
                own.record(step.name, step.module, x, y, x)
            x = y
        return x

    def _elementwise(self, name: str, module: nn.Module, x: Tensor, overwrite: bool) -> Tensor:
        """Runs a module without a rule, each group's own where groups differ."""
        if len(self.groups) == 1:
            return _overwriting(module)(x) if overwrite else module(x)
        outputs = [
            modules[name](part)
            for modules, part in zip(self.modules_of_groups, x.split(self.group_sizes), strict=True)
        ]
        return torch.cat(outputs)


def is_sequential(network: nn.Module) -> bool:
    """Returns whether `Batched` can run a network.

    It can where the network is nested `nn.Sequential`s and residual blocks of leaves that have a
    rule or are elementwise.
    """
    return isinstance(network, nn.Sequential) and _can_run(_steps(network))


def _can_run(steps: list[_Step]) -> bool:
    for step in steps:
        if step.branch is not None:
            known = _can_run(step.branch)
        else:
            known = step.rule is not None or _is_stateless_leaf(step.module)
        if not known:
            return False
    return True


def _steps(network: nn.Module, prefix: str = "") -> list[_Step]:
    """Returns the leaves of nested `nn.Sequential`s in order, and residual blocks as one step."""
    steps = []
    for name, module in network.named_children():
        full_name = f"{prefix}{name}"
        if isinstance(module, nn.Sequential):
            steps += _steps(module, f"{full_name}.")
        elif isinstance(module, Residual):
            branch = _steps(module.branch, f"{full_name}.branch.")
            steps.append(_Step(full_name, module, branch=branch))
        else:
            steps.append(_Step(full_name, module, layer_rule(module)))
    return steps


def _is_stateless_leaf(module: nn.Module) -> bool:
    contents = [*module.parameters(), *module.buffers(), *module.children()]
    return not contents


def _overwriting(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns the same activation, written over its input where that is possible.

    It is possible where the derivative can be told from the output; backward then needs no second
    exponential. Autograd refuses to overwrite an input that something else still needs.
    """
    if type(module) is nn.SELU:
        return torch.selu_
    if type(module) is nn.ELU and module.alpha >= 0:
        return lambda x: functional.elu_(x, module.alpha)
    if type(module) is nn.ReLU:
        return torch.relu_
    return module
