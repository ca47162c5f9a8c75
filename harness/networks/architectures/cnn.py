"""A plain convolutional network: `depth` layers of `width` channels, pooling, a linear readout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
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
from harness.theory.networks.description import Convolution, Flatten, Layer, Network, Pool

if TYPE_CHECKING:
    from torch import nn

# Maps whose smaller side is below this are not pooled, so that none vanishes in a deep network.
_SMALLEST_POOLED_SIDE = 4

_CHOICES = {
    "padding": ("zeros", "circular"),
    "pool": ("none", "max", "average"),
    "head": ("flatten", "average"),
}


class CNN(Architecture):
    """Convolutions of stride 1 that keep the map's size, with 2x2 pooling after some of them."""

    def check(self, spec: dict[str, Any]) -> None:
        """Refuses options that are out of range.

        Raises:
            RequestError: one line that says what is wrong and what is allowed.
        """
        options = spec["architecture"]
        if spec["width"] == "input":
            raise RequestError(
                "width=input: only for architecture=mlp; give a number of channels for cnn"
            )
        kernel_size = options["kernel_size"]
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise RequestError(
                f"architecture.kernel_size={kernel_size}: expected an odd integer of at least 1"
            )
        for option, allowed in _CHOICES.items():
            if options[option] not in allowed:
                raise RequestError(
                    f"architecture.{option}={options[option]}: expected one of {', '.join(allowed)}"
                )
        if options["pool_every"] < 1:
            raise RequestError(
                f"architecture.pool_every={options['pool_every']}: "
                "expected an integer of at least 1"
            )

    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last."""
        options = spec["architecture"]
        units = spec["width"]
        area = options["kernel_size"] ** 2
        channels, height, width = shape
        sizes = []
        for index in range(spec["depth"]):
            pooled = _pools_after(options, index, height, width)
            size = LayerSize(
                name=layer_name(index),
                kind="conv2d",
                fan_in=channels * area,
                units=units,
                height=height,
                width=width,
                kernel_size=options["kernel_size"],
                pooled=pooled,
            )
            sizes.append(size)
            channels = units
            if pooled:
                height, width = height // 2, width // 2
        positions = 1 if options["head"] == "average" else height * width
        sizes.append(LayerSize("readout", "linear", channels * positions, classes))
        return sizes

    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
        """Returns the network with torch's own weights."""
        from torch import nn

        from harness.networks.normalizations import StandardizedConv2d

        options = spec["architecture"]
        convolution = StandardizedConv2d if standardizes_weights(spec) else nn.Conv2d
        pool = nn.MaxPool2d if options["pool"] == "max" else nn.AvgPool2d
        *hidden, readout = self.layer_sizes(spec, shape, classes)
        channels = shape[0]
        network = nn.Sequential()
        for size in hidden:
            weights = convolution(
                channels,
                size.units,
                size.kernel_size,
                padding=size.kernel_size // 2,
                padding_mode=options["padding"],
            )
            layer = build_hidden(weights, size.units, spec, spatial=True)
            if size.pooled:
                layer.add_module("pool", pool(2))
            network.add_module(size.name, layer)
            channels = size.units
        if options["head"] == "average":
            network.add_module("average", nn.AdaptiveAvgPool2d(1))
        network.add_module("flatten", nn.Flatten())
        network.add_module("readout", nn.Linear(readout.fan_in, classes))
        return network

    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it."""
        options = spec["architecture"]
        *hidden, readout = self.layer_sizes(spec, shape, classes)
        layers: list[Layer] = []
        for size in hidden:
            fan_out = size.units * size.kernel_size**2
            law = describe_weights(spec, size.fan_in, fan_out, size.units, hidden=True)
            convolution = Convolution(
                **law,
                kernel_size=size.kernel_size,
                height=size.height,
                width=size.width,
                padding=options["padding"],
            )
            layers.append(convolution)
            layers += describe_after_weights(spec)
            if size.pooled:
                layers.append(Pool(options["pool"]))
        if options["head"] == "average":
            layers.append(Pool("average", 0))
        return (*layers, Flatten(), describe_readout(spec, readout))


def _pools_after(options: dict[str, Any], index: int, height: int, width: int) -> bool:
    """Returns True where 2x2 pooling follows hidden layer `index`, counted from 0."""
    due = options["pool"] != "none" and (index + 1) % options["pool_every"] == 0
    return due and min(height, width) >= _SMALLEST_POOLED_SIDE


ARCHITECTURE = CNN()
