"""Normalization modules beside torch's own.

Which name on the command line stands for which module is declared in
`harness.networks.hidden_layers`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.theory.networks.description import Normalization

# Added to variances by every normalization of activations, in modules and in theory.
EPSILON = Normalization.epsilon


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
