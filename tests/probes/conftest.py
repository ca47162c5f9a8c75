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
    """One dense layer on inputs (trials, samples, fan_in) with weights (trials, units, fan_in)."""
    z = inputs @ weight.transpose(1, 2) + (0.0 if bias is None else bias.unsqueeze(1))
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
    """One convolution on images (1, samples, channels, height, width)."""
    with torch.no_grad():
        z = module(images[0])[None]
        return LayerReading(
            "layer_01",
            "conv2d",
            activation,
            images,
            z,
            activation(z),
            None,
            module.weight.detach().flatten(1)[None],
            None,
            None,
            None if module.bias is None else module.bias.detach()[None],
            module,
        )


def deep_readings(
    x: Tensor,
    depth: int,
    width: int,
    activation: nn.Module,
    sigma_w2: float,
    seed: int = 0,
    labels: Tensor | None = None,
) -> list[LayerReading]:
    """A dense network with Gaussian weights of variance sigma_w2 / fan_in on samples (samples, inputs), one trial, as the paper has it."""
    generator = torch.Generator().manual_seed(seed)
    inputs, entries, outputs, weights = [], [], [], []
    x = x[None]
    for _ in range(depth):
        weights.append(
            (
                torch.randn(1, width, x.shape[2], generator=generator)
                * (sigma_w2 / x.shape[2]) ** 0.5
            ).requires_grad_()
        )
        inputs.append(x)
        entries.append(x @ weights[-1].transpose(1, 2))
        x = activation(entries[-1])
        outputs.append(x)
    logits = x @ (torch.randn(1, width, 10, generator=generator) * width**-0.5)
    labels = torch.arange(x.shape[1]).remainder(10) if labels is None else labels
    gradients = torch.autograd.grad(
        functional.cross_entropy(logits[0], labels, reduction="sum"), entries
    )
    return [
        LayerReading(
            f"layer_{i + 1:02d}",
            "linear",
            activation,
            inputs[i].detach(),
            entries[i].detach(),
            outputs[i].detach(),
            gradients[i],
            weights[i].detach(),
            None,
            None,
        )
        for i in range(depth)
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
    """Standard normal numbers of a shape and seed."""
    return lambda *shape, seed=0: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
