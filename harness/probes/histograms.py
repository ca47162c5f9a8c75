"""Histograms of pre-activations: counts of z / sd(z) in the fixed bins of `histogram_bins`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.probes.histogram_bins import (
    BINS,
    BINS_PER_DECADE,
    BINS_PER_SIGN,
    LOWEST_EXPONENT,
)

# The number of a bin grows by this for each doubling of |z|.
_BINS_PER_OCTAVE = BINS_PER_DECADE * math.log10(2.0)
# Keeps the smallest and largest values in the innermost and outermost bin: (0, 32) without ends.
_MARGIN = 1e-5


@torch.no_grad()
def histogram(pre_activation: Tensor, variance: Tensor) -> Tensor:
    """Returns the counts of z / sd(z) of each trial, int32 (trials, bins).

    -1 in all bins of a trial whose variance is 0 or not finite: there is no histogram.

    Args:
        pre_activation: z, (trials, samples, units[, height, width]).
        variance: its pooled variance, (trials,).
    """
    trials = len(pre_activation)
    known = torch.isfinite(variance) & (variance > 0)
    values = torch.where(known.unsqueeze(1), pre_activation.flatten(1), 0.0)
    bins = _bins(values, torch.where(known, variance, 1.0))
    bins += BINS * torch.arange(trials, dtype=bins.dtype, device=bins.device).unsqueeze(1)
    counts = _counts(bins.flatten(), BINS * trials).view(trials, BINS)
    return torch.where(known.unsqueeze(1), counts, -1).int()


def _bins(values: Tensor, variance: Tensor) -> Tensor:
    """Returns the number of each value's bin, int32 (trials, values)."""
    # log10(|z| / sd), counted in bins from the lowest edge.
    shift = -BINS_PER_DECADE * (0.5 * variance.log10() + LOWEST_EXPONENT)
    shift = shift.to(values.dtype).unsqueeze(1)
    outwards = torch.add(shift, values.abs().log2_(), alpha=_BINS_PER_OCTAVE)
    outwards.clamp_(_MARGIN, BINS_PER_SIGN - _MARGIN)
    return outwards.copysign_(values).add_(BINS_PER_SIGN).int()


def _counts(bins: Tensor, length: int) -> Tensor:
    """Returns how often each number below `length` occurs, without a wait for a GPU."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=length)
    ones = torch.ones_like(bins)
    return torch.zeros(length, dtype=bins.dtype, device=bins.device).index_add_(0, bins, ones)
