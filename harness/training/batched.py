"""The batched program: a plain stack of layers, run on tensors with a leading trial dimension.

It walks through nested `nn.Sequential`s and runs every leaf by its rule in
`harness.training.batched_layers`. Modules without parameters, buffers and children, such as
activations, are elementwise and run as they are. This is faster than the stacked program for most
networks, and trials of one pack may differ in their activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.batched_layers import LayerState, layer_rule
from harness.training.programs import Mode, Record, State, is_tapped


@dataclass(frozen=True)
class Group:
    """Trials `start:stop` of a pack, which share the activation modules of `network`."""

    start: int
    stop: int
    network: nn.Module


class Batched:
    """The program for sequential networks.

    Args:
        groups: cover the pack in order, one for every distinct activation.
    """

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.group_sizes = [group.stop - group.start for group in groups]
        self.leaves = list(_leaves(groups[0].network))
        self.rules = [layer_rule(module) for _, module in self.leaves]
        self.modules_of_groups = [dict(group.network.named_modules()) for group in groups]

    def part(self, start: int, stop: int) -> Batched:
        """Returns the program for trials `start:stop` alone."""
        groups = []
        for group in self.groups:
            first = max(group.start, start) - start
            end = min(group.stop, stop) - start
            if first < end:
                groups.append(Group(first, end, group.network))
        return Batched(groups)

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        """Returns logits (trials, samples, classes); see `programs.Program`."""
        x = images
        for (name, module), rule in zip(self.leaves, self.rules, strict=True):
            if rule is not None:
                y = rule(module, LayerState(parameters, buffers, name), x, mode)
            else:
                y = self._elementwise(name, module, x, overwrite=record is None)
            if record is not None and is_tapped(name):
                record(name, module, x, y, x)
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

    It can where the network is nested `nn.Sequential`s of leaves that have a rule or are
    elementwise.
    """
    if not isinstance(network, nn.Sequential):
        return False
    return all(
        layer_rule(module) is not None or _is_stateless_leaf(module)
        for _, module in _leaves(network)
    )


def _leaves(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules of nested `nn.Sequential`s in order, with their full names."""
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential):
            yield from _leaves(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


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
