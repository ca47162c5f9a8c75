"""Means, variances, lengths and directions of inputs, pre-activations and activations.

Moments are population moments (divided by the count), per unit over samples (and positions of a
convolution); pooled ones are over samples and units alike. Accumulated in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.probes.columns import Columns, absent, quantiles
from harness.probes.readings import LayerReading
from harness.probes.reductions import Moments, norms, pooled
from harness.probes.statistic import statistic


@statistic(
    cost="quick",
    columns={
        "{pre_activation,activation}_{mean,variance}": (
            "Mean and variance of z, which enters the activation, and of y = phi(z), over samples, "
            "units and positions together."
        ),
        "{pre_activation,activation}_unit_{mean,variance}_{q05,q50,q95}": (
            "5, 50 and 95 % quantiles over units of each unit's own mean and variance over samples "
            "and positions."
        ),
    },
)
def moments(reading: LayerReading) -> Columns:
    """Returns pooled and per-unit moments of pre-activations and activations."""
    before = reading.pre_activation_moments
    after = reading.activation_moments
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


@statistic(
    cost="quick",
    columns={
        "input_{mean,variance}": (
            "Mean and variance of what enters the weights, over samples and entries together: "
            "mu and nu of SELU's map g."
        ),
        "input_q": "Mean over samples of |x|^2 / n, x the sample's n input entries.",
        "input_q_cv": "Coefficient of variation over samples of |x|^2 / n.",
        "input_cosine": "Mean cosine of the inputs of two different samples.",
        "input_zero_norm_samples": (
            "Number of samples whose inputs are all 0; they are left out of the cosine."
        ),
    },
)
def inputs(reading: LayerReading) -> Columns:
    """Returns moments, lengths and directions of what enters the weights."""
    mean, variance = reading.input_moments
    columns = {"input_mean": mean, "input_variance": variance}
    return columns | _lengths(reading.inputs, "input_")


@statistic(
    cost="quick",
    columns={
        "q": (
            "Mean over samples of |z|^2 / n, z the sample's n pre-activations: the length q of "
            "mean-field theory (Poole et al. 2016)."
        ),
        "q_cv": "Coefficient of variation over samples of |z|^2 / n.",
        "cosine": (
            "Mean cosine of the pre-activations of two different samples: the correlation c of "
            "mean-field theory (Poole et al. 2016)."
        ),
        "zero_norm_samples": (
            "Number of samples whose pre-activations are all 0; they are left out of the cosine."
        ),
    },
)
def lengths(reading: LayerReading) -> Columns:
    """Returns lengths and directions of the samples in pre-activations."""
    return _lengths(reading.pre_activation, "")


@statistic(
    cost="quick",
    columns={
        "between_unit_share": (
            "Share of the mean square of z that lies between units: mean_i mu_i^2 / mean z^2, mu_i "
            "a unit's mean. It equals the cosine where all samples have one length."
        ),
    },
)
def between_unit_share(reading: LayerReading) -> Columns:
    """Returns the share of the pooled second moment of z that lies between units."""
    mean, variance = reading.pre_activation_moments
    square = mean.square().mean(1)
    return {"between_unit_share": square / (square + variance.mean(1))}


@statistic(
    cost="quick",
    columns={
        "{interior,border}_{pre_activation,activation}_variance": (
            "Of a convolution: pooled variance of z and y at interior positions, whose window lies "
            "inside the image, and at border positions, whose window reaches into zero padding."
        ),
        "{interior,border}_tau_mean": (
            "Of a convolution: mean over units, and over interior or border positions, of the sum "
            "of squared weights that fall on the image."
        ),
    },
)
def edges(reading: LayerReading) -> Columns:
    """Returns variances and tau of a convolution, inside the image and at its border."""
    if reading.geometry is None:
        return {}
    interior = reading.geometry.interior
    tau = reading.geometry.tau(reading.weight)
    columns: Columns = {}
    for place, mask in (("interior", interior), ("border", ~interior)):
        mask = mask.to(tau.device)
        before = f"{place}_pre_activation_variance"
        after = f"{place}_activation_variance"
        acting = f"{place}_tau_mean"
        if not bool(mask.any()):
            columns |= absent(tau, before, after, acting)
            continue
        columns[before] = _variance_at(reading.pre_activation_entry_moments, mask)
        columns[after] = _variance_at(reading.activation_entry_moments, mask)
        columns[acting] = tau[:, mask].mean(1)
    return columns


def _lengths(tensor: Tensor, prefix: str) -> Columns:
    """Mean and CV over samples of q(x) = |x|^2 / n, and the mean cosine of pairs of samples."""
    vectors = tensor.flatten(2)
    length = norms(vectors)
    q = length.square() / vectors.shape[2]
    has_length = length > 0
    count = has_length.sum(1)
    scale = torch.where(has_length, 1.0 / length, 0.0).to(vectors.dtype)
    # For unit vectors u the sum over s != t of u_s . u_t is |sum u|^2 - count: no matrix of pairs.
    total = (scale.unsqueeze(1) @ vectors).double().square().sum((1, 2))
    pairs = count * (count - 1)
    cosine = torch.where(count > 1, (total - count) / pairs, torch.nan)
    return {
        f"{prefix}q": q.mean(1),
        f"{prefix}q_cv": q.std(1, correction=0) / q.mean(1),
        f"{prefix}cosine": cosine,
        f"{prefix}zero_norm_samples": (length == 0).sum(1).double(),
    }


def _variance_at(moments: Moments, mask: Tensor) -> Tensor:
    """Variance over samples, units and the positions of the mask together, (trials,)."""
    at_positions = Moments(*(part[..., mask].flatten(1) for part in moments))
    return pooled(at_positions).variance
