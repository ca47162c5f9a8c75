"""Residual blocks: the sum of a branch and what enters it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.networks.residual_forms import ResidualForm


class Residual(nn.Module):
    """Returns skip_scale * x + branch_scale * multiplier * branch(x).

    `multiplier` is a learned scalar where the form has one, else 1.
    """

    def __init__(self, branch: nn.Sequential, form: ResidualForm) -> None:
        super().__init__()
        self.branch = branch
        self.form = form
        if form.multiplier is not None:
            # Of one dimension, so that in a pack it has more than a count of steps.
            self.multiplier = nn.Parameter(torch.tensor([form.multiplier]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum, in the shape of `x`."""
        return self.combine(x, self.branch(x), getattr(self, "multiplier", None))

    def combine(self, x: Tensor, branch: Tensor, multiplier: Tensor | None) -> Tensor:
        """Returns the sum of an input and its branch; `multiplier` broadcasts to both."""
        if multiplier is not None:
            branch = multiplier * branch
        skip_scale, branch_scale = self.form.skip_scale, self.form.branch_scale
        if skip_scale != 1.0:
            x = skip_scale * x
        return torch.add(x, branch, alpha=branch_scale)

    def extra_repr(self) -> str:
        """Returns the form for the module's printed form."""
        return self.form.name
