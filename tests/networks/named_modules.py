"""Modules as a user writes them, which the tests of named networks take for `module:factory`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Functional(nn.Module):
    """Activations called as functions, a normalization, a sum and a dropout."""

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.drop = nn.Dropout(0.25)
        self.third = nn.Linear(4 * (height // 2) * (width // 2), 9)
        self.head = nn.Linear(9, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)), inplace=True)
        x = functional.max_pool2d(x + torch.relu(self.second(x)), 2)
        return self.head(self.drop(self.third(x.flatten(1)).relu()))


def dense(num_classes: int = 10) -> nn.Module:
    """Two hidden layers of own widths for images of 64 pixels."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(inplace=True),
        nn.Linear(12, 8),
        nn.ReLU(),
        nn.Linear(8, num_classes),
    )


def gated() -> nn.Module:
    """A gate beside an activation, for images of 64 pixels and 10 classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Sigmoid(), nn.ReLU(), nn.Linear(6, 10))


def lazy() -> nn.Module:
    """Layers that find their inputs out when they run."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(10))


class Noisy(nn.Module):
    """A dropout as a function, whose noise comes from torch's one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.inner(x.flatten(1)).relu(), 0.5, self.training)


class Pair(nn.Module):
    """Two results, of which none are the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.inner(x.flatten(1)).relu()
        return y, y


def layer_norm() -> nn.Module:
    """A normalization without a swept counterpart."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.LayerNorm(6), nn.ReLU())


def thousand() -> nn.Module:
    """Logits of other classes than those of the data."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 1000))


def large() -> nn.Module:
    """A kernel that does not fit into small images."""
    return nn.Sequential(nn.Conv2d(1, 4, 11), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def linear() -> nn.Module:
    """No activation."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def demanding(size: int) -> nn.Module:
    """An argument that nobody gives."""
    return nn.Linear(size, size)


def wordy() -> str:
    """No module."""
    return "network"


def broken() -> nn.Module:
    """An error of its own."""
    raise ValueError("no weights\nin this file")


class Deciding(nn.Module):
    """A step that depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.flatten(1)).relu()
        return self.head(y if float(y.detach().max()) < 1e6 else y / 2)
