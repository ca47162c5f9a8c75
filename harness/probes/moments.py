"""Means, variances, lengths and directions: of what enters a layer, of pre-activations z and of activations.

Moments are population moments (divided by the count), per unit over samples (and positions of a convolution); pooled ones
are over samples and units alike. Accumulated in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.probes.columns import Columns, absent, quantiles
from harness.probes.readings import LayerReading, Moments, norms, pooled


def moments(reading: LayerReading) -> Columns:
    """Pooled and per-unit mean and variance of pre-activations and activations."""
    before, after = reading.pre_activation_moments, reading.activation_moments
    columns = quantiles(
        {
            "pre_activation_unit_mean": before.mean,
            "pre_activation_unit_variance": before.variance,
            "activation_unit_mean": after.mean,
            "activation_unit_variance": after.variance,
        }
    )
    columns["pre_activation_mean"], columns["pre_activation_variance"] = pooled(before)
    columns["activation_mean"], columns["activation_variance"] = pooled(after)
    return columns


def inputs(reading: LayerReading) -> Columns:
    """What enters the weights: pooled mean and variance (mu and nu of the map g), and the samples' lengths and directions."""
    mean, variance = reading.input_moments
    return {"input_mean": mean, "input_variance": variance} | _lengths(reading.inputs, "input_")


def lengths(reading: LayerReading) -> Columns:
    """The samples' lengths and directions in pre-activations: q and the mean cosine c of mean-field theory (Poole et al. 2016)."""
    return _lengths(reading.pre_activation, "")


def _lengths(tensor: Tensor, prefix: str) -> Columns:
    """Mean and CV over samples of q(x) = |x|^2 / n, and the mean cosine of pairs of distinct samples that have a length."""
    vectors = tensor.flatten(2)
    length = norms(vectors)
    q = length.square() / vectors.shape[2]
    alive = length > 0
    count = alive.sum(1)
    scale = torch.where(alive, 1.0 / length, 0.0).to(vectors.dtype)
    # Of unit vectors u: sum over s != t of u_s . u_t = |sum u|^2 - count, without the matrix of all pairs.
    total = (scale.unsqueeze(1) @ vectors).double().square().sum((1, 2))
    cosine = torch.where(count > 1, (total - count) / (count * (count - 1)), torch.nan)
    return {
        f"{prefix}q": q.mean(1),
        f"{prefix}q_cv": q.std(1, correction=0) / q.mean(1),
        f"{prefix}cosine": cosine,
        f"{prefix}zero_norm_samples": (length == 0).sum(1).double(),
    }


def between_unit_share(reading: LayerReading) -> Columns:
    """Share of the pooled second moment of z that is between units: mean_i mu_i^2 / mean z^2, which is c where samples have one length."""
    mean, variance = reading.pre_activation_moments
    square = mean.square().mean(1)
    return {"between_unit_share": square / (square + variance.mean(1))}


def edges(reading: LayerReading) -> Columns:
    """Of a convolution: variances, and the mean tau that acts, at positions whose window lies inside the image and at the others."""
    if reading.geometry is None:
        return {}
    interior = reading.geometry.interior
    tau = reading.geometry.tau(reading.weight)
    columns: Columns = {}
    for name, mask in (("interior", interior), ("border", ~interior)):
        mask = mask.to(tau.device)
        if not bool(mask.any()):
            columns |= absent(
                tau,
                f"{name}_pre_activation_variance",
                f"{name}_activation_variance",
                f"{name}_tau_mean",
            )
            continue
        columns[f"{name}_pre_activation_variance"] = _variance_at(
            reading.pre_activation_entry_moments, mask
        )
        columns[f"{name}_activation_variance"] = _variance_at(
            reading.activation_entry_moments, mask
        )
        columns[f"{name}_tau_mean"] = tau[:, mask].mean(1)
    return columns


def _variance_at(moments: Moments, mask: Tensor) -> Tensor:
    """Pooled over samples, units and the positions of the mask."""
    return pooled(Moments(*(part[..., mask].flatten(1) for part in moments))).variance
