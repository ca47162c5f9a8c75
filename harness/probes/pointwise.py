"""Values and slopes of an elementwise activation module at given points."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def values_at(module: nn.Module, points: Tensor) -> Tensor:
    """Returns phi(z) at float64 points, any shape.

    Computed in float32 where the activation has parameters that accept nothing else.
    """
    try:
        return module(points)
    except RuntimeError:
        return module(points.float()).double()


@torch.enable_grad()
def slope(module: nn.Module, points: Tensor) -> Tensor:
    """Returns phi'(z) entry by entry at float64 points, any shape."""
    z = points.detach().requires_grad_()
    return torch.autograd.grad(values_at(module, z).sum(), z)[0]
