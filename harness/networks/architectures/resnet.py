"""A residual network: stem, pre-activation blocks of equal width, a last activation, a readout.

Hidden layer k is its weights, then the sum where they end a block, then normalization, activation
and dropout. What follows the weights therefore stands in the block behind the sum, under the
layer's own name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from harness.configuration.options import defaults
from harness.errors import RequestError
from harness.networks.declaration import LayeredArchitecture, widths
from harness.networks.hidden_layers import (
    build_after_weights,
    describe_after_weights,
    describe_weight_repair,
    weight_form,
)
from harness.networks.hidden_stack import (
    HiddenLayer,
    PlacedLayer,
    Shape,
    add_head,
    described_head,
    described_weights,
    weights_module,
)
from harness.networks.initializers import initializer_of
from harness.networks.readout import READOUT, build_readout, describe_readout
from harness.networks.residual_forms import ResidualForm, residual_forms
from harness.theory.networks import description as theory

if TYPE_CHECKING:
    from torch import nn

_CHOICES = {
    "layer": ("dense", "conv"),
    "padding": ("zeros", "circular", "reflect"),
    "head": ("flatten", "average"),
}
# Options that only convolutions have.
_OF_MAPS = ("kernel", "padding", "head")
# Repairs that give weights a size, which those of `fixup` must not have.
_SIZING_REPAIRS = ("rescale_tau", "lsuv")


class ResNet(LayeredArchitecture):
    """Residual blocks of `block` weight layers each."""

    def check(self, spec: dict[str, Any]) -> None:
        """Refuses options that are out of range.

        Raises:
            RequestError: one line that says what is wrong and what is allowed.
        """
        options = spec["architecture"]
        form = residual_forms[options["residual"]]
        for option, allowed in _CHOICES.items():
            if options[option] not in allowed:
                raise RequestError(
                    f"architecture.{option}={options[option]}: expected one of {', '.join(allowed)}"
                )
        if options["block"] < 1:
            raise RequestError(
                f"architecture.block={options['block']}: expected an integer of at least 1"
            )
        if options["kernel"] < 1 or options["kernel"] % 2 == 0:
            raise RequestError(
                f"architecture.kernel={options['kernel']}: expected an odd integer of at least 1"
            )
        if isinstance(spec["width"], list):
            raise RequestError(
                f"width={spec['width']}: a residual sum needs layers of one width; give a number"
            )
        if spec["width"] == "input" and options["layer"] == "conv":
            raise RequestError(
                "width=input: only for dense layers; give a number of channels for "
                "architecture.layer=conv"
            )
        _check_sizes_of_weights(spec, form)
        _check_options_of_maps(options)

    def head(self, spec: dict[str, Any]) -> str:
        """Returns how maps become vectors."""
        options = spec["architecture"]
        return "flatten" if options["layer"] == "dense" else options["head"]

    def hidden_layers(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[HiddenLayer]:
        """Returns the hidden layers in order."""
        options = spec["architecture"]
        if options["layer"] == "dense":
            units = [prod(shape) if width == "input" else width for width in widths(spec)]
            return [HiddenLayer("linear", count) for count in units]
        return [
            HiddenLayer(
                kind="conv2d",
                units=count,
                kernel_size=options["kernel"],
                padding=options["padding"],
            )
            for count in widths(spec)
        ]

    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
        """Returns the network with torch's own weights.

        Parts are named `layer_01.weights`, `block_01.branch.layer_01.activation` and so on: the
        last two parts of a name are those of the plain networks.
        """
        from torch import nn

        from harness.networks.residual import Residual

        placed, inputs = self._placed(spec, shape, classes)
        form = residual_forms[spec["architecture"]["residual"]]
        stem, blocks = _cut(placed, spec)
        network = nn.Sequential()
        head = self.head(spec)
        if stem[0].layer.kind == "linear":
            add_head(network, head)
        for item in stem[:-1]:
            layer = _layer_of(network, item)
            layer.add_module("weights", weights_module(item, spec))
            build_after_weights(layer, item.layer.units, spec, _is_spatial(item))
        before = stem[-1]
        _layer_of(network, before).add_module("weights", weights_module(before, spec))
        for number, block in enumerate(blocks, 1):
            branch = nn.Sequential()
            scales = form.initial_scales(len(block), len(blocks))
            for item, scale in zip(block, scales, strict=True):
                layer = _layer_of(branch, before)
                build_after_weights(layer, before.layer.units, spec, _is_spatial(before))
                weights = weights_module(item, spec)
                weights.initial_scale = scale
                _layer_of(branch, item).add_module("weights", weights)
                before = item
            if form.skip_scale == 0:
                block_module: nn.Module = nn.Sequential(OrderedDict(branch=branch))
            else:
                block_module = Residual(branch, form)
            network.add_module(f"block_{number:02d}", block_module)
        last = _layer_of(network, before)
        build_after_weights(last, before.layer.units, spec, _is_spatial(before))
        if _is_spatial(before):
            add_head(network, head)
        readout = build_readout(spec, inputs, classes)
        readout.initial_scale = _readout_scale(spec, form)
        network.add_module(READOUT, readout)
        return network

    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> theory.Network:
        """Returns the network as theory sees it."""
        placed, inputs = self._placed(spec, shape, classes)
        form = residual_forms[spec["architecture"]["residual"]]
        stem, blocks = _cut(placed, spec)
        head = described_head(self.head(spec))
        spatial = _is_spatial(placed[0])
        after = describe_after_weights(spec)
        layers: list[theory.Layer] = [] if spatial else list(head)
        layers += _described(stem[0], spec)
        for item in stem[1:]:
            layers += [*after, *_described(item, spec)]
        for block in blocks:
            branch: list[theory.Layer] = []
            scales = form.initial_scales(len(block), len(blocks))
            for item, scale in zip(block, scales, strict=True):
                branch += [*after, *_described(item, spec, scale)]
            if form.skip_scale == 0:
                layers += branch
            else:
                scale = form.initial_branch_scale
                layers.append(theory.Residual(tuple(branch), form.skip_scale, scale))
        readout = describe_readout(spec, inputs, classes)
        sigma_w2 = readout.sigma_w2 * _readout_scale(spec, form) ** 2
        return (*layers, *after, *(head if spatial else ()), replace(readout, sigma_w2=sigma_w2))


def _cut(
    placed: Sequence[PlacedLayer], spec: dict[str, Any]
) -> tuple[Sequence[PlacedLayer], list[Sequence[PlacedLayer]]]:
    """Returns the layers of the stem, and those of each block."""
    size = spec["architecture"]["block"]
    stem = 1 + (len(placed) - 1) % size
    blocks = [placed[start : start + size] for start in range(stem, len(placed), size)]
    return placed[:stem], blocks


def _is_spatial(item: PlacedLayer) -> bool:
    return item.layer.kind == "conv2d"


def _layer_of(parent: nn.Sequential, item: PlacedLayer) -> nn.Sequential:
    """Returns the layer of this name in a network or branch; a new one where there is none."""
    from torch import nn

    if not hasattr(parent, item.size.name):
        parent.add_module(item.size.name, nn.Sequential())
    layer = getattr(parent, item.size.name)
    assert isinstance(layer, nn.Sequential)
    return layer


def _described(item: PlacedLayer, spec: dict[str, Any], scale: float = 1.0) -> list[theory.Layer]:
    """Returns a layer's weights for theory, with what a repair does to them."""
    weights = described_weights(item, spec)
    scaled = replace(weights, sigma_w2=weights.sigma_w2 * scale**2)
    return [scaled, *describe_weight_repair(spec)]


def _readout_scale(spec: dict[str, Any], form: ResidualForm) -> float:
    """Returns the factor on the readout's initial weights: 0 where the form wants it."""
    has_own = "initializer" in spec.get(READOUT, {})
    return 0.0 if form.zero_end and not has_own else 1.0


def _check_options_of_maps(options: dict[str, Any]) -> None:
    """Refuses options of convolutions in a dense network, which would ignore them."""
    if options["layer"] != "dense":
        return
    usual = defaults("architecture", "resnet")
    for option in _OF_MAPS:
        if options[option] != usual[option]:
            raise RequestError(
                f"architecture.{option}={options[option]}: dense layers have none; "
                "give architecture.layer=conv"
            )


def _check_sizes_of_weights(spec: dict[str, Any], form: ResidualForm) -> None:
    """Refuses what would give a size to weights that must begin at 0."""
    if not form.zero_end:
        return
    sizing = None
    if weight_form(spec):
        sizing = f"normalization={spec['normalization']['name']}"
    if spec.get("repair") in _SIZING_REPAIRS:
        sizing = f"repair={spec['repair']}"
    if initializer_of(spec["initializer"]).unit_variance:
        sizing = f"initializer={spec['initializer']['name']}"
    if sizing is not None:
        raise RequestError(
            f"architecture.residual={form.name} with {sizing}: the branches' last weights begin at "
            "0 and would not stay there; use another residual form"
        )


ARCHITECTURE = ResNet()
