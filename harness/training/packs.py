"""A pack: trials trained side by side, with all their parameters in one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.training.programs import Batched, Group, Program, Stacked, State, is_sequential
from harness.trial import Trial

_ALIGNMENT = 16  # floats; keeps every parameter of every trial on a cache line

PROGRAMS = ("auto", "batched", "stacked")


class Pack:
    """The state of `trials` networks of one shape.

    `parameters` and `gradients` are (trials, numbers); the tensors of `state`, by parameter name, are views into the
    former, so that an optimizer is one operation on two matrices whatever the depth.
    """

    def __init__(self, trials: Sequence[Trial], shape: tuple[int, int, int], classes: int, device: torch.device, program: str = "auto") -> None:
        # Position of each trial of the pack among those given: trials of one activation stand together.
        self.order = sorted(range(len(trials)), key=lambda index: activation_key(trials[index]))
        self.trials = [trials[index] for index in self.order]
        self.device = device
        count = len(self.trials)
        self.groups = _groups(self.trials, shape, classes)
        template = self.groups[0].network
        self.spans = _spans(template)
        size = max((stop for _, _, stop in self.spans.values()), default=0)
        self.parameters = torch.zeros(count, size, device=device)
        self.gradients = torch.zeros_like(self.parameters)
        self.state: State = {name: self.of(self.parameters, name).detach().requires_grad_() for name in self.spans}
        self.buffers: State = {name: buffer.detach().to(device).expand(count, *buffer.shape).clone() for name, buffer in template.named_buffers()}
        for index, trial in enumerate(self.trials):
            everything = self.state | self.buffers
            initialize(template, trial.spec["initializer"], trial.seed, {name: tensor.detach()[index] for name, tensor in everything.items()})
            self._set_rates(index, trial)
        self.program = self._choose(program)

    def of(self, matrix: Tensor, name: str) -> Tensor:
        """One parameter's (trials, ...) in a copy of `parameters`."""
        dims, start, stop = self.spans[name]
        return matrix[:, start:stop].view(len(self.trials), *dims)

    def part(self, start: int, stop: int) -> tuple[Program, State, State]:
        """Program, parameters and buffers of trials `start:stop`, views without gradients."""
        parameters = {name: tensor.detach()[start:stop] for name, tensor in self.state.items()}
        return self.program.part(start, stop), parameters, {name: tensor[start:stop] for name, tensor in self.buffers.items()}

    def parts(self, size: int) -> list[tuple[int, int]]:
        """The pack cut into runs of at most `size` trials of one activation, as (start, stop)."""
        return [(start, min(start + size, group.stop)) for group in self.groups for start in range(group.start, group.stop, size)]

    def set_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Take the gradients of `state`'s tensors, in order."""
        for name, gradient in zip(self.state, gradients):
            self.of(self.gradients, name).copy_(gradient)

    def set_step(self, step: int) -> None:
        """Tell dropout which step's noise to use."""
        for name, buffer in self.buffers.items():
            if name.endswith("dropout.step"):
                buffer.fill_(step)

    def parameter_count(self) -> int:
        """Trainable numbers of one trial."""
        return sum(parameter.numel() for parameter in self.groups[0].network.parameters())

    def _set_rates(self, index: int, trial: Trial) -> None:
        for name, buffer in self.buffers.items():
            if name.endswith("dropout.rate"):
                buffer[index] = trial.spec["dropout"]["rate"]

    def _choose(self, program: str) -> Program:
        sequential = is_sequential(self.groups[0].network)
        if program == "batched" and not sequential:
            raise RequestError("program=batched: only for sequential networks of known layers; use auto or stacked")
        if program == "stacked" and len(self.groups) > 1:
            raise RequestError("program=stacked: all trials of a pack need the same activation")
        return Batched(self.groups) if sequential and program != "stacked" else Stacked(self.groups[0].network)


def activation_key(trial: Trial) -> str:
    """Sorts the trials of a pack so that those with one activation stand together."""
    return str(sorted(trial.spec["activation"].items()))


def _groups(trials: list[Trial], shape: tuple[int, int, int], classes: int) -> list[Group]:
    groups, start = [], 0
    for _, members in groupby(trials, key=activation_key):
        size = len(list(members))
        groups.append(Group(start, start + size, _template(trials[start], shape, classes)))
        start += size
    return groups


def _template(trial: Trial, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    # On the meta device nothing is drawn: no time lost, no global random state touched.
    with torch.device("meta"):
        network = build_network(trial.spec, shape, classes)
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] in ("key", "step", "rate"):
            buffer.zero_()
    return network


def _spans(network: torch.nn.Module) -> dict[str, tuple[torch.Size, int, int]]:
    spans, start = {}, 0
    for name, parameter in network.named_parameters():
        stop = start + parameter.numel()
        spans[name] = (parameter.shape, start, stop)
        start = stop + (-stop) % _ALIGNMENT
    return spans
