"""A dense network: flatten, `depth` hidden layers of `width` units, and a linear readout."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from harness.networks.architectures.declaration import (
    Architecture,
    LayerSize,
    Shape,
    describe_readout,
)
from harness.networks.hidden_layers import (
    build_hidden,
    describe_after_weights,
    describe_weights,
    layer_name,
    standardizes_weights,
)
from harness.theory.networks.description import Dense, Flatten, Layer, Network

if TYPE_CHECKING:
    from torch import nn


class MLP(Architecture):
    """A multi-layer perceptron; `width=input` makes it as wide as its input."""

    def check(self, spec: dict[str, Any]) -> None:
        """Accepts every specification, as there are no options."""

    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last."""
        inputs = prod(shape)
        units = inputs if spec["width"] == "input" else spec["width"]
        sizes = []
        for index in range(spec["depth"]):
            sizes.append(LayerSize(layer_name(index), "linear", inputs, units))
            inputs = units
        sizes.append(LayerSize("readout", "linear", inputs, classes))
        return sizes

    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
        """Returns the network with torch's own weights."""
        from torch import nn

        from harness.networks.normalizations import StandardizedLinear

        linear = StandardizedLinear if standardizes_weights(spec) else nn.Linear
        *hidden, readout = self.layer_sizes(spec, shape, classes)
        network = nn.Sequential()
        network.add_module("flatten", nn.Flatten())
        for size in hidden:
            weights = linear(size.fan_in, size.units)
            layer = build_hidden(weights, size.units, spec, spatial=False)
            network.add_module(size.name, layer)
        network.add_module("readout", nn.Linear(readout.fan_in, classes))
        return network

    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it."""
        *hidden, readout = self.layer_sizes(spec, shape, classes)
        layers: list[Layer] = [Flatten()]
        for size in hidden:
            law = describe_weights(spec, size.fan_in, size.units, size.units, hidden=True)
            layers.append(Dense(**law))
            layers += describe_after_weights(spec)
        return (*layers, describe_readout(spec, readout))


ARCHITECTURE = MLP()
