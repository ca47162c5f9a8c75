"""Histograms of pre-activations: counts of z / sd(z) in the fixed bins of `histogram_bins`."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.probes.histogram_bins import (
    BINS,
    BINS_PER_DECADE,
    BINS_PER_SIGN,
    LOWEST_EXPONENT,
)


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
    scale = torch.where(known, variance.rsqrt(), 0.0).float()
    bins = _bins(pre_activation.flatten(1), scale)
    bins += BINS * torch.arange(trials, device=bins.device).unsqueeze(1)
    counts = _counts(bins.flatten(), BINS * trials).view(trials, BINS)
    return torch.where(known.unsqueeze(1), counts, -1).int()


def _bins(values: Tensor, scale: Tensor) -> Tensor:
    """Returns the number of each value's bin, int32 (trials, values)."""
    # Adding 0 makes a negative zero positive.
    scaled = (values * scale.unsqueeze(1)).add_(0.0)
    magnitude = scaled.abs().log10_().sub_(LOWEST_EXPONENT).mul_(BINS_PER_DECADE).floor_()
    magnitude.clamp_(0, BINS_PER_SIGN - 1).nan_to_num_(0.0)
    # Bins of both signs count outwards from the middle, which lies between 31 and 32.
    signed = magnitude.add_(0.5).copysign_(scaled)
    return signed.add_(BINS_PER_SIGN - 0.5).int()


def _counts(bins: Tensor, length: int) -> Tensor:
    """Returns how often each number below `length` occurs, without a wait for a GPU."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=length)
    ones = torch.ones_like(bins)
    return torch.zeros(length, dtype=bins.dtype, device=bins.device).index_add_(0, bins, ones)
