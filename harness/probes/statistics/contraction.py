"""Errors of SELU's map g at a layer, and the layer's contraction.

The ladder predicts every unit's (mean, variance) of phi(z) four times, each time with one
premise less:
- map: z ~ N(0, nu tau), nu the variance of all inputs and tau the layer's mean: g with omega = 0,
  all units alike;
- weights: z ~ N(mu omega_i + b_i, nu tau_i): g with each unit's own weights;
- moments: z ~ N(m_i, v_i), m_i = w_i . m + b_i and v_i = w_i' Sigma w_i with the inputs' measured
  mean vector and covariance, which are the measured mean and variance of z_i;
- empirical: the measured values of z_i, which is exact.
The drop of the error from one rung to the next is the price of equal weights, of inputs that are
independent and equal in mean and variance, and of Gaussianity. Where a normalization or a sum
stands between W x + b and z, g says nothing of z: the first two rungs, and what else rests on g,
are absent there, and the last two are about z as it enters the activation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, absent
from harness.probes.expectations import gaussian_moments
from harness.probes.readings import MOST_ROWS, LayerReading
from harness.probes.reductions import Moments, blocks, entry_moments, pooled, unit_moments
from harness.probes.statistic import statistic

# The empirical slope scales the inputs of this many rows by 1 - _SCALE and 1 + _SCALE.
_SCALE = 0.1
_SLOPE_ROWS = 64


@statistic(
    cost="slow",
    columns={
        "ladder_map": (
            "Root mean square over units of the distance between a unit's activation (mean, "
            "variance) and SELU's map g with omega = 0 and the layer's mean tau."
        ),
        "ladder_weights": (
            "Error as in `ladder_map`, with each unit's own omega, tau and bias in g."
        ),
        "ladder_moments": (
            "Error as in `ladder_map`, for a Gaussian z with the unit's measured mean and "
            "variance, that is with the inputs' measured means and covariance."
        ),
        "ladder_empirical": (
            "Error as in `ladder_map`, with the unit's measured z itself: 0 but for rounding."
        ),
        "ladder_{mean,variance}_{map,weights,moments,empirical}": (
            "The part of the ladder's error that lies in the mean, and in the variance."
        ),
        "residual_pooled": (
            "Distance of the pooled activation (mean, variance) from the mean-field map: "
            "z ~ N(0, tau (nu + mu^2) + mean b^2)."
        ),
        "residual_map": (
            "Median over units of the relative error of a unit's activation variance by g with "
            "its own weights."
        ),
        "residual_unit": (
            "Median over units of the relative error of a unit's activation variance by the "
            "Gaussian with its own measured mean and variance."
        ),
    },
)
def contraction(reading: LayerReading) -> Columns:
    """Returns errors of predicted activation moments, from SELU's map to the measured z.

    The ladder's root-mean-square errors over units, and the residuals of the pooled, the per-unit
    and the paper's map.
    """
    measured = reading.activation_moments
    columns = absent(
        measured.mean,
        "residual_pooled",
        "residual_map",
        "ladder_map",
        "ladder_mean_map",
        "ladder_variance_map",
        "ladder_weights",
        "ladder_mean_weights",
        "ladder_variance_weights",
    )
    arguments = {"moments": reading.pre_activation_moments}
    if reading.direct:
        arguments |= _map_arguments(reading)
    predicted = _gaussian(reading.activation_module, arguments)
    if reading.direct:
        together = pooled(measured)
        by_map = predicted.pop("pooled")
        columns["residual_pooled"] = torch.hypot(
            together.mean - by_map.mean[:, 0], together.variance - by_map.variance[:, 0]
        )
        columns["residual_map"] = _relative(measured, predicted["weights"])
    columns["residual_unit"] = _relative(measured, predicted["moments"])
    predicted["empirical"] = _empirical(reading)
    for rung, moments in predicted.items():
        columns |= _errors(rung, measured, moments)
    return columns


@statistic(
    cost="slow",
    columns={
        "empirical_slope": (
            "d log(pooled variance of y) / d log(variance of x), by scaling the inputs of at most "
            f"{_SLOPE_ROWS} samples: below 1 the layer contracts. At a fixed point with mean 0 it "
            "is J22 of g and chi_q of mean-field theory: 0.7826 for SELU, 1 for ReLU without bias."
        ),
    },
)
def empirical_slope(reading: LayerReading) -> Columns:
    """Returns the elasticity of the pooled variance, by scaling the inputs by 0.9 and 1.1."""
    if not reading.direct:
        return absent(reading.tau, "empirical_slope")
    low, high = scaled_activations(reading)
    variance_low = pooled(unit_moments(low)).variance
    variance_high = pooled(unit_moments(high)).variance
    return {"empirical_slope": elasticity(variance_low, variance_high)}


def scaled_activations(reading: LayerReading) -> tuple[Tensor, Tensor]:
    """Activations of the first rows with the inputs of the weights times 0.9 and 1.1.

    (trials, rows, units) each, of at most 64 rows.
    """
    bias = reading.biases.to(reading.pre_activation.dtype).unsqueeze(1)
    drive = reading.rows.pre_activation[:, :_SLOPE_ROWS] - bias
    scaled = torch.cat([bias + (1 - _SCALE) * drive, bias + (1 + _SCALE) * drive])
    low, high = reading.activation_module(scaled).chunk(2)
    return low, high


def elasticity(low: Tensor, high: Tensor) -> Tensor:
    """Returns d log(variance of y) / d log(variance of x), any shape.

    `low` and `high` are the variances of y at 0.9 and 1.1 times the inputs.
    """
    slope = (high.log() - low.log()) / (2 * math.log((1 + _SCALE) / (1 - _SCALE)))
    return torch.where((low > 0) & (high > 0), slope, torch.nan)


def _map_arguments(reading: LayerReading) -> dict[str, Moments]:
    """Moments of z by SELU's map with the layer's and with each unit's weights, and pooled."""
    mu, nu = (part.unsqueeze(1) for part in reading.input_moments)
    tau = reading.tau.mean(1, keepdim=True)
    # Over units and samples together z ~ N(0, tau (nu + mu^2) + mean b^2), the mean-field map of
    # the pooled moments.
    q = tau * (nu + mu.square()) + reading.biases.square().mean(1, keepdim=True)
    return {
        "map": Moments(torch.zeros_like(mu), nu * tau),
        "weights": Moments(mu * reading.omega + reading.biases, nu * reading.tau),
        "pooled": Moments(torch.zeros_like(q), q),
    }


def _gaussian(module: nn.Module, arguments: dict[str, Moments]) -> dict[str, Moments]:
    """The activation's moments for Gaussian z, (trials, any number) each, in one call."""
    sizes = [moments.mean.shape[1] for moments in arguments.values()]
    means = torch.cat([moments.mean for moments in arguments.values()], 1)
    variances = torch.cat([moments.variance for moments in arguments.values()], 1)
    mean, variance = gaussian_moments(module, means, variances)
    parts = zip(arguments, mean.split(sizes, 1), variance.split(sizes, 1), strict=True)
    return {name: Moments(*part) for name, *part in parts}


def _empirical(reading: LayerReading) -> Moments:
    """Moments of the activation recomputed from z, (trials, units).

    Where evenly spread samples of it equal the measured activation to the bit, the measured
    moments are returned.
    """
    module = reading.activation_module
    stride = -(-reading.pre_activation.shape[1] // MOST_ROWS)
    some_z = blocks(reading.pre_activation[:, ::stride], 1)
    some_y = blocks(reading.activation[:, ::stride], 1)
    if all(torch.equal(module(z), y) for z, y in zip(some_z, some_y, strict=True)):
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
    """Median over units of |nu_i - predicted nu_i| / predicted nu_i, (trials,).

    Units predicted to be constant are left out.
    """
    error = (measured.variance - predicted.variance).abs() / predicted.variance
    ratio = torch.where(predicted.variance > 0, error, torch.nan)
    finite = torch.isfinite(measured.variance).all(1)
    return torch.where(finite, torch.nanmedian(ratio, 1).values, torch.nan)
