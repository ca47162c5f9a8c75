"""Lists of hidden layers: places in a network, modules, and the description for theory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.networks.hidden_layers import (
    Pooling,
    build_hidden,
    describe_after_weights,
    describe_weight_repair,
    describe_weights,
    layer_name,
    weight_form,
)
from harness.networks.initializers import initializer_of
from harness.theory.networks.description import Convolution, Dense, Flatten, Layer, Pool

if TYPE_CHECKING:
    from torch import nn

# (channels, height, width) of an input.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class HiddenLayer:
    """A hidden layer, without the size of what enters it.

    Attributes:
        kind: "linear" or "conv2d".
        units: units, or output channels.
        kernel_size: side of the square kernel.
        stride: step of the kernel.
        padding: "zeros", "circular" or "reflect", by half the kernel at each side, or "valid".
        groups: groups of channels that a convolution keeps apart.
        pooling: the layer's pooling, or None.
        dropout: the layer's own rate of dropout; None for that of the network.
    """

    kind: str
    units: int
    kernel_size: int = 1
    stride: int = 1
    padding: str = "zeros"
    groups: int = 1
    pooling: Pooling | None = None
    dropout: float | None = None


@dataclass(frozen=True)
class LayerSize:
    """The size of one weight layer.

    `kind` is "linear" or "conv2d". `height` and `width` are those of the map that the weights put
    out, before any pooling; 1 for a linear layer. `dropout` is the layer's own rate, or None.
    `overlapping` counts the positions after a pooling whose windows overlap, which add memory.
    """

    name: str
    kind: str
    fan_in: int
    units: int
    height: int = 1
    width: int = 1
    kernel_size: int = 1
    dropout: float | None = None
    overlapping: int = 0


@dataclass(frozen=True)
class PlacedLayer:
    """A hidden layer at its place: `entering` is the shape of what enters it."""

    layer: HiddenLayer
    size: LayerSize
    entering: Shape


def place(layers: Sequence[HiddenLayer], shape: Shape, head: str) -> tuple[list[PlacedLayer], int]:
    """Returns the layers with their sizes, and the number of values that the readout reads.

    Args:
        layers: hidden layers in order.
        shape: (channels, height, width) of an input.
        head: "flatten" or "average", how maps become vectors.

    Raises:
        RequestError: a kernel or a pooling does not fit its map, or groups do not divide channels.
    """
    placed = []
    current = shape
    for index, layer in enumerate(layers):
        name = layer_name(index)
        if layer.kind == "linear":
            current = (_vector_size(current, head), 1, 1)
            size = LayerSize(name, "linear", current[0], layer.units, dropout=layer.dropout)
            placed.append(PlacedLayer(layer, size, current))
            current = (layer.units, 1, 1)
            continue
        height, width = _map_after_weights(layer, current, name)
        size = LayerSize(
            name=name,
            kind="conv2d",
            fan_in=current[0] // layer.groups * layer.kernel_size**2,
            units=layer.units,
            height=height,
            width=width,
            kernel_size=layer.kernel_size,
            dropout=layer.dropout,
            overlapping=_overlapping(layer.pooling, height, width),
        )
        placed.append(PlacedLayer(layer, size, current))
        current = (layer.units, *_map_after_pooling(layer, height, width, name))
    return placed, _vector_size(current, head)


def add_hidden(
    network: nn.Sequential, placed: Sequence[PlacedLayer], spec: dict[str, Any], head: str
) -> None:
    """Adds hidden layers to a network, and the step from maps to vectors behind the last map."""
    is_map = True
    for item in placed:
        if is_map and item.layer.kind == "linear":
            add_head(network, head)
            is_map = False
        spatial = item.layer.kind == "conv2d"
        layer = build_hidden(
            weights_module(item, spec),
            item.layer.units,
            spec,
            spatial,
            pooling=item.layer.pooling,
            dropout_rate=item.layer.dropout,
        )
        network.add_module(item.size.name, layer)
    if is_map:
        add_head(network, head)


def weights_module(item: PlacedLayer, spec: dict[str, Any]) -> nn.Module:
    """Returns the linear layer or convolution of a hidden layer, with torch's own weights."""
    from torch import nn

    from harness.networks import weight_forms

    form = getattr(weight_forms, weight_form(spec)) if weight_form(spec) else None
    layer = item.layer
    if layer.kind == "linear":
        if form is not None:
            return weight_forms.FormedLinear(item.size.fan_in, layer.units, form)
        return nn.Linear(item.size.fan_in, layer.units)
    convolution = nn.Conv2d
    if form is not None:
        convolution = functools.partial(weight_forms.FormedConv2d, form=form)
    return convolution(
        item.entering[0],
        layer.units,
        layer.kernel_size,
        stride=layer.stride,
        padding=0 if layer.padding == "valid" else layer.kernel_size // 2,
        padding_mode="zeros" if layer.padding == "valid" else layer.padding,
        groups=layer.groups,
    )


def describe_hidden(placed: Sequence[PlacedLayer], spec: dict[str, Any], head: str) -> list[Layer]:
    """Returns hidden layers for theory, and the step from maps to vectors behind the last map."""
    layers: list[Layer] = []
    is_map = True
    for item in placed:
        if is_map and item.layer.kind == "linear":
            layers += described_head(head)
            is_map = False
        layers += [described_weights(item, spec), *describe_weight_repair(spec)]
        layers += describe_after_weights(
            spec, pooling=item.layer.pooling, dropout_rate=item.layer.dropout
        )
    if is_map:
        layers += described_head(head)
    return layers


def described_weights(item: PlacedLayer, spec: dict[str, Any]) -> Dense | Convolution:
    """Returns the weights of a hidden layer as theory sees them."""
    layer = item.layer
    if layer.kind == "linear":
        law = describe_weights(spec, item.size.fan_in, layer.units, layer.units)
        return Dense(**law)
    fan_out = layer.units * layer.kernel_size**2 // layer.groups
    area = layer.kernel_size**2
    law = describe_weights(spec, item.size.fan_in, fan_out, layer.units, area)
    initializer = spec["initializer"]
    _, height, width = item.entering
    return Convolution(
        **law,
        kernel_size=layer.kernel_size,
        stride=layer.stride,
        height=height,
        width=width,
        padding="none" if layer.padding == "valid" else layer.padding,
        groups=layer.groups,
        at_centre=initializer_of(initializer).family(initializer).at_centre,
    )


def _vector_size(shape: Shape, head: str) -> int:
    channels, height, width = shape
    return channels if head == "average" else channels * height * width


def _map_after_weights(layer: HiddenLayer, entering: Shape, name: str) -> tuple[int, int]:
    """Returns the height and width of what a convolution puts out."""
    channels, *sides = entering
    for counted, count in (("input channels", channels), ("units", layer.units)):
        if count % layer.groups:
            raise RequestError(
                f"{name}: groups={layer.groups} do not divide its {count} {counted}; "
                "give a divisor of both"
            )
    reach = layer.kernel_size // 2
    if layer.padding == "valid" and min(sides) < layer.kernel_size:
        raise RequestError(
            f"{name}: a kernel of {layer.kernel_size} without padding does not fit its map of "
            f"{sides[0]}x{sides[1]}; use a smaller kernel, padding, or less pooling before it"
        )
    most = {"reflect": min(sides) - 1, "circular": min(sides)}.get(layer.padding, reach)
    if reach > most:
        raise RequestError(
            f"{name}: padding={layer.padding} by {reach} needs a larger map than "
            f"{sides[0]}x{sides[1]}; use a smaller kernel, or less pooling before it"
        )
    padded = 0 if layer.padding == "valid" else 2 * reach
    height, width = ((side + padded - layer.kernel_size) // layer.stride + 1 for side in sides)
    return height, width


def _map_after_pooling(layer: HiddenLayer, height: int, width: int, name: str) -> tuple[int, int]:
    """Returns the height and width of a layer's map after its pooling."""
    pooling = layer.pooling
    if pooling is None:
        return height, width
    if min(height, width) < pooling.size:
        raise RequestError(
            f"{name}: a pooling of {pooling.size}x{pooling.size} does not fit its map of "
            f"{height}x{width}; use a smaller window, or fewer poolings"
        )
    return pooling.pooled(height), pooling.pooled(width)


def _overlapping(pooling: Pooling | None, height: int, width: int) -> int:
    if pooling is None or pooling.stride >= pooling.size:
        return 0
    return pooling.pooled(height) * pooling.pooled(width)


def add_head(network: nn.Sequential, head: str) -> None:
    """Adds the step from maps to vectors to a network."""
    from torch import nn

    if head == "average":
        network.add_module("average", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())


def described_head(head: str) -> list[Layer]:
    """Returns the step from maps to vectors for theory."""
    return [Pool("average", 0), Flatten()] if head == "average" else [Flatten()]
