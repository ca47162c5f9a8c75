"""The stability margin of a user's model and optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.diagnosis.gradient_pass import floating_tensors
from harness.training.sharpness import sharpness_of_module, stability_margin


@dataclass(frozen=True)
class Stability:
    """The distance of a model's training from the edge of stability.

    Attributes:
        sharpness: top eigenvalue of the loss's Gauss-Newton matrix; NaN where it is not measured.
        margin: learning rate * sharpness / (2 (1 + momentum)), 1 at the edge; the learning rate is
            times 1 - dampening, and the whole times 1 + 2 momentum with Nesterov's; NaN likewise.
        reason: why one of them is not measured, or None.
    """

    sharpness: float
    margin: float
    reason: str | None


def measure_stability(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    optimizer: torch.optim.Optimizer | None,
) -> Stability:
    """Measures the sharpness of the mean cross-entropy, and the optimizer's margin.

    Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of
    Stability". The matrix does not depend on the labels, which say that the output is one of
    classes.
    """
    if labels is None:
        return Stability(math.nan, math.nan, "the batch has no labels that are classes")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def logits_of(part: Tensor) -> Tensor:
        outputs = floating_tensors(model(part.clone()))
        if not outputs or outputs[0].dim() != 2 or len(outputs[0]) != len(part):
            raise ValueError("the first output is no table of classes")
        return outputs[0]

    try:
        # The fast kernels of attention have no second derivatives.
        with sdpa_kernel(SDPBackend.MATH):
            sharpness = sharpness_of_module(logits_of, parameters, inputs)
    except Exception as error:
        # A user's model may raise anything when it is differentiated twice.
        text = (str(error).splitlines() or [type(error).__name__])[0]
        return Stability(math.nan, math.nan, f"the sharpness is not measured: {text}")
    if optimizer is None:
        return Stability(sharpness, math.nan, "no optimizer was given")
    if not isinstance(optimizer, torch.optim.SGD):
        name = type(optimizer).__name__
        return Stability(
            sharpness, math.nan, f"{name} preconditions gradients, and its limit is not measured"
        )
    margins = [_margin(sharpness, group) for group in optimizer.param_groups]
    return Stability(sharpness, max(margins), None)


def _margin(sharpness: float, group: dict[str, Any]) -> float:
    """Returns the share of the limit of stability that one group of SGD's parameters uses up.

    On a quadratic, dampening is a smaller learning rate, and Nesterov's momentum has the limit
    2 (1 + momentum) / (1 + 2 momentum) (Cohen et al. 2021).
    """
    rate, momentum = float(group["lr"]), float(group["momentum"])
    if momentum:
        # Without momentum, torch ignores the dampening.
        rate *= 1.0 - float(group["dampening"])
    margin = stability_margin(sharpness, rate, {"name": "momentum", "momentum": momentum})
    return margin * (1.0 + 2.0 * momentum) if group["nesterov"] else margin
