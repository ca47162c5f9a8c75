"""What theory predicts for a model's layers, given the scale of its weights: the model as a network description, and its columns.

The prediction is that for independent random weights with each layer's own mean square, so that for a trained model it is the
line to compare with, not a claim.
"""

from __future__ import annotations

import copy
import math

import numpy
import torch
from torch import Tensor, nn

from harness.diagnosis.structure import Layer, Pool, Structure
from harness.errors import RequestError
from harness.theory.activations.functions import NAMES, ActivationFunction, from_callable
from harness.theory.networks import description, predictions

_OPTIONS = {"elu": ("alpha",), "leaky_relu": ("negative_slope",)}
_DEFAULTS = {"elu": {"alpha": 1.0}, "leaky_relu": {"negative_slope": 0.01}}


def predicted_columns(
    structure: Structure, inputs: Tensor
) -> tuple[list[dict[str, float]], str | None]:
    """For each activated layer its `predicted_*` columns with bands, and why theory says nothing from some layer on, or None."""
    count = len(structure.activated)
    if not inputs.is_floating_point() or inputs.dim() not in (2, 4) or len(inputs) < 4:
        return [
            {} for _ in range(count)
        ], "the inputs are neither vectors nor images, or fewer than 4"
    images = inputs.detach().cpu().double().numpy()
    images = images if images.ndim == 4 else images[:, :, None, None]
    try:
        network, own = network_of(structure)
        found = predictions.predict(
            network,
            predictions.Inputs(predictions.representatives(images)),
            len(inputs),
            activations=own,
        )
    except RequestError as error:
        return [{} for _ in range(count)], str(error)
    reason = next(
        (f"layer {layer.layer}: {layer.reason}" for layer in found if layer.reason is not None),
        None,
    )
    return [_columns(layer) for layer in found], reason


def network_of(structure: Structure) -> tuple[description.Network, dict[str, ActivationFunction]]:
    """The layers in a row as far as they are one, and the activations that are no built-in ones by the names used for them."""
    network: list[description.Layer] = []
    own: dict[str, ActivationFunction] = {}
    previous: Layer | None = None
    for number, layer in enumerate(structure.activated):
        obstacle = _obstacle(layer, previous, structure)
        if obstacle is not None:
            network.append(description.Opaque(layer.label, obstacle))
        elif layer.kind == "linear" and (previous is None or previous.kind == "conv2d"):
            network.append(description.Flatten())
        network += _described(layer, number, own)
        previous = layer
    bare = [layer for layer in structure.layers if layer.activation is None]
    if (
        previous is not None
        and bare
        and bare[-1].kind == "linear"
        and structure.layers[-1] is bare[-1]
    ):
        network += ([description.Flatten()] if previous.kind == "conv2d" else []) + [
            _weights(bare[-1])
        ]
    return tuple(network), own


def _obstacle(layer: Layer, previous: Layer | None, structure: Structure) -> str | None:
    """Why the chain from the layer before to this one is none that theory can follow."""
    if (
        previous is None
        and not layer.first
        or previous is not None
        and layer.source is not previous
    ):
        return "its input is not the output of the layer before alone"
    if layer.behind is not None:
        return f"{layer.behind} in front of its weights"
    if any(one.layer in (layer, previous) for one in structure.sums):
        return "a sum of several layers"
    if layer.scaled:
        return "arithmetic between the weights and the activation"
    if layer.kind not in ("linear", "conv2d") or layer.groups != 1:
        return (
            "grouped convolutions, or convolutions over one or three dimensions, are not described"
        )
    if layer.convolution is not None and not _plain(layer.convolution, layer):
        return "only square kernels with padding that keeps the map, or none, are described"
    if layer.wrapped not in (None, "circular"):
        return f"padding of the kind {layer.wrapped!r}"
    if any(not pool.blocks or not _halves(pool) for pool in layer.pools):
        return "pooling over windows that overlap, or other than 2 x 2"
    if set(layer.normalizations + layer.normalizations_after) - {"batch", "layer", "rms"}:
        return "a normalization over groups or single maps"
    return None


def _halves(pool: Pool) -> bool:
    return pool.size in (0, 2)


def _plain(convolution: nn.Conv2d, layer: Layer) -> bool:
    kernel, padding = convolution.kernel_size, convolution._reversed_padding_repeated_twice
    same = all(size == (kernel[0] - 1) // 2 for size in padding) and kernel[0] % 2 == 1
    return (
        kernel[0] == kernel[1]
        and convolution.stride[0] == convolution.stride[1]
        and set(convolution.dilation) == {1}
        and (same or not any(padding))
    )


def _described(
    layer: Layer, number: int, own: dict[str, ActivationFunction]
) -> list[description.Layer]:
    behind = [description.Pool(pool.kind, pool.size) for pool in layer.pools if not pool.before]
    return [
        _weights(layer),
        *(
            description.Normalization(kind)
            for kind in layer.normalizations
            if kind in ("batch", "layer", "rms")
        ),
        *(description.Pool(pool.kind, pool.size) for pool in layer.pools if pool.before),
        _activation(layer, number, own),
        *(
            description.Normalization(kind)
            for kind in layer.normalizations_after
            if kind in ("batch", "layer", "rms")
        ),
        *behind,
    ]


def _weights(layer: Layer) -> description.Dense | description.Convolution:
    omega, tau = layer.scale.omega, layer.scale.tau
    law = {
        "fan_in": layer.fan_in,
        "fan_out": layer.fan_out,
        "units": layer.units,
        "sigma_w2": float(tau.mean()),
        "sigma_b2": 0.0 if layer.bias is None else float(layer.bias.double().square().mean()),
        "bias": layer.bias is not None,
        "centred": bool(omega.abs().max() < 1e-4 * tau.max().sqrt()),
        "exact": bool(tau.std(correction=0) < 1e-4 * tau.mean()),
        "kurtosis": layer.scale.kurtosis if math.isfinite(layer.scale.kurtosis) else 3.0,
    }
    if layer.kind != "conv2d":
        return description.Dense(**law)
    height, width = layer.inner_size or layer.map_size
    padding = "zeros" if layer.padded else "circular" if layer.wrapped else "none"
    return description.Convolution(
        **law,
        kernel_size=layer.convolution.kernel_size[0],
        stride=layer.convolution.stride[0],
        height=height,
        width=width,
        padding=padding,
    )


def _activation(
    layer: Layer, number: int, own: dict[str, ActivationFunction]
) -> description.Activation:
    named = _DEFAULTS.get(layer.activation, {}) | {
        key: value
        for key, value in layer.options.items()
        if key in _OPTIONS.get(layer.activation, ())
    }
    if (
        layer.activation in NAMES
        and set(layer.options) <= set(named)
        and not (
            layer.activation == "gelu"
            and getattr(layer.module, "options", {}).get("approximate", "none") != "none"
        )
    ):
        return description.Activation(layer.activation, tuple(sorted(named.items())))
    name = f"{layer.activation} of layer {number + 1}"
    own[name] = from_callable(_on_arrays(layer.module), name)
    return description.Activation(name)


def _on_arrays(module: nn.Module):  # noqa: ANN202
    module = copy.deepcopy(module).double().cpu()  # an activation may have parameters of its own

    def function(x: numpy.ndarray) -> numpy.ndarray:
        with torch.no_grad():
            return module(torch.as_tensor(numpy.asarray(x, dtype=float))).numpy()

    return function


def _columns(layer: predictions.LayerPrediction) -> dict[str, float]:
    columns = {}
    for name, value in layer.values.items():
        columns[f"predicted_{name}"] = float(value.value)
        if math.isfinite(value.low):
            columns |= {
                f"predicted_{name}_low": float(value.low),
                f"predicted_{name}_high": float(value.high),
            }
    return columns
