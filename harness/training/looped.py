"""The looped program: the trials of a pack one after the other, each an ordinary forward pass.

It runs any module, also what `torch.vmap` cannot, and trials may differ in their activation.
Operations that fill the machine by themselves gain nothing from a trial dimension.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from harness.training.batched import Group, groups_between
from harness.training.programs import Mode, Record, State, set_mode

# Input and output of modules by name.
_Taps = dict[str, tuple[Tensor, Tensor]]


class Looped:
    """The program for any module.

    Args:
        groups: cover the pack in order, one for every distinct activation.
        tapped: names of the modules that are shown to `Record`.
    """

    def __init__(self, groups: list[Group], tapped: Collection[str] = ()) -> None:
        self.groups = groups
        self.tapped = tapped

    def part(self, start: int, stop: int) -> Looped:
        """Returns the program for trials `start:stop` alone."""
        return Looped(groups_between(self.groups, start, stop), self.tapped)

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        """Returns logits (trials, samples, classes); see `programs.Program`."""
        if not mode.update_running:
            buffers = {name: tensor.clone() for name, tensor in buffers.items()}
        count = len(images)
        states = zip(
            _unbound(parameters, count), _unbound(buffers, count), images.unbind(), strict=True
        )
        logits = []
        taps: list[_Taps] = []
        for network, (own_parameters, own_buffers, own_images) in zip(
            self._networks(), states, strict=True
        ):
            set_mode(network, mode)
            with _tapped(network, self.tapped if record is not None else ()) as own_taps:
                state = (own_parameters, own_buffers)
                logits.append(functional_call(network, state, (own_images,)))
            taps.append(own_taps)
        if record is not None:
            modules = dict(self.groups[0].network.named_modules())
            for name in taps[0]:
                x = torch.stack([own[name][0] for own in taps])
                y = torch.stack([own[name][1] for own in taps])
                record(name, modules[name], x, y, x)
        return torch.stack(logits)

    def _networks(self) -> Iterator[nn.Module]:
        """Yields the network of each trial."""
        for group in self.groups:
            for _ in range(group.start, group.stop):
                yield group.network


@contextmanager
def _tapped(network: nn.Module, names: Collection[str]) -> Iterator[_Taps]:
    """Gives input and output of modules by name, while a network runs."""
    taps: _Taps = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            # A copy, as an activation may write over it.
            taps[name] = inputs[0], output.clone()

        return hook

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _unbound(state: State, trials: int) -> Iterator[State]:
    """Yields the tensors of each trial; nothing by name where a network has none.

    Their gradients are joined once, where those of single entries would each be as large as all.
    """
    tensors = {name: tensor.unbind() for name, tensor in state.items()}
    for trial in range(trials):
        yield {name: parts[trial] for name, parts in tensors.items()}
