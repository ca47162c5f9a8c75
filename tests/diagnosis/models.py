"""Small models for the diagnosis: clean SELU networks, and one of each mistake."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def lecun(layer: nn.Module, seed: int = 0) -> nn.Module:
    """LeCun-normal weights and no bias, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(0.0, layer.weight[0].numel() ** -0.5, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def selu_mlp(widths: list[int], seed: int = 0) -> nn.Sequential:
    """A clean SELU network: `widths` from the inputs to the outputs."""
    layers: list[nn.Module] = []
    for index, (before, behind) in enumerate(zip(widths[:-2], widths[1:-1])):
        layers += [lecun(nn.Linear(before, behind), 1000 * seed + index), nn.SELU()]
    return nn.Sequential(*layers, lecun(nn.Linear(widths[-2], widths[-1]), 1000 * seed + 999))


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
    """Activations as functions, one module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = (
            lecun(nn.Linear(20, 32), 1),
            lecun(nn.Linear(32, 32), 2),
            lecun(nn.Linear(32, 5), 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.selu(self.first(x))
        x = torch.relu(self.again(x))
        return self.last(torch.selu_(self.again(x)))


class Residual(nn.Module):
    """x -> scale x + scale f(x), twice."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.blocks = nn.ModuleList(
            nn.Sequential(
                lecun(nn.Linear(64, 64), seed), nn.SELU(), lecun(nn.Linear(64, 64), seed + 10)
            )
            for seed in range(2)
        )
        self.end = nn.Sequential(
            lecun(nn.Linear(64, 64), 20), nn.SELU(), lecun(nn.Linear(64, 4), 21)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = self.scale * x + self.scale * block(x)
        return self.end(x)
