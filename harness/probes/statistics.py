"""Statistics of a layer: each a small function from a `LayerReading` to named columns of shape (trials,).

Moments are population moments (divided by the count), per unit over samples (and positions of a convolution); pooled ones
are over samples and units alike. Entries are accumulated per unit in float32 and combined in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.probes.readings import LayerReading, by_unit, slope

Columns = dict[str, Tensor]
_LEVELS = {"q05": 0.05, "q50": 0.50, "q95": 0.95}
# A unit is saturated where its slope is below this share of the activation's steepest slope seen.
SATURATION = 0.1


def moments(reading: LayerReading) -> Columns:
    """Pooled and per-unit mean and variance of pre-activations and activations."""
    columns: Columns = {}
    for name, tensor in (("pre_activation", reading.pre_activation), ("activation", reading.activation)):
        variance, mean = (part.double() for part in torch.var_mean(by_unit(tensor), 1, correction=0))
        columns[f"{name}_mean"] = mean.mean(1)
        columns[f"{name}_variance"] = variance.mean(1) + mean.var(1, correction=0)
        columns |= quantiles(f"{name}_unit_mean", mean) | quantiles(f"{name}_unit_variance", variance)
    return columns


def weights(reading: LayerReading) -> Columns:
    """Quantiles over units of omega (sum of a unit's weights) and tau (sum of their squares)."""
    return quantiles("omega", reading.weight.sum(2).double()) | quantiles("tau", reading.weight.square().sum(2).double())


def gradients(reading: LayerReading) -> Columns:
    """Mean over samples of |dL/dz|^2, summed over units; `finish` turns it into gains and products."""
    square = reading.gradient.flatten(2).double().square().sum(2).mean(1)
    return {"gradient_square": square}


def learning(reading: LayerReading) -> Columns:
    """Norm of the weight's gradient, and of the last update relative to the weight's norm."""
    norm = reading.weight_gradient.flatten(1).double().norm(dim=1)
    ratio = torch.full_like(norm, torch.nan)
    if reading.update is not None:
        ratio = reading.update.flatten(1).double().norm(dim=1) / reading.weight.flatten(1).double().norm(dim=1)
    return {"weight_gradient_norm": norm, "update_ratio": ratio}


def saturation(reading: LayerReading) -> Columns:
    """Share of entries on a flat part of the activation, and of units that are flat for every sample.

    Flat means |phi'(z)| < 0.1 max|phi'|: for SELU z < -2.303, for ReLU z < 0, for tanh |phi| > 0.949.
    """
    slopes = by_unit(slope(reading.activation_module, reading.pre_activation)).abs()
    flat = slopes < SATURATION * steepest(reading.activation_module)
    return {"saturated_share": flat.double().mean((1, 2)), "dead_share": flat.all(1).double().mean(1)}


def steepest(module: torch.nn.Module) -> float:
    """The largest |phi'| on [-8, 8]."""
    return float(slope(module, torch.linspace(-8.0, 8.0, 3201)).abs().max())


STANDARD: tuple[Callable[[LayerReading], Columns], ...] = (moments, weights, gradients, learning, saturation)


def finish(layers: list[Columns]) -> None:
    """Add what needs neighbouring layers: `gradient_gain` (to layer l-1 from l) and `gradient_product` (to l from the last)."""
    squares = [columns["gradient_square"] for columns in layers]
    for index, columns in enumerate(layers):
        columns["gradient_gain"] = squares[index - 1] / squares[index] if index else torch.full_like(squares[0], torch.nan)
        columns["gradient_product"] = squares[index] / squares[-1]


def quantiles(name: str, values: Tensor) -> Columns:
    """5, 50 and 95 % quantiles over the last dimension."""
    levels = torch.quantile(values, torch.tensor(list(_LEVELS.values()), dtype=values.dtype, device=values.device), dim=-1)
    return {f"{name}_{level}": levels[index] for index, level in enumerate(_LEVELS)}
