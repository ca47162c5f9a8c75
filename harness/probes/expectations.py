"""Mean and variance of an activation module at a Gaussian pre-activation, by quadrature."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from harness.probes.pointwise import values_at

# Beyond this many standard deviations a Gaussian has 1e-15 of its mass.
_REACH = 8.0
_NODES = 32
# Gaussians in one block: intermediates stay in the cache.
_BLOCK = 512


@torch.no_grad()
def gaussian_moments(module: nn.Module, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of phi(z) for z ~ N(mean, variance), elementwise.

    Gauss-Legendre quadrature on either side of z = 0, where activations have their kink. For SELU
    the relative error stays below 1e-6 up to a variance of 1,000, far below the sampling error of
    measured moments; a kink elsewhere costs accuracy.

    Args:
        module: an elementwise activation.
        mean: any shape.
        variance: the same shape; variance 0 is a point.

    Returns:
        Two float64 tensors of that shape; NaN or infinite where an argument is not finite or the
        variance is negative.
    """
    nodes, weights = (part.to(mean.device) for part in _legendre())
    means = mean.double().flatten().split(_BLOCK)
    variances = variance.double().flatten().split(_BLOCK)
    parts = [
        _block_moments(module, m, v, nodes, weights) for m, v in zip(means, variances, strict=True)
    ]
    first = torch.cat([part[0] for part in parts]).view(mean.shape)
    second = torch.cat([part[1] for part in parts]).view(mean.shape)
    return first, second


def _block_moments(
    module: nn.Module, mean: Tensor, variance: Tensor, nodes: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    m = mean.unsqueeze(-1)
    s = variance.sqrt().unsqueeze(-1)
    kink = torch.where(s > 0, -m / s, 0.0).clamp(-_REACH, _REACH)
    below = 0.5 * (kink + _REACH)
    above = 0.5 * (_REACH - kink)
    t_below = -_REACH + below * (1 + nodes)
    t_above = kink + above * (1 + nodes)
    t = torch.cat([t_below, t_above], -1)
    interval_weights = torch.cat([below * weights, above * weights], -1)
    density = interval_weights * torch.exp(-0.5 * t.square())
    density = density / density.sum(-1, keepdim=True)
    values = values_at(module, m + s * t)
    first = (density * values).sum(-1)
    second = (density * (values - first.unsqueeze(-1)).square()).sum(-1)
    return first, second


@functools.cache
def _legendre() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights)
