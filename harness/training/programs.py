"""Two ways to run one network with many trials' parameters at once.

`batched` walks a sequential network and runs every leaf on tensors with a leading trial dimension, by rules written here;
trials may then even differ in their activation. `stacked` is `torch.func.vmap` over `functional_call` and runs any module.
Both take parameters and buffers by name, each (trials, ...), and images (trials, samples, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from harness.networks.dropouts import AlphaDropout, StandardDropout, hashed_uniform
from harness.networks.normalizations import (
    EPSILON,
    RMSNorm,
    StandardizedConv2d,
    StandardizedLinear,
    standardize,
)

State = dict[str, Tensor]


@dataclass(frozen=True)
class Mode:
    """What batch statistics and dropout do: while training, while evaluating, and while probing.

    A probe uses the batch's own statistics, because at initialisation the running ones mean nothing, and no dropout.
    """

    batch_statistics: bool
    update_running: bool
    dropout: bool


TRAIN = Mode(batch_statistics=True, update_running=True, dropout=True)
EVALUATE = Mode(batch_statistics=False, update_running=False, dropout=False)
PROBE = Mode(batch_statistics=True, update_running=False, dropout=False)

# Called for every `weights` and `activation` module as (name, module, input, output, entry): `entry` is a tensor of the
# autograd graph with respect to which a gradient is the gradient with respect to the input.
Record = Callable[[str, nn.Module, Tensor, Tensor, Tensor], None]


class Program(Protocol):
    """Runs a pack forward; returns logits (trials, samples, classes)."""

    def part(self, start: int, stop: int) -> Program:
        """The same program for trials `start:stop` alone, given their parameters, buffers and images."""

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Group:
    """Trials `start:stop` of a pack share the activation modules of `network`."""

    start: int
    stop: int
    network: nn.Module


class Batched:
    """The hand-written program for sequential networks. `groups` cover the pack in order, one per distinct activation."""

    def __init__(self, groups: list[Group]) -> None:
        self.leaves = list(_leaves(groups[0].network))
        self.rules = [_rule(module) for _, module in self.leaves]
        self.groups = groups
        self.sizes = [group.stop - group.start for group in groups]
        self.alternatives = [dict(group.network.named_modules()) for group in groups]

    def part(self, start: int, stop: int) -> Batched:
        within = [
            Group(max(group.start, start) - start, min(group.stop, stop) - start, group.network)
            for group in self.groups
        ]
        return Batched([group for group in within if group.start < group.stop])

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        x = images
        for (name, module), rule in zip(self.leaves, self.rules):
            if rule is not None:
                y = rule(module, _Scope(parameters, buffers, name), x, mode)
            elif len(self.groups) == 1:
                y = module(x) if record is not None else _overwriting(module)(x)
            else:
                y = torch.cat(
                    [own[name](part) for own, part in zip(self.alternatives, x.split(self.sizes))]
                )
            if record is not None and _tapped(name):
                record(name, module, x, y, x)
            x = y
        return x


class Stacked:
    """The general program: one `vmap` over a functional call of any module."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def part(self, start: int, stop: int) -> Stacked:
        return self

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        self.network.train(mode.batch_statistics)
        for module in self.network.modules():
            if isinstance(module, StandardDropout):
                module.train(mode.dropout)
        kept = (
            buffers
            if mode.update_running
            else {name: tensor.clone() for name, tensor in buffers.items()}
        )
        if record is None:
            return torch.vmap(
                lambda own, moving, x: functional_call(self.network, (own, moving), (x,))
            )(parameters, kept, images)
        with torch.no_grad():
            _, taps = self._tapped_call(parameters, kept, images, {})
        # vmap may hand out copies of what flows through; zeros added at each tap receive the gradients instead.
        entries = {name: torch.zeros_like(x).requires_grad_() for name, (x, _) in taps.items()}
        logits, taps = self._tapped_call(parameters, kept, images, entries)
        modules = dict(self.network.named_modules())
        for name, (x, y) in taps.items():
            record(name, modules[name], x, y, entries[name])
        return logits

    def _tapped_call(
        self, parameters: State, buffers: State, images: Tensor, entries: State
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        def run(
            parameters: State, buffers: State, images: Tensor, entries: State
        ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
            seen: dict[str, tuple[Tensor, Tensor]] = {}
            handles = []
            for name, module in self.network.named_modules():
                if not _tapped(name):
                    continue
                if name in entries:
                    handles.append(
                        module.register_forward_pre_hook(
                            lambda _, inputs, name=name: (inputs[0] + entries[name],)
                        )
                    )
                handles.append(
                    module.register_forward_hook(
                        lambda _, inputs, y, name=name: seen.__setitem__(name, (inputs[0], y))
                    )
                )
            try:
                return functional_call(self.network, (parameters, buffers), (images,)), seen
            finally:
                for handle in handles:
                    handle.remove()

        return torch.vmap(run)(parameters, buffers, images, entries)


def _tapped(name: str) -> bool:
    return name.rpartition(".")[2] in ("weights", "activation")


@dataclass(frozen=True)
class _Scope:
    """A leaf's own parameters and buffers, by their local names."""

    parameters: State
    buffers: State
    prefix: str

    def __getitem__(self, name: str) -> Tensor:
        return self.parameters[f"{self.prefix}.{name}"]

    def get(self, name: str) -> Tensor | None:
        return self.parameters.get(f"{self.prefix}.{name}")

    def buffer(self, name: str) -> Tensor:
        return self.buffers[f"{self.prefix}.{name}"]


def _leaves(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential):
            yield from _leaves(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


def is_sequential(network: nn.Module) -> bool:
    """Whether `Batched` can run a network: nested `Sequential`s of leaves that it has rules for."""
    return isinstance(network, nn.Sequential) and all(
        _supported(module) for _, module in _leaves(network)
    )


def _supported(module: nn.Module) -> bool:
    return _rule(module) is not None or not (
        list(module.parameters()) or list(module.buffers()) or list(module.children())
    )


def _rule(module: nn.Module) -> Callable[[nn.Module, _Scope, Tensor, Mode], Tensor] | None:
    """How a leaf runs with a trial dimension; None for elementwise modules, which run as they are."""
    return _RULES.get(type(module))


def _overwriting(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same activation, written over its input: its derivative then comes from its value, and needs no second exponential.

    Only for maps whose derivative can be told from the value; autograd refuses an input that something else still needs.
    """
    kind = type(module)
    if kind is nn.SELU:
        return torch.selu_
    if kind is nn.ELU and module.alpha >= 0:
        return lambda x: functional.elu_(x, module.alpha)
    return torch.relu_ if kind is nn.ReLU else module


def _linear(
    module: nn.Module, state: _Scope, x: Tensor, mode: Mode, weight: Tensor | None = None
) -> Tensor:
    weight = state["weight"] if weight is None else weight
    return torch.baddbmm(state["bias"].unsqueeze(1), x, weight.transpose(1, 2))


def _standardized_linear(module: nn.Module, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    return _linear(module, state, x, mode, standardize(state["weight"], inputs_from=2))


def _convolution(
    module: nn.Conv2d, state: _Scope, x: Tensor, mode: Mode, weight: Tensor | None = None
) -> Tensor:
    weight = state["weight"] if weight is None else weight
    # One convolution per trial: a grouped convolution over all of them is slower on a CPU.
    return torch.stack(
        [module._conv_forward(image, w, b) for image, w, b in zip(x, weight, state["bias"])]
    )


def _standardized_convolution(module: nn.Conv2d, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    return _convolution(module, state, x, mode, standardize(state["weight"], inputs_from=2))


def _batch_norm(module: nn.Module, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    dims = (1,) if x.dim() == 3 else (1, 3, 4)
    shape = (x.shape[0], 1, x.shape[2]) + (1,) * (x.dim() - 3)
    if mode.batch_statistics:
        variance, mean = torch.var_mean(
            x.float(), dims, correction=0, keepdim=True
        )  # of bfloat16 as well
        if mode.update_running:
            count = x.numel() // (x.shape[0] * x.shape[2])
            with torch.no_grad():
                state.buffer("running_mean").lerp_(mean.flatten(1), module.momentum)
                state.buffer("running_var").lerp_(
                    variance.flatten(1) * (count / (count - 1)), module.momentum
                )
    else:
        mean, variance = (
            state.buffer("running_mean").view(shape),
            state.buffer("running_var").view(shape),
        )
    scale = state["weight"].view(shape) * torch.rsqrt(variance + module.eps)
    return torch.addcmul(state["bias"].view(shape) - mean * scale, x, scale)


def _layer_norm(module: nn.Module, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    normalized = functional.layer_norm(x, x.shape[2:], eps=module.eps)
    shape = (x.shape[0], 1, x.shape[2]) + (1,) * (x.dim() - 3)
    return torch.addcmul(state["bias"].view(shape), normalized, state["weight"].view(shape))


def _rms_norm(module: RMSNorm, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    shape = (x.shape[0], 1, x.shape[2]) + (1,) * (x.dim() - 3)
    return functional.rms_norm(x, x.shape[2:], eps=EPSILON) * state["weight"].view(shape)


def _dropout(module: StandardDropout, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    if not mode.dropout:
        return x
    uniform = hashed_uniform(
        state.buffer("key").unsqueeze(1), state.buffer("step").unsqueeze(1), x[0].numel()
    ).view(x.shape)
    rate = state.buffer("rate").view((-1,) + (1,) * (x.dim() - 1))
    return module.apply_mask(x, (uniform >= rate).to(x.dtype), rate)


def _each_sample(module: nn.Module, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _flatten(module: nn.Module, state: _Scope, x: Tensor, mode: Mode) -> Tensor:
    return x.flatten(2)


_RULES: dict[type, Callable[..., Tensor]] = {
    nn.Linear: _linear,
    StandardizedLinear: _standardized_linear,
    nn.Conv2d: _convolution,
    StandardizedConv2d: _standardized_convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _layer_norm,
    RMSNorm: _rms_norm,
    StandardDropout: _dropout,
    AlphaDropout: _dropout,
    nn.Flatten: _flatten,
    nn.MaxPool2d: _each_sample,
    nn.AvgPool2d: _each_sample,
    nn.AdaptiveAvgPool2d: _each_sample,
}
