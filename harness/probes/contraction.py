"""Does the layer do what the map g says, and does it contract? Four predictions of a unit's activation, each with one assumption less.

The ladder predicts every unit's (mean, variance) of phi(z) by
- map: z ~ N(0, nu tau), nu the variance of all inputs and tau the layer's mean: g with omega = 0, all units alike;
- weights: z ~ N(mu omega_i + b_i, nu tau_i): g with each unit's own weights;
- moments: z ~ N(m_i, v_i), m_i = w_i . m + b_i and v_i = w_i' Sigma w_i with the inputs' measured mean vector and covariance, which are
  the measured mean and variance of z_i;
- empirical: the measured values of z_i, which is exact.
The drop of the error from one rung to the next is the price of equal weights, of inputs that are independent and equal in mean and
variance, and of Gaussianity. Where a normalization or a sum stands between W x + b and z, g says nothing of z: the first two
rungs, and what else rests on g, are absent there, and the last two are about z as it enters the activation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.probes.columns import Columns, absent
from harness.probes.expectations import gaussian_moments
from harness.probes.readings import LayerReading, Moments, by_unit, pooled, unit_moments

_RUNGS = ("map", "weights", "moments", "empirical")
# The empirical slope scales the inputs of so many rows by 1 -+ this.
_SCALE = 0.1
_SLOPE_ROWS = 64


def contraction(reading: LayerReading) -> Columns:
    """The ladder's root-mean-square errors over units, and the residuals of the pooled, the per-unit and the paper's map."""
    measured = reading.activation_moments
    predicted = {
        "moments": _gaussian(reading, *reading.pre_activation_moments),
        "empirical": unit_moments(by_unit(reading.activation_module(reading.pre_activation))),
    }
    columns = absent(measured.mean, "residual_pooled", "residual_map", *(f"ladder_{part}{rung}" for rung in _RUNGS[:2] for part in ("", "mean_", "variance_")))
    if reading.direct:
        mu, nu = (part.unsqueeze(1) for part in reading.input_moments)
        tau = reading.tau.mean(1, keepdim=True)
        predicted["map"] = _gaussian(reading, torch.zeros_like(mu), nu * tau)
        predicted["weights"] = _gaussian(reading, mu * reading.omega + reading.biases, nu * reading.tau)
        columns |= {"residual_map": _relative(measured, predicted["weights"]), "residual_pooled": _pooled_residual(reading, mu, nu, tau)}
    columns["residual_unit"] = _relative(measured, predicted["moments"])
    for rung, moments in predicted.items():
        columns |= _errors(rung, measured, moments)
    return columns


def empirical_slope(reading: LayerReading) -> Columns:
    """d log(pooled variance of y) / d log(variance of x), by scaling the layer's inputs by 0.9 and 1.1: below 1 the layer contracts.

    At a fixed point with mean 0 it is J22 of g, and chi_q of mean-field theory (0.7826 for SELU); 1 for ReLU without bias.
    """
    if not reading.direct:
        return absent(reading.tau, "empirical_slope")
    bias = reading.biases.to(reading.pre_activation.dtype).unsqueeze(1)
    drive = reading.rows.pre_activation[:, :_SLOPE_ROWS] - bias
    low, high = (pooled(unit_moments(reading.activation_module(bias + scale * drive))).variance for scale in (1 - _SCALE, 1 + _SCALE))
    slope = (high.log() - low.log()) / (2 * math.log((1 + _SCALE) / (1 - _SCALE)))
    return {"empirical_slope": torch.where((low > 0) & (high > 0), slope, torch.nan)}


def _gaussian(reading: LayerReading, mean: Tensor, variance: Tensor) -> Moments:
    return Moments(*gaussian_moments(reading.activation_module, mean, variance))


def _errors(rung: str, measured: Moments, predicted: Moments) -> Columns:
    mean = (measured.mean - predicted.mean).square().mean(1)
    variance = (measured.variance - predicted.variance).square().mean(1)
    return {f"ladder_{rung}": (mean + variance).sqrt(), f"ladder_mean_{rung}": mean.sqrt(), f"ladder_variance_{rung}": variance.sqrt()}


def _relative(measured: Moments, predicted: Moments) -> Tensor:
    """Median over units of |nu_i - predicted nu_i| / predicted nu_i; units predicted to be constant are left out."""
    ratio = torch.where(predicted.variance > 0, (measured.variance - predicted.variance).abs() / predicted.variance, torch.nan)
    return torch.where(torch.isfinite(measured.variance).all(1), torch.nanmedian(ratio, 1).values, torch.nan)


def _pooled_residual(reading: LayerReading, mu: Tensor, nu: Tensor, tau: Tensor) -> Tensor:
    """Distance of the pooled (mean, variance) from the mean-field map: z ~ N(0, tau (nu + mu^2) + mean b^2) over units and samples."""
    q = tau * (nu + mu.square()) + reading.biases.square().mean(1, keepdim=True)
    predicted, measured = _gaussian(reading, torch.zeros_like(q), q), pooled(reading.activation_moments)
    return torch.hypot(measured.mean - predicted.mean[:, 0], measured.variance - predicted.variance[:, 0])
