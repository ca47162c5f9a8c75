"""Normalizations by name: a factory `(units, spatial) -> module`, and layers that standardise their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.registry import Registry

normalizations: Registry = Registry("normalization")

EPSILON = 1e-5


class RMSNorm(nn.Module):
    """Divide each sample by its root mean square over all units and positions, then scale per unit (Zhang and Sennrich 2019)."""

    def __init__(self, units: int, spatial: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        dims = (-3, -2, -1) if self.spatial else (-1,)
        scaled = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + EPSILON)
        return scaled * (self.weight.unsqueeze(-1).unsqueeze(-1) if self.spatial else self.weight)


@normalizations.register("none")
def _none(units: int, spatial: bool) -> None:
    return None


@normalizations.register("weight_standardization")
def _weight_standardization(units: int, spatial: bool) -> None:
    return None  # acts on the weights: see `StandardizedLinear` and `StandardizedConv2d`


@normalizations.register("batch")
def _batch(units: int, spatial: bool) -> nn.Module:
    return nn.BatchNorm2d(units, eps=EPSILON) if spatial else nn.BatchNorm1d(units, eps=EPSILON)


@normalizations.register("layer")
def _layer(units: int, spatial: bool) -> nn.Module:
    return nn.GroupNorm(1, units, eps=EPSILON) if spatial else nn.LayerNorm(units, eps=EPSILON)


@normalizations.register("rms")
def _rms(units: int, spatial: bool) -> nn.Module:
    return RMSNorm(units, spatial)


def standardize(weight: Tensor, inputs_from: int = 1) -> Tensor:
    """Each unit's weights centred and scaled to sum 0 and sum of squares 1, differentiably.

    This is weight standardization (Qiao et al. 2019) divided by sqrt(fan_in) (Brock et al. 2021), so that a unit's
    omega is 0 and its tau 1 throughout training. Dimensions from `inputs_from` on are the unit's inputs.
    """
    dims = tuple(range(inputs_from, weight.dim()))
    centred = weight - weight.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().sum(dims, keepdim=True) + 1e-12)


class StandardizedLinear(nn.Linear):
    """A linear layer whose effective weight is `standardize(weight)`."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, standardize(self.weight), self.bias)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose effective weight is `standardize(weight)`."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, standardize(self.weight), self.bias)
