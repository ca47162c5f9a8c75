"""What a probe sees of one activated layer; statistics are functions of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerReading:
    """Tensors of one activated layer, for all trials of a pack. Units of a convolution are its channels.

    Attributes:
        name: the layer's module name.
        kind: "linear" or "conv2d".
        activation_module: the elementwise activation.
        inputs: what enters the weights: (trials, samples, ...).
        pre_activation: z, what enters the activation: (trials, samples, units[, height, width]).
        activation: y = phi(z), the same shape.
        gradient: of each sample's own loss with respect to z, the same shape.
        weight: (trials, units, fan_in).
        weight_gradient: of the mean loss, (trials, units, fan_in).
        update: the last optimizer step's change of the weight, or None before the first.
    """

    name: str
    kind: str
    activation_module: nn.Module
    inputs: Tensor
    pre_activation: Tensor
    activation: Tensor
    gradient: Tensor
    weight: Tensor
    weight_gradient: Tensor
    update: Tensor | None


def by_unit(tensor: Tensor) -> Tensor:
    """(trials, samples, units[, height, width]) -> (trials, rows, units): positions of a convolution count as samples."""
    if tensor.dim() == 3:
        return tensor
    return tensor.movedim(2, -1).flatten(1, 3)


@torch.enable_grad()
def slope(module: nn.Module, pre_activation: Tensor) -> Tensor:
    """phi'(z), entry by entry, for any elementwise activation."""
    z = pre_activation.detach().requires_grad_()
    return torch.autograd.grad(module(z).sum(), z)[0]
