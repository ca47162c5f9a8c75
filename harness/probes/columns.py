"""The form of what statistics return, and quantiles over units."""

from __future__ import annotations

import torch
from torch import Tensor

# Named columns, each (trials,). A value that cannot be measured is NaN, never 0.
Columns = dict[str, Tensor]

_LEVELS = {"q05": 0.05, "q50": 0.50, "q95": 0.95}


def quantiles(
    values: dict[str, Tensor], levels: dict[str, float] = _LEVELS, among_known: bool = False
) -> Columns:
    """Quantiles over units of each (trials, units) tensor; 5, 50 and 95 % unless told. `among_known` leaves NaN out."""
    together = torch.stack(list(values.values()))
    quantile = torch.nanquantile if among_known else torch.quantile
    found = quantile(
        together,
        torch.tensor(list(levels.values()), dtype=together.dtype, device=together.device),
        dim=-1,
    )
    return {
        f"{name}_{level}": found[index, position]
        for position, name in enumerate(values)
        for index, level in enumerate(levels)
    }


def absent(like: Tensor, *names: str) -> Columns:
    """Columns that cannot be measured; `like` has a leading trial dimension."""
    return {
        name: torch.full((like.shape[0],), torch.nan, dtype=torch.float64, device=like.device)
        for name in names
    }
