"""Named columns, quantiles over units, and columns without a number."""

from __future__ import annotations

import torch
from torch import Tensor

# Named columns, each (trials,). A value that cannot be measured is NaN, never 0.
Columns = dict[str, Tensor]

_LEVELS = {"q05": 0.05, "q50": 0.50, "q95": 0.95}


def quantiles(
    values: dict[str, Tensor], levels: dict[str, float] = _LEVELS, ignore_nan: bool = False
) -> Columns:
    """Returns quantiles over units as columns `<name>_<level>`.

    Args:
        values: tensors (trials, units) of one shape, by name.
        levels: shares by the name of the level; 5, 50 and 95 % by default.
        ignore_nan: leave NaN out; otherwise one NaN makes the trial's quantiles NaN.
    """
    together = torch.stack(list(values.values()))
    shares = torch.tensor(list(levels.values()), dtype=together.dtype, device=together.device)
    quantile = torch.nanquantile if ignore_nan else torch.quantile
    by_level = quantile(together, shares, dim=-1)
    return {
        f"{name}_{level}": by_level[index, position]
        for position, name in enumerate(values)
        for index, level in enumerate(levels)
    }


def unit_variance(values: Tensor) -> Tensor:
    """Returns the population variance over units, (trials, units) to (trials,).

    NaN for a single unit, which has no spread that could be measured.
    """
    if values.shape[1] < 2:
        return torch.full_like(values[:, 0], torch.nan)
    return values.var(1, correction=0)


def absent(like: Tensor, *names: str) -> Columns:
    """Returns columns of NaN; `like` is any tensor with a leading trial dimension."""
    return {
        name: torch.full((like.shape[0],), torch.nan, dtype=torch.float64, device=like.device)
        for name in names
    }


def joined(parts: list[Columns], dimension: int) -> Columns:
    """Concatenates columns of equal names along a dimension."""
    columns: Columns = {}
    for name in parts[0]:
        columns[name] = torch.cat([part[name] for part in parts], dimension)
    return columns
