"""A named network as theory sees it, with the laws of the swept initializer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from harness.configuration.named_networks import OWN
from harness.networks.hidden_layers import describe_weights, weights_law
from harness.networks.hidden_stack import Shape
from harness.networks.initializers import is_scaled_on_data
from harness.networks.named.assembly import sample_images
from harness.networks.named.layout_of_module import head_of, structure_of_module
from harness.networks.readout import readout_bias, readout_initializer
from harness.networks.tracing.described_structure import network_of
from harness.networks.tracing.structure import Layer, Structure
from harness.theory.activations.functions import ActivationFunction
from harness.theory.networks.description import Network, Opaque

_SAMPLES = 2


def described_module(
    network: nn.Module, spec: Mapping[str, Any], shape: Shape
) -> tuple[Network, dict[str, ActivationFunction]]:
    """Returns a network for theory, and its activations that are not built in.

    Its weights follow the swept initializer's law. Where they are its own, they are described by
    the size that these have.

    Args:
        network: with initial weights.
        spec: `Trial.spec`.
        shape: (channels, height, width) of an image.
    """
    structure = structure_of_module(network, sample_images(shape, _SAMPLES))
    layers, functions = network_of(structure, _Laws(spec, structure))
    if spec.get("repair") == "lsuv" or is_scaled_on_data(spec["initializer"]):
        reason = "lsuv scales each layer on data, which is followed in stacks only"
        layers = (Opaque("lsuv", reason), *layers)
    return layers, functions


class _Laws:
    """The law of each layer's weights and biases, as far as the initializer gives it."""

    def __init__(self, spec: Mapping[str, Any], structure: Structure) -> None:
        # What normalizes activations leaves weights alone.
        self._spec = {**spec, "normalization": {"name": "none"}}
        self._head = head_of(structure)

    def __call__(self, layer: Layer) -> dict[str, Any]:
        """Returns what is known of a layer, empty for weights of the network's own."""
        if self._spec["initializer"]["name"] == OWN:
            return {}
        if layer is self._head:
            initializer = readout_initializer(self._spec)
            law = weights_law(initializer, layer.fan_in, layer.fan_out, layer.units)
            bias_law, options = readout_bias(self._spec)
            law["sigma_b2"] = bias_law.variance(options, layer.fan_in)
        else:
            area = layer.weight[0, 0].numel()
            law = describe_weights(self._spec, layer.fan_in, layer.fan_out, layer.units, area)
        if layer.bias is None:
            law["sigma_b2"] = 0.0
        return law
