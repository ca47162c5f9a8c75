"""The backward pass, the last update, and where activations are flat."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, absent
from harness.probes.pointwise import slope
from harness.probes.readings import LayerReading
from harness.probes.reductions import blocks, norms
from harness.probes.statistic import statistic

# A unit is saturated where its slope is below this share of the activation's steepest slope.
SATURATION = 0.1
# Halvings of a grid step of 0.005: to the precision of float32.
_BISECTIONS = 16

# Columns that need the layers before and after; `add_gradient_ratios` fills them.
GRADIENT_RATIO_COLUMNS = {
    "gradient_gain": (
        "`gradient_square` of the layer before, divided by that of this layer: the growth of "
        "squared gradients on their way back, chi_1 of mean-field theory. NaN for the first layer."
    ),
    "gradient_product": (
        "`gradient_square` of this layer, divided by that of the last activated layer."
    ),
}


@statistic(
    cost="quick",
    columns={
        "gradient_square": (
            "Mean over samples of |dL/dz|^2, summed over units and positions; L is the sample's "
            "own loss."
        ),
    },
)
def gradients(reading: LayerReading) -> Columns:
    """Returns the mean squared gradient with respect to the pre-activations."""
    if reading.gradient is None:
        return absent(reading.pre_activation, "gradient_square")
    return {"gradient_square": norms(reading.gradient.flatten(2)).square().mean(1)}


@statistic(
    cost="quick",
    columns={
        "weight_gradient_norm": "Euclidean norm of the gradient of the mean loss by the weights.",
        "update_ratio": (
            "Norm of the last optimizer step's change of the weights, relative to the norm of the "
            "weights; NaN at initialisation."
        ),
    },
)
def learning(reading: LayerReading) -> Columns:
    """Returns norms of the weight's gradient and of its last update."""
    columns = absent(reading.weight, "weight_gradient_norm", "update_ratio")
    if reading.weight_gradient is not None:
        columns["weight_gradient_norm"] = _norm(reading.weight_gradient)
    if reading.update is not None:
        columns["update_ratio"] = _norm(reading.update) / _norm(reading.weight)
    return columns


@statistic(
    cost="quick",
    columns={
        "saturated_share": (
            "Share of entries of z on a flat part of the activation, where |phi'(z)| is below a "
            "tenth of its largest value: for SELU z < -2.303, for ReLU z < 0, for tanh "
            "|phi| > 0.949."
        ),
        "dead_share": "Share of units that are on a flat part for every sample and position.",
    },
)
def saturation(reading: LayerReading) -> Columns:
    """Returns shares of flat entries and of units that are always flat.

    An entry is flat where |phi'(z)| < 0.1 max |phi'|.
    """
    count = _flat_counts(reading)
    entries = reading.pre_activation[0, :, 0].numel()
    finite = torch.isfinite(reading.pre_activation_moments.mean.sum(1))
    nan_unless_finite = torch.where(finite, 1.0, torch.nan)
    return {
        "saturated_share": count.mean(1) / entries * nan_unless_finite,
        "dead_share": (count == entries).double().mean(1) * nan_unless_finite,
    }


def flat_parts(module: nn.Module, device: torch.device) -> tuple[bool, tuple[float, ...]]:
    """Locates the flat parts of an activation in [-16, 16].

    Searched on a grid of 0.005 and refined by bisection; beyond the grid the activation is taken
    to stay as it is at the ends.

    Returns:
        Whether the activation is flat at the left end, and the points at which that changes.
    """
    # An activation with parameters may have changed since its last call.
    learns = next(module.parameters(), None) is not None
    return _flat_parts(module, device) if learns else _remembered_flat_parts(module, device)


def add_gradient_ratios(layers: list[Columns]) -> None:
    """Adds `gradient_gain` and `gradient_product` to the columns of all layers of a network.

    The gain leads from layer l to layer l - 1, the product from the last layer to layer l.
    """
    squares = [columns["gradient_square"] for columns in layers]
    for index, columns in enumerate(layers):
        if index == 0:
            columns["gradient_gain"] = torch.full_like(squares[0], torch.nan)
        else:
            columns["gradient_gain"] = squares[index - 1] / squares[index]
        columns["gradient_product"] = squares[index] / squares[-1]


def _flat_counts(reading: LayerReading) -> Tensor:
    """Number of flat entries of every unit, (trials, units), float64."""
    z = reading.pre_activation
    flat_at_left, crossings = flat_parts(reading.activation_module, z.device)
    everything = float(flat_at_left * z.shape[1])
    shape = (z.shape[0], z[0, 0].numel())
    count = torch.full(shape, everything, dtype=torch.float64, device=z.device)
    for part in blocks(z.flatten(2), 1):
        # float32 counts exactly up to 2^24, and is faster than booleans.
        beyond = torch.empty(part.shape, dtype=torch.float32, device=z.device)
        for index, crossing in enumerate(crossings):
            # From one crossing to the next flat becomes steep, or steep becomes flat.
            leaves_flat = flat_at_left == (index % 2 == 0)
            passed = torch.gt(part, crossing, out=beyond).sum(1)
            count += (-1 if leaves_flat else 1) * passed
    return count.unflatten(1, (z.shape[2], -1)).sum(2)


def _flat_parts(module: nn.Module, device: torch.device) -> tuple[bool, tuple[float, ...]]:
    grid = torch.arange(-3200, 3201, dtype=torch.float64, device=device) / 200
    steepness = slope(module, grid).abs()
    threshold = SATURATION * steepness.max()
    flat = steepness < threshold
    changes = torch.nonzero(flat[1:] != flat[:-1])[:, 0]
    if not len(changes):
        return bool(flat[0]), ()
    low = grid[changes]
    high = grid[changes + 1]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        as_left = (slope(module, middle).abs() < threshold) == flat[changes]
        low = torch.where(as_left, middle, low)
        high = torch.where(as_left, high, middle)
    return bool(flat[0]), tuple(low.tolist())


_remembered_flat_parts = functools.lru_cache(maxsize=64)(_flat_parts)


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(norms(tensor), dim=1)
