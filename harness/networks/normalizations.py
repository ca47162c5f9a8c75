"""Normalization modules beside torch's own, and layers that standardise their weights.

Which name on the command line stands for which module is declared in
`harness.networks.hidden_layers`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.theory.networks.description import Normalization

# Added to variances by every normalization of activations, in modules and in theory.
EPSILON = Normalization.epsilon
# Added to a unit's sum of squares before weights are standardised.
_SMALLEST_SQUARE = 1e-12


class RMSNorm(nn.Module):
    """Divides each sample by its root mean square over all units and positions, then scales units.

    Zhang and Sennrich 2019. `spatial`: samples are (units, height, width), not (units,).
    """

    def __init__(self, units: int, spatial: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalized and scaled input, of the input's shape."""
        dims = (-3, -2, -1) if self.spatial else (-1,)
        scaled = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + EPSILON)
        return scaled * (self.weight.unsqueeze(-1).unsqueeze(-1) if self.spatial else self.weight)


def standardize(weight: Tensor, inputs_from: int = 1) -> Tensor:
    """Returns each unit's weights centred and scaled to sum 0 and sum of squares 1.

    This is weight standardization (Qiao et al. 2019) divided by sqrt(fan_in) (Brock et al. 2021),
    so that a unit's omega is 0 and its tau 1 throughout training. Gradients pass through it.

    Args:
        weight: (..., units, inputs...).
        inputs_from: the first of the dimensions that hold a unit's inputs.
    """
    dims = tuple(range(inputs_from, weight.dim()))
    centred = weight - weight.mean(dims, keepdim=True)
    square = centred.square().sum(dims, keepdim=True)
    return centred * torch.rsqrt(square + _SMALLEST_SQUARE)


class StandardizedLinear(nn.Linear):
    """A linear layer whose effective weight is `standardize(weight)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns pre-activations (samples, units)."""
        return functional.linear(x, standardize(self.weight), self.bias)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose effective weight is `standardize(weight)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns pre-activations (samples, units, height, width)."""
        return self._conv_forward(x, standardize(self.weight), self.bias)
