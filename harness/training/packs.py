"""A pack: trials trained side by side, with all their parameters in one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.training.programs import Batched, Group, Program, Stacked, State, is_sequential

_ALIGNMENT = 16  # floats; keeps every parameter on a cache line


@dataclass(frozen=True)
class Span:
    """Where one parameter of all trials lies in `Pack.parameters`; `dims` is one trial's shape.

    A dense layer's weights lie input by input (`transposed`): the products of a step then leave their gradients in the same
    order, and no update has to move them first.
    """

    start: int
    stop: int
    dims: torch.Size
    transposed: bool

    def stored(self, tensor: Tensor) -> Tensor:
        """A (trials, *dims) tensor as it lies in memory."""
        return tensor.transpose(1, 2) if self.transposed else tensor


class Pack:
    """The state of `trials` networks of one shape.

    `parameters` is one vector; the tensors of `state`, (trials, ...) by parameter name, are views into it.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        program: str = "auto",
    ) -> None:
        # Position of each trial of the pack among those given: what runs as one operation stands together.
        self.order = sorted(range(len(trials)), key=lambda index: neighbour_key(trials[index]))
        self.trials = [trials[index] for index in self.order]
        self.device = device
        count = len(self.trials)
        self.groups = _groups(self.trials, shape, classes)
        template = self.groups[0].network
        self.spans, size = _spans(template, count)
        self.parameters = torch.zeros(size, device=device)
        self.state: State = {
            name: self.of(self.parameters, name).detach().requires_grad_() for name in self.spans
        }
        self.buffers: State = {
            name: buffer.detach().to(device).expand(count, *buffer.shape).clone()
            for name, buffer in template.named_buffers()
        }
        # The number of the update being made, from 1; dropout's noise is keyed by it.
        self.step = torch.zeros(count, dtype=torch.int64, device=device)
        for index, trial in enumerate(self.trials):
            everything = self.state | self.buffers
            initialize(
                template,
                trial.spec["initializer"],
                trial.seed,
                {name: tensor.detach()[index] for name, tensor in everything.items()},
            )
            self._set_rates(index, trial)
        self.buffers |= {name: self.step for name in self.buffers if name.endswith("dropout.step")}
        self.program = self._choose(program)

    def of(self, vector: Tensor, name: str) -> Tensor:
        """One parameter's (trials, ...) in `parameters` or a copy of it."""
        span = self.spans[name]
        if span.transposed:
            units, inputs = span.dims
            return (
                vector[span.start : span.stop].view(len(self.trials), inputs, units).transpose(1, 2)
            )
        return vector[span.start : span.stop].view(len(self.trials), *span.dims)

    def stored_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of `state`'s tensors, in order, each laid out in memory as its parameter is."""
        return [
            span.stored(gradient).contiguous()
            for span, gradient in zip(self.spans.values(), gradients)
        ]

    def part(self, start: int, stop: int) -> tuple[Program, State, State]:
        """Program, parameters and buffers of trials `start:stop`, views without gradients."""
        parameters = {name: tensor.detach()[start:stop] for name, tensor in self.state.items()}
        return (
            self.program.part(start, stop),
            parameters,
            {name: tensor[start:stop] for name, tensor in self.buffers.items()},
        )

    def parts(self, size: int) -> list[tuple[int, int]]:
        """The pack cut into runs of at most `size` trials of one activation, as (start, stop)."""
        return [
            (start, min(start + size, group.stop))
            for group in self.groups
            for start in range(group.start, group.stop, size)
        ]

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
            raise RequestError(
                "program=batched: only for sequential networks of known layers; use auto or stacked"
            )
        if program == "stacked" and len(self.groups) > 1:
            raise RequestError("program=stacked: all trials of a pack need the same activation")
        return (
            Batched(self.groups)
            if sequential and program != "stacked"
            else Stacked(self.groups[0].network)
        )


def activation_key(trial: Trial) -> str:
    """Equal for trials with one activation."""
    return str(sorted(trial.spec["activation"].items()))


def update_settings(trial: Trial) -> tuple[str, str]:
    """The optimizer's options and the schedule: trials that share them are updated as one."""
    return str(sorted(trial.spec["optimizer"].items())), str(sorted(trial.spec["schedule"].items()))


def neighbour_key(trial: Trial) -> tuple[str | int, ...]:
    """Sorts trials so that those with one activation, within them those that are updated alike, and then those with one data dose stand together."""
    return (
        activation_key(trial),
        *update_settings(trial),
        trial.spec["dataset"].get("training_samples", 0),
    )


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


def _spans(network: torch.nn.Module, trials: int) -> tuple[dict[str, Span], int]:
    """Every parameter's place in a vector, and the vector's length."""
    spans, start = {}, 0
    dense = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    for name, parameter in network.named_parameters():
        stop = start + trials * parameter.numel()
        spans[name] = Span(start, stop, parameter.shape, name in dense)
        start = stop + (-stop) % _ALIGNMENT
    return spans, start
