"""The stacked program: `torch.vmap` over a functional call of any module.

`torch.func` adds the trial dimension to every operation by itself, so that this program needs no
rule for a layer. All trials of a pack run the same module, and so have the same activation.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from harness.networks.residual import Residual
from harness.training.programs import Mode, Record, State, is_tapped, set_mode

# Input and output of every tapped module by name.
Taps = dict[str, tuple[Tensor, Tensor]]


class Stacked:
    """The program for any module.

    Args:
        network: gives the computation, not the parameters.
        tapped: names of the modules that are shown to `Record`; those of `programs.is_tapped` by
            default.
    """

    def __init__(self, network: nn.Module, tapped: Collection[str] | None = None) -> None:
        self.network = network
        if tapped is None:
            tapped = [name for name, _ in network.named_modules() if is_tapped(name)]
        self.tapped = frozenset(tapped)

    def part(self, start: int, stop: int) -> Stacked:
        """Returns the program itself, which does not depend on the number of trials."""
        return self

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        """Returns logits (trials, samples, classes); see `programs.Program`."""
        set_mode(self.network, mode)
        if not mode.update_running:
            buffers = {name: tensor.clone() for name, tensor in buffers.items()}
        if record is None:
            return torch.vmap(self._run)(parameters, buffers, images)
        return self._recorded_call(parameters, buffers, images, record)

    def _run(self, parameters: State, buffers: State, images: Tensor) -> Tensor:
        """Runs one trial."""
        return functional_call(self.network, (parameters, buffers), (images,))

    def _recorded_call(
        self, parameters: State, buffers: State, images: Tensor, record: Record
    ) -> Tensor:
        """Runs the pack twice: once for the shapes of the taps, once to record them.

        `vmap` may hand copies of a tap's input to the hooks, whose gradients nothing receives.
        Zeros that are added to the input receive them instead.
        """
        with torch.no_grad():
            _, taps = self._tapped_call(parameters, buffers, images, {})
        entries = {name: torch.zeros_like(x).requires_grad_() for name, (x, _) in taps.items()}
        logits, taps = self._tapped_call(parameters, buffers, images, entries)
        modules = dict(self.network.named_modules())
        for name, (x, y) in taps.items():
            record(name, modules[name], x, y, entries[name])
        return logits

    def _tapped_call(
        self, parameters: State, buffers: State, images: Tensor, entries: State
    ) -> tuple[Tensor, Taps]:
        """Returns logits and taps of all trials; `entries` are added to the inputs of taps."""
        return torch.vmap(self._run_tapped)(parameters, buffers, images, entries)

    def _run_tapped(
        self, parameters: State, buffers: State, images: Tensor, entries: State
    ) -> tuple[Tensor, Taps]:
        """Runs one trial with hooks on the tapped modules."""
        taps: Taps = {}
        hosts = _hosts(self.network)
        handles: list[RemovableHandle] = []
        for name, module in self.network.named_modules():
            if name in self.tapped:
                host = hosts.get(name, module)
                handles += _tap(name, module, taps, entries.get(name), host)
        try:
            return self._run(parameters, buffers, images), taps
        finally:
            for handle in handles:
                handle.remove()


def _hosts(network: nn.Module) -> dict[str, nn.Module]:
    """Returns the residual blocks that an activation stands at the start of, by its name.

    What enters the block is that activation's input, so the gradient by it is that of both paths.
    """
    hosts: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, Residual):
            leaf, leaf_name = module.branch, f"{name}.branch"
            while isinstance(leaf, nn.Sequential):
                child_name, leaf = next(leaf.named_children())
                leaf_name = f"{leaf_name}.{child_name}"
            hosts[leaf_name] = module
    return hosts


def _tap(
    name: str, module: nn.Module, taps: Taps, entry: Tensor | None, host: nn.Module
) -> list[RemovableHandle]:
    """Hooks one module: its input and output go to `taps`; `entry` is added to the host's input."""

    def add_entry(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] + entry,)

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        taps[name] = inputs[0], output

    handles = []
    if entry is not None:
        handles.append(host.register_forward_pre_hook(add_entry))
    handles.append(module.register_forward_hook(keep))
    return handles
