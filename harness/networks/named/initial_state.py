"""The initial weights of a trial in a named network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from harness.configuration.named_networks import OWN
from harness.networks.dropouts import StandardDropout
from harness.networks.initialization import draw_weight, drawn_bias
from harness.networks.normalizations import RMSNorm
from harness.networks.readout import readout_initializer
from harness.seeding import purpose_seed

State = dict[str, Tensor]

# Their factors and shifts begin as constants.
_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, RMSNorm)


@torch.no_grad()
def initialize_module(
    network: nn.Module,
    spec: Mapping[str, Any],
    seed: int,
    head: str | None,
    built: Callable[[int], nn.Module],
    state: State,
) -> None:
    """Gives a network the initial weights of a trial.

    The swept initializer draws the weights and biases of linear layers and convolutions over two
    dimensions, each from a generator keyed by (seed, layer name). All other numbers are the
    network's own draws, for which torch's generator is seeded by the trial's seed.

    Args:
        network: as it was built.
        spec: `Trial.spec`.
        seed: the trial's seed.
        head: name of the layer that gives the logits, None where there is none.
        built: returns a network that was built with torch's generator seeded so.
        state: tensors by parameter or buffer name, which receive the values.
    """
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    drawn = set()
    if spec["initializer"]["name"] != OWN:
        for name, module in drawn_layers(network):
            drawn |= _draw(name, module, spec, seed, name == head, state)
    kept = [name for name in own if name not in drawn]
    if not set(kept) <= _constants(network):
        redrawn = built(purpose_seed(seed, "network"))
        own = dict(redrawn.named_parameters()) | dict(redrawn.named_buffers())
    for name in kept:
        state[name].copy_(own[name])
    for name, module in network.named_modules():
        if isinstance(module, StandardDropout):
            state[f"{name}.key"].fill_(purpose_seed(seed, f"dropout/{name}"))


def drawn_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Yields the layers that an initializer draws, by name.

    A weight that stands at two places is one layer; one that is computed from others is none.
    """
    names = dict(network.named_parameters())
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and f"{name}.weight" in names:
            yield name, module


def _draw(
    name: str,
    module: nn.Linear | nn.Conv2d,
    spec: Mapping[str, Any],
    seed: int,
    is_head: bool,
    state: State,
) -> set[str]:
    """Draws one layer, and returns the names of its tensors."""
    generator = Generator().manual_seed(purpose_seed(seed, f"weights/{name}"))
    initializer = readout_initializer(spec) if is_head else spec["initializer"]
    weight = torch.empty(module.weight.shape)
    draw_weight(weight, initializer, generator, getattr(module, "groups", 1))
    state[f"{name}.weight"].copy_(weight)
    if module.bias is None or f"{name}.bias" not in state:
        return {f"{name}.weight"}
    state[f"{name}.bias"].copy_(drawn_bias(weight, spec, is_head, generator))
    return {f"{name}.weight", f"{name}.bias"}


def _constants(network: nn.Module) -> set[str]:
    """Returns the names of tensors that are the same in every draw of a network."""
    names = {name for name, _ in network.named_buffers()}
    for name, module in network.named_modules():
        if isinstance(module, _NORMALIZATIONS):
            names |= {f"{name}.{parameter}" for parameter, _ in module.named_parameters()}
    return names
