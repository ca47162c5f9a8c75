"""Give a network the weights of one trial: every layer from a generator of its own, keyed by (seed, layer)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.networks.dropouts import StandardDropout
from harness.networks.initializers import draw_bias, draw_weight, fans
from harness.seeding import purpose_seed


@torch.no_grad()
def initialize(
    network: nn.Module, initializer: dict, seed: int, state: dict[str, Tensor] | None = None
) -> None:
    """Draw weights and biases on the CPU and set dropout keys.

    The draws depend on (seed, module name, shape) alone: not on depth, companions or device, and arms that differ in
    the initializer's scale share the underlying normal numbers.

    Args:
        network: the module whose layers are drawn.
        initializer: a specification such as `{"name": "lecun_normal"}`.
        seed: the trial's seed.
        state: tensors by parameter or buffer name that receive the values; the network's own by default.
    """
    if state is None:
        state = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            generator = torch.Generator().manual_seed(purpose_seed(seed, f"weights/{name}"))
            weight = torch.empty(module.weight.shape)
            draw_weight(weight, initializer, generator, getattr(module, "groups", 1))
            state[f"{prefix}weight"].copy_(weight)
            if module.bias is not None:
                bias = torch.empty(module.bias.shape)
                draw_bias(bias, fans(weight).fan_in, initializer, generator)
                state[f"{prefix}bias"].copy_(bias)
        elif isinstance(module, StandardDropout):
            state[f"{prefix}key"].fill_(purpose_seed(seed, f"dropout/{name}"))
        elif hasattr(module, "weight") and isinstance(
            module.weight, Tensor
        ):  # a normalization's affine map
            state[f"{prefix}weight"].fill_(1.0)
            if getattr(module, "bias", None) is not None:
                state[f"{prefix}bias"].fill_(0.0)
