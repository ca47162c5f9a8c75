"""Moments and norms of large tensors in float64, computed block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Entries of a block on a CPU: its intermediates stay in the cache.
_BLOCK_ENTRIES = 2**17
# The one-pass variance is taken around a provisional mean: that of the first 64 rows.
_PROVISIONAL_ROWS = 64
# Vectors of at most this length, with norms in this range, have their squares summed in float32.
_SHORT_VECTOR = 4096
_SAFE_NORMS = (1e-12, 1e12)


class Moments(NamedTuple):
    """Means and population variances, float64, of one shape."""

    mean: Tensor
    variance: Tensor


def blocks(tensor: Tensor, dimension: int) -> Sequence[Tensor]:
    """Splits a tensor along a dimension, on a CPU into parts that fit the cache."""
    length = tensor.shape[dimension]
    if tensor.device.type != "cpu":
        return tensor.split(length, dimension)
    size = max(1, _BLOCK_ENTRIES * length // max(1, tensor.numel()))
    return tensor.split(size, dimension)


def unit_moments(rows: Tensor) -> Moments:
    """Mean and variance over rows: (trials, rows, units) -> (trials, units).

    One pass in float64 over the differences from a provisional mean, that of the first k rows.
    Those k rows are part of the variance, which is at least about d^2 k / rows where their mean
    lies d from that of all: cancellation costs rows / k roundings at most.
    """
    count = rows.shape[1]
    first = blocks(rows, 1)[0][:, :_PROVISIONAL_ROWS]
    provisional = first.mean(1, keepdim=True, dtype=torch.float64)
    total = torch.zeros_like(provisional[:, 0])
    square = torch.zeros_like(total)
    for part in blocks(rows, 1):
        difference = part.to(torch.float64, copy=True).sub_(provisional)
        total += difference.sum(1)
        square += difference.square_().sum(1)
    mean = total / count
    variance = (square / count - mean.square()).clamp(min=0)
    return Moments(provisional[:, 0] + mean, variance)


def entry_moments(tensor: Tensor) -> Moments:
    """Mean and variance over samples of every unit at every position.

    (trials, samples, units[, height, width]) -> (trials, units, positions). The reduction reads
    entries in the order in which they lie in memory.
    """
    units = tensor.shape[2]
    mean, variance = unit_moments(tensor.flatten(2))
    return Moments(mean.unflatten(1, (units, -1)), variance.unflatten(1, (units, -1)))


def pooled(moments: Moments) -> Moments:
    """Moments of all entries of the last dimension together: (trials, units) -> (trials,).

    Each entry must stand for equally many values.
    """
    mean = moments.mean.mean(-1)
    within = moments.variance.mean(-1)
    between = moments.mean.var(-1, correction=0)
    return Moments(mean, within + between)


def ratio(numerator: Tensor, divisor: Tensor) -> Tensor:
    """Quotients of tensors of one shape; NaN where the divisor is 0."""
    return torch.where(divisor == 0, torch.nan, numerator / divisor)


def norms(vectors: Tensor) -> Tensor:
    """Euclidean norms over the last dimension of a tensor (trials, ..., length), float64.

    Summed in float32 where that keeps six digits, at a fifth of the cost: float32 squares leave
    its range below 1e-19 and above 1e19, and its sums lose digits over long vectors. Each trial is
    looked at alone, so that no digit of one depends on the numbers of another.
    """
    if vectors.device.type != "cpu" or vectors.shape[-1] > _SHORT_VECTOR:
        return _exact_norms(vectors)
    quick = torch.linalg.vector_norm(vectors, dim=-1)
    lengths = quick.double()
    if quick.numel():
        unsafe = ~_are_safe(quick.flatten(1) if quick.dim() > 1 else quick[:, None])
        if bool(unsafe.any()):
            lengths[unsafe] = _exact_norms(vectors[unsafe])
    return lengths


def _exact_norms(vectors: Tensor) -> Tensor:
    parts = [
        torch.linalg.vector_norm(part, dim=-1, dtype=torch.float64) for part in blocks(vectors, 1)
    ]
    return torch.cat(parts, 1)


def _are_safe(quick: Tensor) -> Tensor:
    """True for trials whose norms, (trials, vectors) in float32, can be trusted: (trials,)."""
    low, high = torch.aminmax(quick, dim=1)
    return (low > _SAFE_NORMS[0]) & (high < _SAFE_NORMS[1])
