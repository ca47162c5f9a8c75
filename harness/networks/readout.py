"""The readout: a linear layer from the last hidden values to the classes.

It follows the initializer of the hidden layers, or its own (`readout.initializer`), and draws its
biases as that does, or as `readout.bias` says. Torch is imported only to make the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.networks.hidden_layers import weights_law
from harness.networks.initializers import TORCH_BIAS, ZERO_BIAS, BiasLaw, initializer_of
from harness.theory.networks.description import Dense

if TYPE_CHECKING:
    from torch import nn

READOUT = "readout"
_UNIFORM = {"bias": "uniform"}


def readout_initializer(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the readout's initializer with its options."""
    return spec.get(READOUT, {}).get("initializer", spec["initializer"])


def readout_bias(spec: Mapping[str, Any]) -> tuple[BiasLaw, Mapping[str, Any]]:
    """Returns the law of the readout's biases, and the options that it takes."""
    own = spec.get(READOUT, {}).get("bias")
    initializer = readout_initializer(spec)
    if own == "zeros":
        return ZERO_BIAS, {}
    if own == "uniform":
        return TORCH_BIAS, _UNIFORM
    return initializer_of(initializer).bias, initializer


def build_readout(spec: Mapping[str, Any], inputs: int, classes: int) -> nn.Linear:
    """Returns the readout with torch's own weights."""
    from torch import nn

    return nn.Linear(inputs, classes, bias=_has_bias(spec))


def describe_readout(spec: Mapping[str, Any], inputs: int, classes: int) -> Dense:
    """Returns the readout as theory sees it."""
    law = weights_law(readout_initializer(spec), inputs, classes, classes)
    bias_law, options = readout_bias(spec)
    has_bias = _has_bias(spec)
    sigma_b2 = bias_law.variance(options, inputs) if has_bias else 0.0
    return Dense(**(law | {"sigma_b2": sigma_b2, "bias": has_bias}))


def _has_bias(spec: Mapping[str, Any]) -> bool:
    return spec.get(READOUT, {}).get("bias") != "none"
