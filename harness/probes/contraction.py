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
from torch import Tensor, nn

from harness.probes.columns import Columns, absent
from harness.probes.expectations import gaussian_moments
from harness.probes.readings import (
    MOST_ROWS,
    LayerReading,
    Moments,
    blocks,
    entry_moments,
    pooled,
    unit_moments,
)

_RUNGS = ("map", "weights", "moments", "empirical")
# The empirical slope scales the inputs of so many rows by 1 -+ this.
_SCALE = 0.1
_SLOPE_ROWS = 64


def contraction(reading: LayerReading) -> Columns:
    """The ladder's root-mean-square errors over units, and the residuals of the pooled, the per-unit and the paper's map."""
    measured = reading.activation_moments
    arguments = {"moments": tuple(reading.pre_activation_moments)}
    columns = absent(
        measured.mean,
        "residual_pooled",
        "residual_map",
        *(f"ladder_{part}{rung}" for rung in _RUNGS[:2] for part in ("", "mean_", "variance_")),
    )
    if reading.direct:
        mu, nu = (part.unsqueeze(1) for part in reading.input_moments)
        tau = reading.tau.mean(1, keepdim=True)
        # Over units and samples together z ~ N(0, tau (nu + mu^2) + mean b^2), the mean-field map of the pooled moments.
        q = tau * (nu + mu.square()) + reading.biases.square().mean(1, keepdim=True)
        arguments |= {
            "map": (torch.zeros_like(mu), nu * tau),
            "weights": (mu * reading.omega + reading.biases, nu * reading.tau),
            "pooled": (torch.zeros_like(q), q),
        }
    predicted = _gaussian(reading.activation_module, arguments)
    if reading.direct:
        together, by_map = pooled(measured), predicted.pop("pooled")
        columns["residual_pooled"] = torch.hypot(
            together.mean - by_map.mean[:, 0], together.variance - by_map.variance[:, 0]
        )
        columns["residual_map"] = _relative(measured, predicted["weights"])
    columns["residual_unit"] = _relative(measured, predicted["moments"])
    predicted["empirical"] = _empirical(reading)
    for rung, moments in predicted.items():
        columns |= _errors(rung, measured, moments)
    return columns


def empirical_slope(reading: LayerReading) -> Columns:
    """D log(pooled variance of y) / d log(variance of x), by scaling the layer's inputs by 0.9 and 1.1: below 1 the layer contracts.

    At a fixed point with mean 0 it is J22 of g, and chi_q of mean-field theory (0.7826 for SELU); 1 for ReLU without bias.
    """
    if not reading.direct:
        return absent(reading.tau, "empirical_slope")
    return {
        "empirical_slope": elasticity(
            *(pooled(unit_moments(values)).variance for values in scaled_activations(reading))
        )
    }


def scaled_activations(reading: LayerReading) -> tuple[Tensor, Tensor]:
    """Activations of `_SLOPE_ROWS` rows with the inputs of the weights times 0.9 and 1.1, (trials, rows, units) each."""
    bias = reading.biases.to(reading.pre_activation.dtype).unsqueeze(1)
    drive = reading.rows.pre_activation[:, :_SLOPE_ROWS] - bias
    low, high = reading.activation_module(
        torch.cat([bias + (1 - _SCALE) * drive, bias + (1 + _SCALE) * drive])
    ).chunk(2)
    return low, high


def elasticity(low: Tensor, high: Tensor) -> Tensor:
    """D log(variance of y) / d log(variance of x) from the variances of y at 0.9 and 1.1 times the inputs, of any shape."""
    slope = (high.log() - low.log()) / (2 * math.log((1 + _SCALE) / (1 - _SCALE)))
    return torch.where((low > 0) & (high > 0), slope, torch.nan)


def _gaussian(module: nn.Module, arguments: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Moments]:
    """The activation's moments for each (mean, variance) of z, (trials, any number) each, in one call."""
    sizes = [mean.shape[1] for mean, _ in arguments.values()]
    moments = gaussian_moments(module, *(torch.cat(parts, 1) for parts in zip(*arguments.values())))
    return {
        name: Moments(*parts)
        for name, *parts in zip(arguments, *(part.split(sizes, 1) for part in moments))
    }


def _empirical(reading: LayerReading) -> Moments:
    """Of the activation recomputed from z; where it is the measured one to the bit on evenly spread samples, it is taken to be it."""
    module, stride = reading.activation_module, -(-reading.pre_activation.shape[1] // MOST_ROWS)
    spread_z, spread_y = (
        blocks(tensor[:, ::stride], 1) for tensor in (reading.pre_activation, reading.activation)
    )
    if all(torch.equal(module(z), y) for z, y in zip(spread_z, spread_y)):
        return reading.activation_moments
    return pooled(entry_moments(module(reading.pre_activation)))


def _errors(rung: str, measured: Moments, predicted: Moments) -> Columns:
    mean = (measured.mean - predicted.mean).square().mean(1)
    variance = (measured.variance - predicted.variance).square().mean(1)
    return {
        f"ladder_{rung}": (mean + variance).sqrt(),
        f"ladder_mean_{rung}": mean.sqrt(),
        f"ladder_variance_{rung}": variance.sqrt(),
    }


def _relative(measured: Moments, predicted: Moments) -> Tensor:
    """Median over units of |nu_i - predicted nu_i| / predicted nu_i; units predicted to be constant are left out."""
    ratio = torch.where(
        predicted.variance > 0,
        (measured.variance - predicted.variance).abs() / predicted.variance,
        torch.nan,
    )
    return torch.where(
        torch.isfinite(measured.variance).all(1), torch.nanmedian(ratio, 1).values, torch.nan
    )
