"""The structure of a model as theory sees it: a plain stack, as far as it is one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import nn

from harness.networks.tracing.structure import Layer, Pool, Structure
from harness.theory.activations.functions import NAMES, ActivationFunction, from_callable
from harness.theory.networks import description

# Options that theory's activations take, with torch's defaults.
_DEFAULTS = {"elu": {"alpha": 1.0}, "leaky_relu": {"negative_slope": 0.01}}
_DESCRIBED_NORMALIZATIONS = ("batch", "layer", "rms")
# Deviations below which sums of weights count as 0, and sums of their squares as equal.
_EXACT = 1e-4
_GAUSSIAN_KURTOSIS = 3.0


def network_of(
    structure: Structure, law_of: Callable[[Layer], dict[str, Any]] = lambda layer: {}
) -> tuple[description.Network, dict[str, ActivationFunction]]:
    """Describes a model's layers as a plain stack, as far as they are one.

    Args:
        structure: the layers.
        law_of: what is known of the law of a layer's weights, which replaces what they show.

    Returns:
        The network, opaque where theory cannot follow; and the activations that are not built in,
        by the names that the network uses for them.
    """
    network: list[description.Layer] = []
    own_activations: dict[str, ActivationFunction] = {}
    previous: Layer | None = None
    for number, layer in enumerate(structure.activated, 1):
        obstacle = _obstacle(layer, previous, structure)
        if obstacle is not None:
            network.append(description.Opaque(layer.label, obstacle))
        elif layer.kind == "linear" and (previous is None or previous.kind == "conv2d"):
            network.append(description.Flatten())
        network += _described_layer(layer, number, own_activations, law_of)
        previous = layer
    readout = _readout(structure)
    if previous is not None and readout is not None:
        if previous.kind == "conv2d":
            network.append(description.Flatten())
        network.append(_described_weights(readout, law_of))
    return tuple(network), own_activations


def _readout(structure: Structure) -> Layer | None:
    """Returns the last layer if it is linear and has no activation."""
    last = structure.layers[-1]
    return last if last.activation is None and last.kind == "linear" else None


def _obstacle(layer: Layer, previous: Layer | None, structure: Structure) -> str | None:
    """Returns the reason why theory cannot follow from one layer to the next, or None."""
    follows = layer.reads_model_input if previous is None else layer.source is previous
    if not follows:
        return "its input is not the output of the layer before alone"
    if layer.input_function is not None:
        return f"{layer.input_function} in front of its weights"
    if any(residual.layer in (layer, previous) for residual in structure.sums):
        return "a sum of several layers"
    if layer.scaled:
        return "arithmetic between the weights and the activation"
    if layer.kind not in ("linear", "conv2d") or layer.groups != 1:
        return (
            "grouped convolutions, or convolutions over one or three dimensions, are not described"
        )
    if layer.convolution is not None and not _has_described_geometry(layer.convolution):
        return "only square kernels with padding that keeps the map, or none, are described"
    if layer.padding_mode not in (None, "circular"):
        return f"padding of the kind {layer.padding_mode!r}"
    if not all(_is_described_pool(pool) for pool in layer.pools):
        return "pooling over windows that overlap, or other than 2 x 2"
    kinds = {*layer.normalizations, *layer.normalizations_after}
    if not kinds.issubset(_DESCRIBED_NORMALIZATIONS):
        return "a normalization over groups or single maps"
    if layer.undescribed:
        return layer.undescribed[0]
    return None


def _is_described_pool(pool: Pool) -> bool:
    return pool.whole or (pool.disjoint and pool.window in ((2, 2), (2, 2, 2)))


def _described_pool(pool: Pool) -> description.Pool:
    return description.Pool(pool.kind, 0 if pool.whole else pool.window[0])


def _has_described_geometry(convolution: nn.Conv2d) -> bool:
    """Returns True for a square odd kernel that keeps the map, or one without padding."""
    height, width = convolution.kernel_size
    padding = convolution._reversed_padding_repeated_twice
    keeps_map = height % 2 == 1 and all(size == (height - 1) // 2 for size in padding)
    return (
        height == width
        and convolution.stride[0] == convolution.stride[1]
        and set(convolution.dilation) == {1}
        and (keeps_map or not any(padding))
    )


def _described_layer(
    layer: Layer,
    number: int,
    own_activations: dict[str, ActivationFunction],
    law_of: Callable[[Layer], dict[str, Any]],
) -> list[description.Layer]:
    before = layer.pools_before_activation
    after = [pool for pool in layer.pools if not pool.before_activation]
    return [
        _described_weights(layer, law_of),
        *_described_normalizations(layer.normalizations),
        *(_described_pool(pool) for pool in before),
        _described_activation(layer, number, own_activations),
        *_described_normalizations(layer.normalizations_after),
        *(_described_pool(pool) for pool in after),
    ]


def _described_normalizations(kinds: list[str]) -> list[description.Normalization]:
    return [description.Normalization(kind) for kind in kinds if kind in _DESCRIBED_NORMALIZATIONS]


def _described_weights(
    layer: Layer, law_of: Callable[[Layer], dict[str, Any]]
) -> description.Dense | description.Convolution:
    omega, tau = layer.scale.omega, layer.scale.tau
    kurtosis = layer.scale.kurtosis
    bias = layer.bias
    law: dict[str, Any] = {
        "fan_in": layer.fan_in,
        "fan_out": layer.fan_out,
        "units": layer.units,
        "sigma_w2": float(tau.mean()),
        "sigma_b2": 0.0 if bias is None else float(bias.double().square().mean()),
        "bias": bias is not None,
        "centred": bool(omega.abs().max() < _EXACT * tau.max().sqrt()),
        "exact": bool(tau.std(correction=0) < _EXACT * tau.mean()),
        "kurtosis": kurtosis if math.isfinite(kurtosis) else _GAUSSIAN_KURTOSIS,
    }
    law |= law_of(layer)
    if layer.kind != "conv2d":
        return description.Dense(**law)
    size = layer.unpadded_size or layer.map_size
    assert layer.convolution is not None  # every convolution has both
    assert size is not None
    height, width = size
    unpadded = "circular" if layer.padding_mode else "none"
    return description.Convolution(
        **law,
        kernel_size=layer.convolution.kernel_size[0],
        stride=layer.convolution.stride[0],
        height=height,
        width=width,
        padding="zeros" if layer.padded else unpadded,
    )


def _described_activation(
    layer: Layer, number: int, own_activations: dict[str, ActivationFunction]
) -> description.Activation:
    """Returns a built-in activation, or one of its own that is added to `own_activations`."""
    assert layer.activation is not None  # activated layers have both
    assert layer.module is not None
    options = dict(_DEFAULTS.get(layer.activation, {}))
    for name in options:
        options[name] = layer.options.get(name, options[name])
    if layer.activation in NAMES and set(layer.options) <= set(options) and _is_exact(layer):
        return description.Activation(layer.activation, tuple(sorted(options.items())))
    name = f"{layer.activation} of layer {number}"
    own_activations[name] = from_callable(_on_arrays(layer.module), name)
    return description.Activation(name)


def _is_exact(layer: Layer) -> bool:
    """Returns False for a GELU that is approximated, which is another function."""
    if layer.activation != "gelu":
        return True
    return getattr(layer.module, "options", {}).get("approximate", "none") == "none"


def _on_arrays(
    module: nn.Module,
) -> Callable[[NDArray[numpy.float64]], NDArray[numpy.float64]]:
    """Returns an activation as a function of NumPy arrays."""
    # A copy, because an activation may have parameters of its own.
    module = copy.deepcopy(module).double().cpu()

    def function(x: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        with torch.no_grad():
            return module(torch.as_tensor(numpy.asarray(x, dtype=float))).numpy()

    return function
