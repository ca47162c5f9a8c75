"""The initial weights of one trial: every layer from its own generator, keyed by (seed, layer)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from harness.networks.dropouts import StandardDropout
from harness.networks.initializers import Fans, initializer_of
from harness.networks.readout import READOUT, readout_bias, readout_initializer
from harness.networks.residual import Residual
from harness.seeding import purpose_seed


@torch.no_grad()
def initialize(
    network: nn.Module,
    initializer: dict,
    seed: int,
    state: dict[str, Tensor] | None = None,
    readout: dict | None = None,
) -> None:
    """Draws weights and biases on the CPU, sets dropout keys, and resets normalizations.

    The draws depend on (seed, layer name, shape) alone: not on depth, companions or device, and not
    on the residual block around a layer. Arms that differ in the initializer's scale share the
    underlying normal numbers. A module's attribute `initial_scale` multiplies its weights.

    Args:
        network: the module whose layers are drawn.
        initializer: a specification such as `{"name": "lecun_normal"}`.
        seed: the trial's seed.
        state: tensors by parameter or buffer name that receive the values; the network's own by
            default.
        readout: what `Trial.spec` says of the readout, if anything.
    """
    parts = {"initializer": initializer, READOUT: readout or {}}
    if state is None:
        state = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            generator = Generator().manual_seed(purpose_seed(seed, f"weights/{_short(name)}"))
            is_readout = name == READOUT
            own = readout_initializer(parts) if is_readout else initializer
            weight = torch.empty(module.weight.shape)
            draw_weight(weight, own, generator, getattr(module, "groups", 1))
            weight *= getattr(module, "initial_scale", 1.0)
            state[f"{prefix}weight"].copy_(weight)
            form = getattr(module, "form", None)
            if form is not None and form.companion:
                state[f"{prefix}{form.companion}"].copy_(form.initial(weight))
            if module.bias is not None:
                bias = drawn_bias(weight, parts, is_readout, generator)
                state[f"{prefix}bias"].copy_(bias)
        elif isinstance(module, StandardDropout):
            state[f"{prefix}key"].fill_(purpose_seed(seed, f"dropout/{_short(name)}"))
        elif isinstance(module, Residual) and module.form.multiplier is not None:
            state[f"{prefix}multiplier"].fill_(module.form.multiplier)
        elif isinstance(getattr(module, "weight", None), Tensor):
            # The affine map of a normalization.
            state[f"{prefix}weight"].fill_(1.0)
            if getattr(module, "bias", None) is not None:
                state[f"{prefix}bias"].fill_(0.0)


def _short(name: str) -> str:
    """Returns the layer and the part of a module's name, as in a network without blocks."""
    return ".".join(name.split(".")[-2:])


def fans(weight: Tensor, groups: int = 1) -> Fans:
    """Returns fan-in and fan-out of a weight (units, inputs per group, kernel...)."""
    area = weight[0, 0].numel() if weight.dim() > 2 else 1
    return Fans(weight.shape[1] * area, weight.shape[0] * area // groups)


@torch.no_grad()
def draw_weight(weight: Tensor, spec: dict, generator: Generator, groups: int = 1) -> None:
    """Fills one weight (units, inputs per group, kernel...) in place.

    The draw never touches global random state.
    """
    initializer_of(spec).draw(weight, fans(weight, groups), spec, generator)


def drawn_bias(
    weight: Tensor, spec: Mapping[str, Any], is_readout: bool, generator: Generator
) -> Tensor:
    """Returns the biases (units,) of one layer, on the CPU.

    Args:
        weight: (units, inputs per group, kernel...), the layer's own, for its fan-in.
        spec: `Trial.spec`, or of it `initializer` and `readout`.
        is_readout: the readout's biases may follow a law of their own.
        generator: the one that drew the weight.
    """
    if is_readout:
        law, options = readout_bias(spec)
    else:
        options = spec["initializer"]
        law = initializer_of(options).bias
    bias = torch.empty(len(weight))
    law.draw(bias, options, fans(weight).fan_in, generator)
    return bias
