"""The backward pass, the last update, and where activations are flat."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, absent
from harness.probes.readings import LayerReading, blocks, norms, slope

# A unit is saturated where its slope is below this share of the activation's steepest slope.
SATURATION = 0.1
_BISECTIONS = 16  # of 0.005: to the precision of float32


def gradients(reading: LayerReading) -> Columns:
    """Mean over samples of |dL/dz|^2, summed over units; `finish` turns it into gains and products."""
    if reading.gradient is None:
        return absent(reading.pre_activation, "gradient_square")
    return {"gradient_square": norms(reading.gradient.flatten(2)).square().mean(1)}


def learning(reading: LayerReading) -> Columns:
    """Norm of the weight's gradient, and of the last update relative to the weight's norm."""
    columns = absent(reading.weight, "weight_gradient_norm", "update_ratio")
    if reading.weight_gradient is not None:
        columns["weight_gradient_norm"] = _norm(reading.weight_gradient)
    if reading.update is not None:
        columns["update_ratio"] = _norm(reading.update) / _norm(reading.weight)
    return columns


def saturation(reading: LayerReading) -> Columns:
    """Share of entries on a flat part of the activation, and of units that are flat for every sample.

    Flat means |phi'(z)| < 0.1 max|phi'|: for SELU z < -2.303, for ReLU z < 0, for tanh |phi| > 0.949.
    """
    z = reading.pre_activation
    flat_at_left, crossings = flat_parts(reading.activation_module, z.device)
    entries = z[0, :, 0].numel()
    count = torch.full(
        (z.shape[0], z[0, 0].numel()),
        float(flat_at_left * z.shape[1]),
        dtype=torch.float64,
        device=z.device,
    )
    for part in blocks(z.flatten(2), 1):
        beyond = torch.empty(
            part.shape, dtype=torch.float32, device=z.device
        )  # counts exactly up to 2^24, and faster than booleans
        for index, crossing in enumerate(crossings):
            # From one crossing to the next flat becomes steep or steep flat.
            count += (-1 if flat_at_left == (index % 2 == 0) else 1) * torch.gt(
                part, crossing, out=beyond
            ).sum(1)
    count = count.unflatten(1, (z.shape[2], -1)).sum(2)
    known = torch.where(torch.isfinite(reading.pre_activation_moments.mean.sum(1)), 1.0, torch.nan)
    return {
        "saturated_share": count.mean(1) / entries * known,
        "dead_share": (count == entries).double().mean(1) * known,
    }


def flat_parts(module: nn.Module, device: torch.device) -> tuple[bool, tuple[float, ...]]:
    """Where an activation is flat: whether it is so far to the left, and the points of [-16, 16] at which that changes.

    Found once on a grid of 0.005 and refined by bisection; beyond the grid the activation is taken to stay as it is at the ends.
    """
    # An activation that learns may have changed since it was last seen.
    return (
        _flat_parts(module, device)
        if next(module.parameters(), None) is not None
        else _known_flat_parts(module, device)
    )


def _flat_parts(module: nn.Module, device: torch.device) -> tuple[bool, tuple[float, ...]]:
    grid = torch.arange(-3200, 3201, dtype=torch.float64, device=device) / 200
    steepness = slope(module, grid).abs()
    threshold = SATURATION * steepness.max()
    flat = steepness < threshold
    changes = torch.nonzero(flat[1:] != flat[:-1])[:, 0]
    low, high = grid[changes], grid[changes + 1]
    for _ in range(_BISECTIONS if len(changes) else 0):
        middle = 0.5 * (low + high)
        same = (slope(module, middle).abs() < threshold) == flat[changes]
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return bool(flat[0]), tuple(low.tolist())


_known_flat_parts = functools.lru_cache(maxsize=64)(_flat_parts)


def finish(layers: list[Columns]) -> None:
    """Add what needs neighbouring layers: `gradient_gain` (to layer l-1 from l) and `gradient_product` (to l from the last)."""
    squares = [columns["gradient_square"] for columns in layers]
    for index, columns in enumerate(layers):
        columns["gradient_gain"] = (
            squares[index - 1] / squares[index] if index else torch.full_like(squares[0], torch.nan)
        )
        columns["gradient_product"] = squares[index] / squares[-1]


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(norms(tensor), dim=1)
