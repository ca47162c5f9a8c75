"""Data and small models for the diagnosis: clean SELU networks, and one of each mistake."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def gaussian(*shape: int, samples: int = 128) -> Tensor:
    """Standard normal inputs (samples, *shape)."""
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(5))


def labelled(*shape: int, samples: int = 128, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Standard normal inputs (samples, *shape) and random labels."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(samples, *shape, generator=generator)
    return inputs, torch.randint(classes, (samples,), generator=generator)


def lecun(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with LeCun's normal weights and biases of 0, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(0.0, layer.weight[0].numel() ** -0.5, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def selu_mlp(widths: list[int], seed: int = 0) -> nn.Sequential:
    """A clean SELU network; `widths` go from the inputs to the outputs."""
    layers: list[nn.Module] = []
    for index, (inputs, units) in enumerate(zip(widths[:-2], widths[1:-1], strict=True)):
        layers += [lecun(nn.Linear(inputs, units), 1000 * seed + index), nn.SELU()]
    readout = lecun(nn.Linear(widths[-2], widths[-1]), 1000 * seed + 999)
    return nn.Sequential(*layers, readout)


def selu_cnn(
    seed: int = 0, padding_mode: str = "circular", channels: int = 16, pool: nn.Module | None = None
) -> nn.Sequential:
    """A clean convolutional SELU network for images of 12 x 12 pixels."""
    return nn.Sequential(
        lecun(nn.Conv2d(3, channels, 3, padding=1, padding_mode=padding_mode), seed),
        nn.SELU(),
        pool or nn.AvgPool2d(2),
        lecun(nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding_mode), seed + 1),
        nn.SELU(),
        nn.Flatten(),
        lecun(nn.Linear(channels * 36, 4), seed + 2),
    )


class Functional(nn.Module):
    """Activations as functions, with one module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = lecun(nn.Linear(20, 32), 1)
        self.again = lecun(nn.Linear(32, 32), 2)
        self.last = lecun(nn.Linear(32, 5), 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.selu(self.first(x))
        x = torch.relu(self.again(x))
        return self.last(torch.selu_(self.again(x)))


class Residual(nn.Module):
    """Two residual blocks x -> scale x + scale f(x)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.blocks = nn.ModuleList([self._block(seed) for seed in range(2)])
        self.end = nn.Sequential(
            lecun(nn.Linear(64, 64), 20), nn.SELU(), lecun(nn.Linear(64, 4), 21)
        )

    def _block(self, seed: int) -> nn.Sequential:
        return nn.Sequential(
            lecun(nn.Linear(64, 64), seed), nn.SELU(), lecun(nn.Linear(64, 64), seed + 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.scale * x + self.scale * block(x)
        return self.end(x)
