"""Activations that PyTorch lacks, as modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SquaredReLU(nn.Module):
    """Squared ReLU: x^2 if x > 0 else 0 (So et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        return torch.relu(x).square()
