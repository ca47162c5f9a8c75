"""Packs: trials trained side by side, with all their parameters in one vector.

The trials of a pack have networks of one shape. They may differ in seed, activation, initializer,
dropout rate, preprocessing, number of training samples, repair, and the options of optimizer and
schedule. Trials that run as one operation stand next to each other, so a pack has an order of its
own: `Pack.order` leads back to the order in which trials were given.

A trial in a pack is the trial alone: its weights are drawn from its own seed, and the key of its
dropout noise is set from it, whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.networks.architectures import architecture_of, build_network
from harness.networks.dropouts import StandardDropout
from harness.networks.hidden_stack import Shape
from harness.networks.layout import layer_sizes
from harness.training.batched import Batched, Group, is_sequential
from harness.training.looped import Looped
from harness.training.programs import Program, State
from harness.training.stacked import Stacked

# Every parameter begins at a multiple of this many floats: 64 bytes, a cache line.
_ALIGNMENT = 16
# Last names of dropout's buffers.
_DROPOUT_BUFFERS = ("key", "step", "rate")


@dataclass(frozen=True)
class Span:
    """The place of one parameter of all trials in `Pack.parameters`.

    A dense layer's weights lie input by input (`transposed`). The matrix products of a step leave
    their gradients in that order, so that no gradient has to be moved before an update.

    Attributes:
        start: index of its first number.
        stop: index after its last number.
        shape: the parameter's shape in one trial.
        transposed: whether the two dimensions of `shape` are exchanged in memory.
    """

    start: int
    stop: int
    shape: torch.Size
    transposed: bool

    def in_memory_order(self, tensor: Tensor) -> Tensor:
        """Returns a view of a (trials, *shape) tensor with dimensions in the order of memory."""
        return tensor.transpose(1, 2) if self.transposed else tensor


class Pack:
    """The state of several networks of one shape.

    Attributes:
        trials: the trials in the pack's order.
        order: for each of `trials` its index among the trials that were given.
        device: where everything lies.
        groups: runs of trials that share an activation.
        parameters: one vector with the parameters of all trials.
        spans: the place of each parameter in that vector, by name.
        state: (trials, ...) by parameter name, views into `parameters`.
        buffers: (trials, ...) by buffer name.
        sizes: the size of every weight layer, the readout last.
        hidden_weights: names of the weights of hidden layers.
        step: (trials,), the number of the update being made, from 1; keys the dropout noise.
        program: runs the forward pass.

    Args:
        trials: have networks of one shape.
        shape: channels, height and width of the images.
        classes: the number of classes.
        device: where the pack lies.
        program: `batched`, `stacked`, `looped`, or `auto`: `looped` for named networks, and for
            others the first that can run them.

    Raises:
        RequestError: the program cannot run these networks.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        program: str = "auto",
    ) -> None:
        self.order = sorted(range(len(trials)), key=lambda index: neighbour_key(trials[index]))
        self.trials = [trials[index] for index in self.order]
        self.device = device
        count = len(self.trials)
        self.groups = _groups(self.trials, shape, classes)
        template = self.groups[0].network
        kind, spec = architecture_of(self.trials[0].spec), self.trials[0].spec
        self.sizes = layer_sizes(spec, shape, classes)
        self.hidden_weights = kind.hidden_weights(template, spec, (shape, classes))
        self.spans, size = _spans(template, count)
        self.parameters = torch.zeros(size, device=device)
        self.state: State = {
            name: self.parameter_in(self.parameters, name).detach().requires_grad_()
            for name in self.spans
        }
        self.buffers: State = {
            name: buffer.detach().to(device).expand(count, *buffer.shape).clone()
            for name, buffer in template.named_buffers()
        }
        self.step = torch.zeros(count, dtype=torch.int64, device=device)
        self._initialize(template, (shape, classes))
        for name in _dropouts(template):
            self.buffers[f"{name}.step"] = self.step
        self.program = self._build_program(program)

    @property
    def is_named(self) -> bool:
        """True for networks that a library or the user's own code makes."""
        return is_named(self.trials[0])

    def network_of(self, trial: int) -> nn.Module:
        """Returns the module that computes a trial, without its parameters."""
        for group in self.groups:
            if trial < group.stop:
                return group.network
        raise IndexError(f"trial {trial} of a pack of {len(self.trials)}")

    def parameter_in(self, vector: Tensor, name: str) -> Tensor:
        """Returns a view of one parameter, (trials, ...), in `parameters` or a copy of it."""
        span = self.spans[name]
        numbers = vector[span.start : span.stop]
        if span.transposed:
            units, inputs = span.shape
            return numbers.view(len(self.trials), inputs, units).transpose(1, 2)
        return numbers.view(len(self.trials), *span.shape)

    def gradients_in_memory_order(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Returns gradients laid out in memory as their parameters are.

        Args:
            gradients: those of the tensors of `state`, in order, each (trials, ...).
        """
        return [
            span.in_memory_order(gradient).contiguous()
            for span, gradient in zip(self.spans.values(), gradients, strict=True)
        ]

    def part(self, start: int, stop: int) -> tuple[Program, State, State]:
        """Returns program, parameters and buffers of trials `start:stop`.

        The tensors are views without gradients.
        """
        parameters = {name: tensor.detach()[start:stop] for name, tensor in self.state.items()}
        buffers = {name: tensor[start:stop] for name, tensor in self.buffers.items()}
        return self.program.part(start, stop), parameters, buffers

    def ranges(self, size: int) -> list[tuple[int, int]]:
        """Cuts the pack into ranges of at most `size` trials of one activation.

        Returns them as (start, stop).
        """
        ranges = []
        for group in self.groups:
            for start in range(group.start, group.stop, size):
                ranges.append((start, min(start + size, group.stop)))
        return ranges

    def parameter_count(self) -> int:
        """Returns the trainable numbers of one trial."""
        return sum(parameter.numel() for parameter in self.groups[0].network.parameters())

    def activations_per_sample(self, images: Tensor) -> int:
        """Returns the most numbers that one layer puts out for one sample.

        A convolution of a stack is counted at the size of the images, even behind a pooling.

        Args:
            images: (samples, channels, height, width).
        """
        if self.is_named:
            return max(size.units * size.height * size.width for size in self.sizes)
        numbers = []
        for weight in self.state.values():
            if weight.dim() > 1:
                is_convolution = weight.dim() > 3  # (trials, units, inputs, height, width)
                positions = images[0, 0].numel() if is_convolution else 1
                numbers.append(weight.shape[1] * positions)
        return max(numbers)

    def _initialize(self, template: nn.Module, sizes: tuple[Shape, int]) -> None:
        """Draws the weights of every trial from its own seed, and sets its dropout."""
        tensors = self.state | self.buffers
        own_rates = {size.name: size.dropout for size in self.sizes if size.dropout is not None}
        for index, trial in enumerate(self.trials):
            own = {name: tensor.detach()[index] for name, tensor in tensors.items()}
            spec = trial.spec
            architecture_of(spec).initialize(template, spec, trial.seed, sizes, own)
            if "rate" not in spec["dropout"]:
                continue
            for name in _dropouts(template):
                layer = name.removesuffix(".dropout")
                self.buffers[f"{name}.rate"][index] = own_rates.get(layer, spec["dropout"]["rate"])

    def _build_program(self, program: str) -> Program:
        network = self.groups[0].network
        if self.is_named:
            return self._program_of_named(network, program)
        if program == "looped":
            raise RequestError(
                "program=looped: only for architecture=torchvision, timm or your own factory"
            )
        sequential = is_sequential(network)
        if program == "batched" and not sequential:
            raise RequestError(
                "program=batched: only for sequential networks of known layers; use auto or stacked"
            )
        if program == "stacked" and len(self.groups) > 1:
            raise RequestError("program=stacked: all trials of a pack need the same activation")
        if sequential and program != "stacked":
            return Batched(self.groups)
        return Stacked(network)

    def _program_of_named(self, network: nn.Module, program: str) -> Program:
        """Returns a program for a network of a library or of the user's own."""
        tapped = [name.removesuffix(".weight") for name in self.hidden_weights]
        if program == "batched":
            raise RequestError(
                "program=batched: only for sequential networks of known layers; use auto, looped "
                "or stacked"
            )
        if program == "stacked":
            return Stacked(network, tapped)
        return Looped(self.groups, tapped)


def activation_key(trial: Trial) -> str:
    """Returns a key that is equal for trials with one activation."""
    return str(sorted(trial.spec["activation"].items()))


def update_key(trial: Trial) -> tuple[str, str]:
    """Returns a key that is equal for trials that an optimizer can update as one.

    They share the optimizer's options and the learning-rate schedule.
    """
    optimizer = str(sorted(trial.spec["optimizer"].items()))
    schedule = str(sorted(trial.spec["schedule"].items()))
    return optimizer, schedule


def neighbour_key(trial: Trial) -> tuple[str | int, ...]:
    """Returns the key by which the trials of a pack are sorted.

    Activation first, then optimizer and schedule settings, then the number of training samples:
    trials that can run as one operation stand together.
    """
    training_samples = trial.spec["dataset"].get("training_samples", 0)
    return activation_key(trial), *update_key(trial), training_samples


def _groups(trials: list[Trial], shape: tuple[int, int, int], classes: int) -> list[Group]:
    groups = []
    start = 0
    for _, members in groupby(trials, key=activation_key):
        stop = start + len(list(members))
        groups.append(Group(start, stop, _template(trials[start], shape, classes)))
        start = stop
    return groups


def _template(trial: Trial, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Builds a trial's network without drawing weights.

    On the meta device torch draws nothing: no time is lost, no global random state is touched. A
    named network has numbers that only its own code draws.
    """
    if is_named(trial):
        return build_network(trial.spec, shape, classes)
    with torch.device("meta"):
        network = build_network(trial.spec, shape, classes)
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] in _DROPOUT_BUFFERS:
            buffer.zero_()
    return network


def is_named(trial: Trial) -> bool:
    """Returns True for a trial whose network a library or the user's own code makes."""
    return "library" in trial.spec["architecture"]


def _dropouts(network: nn.Module) -> list[str]:
    """Returns the names of the modules that drop by the trial's own noise."""
    return [name for name, module in network.named_modules() if isinstance(module, StandardDropout)]


def _spans(network: nn.Module, trials: int) -> tuple[dict[str, Span], int]:
    """Returns every parameter's place in a vector, and the length of the vector."""
    dense_weights = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    }
    spans = {}
    start = 0
    for name, parameter in network.named_parameters():
        stop = start + trials * parameter.numel()
        spans[name] = Span(start, stop, parameter.shape, name in dense_weights)
        padding = -stop % _ALIGNMENT
        start = stop + padding
    return spans, start
