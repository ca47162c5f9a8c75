"""Readings of small networks, made with ordinary modules and autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.probes.readings import LayerReading


def dense_reading(
    inputs: Tensor, weight: Tensor, activation: nn.Module, bias: Tensor | None = None, **changes
) -> LayerReading:
    """Returns one dense layer on inputs (trials, samples, fan_in).

    Weights are (trials, units, fan_in), the bias (trials, units).
    """
    offset = 0.0 if bias is None else bias.unsqueeze(1)
    z = inputs @ weight.transpose(1, 2) + offset
    values = {
        "name": "layer_01",
        "kind": "linear",
        "activation_module": activation,
        "inputs": inputs,
        "pre_activation": z,
        "activation": activation(z),
        "gradient": torch.randn_like(z),
        "weight": weight,
        "weight_gradient": torch.randn_like(weight),
        "update": None,
        "bias": bias,
    }
    return LayerReading(**(values | changes))


def convolution_reading(images: Tensor, module: nn.Conv2d, activation: nn.Module) -> LayerReading:
    """Returns one convolution on images (1, samples, channels, height, width)."""
    with torch.no_grad():
        z = module(images[0])[None]
        return LayerReading(
            name="layer_01",
            kind="conv2d",
            activation_module=activation,
            inputs=images,
            pre_activation=z,
            activation=activation(z),
            gradient=None,
            weight=module.weight.detach().flatten(1)[None],
            weight_gradient=None,
            update=None,
            bias=None if module.bias is None else module.bias.detach()[None],
            weights_module=module,
        )


def deep_readings(
    x: Tensor, depth: int, width: int, activation: nn.Module, sigma_w2: float, seed: int = 0
) -> list[LayerReading]:
    """Returns the layers of a dense network on samples (samples, inputs), one trial.

    Weights are Gaussian of variance sigma_w2 / fan_in, as in Klambauer et al. (2017).
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    pre_activations = []
    outputs = []
    weights = []
    x = x[None]
    for _ in range(depth):
        weight = torch.randn(1, width, x.shape[2], generator=generator)
        weight = (weight * (sigma_w2 / x.shape[2]) ** 0.5).requires_grad_()
        z = x @ weight.transpose(1, 2)
        weights.append(weight)
        inputs.append(x)
        pre_activations.append(z)
        x = activation(z)
        outputs.append(x)
    logits = x @ (torch.randn(1, width, 10, generator=generator) * width**-0.5)
    labels = torch.arange(x.shape[1]).remainder(10)
    loss = functional.cross_entropy(logits[0], labels, reduction="sum")
    gradients = torch.autograd.grad(loss, pre_activations)
    return [
        LayerReading(
            name=f"layer_{index + 1:02d}",
            kind="linear",
            activation_module=activation,
            inputs=inputs[index].detach(),
            pre_activation=pre_activations[index].detach(),
            activation=outputs[index].detach(),
            gradient=gradients[index],
            weight=weights[index].detach(),
            weight_gradient=None,
            update=None,
        )
        for index in range(depth)
    ]


@pytest.fixture
def dense() -> Callable[..., LayerReading]:
    return dense_reading


@pytest.fixture
def convolution() -> Callable[..., LayerReading]:
    return convolution_reading


@pytest.fixture
def deep() -> Callable[..., list[LayerReading]]:
    return deep_readings


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Draws standard normal numbers of a shape and seed."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return draw
