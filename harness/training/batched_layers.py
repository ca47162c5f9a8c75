"""Rules of the batched program: how each kind of layer runs with a leading trial dimension.

A rule takes a module, that layer's parameters and buffers for all trials, the layer's input
(trials, samples, ...) and the mode, and returns the layer's output (trials, samples, ...). The
module gives settings such as a stride; its own parameters are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.dropouts import (
    AlphaDropout,
    FeatureAlphaDropout,
    StandardDropout,
    hashed_uniform,
)
from harness.networks.normalizations import (
    EPSILON,
    RMSNorm,
)
from harness.networks.residual import Residual
from harness.networks.weight_forms import FormedConv2d, FormedLinear
from harness.training.programs import Mode, State


@dataclass(frozen=True)
class LayerState:
    """Parameters and buffers of one layer, (trials, ...), found by their names in the layer.

    Attributes:
        parameters: those of the whole network.
        buffers: those of the whole network.
        layer: the layer's module name.
    """

    parameters: State
    buffers: State
    layer: str

    def parameter(self, name: str) -> Tensor:
        """Returns the layer's parameter of this name."""
        return self.parameters[f"{self.layer}.{name}"]

    def buffer(self, name: str) -> Tensor:
        """Returns the layer's buffer of this name."""
        return self.buffers[f"{self.layer}.{name}"]


Rule = Callable[[nn.Module, LayerState, Tensor, Mode], Tensor]


def layer_rule(module: nn.Module) -> Rule | None:
    """Returns the rule for a module's exact type, or None where there is none."""
    return _RULES.get(type(module))


def residual_sum(module: Residual, state: LayerState, x: Tensor, branch: Tensor) -> Tensor:
    """Returns the sum of a residual block, from what enters it and from its branch."""
    multiplier = None
    if module.form.multiplier is not None:
        multiplier = state.parameter("multiplier").view((-1,) + (1,) * (x.dim() - 1))
    return module.combine(x, branch, multiplier)


def _linear(module: nn.Module, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    bias = None if module.bias is None else state.parameter("bias")
    return _products(x, state.parameter("weight"), bias)


def _formed_linear(module: FormedLinear, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    return _products(x, _effective_weight(module, state, mode), state.parameter("bias"))


def _effective_weight(module: FormedLinear | FormedConv2d, state: LayerState, mode: Mode) -> Tensor:
    """Returns the weight that acts, (trials, units, inputs...); in training its companion moves."""
    form = module.form
    companion = None
    if form.companion:
        own = state.parameter if form.learned else state.buffer
        companion = own(form.companion)
    weight, following = form.effective(state.parameter("weight"), companion, 2)
    if following is not None and mode.update_running:
        companion.copy_(following)
    return weight


def _products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns x W^T + b of every trial; weight (trials, units, fan_in), bias (trials, units)."""
    if bias is None:
        return torch.bmm(x, weight.transpose(1, 2))
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _convolution(module: nn.Conv2d, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    return _convolutions(module, x, state.parameter("weight"), state.parameter("bias"))


def _formed_convolution(module: FormedConv2d, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    weight = _effective_weight(module, state, mode)
    return _convolutions(module, x, weight, state.parameter("bias"))


def _convolutions(module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns one convolution per trial.

    A grouped convolution over all trials would be one operation, but is slower on a CPU.
    """
    outputs = [
        module._conv_forward(images, own_weight, own_bias)
        for images, own_weight, own_bias in zip(x, weight, bias, strict=True)
    ]
    return torch.stack(outputs)


def _batch_norm(module: nn.Module, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    if mode.update_running and x.is_cuda:
        return _trained_batch_norm_on_gpu(module, state, x)
    shape = _per_unit_shape(x)
    if mode.batch_statistics:
        dimensions = (1,) if x.dim() == 3 else (1, 3, 4)
        # In float32 under bfloat16 as well.
        variance, mean = torch.var_mean(x.float(), dimensions, correction=0, keepdim=True)
        if mode.update_running:
            _update_running(module, state, x, mean, variance)
    else:
        mean = state.buffer("running_mean").view(shape)
        variance = state.buffer("running_var").view(shape)
    scale = state.parameter("weight").view(shape) * torch.rsqrt(variance + module.eps)
    return torch.addcmul(state.parameter("bias").view(shape) - mean * scale, x, scale)


def _trained_batch_norm_on_gpu(module: nn.Module, state: LayerState, x: Tensor) -> Tensor:
    """Runs torch's own batch normalization on the units of all trials as so many channels.

    It takes a few kernels where the formula takes dozens, each of which costs a GPU more to begin
    than to do.
    """
    normalized = functional.batch_norm(
        x.float().transpose(0, 1).flatten(1, 2),  # in float32 under bfloat16 as well
        state.buffer("running_mean").view(-1),
        state.buffer("running_var").view(-1),
        state.parameter("weight").flatten(),
        state.parameter("bias").flatten(),
        training=True,
        momentum=module.momentum,
        eps=module.eps,
    )
    return normalized.unflatten(1, x.shape[:1] + x.shape[2:3]).transpose(0, 1)


@torch.no_grad()
def _update_running(
    module: nn.Module, state: LayerState, x: Tensor, mean: Tensor, variance: Tensor
) -> None:
    """Moves the running statistics towards the batch's, with the unbiased variance as torch does.

    `mean` and `variance` are (trials, 1, units[, 1, 1]).
    """
    count = x.numel() // (x.shape[0] * x.shape[2])
    unbiased = variance.flatten(1) * (count / (count - 1))
    state.buffer("running_mean").lerp_(mean.flatten(1), module.momentum)
    state.buffer("running_var").lerp_(unbiased, module.momentum)


def _layer_norm(module: nn.Module, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    normalized = functional.layer_norm(x, x.shape[2:], eps=module.eps)
    shape = _per_unit_shape(x)
    bias = state.parameter("bias").view(shape)
    return torch.addcmul(bias, normalized, state.parameter("weight").view(shape))


def _group_norm(module: nn.GroupNorm, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    if module.num_groups == 1:
        return _layer_norm(module, state, x, mode)
    grouped = x.unflatten(2, (module.num_groups, -1))
    normalized = functional.layer_norm(grouped, grouped.shape[3:], eps=module.eps)
    shape = _per_unit_shape(x)
    bias = state.parameter("bias").view(shape)
    return torch.addcmul(bias, normalized.view_as(x), state.parameter("weight").view(shape))


def _rms_norm(module: RMSNorm, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    normalized = functional.rms_norm(x, x.shape[2:], eps=EPSILON)
    return normalized * state.parameter("weight").view(_per_unit_shape(x))


def _per_unit_shape(x: Tensor) -> tuple[int, ...]:
    """Returns the shape in which (trials, units) broadcasts to (trials, samples, units, ...)."""
    trials, _, units, *positions = x.shape
    return trials, 1, units, *(1 for _ in positions)


def _dropout(module: StandardDropout, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    """Drops entries by a hash of the trial's key and the step, the same in every pack."""
    if not mode.dropout:
        return x
    key = state.buffer("key").unsqueeze(1)
    step = state.buffer("step").unsqueeze(1)
    shape = module.mask_shape(x[0])
    uniform = hashed_uniform(key, step, shape.numel()).view(len(x), *shape)
    rate = state.buffer("rate").view((-1,) + (1,) * (x.dim() - 1))
    keep = (uniform >= rate).to(x.dtype)
    return module.apply_mask(x, keep, rate)


def _per_image(module: nn.Module, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    """Runs a stateless module, such as pooling, on the images of all trials as one batch."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _flatten(module: nn.Module, state: LayerState, x: Tensor, mode: Mode) -> Tensor:
    return x.flatten(2)


_RULES: dict[type, Rule] = {
    nn.Linear: _linear,
    FormedLinear: _formed_linear,
    nn.Conv2d: _convolution,
    FormedConv2d: _formed_convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    RMSNorm: _rms_norm,
    StandardDropout: _dropout,
    AlphaDropout: _dropout,
    FeatureAlphaDropout: _dropout,
    nn.Flatten: _flatten,
    nn.MaxPool2d: _per_image,
    nn.AvgPool2d: _per_image,
    nn.AdaptiveAvgPool2d: _per_image,
}
