"""Architectures by name: a factory from (specification, input shape, classes) to a sequential network.

Every hidden layer is a `Sequential` named `layer_01`, `layer_02`, ... whose children are named `weights`, `activation`
and, where there are any, `normalization`, `dropout`, `pool`; the last module is `readout`. Probes and programs rely on
these names and on nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

from harness.networks.activations import build_activation
from harness.networks.dropouts import dropouts
from harness.networks.layout import pooled_after
from harness.networks.normalizations import StandardizedConv2d, StandardizedLinear, normalizations
from harness.registry import Registry

architectures: Registry = Registry("architecture")


@architectures.register("mlp")
def build_mlp(spec: dict, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """A dense network: flatten, `depth` hidden layers of `width` units, and a linear readout."""
    linear = (
        StandardizedLinear
        if spec["normalization"]["name"] == "weight_standardization"
        else nn.Linear
    )
    inputs = prod(shape)
    width = inputs if spec["width"] == "input" else spec["width"]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index in range(spec["depth"]):
        layers[layer_name(index)] = _hidden(linear(inputs, width), width, spec, spatial=False)
        inputs = width
    layers["readout"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


@architectures.register("cnn")
def build_cnn(spec: dict, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """A plain convolutional stack of `depth` layers with `width` channels, optional 2x2 pooling, and a linear readout."""
    convolution = (
        StandardizedConv2d
        if spec["normalization"]["name"] == "weight_standardization"
        else nn.Conv2d
    )
    architecture = spec["architecture"]
    channels, height, width = shape
    units, kernel = spec["width"], architecture["kernel_size"]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(spec["depth"]):
        layer = _hidden(
            convolution(
                channels, units, kernel, padding=kernel // 2, padding_mode=architecture["padding"]
            ),
            units,
            spec,
            spatial=True,
        )
        if pooled_after(architecture, index, height, width):
            layer.add_module(
                "pool", nn.MaxPool2d(2) if architecture["pool"] == "max" else nn.AvgPool2d(2)
            )
            height, width = height // 2, width // 2
        layers[layer_name(index)] = layer
        channels = units
    if architecture["head"] == "average":
        layers["average"] = nn.AdaptiveAvgPool2d(1)
        height = width = 1
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(channels * height * width, classes)
    return nn.Sequential(layers)


def layer_name(index: int) -> str:
    """The name of hidden layer `index`, counted from 0: `layer_01`, `layer_02`, ..."""
    return f"layer_{index + 1:02d}"


def build_network(spec: dict, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network of a trial's specification. Its weights are torch's; `initialize` gives it the trial's own.

    Raises:
        RequestError: an unknown name.
    """
    return architectures[spec["architecture"]["name"]](spec, shape, classes)


def _hidden(weights: nn.Module, units: int, spec: dict, spatial: bool) -> nn.Sequential:
    layer: OrderedDict[str, nn.Module] = OrderedDict(weights=weights)
    normalization = normalizations[spec["normalization"]["name"]](units, spatial)
    after = spec["normalization"].get("position") == "after"
    if normalization is not None and not after:
        layer["normalization"] = normalization
    layer["activation"] = build_activation(spec["activation"])
    if normalization is not None and after:
        layer["normalization"] = normalization
    dropout = dropouts[spec["dropout"]["name"]](
        **{key: value for key, value in spec["dropout"].items() if key != "name"}
    )
    if dropout is not None:
        layer["dropout"] = dropout
    return nn.Sequential(layer)
