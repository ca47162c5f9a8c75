"""Layers whose effective weights are computed from those that they store.

A form acts on the weights of many trials as on those of one: `inputs_from` is the first of the
dimensions that hold a unit's inputs, 1 for a module's own weight (units, inputs...), 2 with trials
in front. Which name on the command line stands for which form is declared in
`harness.networks.hidden_layers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Added to a unit's sum of squares before it is divided by.
_SMALLEST_SQUARE = 1e-12
_SMALLEST_LENGTH = 1e-12
# Power iterations that find the largest singular value of the initial weights, and the change of it
# at which they end.
_MOST_ITERATIONS = 500
_CONVERGED = 1e-7


@dataclass(frozen=True)
class WeightForm:
    """A way to compute the weights that act from those that a layer stores.

    Attributes:
        effective: `effective(weight, companion, inputs_from)` returns the effective weight, and
            what the companion becomes after a training step, None where it stays. Gradients pass
            through the effective weight.
        companion: name of a second tensor of the layer, (units,), or "" for none.
        learned: the companion is a parameter, not a buffer.
        initial: the companion of initial weights (units, inputs...).
    """

    effective: Callable[[Tensor, Tensor | None, int], tuple[Tensor, Tensor | None]]
    companion: str = ""
    learned: bool = False
    initial: Callable[[Tensor], Tensor] | None = None


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


def with_lengths(weight: Tensor, lengths: Tensor, inputs_from: int = 1) -> Tensor:
    """Returns each unit's weights scaled to a length of its own.

    Weight normalization (Salimans and Kingma 2016, Eq. 2): w = g v / |v|.

    Args:
        weight: v, (..., units, inputs...).
        lengths: g, (..., units).
        inputs_from: the first of the dimensions that hold a unit's inputs.
    """
    rows = weight.flatten(inputs_from)
    scale = lengths * torch.rsqrt(rows.square().sum(-1) + _SMALLEST_SQUARE)
    return (rows * scale.unsqueeze(-1)).view(weight.shape)


def over_largest_singular_value(
    weight: Tensor, left: Tensor, inputs_from: int = 1
) -> tuple[Tensor, Tensor]:
    """Returns weights over their largest singular value, and its left singular vector.

    Spectral normalization (Miyato, Kataoka, Koyama and Yoshida 2018, Algorithm 1): one power
    iteration from the vector of the step before, through which no gradient passes. Products are
    written as sums, which stay in float32 under bfloat16 as well.

    Args:
        weight: (..., units, inputs...), taken as matrices of one row for each unit.
        left: (..., units), the left singular vector so far.
        inputs_from: the first of the dimensions that hold a unit's inputs.
    """
    rows = weight.flatten(inputs_from)
    with torch.no_grad():
        right = _unit((rows * left.unsqueeze(-1)).sum(-2))
        left = _unit((rows * right.unsqueeze(-2)).sum(-1))
    largest = ((rows * right.unsqueeze(-2)).sum(-1) * left).sum(-1)
    scale = 1.0 / largest.clamp_min(_SMALLEST_LENGTH)
    return (rows * scale[..., None, None]).view(weight.shape), left


def _unit(vector: Tensor) -> Tensor:
    return functional.normalize(vector, dim=-1, eps=_SMALLEST_LENGTH)


def _row_lengths(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1)


def _left_singular_vector(weight: Tensor) -> Tensor:
    """Returns the left singular vector (units,) of the largest singular value, by iteration."""
    rows = weight.flatten(1)
    left = _unit(torch.ones(len(rows)))
    largest = torch.zeros(())
    for _ in range(_MOST_ITERATIONS):
        image = rows @ _unit(rows.T @ left)
        before, largest = largest, image.norm()
        left = _unit(image)
        if abs(largest - before) <= _CONVERGED * largest:
            break
    return left


# Qiao et al. 2019, scaled as by Brock et al. 2021.
STANDARDIZED = WeightForm(lambda weight, _, inputs_from: (standardize(weight, inputs_from), None))
# Salimans and Kingma 2016. Lengths begin as those of the drawn weights.
WEIGHT_NORM = WeightForm(
    lambda weight, lengths, inputs_from: (with_lengths(weight, lengths, inputs_from), None),
    companion="lengths",
    learned=True,
    initial=_row_lengths,
)
# Miyato et al. 2018.
SPECTRAL_NORM = WeightForm(
    over_largest_singular_value, companion="left", initial=_left_singular_vector
)


class _Formed:
    """The common part of the two layers below; `form` is the form of their weights."""

    form: WeightForm

    def add_companion(self, units: int) -> None:
        """Adds the second tensor of the form, if it has one."""
        if not self.form.companion:
            return
        tensor = torch.ones(units)
        if self.form.learned:
            self.register_parameter(self.form.companion, nn.Parameter(tensor))
        else:
            self.register_buffer(self.form.companion, tensor)

    def effective_weight(self) -> Tensor:
        """Returns the weight that acts; in training mode the companion follows."""
        companion = getattr(self, self.form.companion) if self.form.companion else None
        weight, following = self.form.effective(self.weight, companion, 1)
        if following is not None and self.training:
            companion.copy_(following)
        return weight


class FormedLinear(_Formed, nn.Linear):
    """A linear layer with a form of weights."""

    def __init__(self, fan_in: int, units: int, form: WeightForm) -> None:
        super().__init__(fan_in, units)
        self.form = form
        self.add_companion(units)

    def forward(self, x: Tensor) -> Tensor:
        """Returns pre-activations (samples, units)."""
        return functional.linear(x, self.effective_weight(), self.bias)


class FormedConv2d(_Formed, nn.Conv2d):
    """A convolution with a form of weights; other arguments are those of `nn.Conv2d`."""

    def __init__(
        self, channels: int, units: int, kernel_size: int, form: WeightForm, **options: object
    ) -> None:
        super().__init__(channels, units, kernel_size, **options)
        self.form = form
        self.add_companion(units)

    def forward(self, x: Tensor) -> Tensor:
        """Returns pre-activations (samples, units, height, width)."""
        return self._conv_forward(x, self.effective_weight(), self.bias)
