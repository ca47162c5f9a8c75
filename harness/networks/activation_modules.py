"""Activations that PyTorch lacks, as modules."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.theory.activations import derived, unit_second_moment
from harness.theory.activations.functions import specification
from harness.theory.activations.parameters import for_fixed_point
from harness.theory.activations.tailoring import Tailoring


class SquaredReLU(nn.Module):
    """Squared ReLU: x^2 if x > 0 else 0 (So et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        return torch.relu(x).square()


class SELUFixedPoint(nn.Module):
    """SELU with the parameters of another fixed point (Klambauer et al. 2017, Eq. 14)."""

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.parameters_of_selu = for_fixed_point(mean, variance)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        constants = self.parameters_of_selu
        return constants.lam * functional.elu(x, constants.alpha)


class LeakySELU(nn.Module):
    """Leaky SELU (Chen et al. 2021): a line, and a SELU of what the line leaves."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        constants = unit_second_moment.leaky_constants(epsilon)
        self.line = constants.lam * constants.beta
        self.scale = constants.lam * (1.0 - constants.beta)
        self.alpha = constants.alpha / (1.0 - constants.beta)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        return self.line * x + self.scale * functional.elu(x, self.alpha)


class ScaledSELU(nn.Module):
    """Scaled SELU (Chen et al. 2021): a SELU of beta x."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.constants = unit_second_moment.scaled_constants(epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        constants = self.constants
        elu = functional.elu(constants.beta * x, constants.alpha * constants.beta)
        return constants.lam / constants.beta * elu


class _Tailored(nn.Module):
    """An activation scaled and shifted in front and behind."""

    def __init__(self, base: str, tailoring: Tailoring, **options: float) -> None:
        super().__init__()
        torch_class = specification(base).torch_class
        # Within a tuple it is no child: a module without children is run as one function.
        self.base = (_torch_module(torch_class, dict(specification(base).options) | options),)
        self.tailoring = tailoring

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation, elementwise."""
        constants = self.tailoring
        inner = self.base[0](constants.input_scale * x + constants.input_shift)
        return constants.output_scale * (inner + constants.output_shift)


class GaussianPoincare(_Tailored):
    """A Gaussian-Poincare normalized activation (Lu et al. 2020)."""

    def __init__(self, base: str) -> None:
        derived.base_function(base)
        super().__init__(base, derived.gpn_tailoring(base))


class DeepKernelShaped(_Tailored):
    """An activation of deep kernel shaping (Martens et al. 2021)."""

    def __init__(self, base: str, slope: float, layers: int | None) -> None:
        super().__init__(base, derived.dks_tailoring(base, slope, layers))


class TailoredActivation(_Tailored):
    """A tailored activation (Zhang et al. 2022)."""

    def __init__(self, base: str, cosine: float, curvature: float, layers: int | None) -> None:
        transformed, constants = derived.tat_tailoring(base, cosine, curvature, layers)
        options = {}
        if base == "leaky_relu":
            options["negative_slope"] = -float(transformed.value(np.array(-1.0)))
        super().__init__(base, constants, **options)


def _torch_module(torch_class: str, options: dict[str, float]) -> nn.Module:
    """Returns the module of a base activation."""
    if torch_class.endswith(":SquaredReLU"):
        return SquaredReLU()
    return getattr(nn, torch_class)(**options)
