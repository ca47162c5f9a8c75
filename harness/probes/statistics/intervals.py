"""99 % intervals of measured columns over samples and units: `<column>_low` and `<column>_high`.

An interval is about the value for infinitely many samples and units, and holds the measured value.
Noise adds to a distance, which the lower end takes into account: 0.03 with the interval [0, 0.04]
is what these samples show where there is no distance. The interval of `normalized_wasserstein` is
about all entries, not about the few whose noise the column has.

The layer is taken as it is: a batch normalization keeps its statistics, where new samples would
bring new ones, so that behind one intervals should be wider still. `harness.probes.bootstrap` says
how samples and units are redrawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from harness.probes.bootstrap import (
    Resampled,
    distance_interval,
    draws,
    in_blocks,
    number_interval,
    redrawn_units,
    share_interval,
)
from harness.probes.columns import Columns, absent
from harness.probes.expectations import gaussian_moments
from harness.probes.nulls import fewest_samples
from harness.probes.readings import FEWEST_UNITS, LayerReading
from harness.probes.reductions import Moments, pooled, unit_moments
from harness.probes.statistic import statistic
from harness.probes.statistics.contraction import elasticity, scaled_activations
from harness.probes.statistics.gaussianity import squared_lengths
from harness.probes.statistics.weights import inside_theorem_1

# The distribution function is compared with the normal one at this many points, up to this many
# standard deviations, for this many units.
_POINTS = 128
_REACH = 8.0
_CELL = 2 * _REACH / _POINTS
_MOST_UNITS = 128
# Step of the slopes of a Gaussian expectation, relative to the standard deviation and variance.
_STEP = 1e-3


@statistic(
    cost="intervals",
    columns={
        "residual_{map,unit,pooled}_{low,high}": (
            "99 % interval of the residual: bootstrap over samples (with all their positions) and "
            "units together, with the noise of the samples taken out at the lower end."
        ),
        "theorem_1_moment_share_{low,high}": (
            "99 % interval of the share: Wilson's, with the effective number of units that the "
            "bootstrap gives."
        ),
        "{input,activation}_{mean,variance}_{low,high}": (
            "99 % interval of the pooled moment: bootstrap over samples and units together."
        ),
        "empirical_slope_{low,high}": (
            "99 % interval of the empirical slope: bootstrap over samples and units together."
        ),
        "normalized_wasserstein_{low,high}": (
            "99 % interval of the distance, for all entries: bootstrap over samples and units "
            "together."
        ),
    },
)
def intervals(reading: LayerReading) -> Columns:
    """Returns 99 % intervals of the columns that a verdict can rest on.

    NaN where the column is, or where samples or units are too few to draw from.
    """
    before = Resampled.of(reading.pre_activation, reading.pre_activation_moments)
    after = Resampled.of(reading.activation, reading.activation_moments)
    entering = _inputs(reading)
    columns = _unit_residuals(reading, before, after, entering)
    columns |= _theorem_share(after)
    columns |= _pooled_moments("activation", after)
    columns |= _pooled_moments("input", entering)
    columns |= _residual_pooled(reading, after, entering)
    columns |= _empirical_slope(reading)
    columns |= _normalized_wasserstein(reading)
    return columns


def _inputs(reading: LayerReading) -> Resampled:
    """Resampled inputs of the weights; of a convolution the units are its input channels."""
    moments = reading.input_unit_moments
    if reading.pre_activation.dim() == 3:
        return Resampled.of(reading.inputs.flatten(2), moments)
    channels = reading.inputs.shape[2]
    by_channel = Moments(*(part.unflatten(1, (channels, -1)) for part in moments))
    return Resampled.of(reading.inputs, pooled(by_channel))


def _unit_residuals(
    reading: LayerReading, before: Resampled, after: Resampled, entering: Resampled
) -> Columns:
    """Median errors of units' variances by their own Gaussian and by g with their weights."""
    module = reading.activation_module
    columns = absent(reading.tau, "residual_map_low", "residual_map_high")
    redrawn = redrawn_units(after.by_unit().variance)
    predictions = {"residual_unit": _predicted_variances(module, before.moments, before.by_unit())}
    if reading.direct:
        predictions["residual_map"] = _map_variances(reading, entering)
    for name, (predicted, predicted_redrawn) in predictions.items():
        columns |= distance_interval(
            name,
            _median_error(after.moments.variance, predicted),
            _median_error(redrawn, redrawn_units(predicted_redrawn)),
        )
    return _where_enough(columns, after)


def _map_variances(reading: LayerReading, entering: Resampled) -> tuple[Tensor, Tensor]:
    """Variance of each unit's activation by g: measured inputs, and with redrawn samples.

    (trials, units) and (trials, replicates, units).
    """
    mu, nu = (part.unsqueeze(-1) for part in reading.input_moments)
    measured = Moments(mu * reading.omega + reading.biases, nu * reading.tau)
    mu, nu = (part.unsqueeze(-1) for part in entering.over_samples)
    omega = reading.omega.unsqueeze(1)
    mean = mu * omega + reading.biases.unsqueeze(1)
    variance = nu * reading.tau.unsqueeze(1)
    redrawn = Moments(mean.float(), variance.float())
    return _predicted_variances(reading.activation_module, measured, redrawn)


def _theorem_share(after: Resampled) -> Columns:
    """Share of units whose activation lies in the domain of Theorem 1."""
    moments = after.moments
    finite = torch.isfinite(moments.mean + moments.variance).all(1)
    nan_unless_finite = torch.where(finite, 1.0, torch.nan)
    share = inside_theorem_1(*moments).double().mean(1) * nan_unless_finite
    replicates = redrawn_units(inside_theorem_1(*after.by_unit()).float()).mean(2)
    units = moments.mean.shape[1]
    columns = share_interval("theorem_1_moment_share", share, replicates, units)
    return _where_enough(columns, after)


def _pooled_moments(name: str, resampled: Resampled) -> Columns:
    measured = pooled(resampled.moments)
    columns = number_interval(f"{name}_mean", measured.mean, resampled.over_both.mean)
    columns |= number_interval(f"{name}_variance", measured.variance, resampled.over_both.variance)
    return _where_enough(columns, resampled)


def _residual_pooled(reading: LayerReading, after: Resampled, entering: Resampled) -> Columns:
    """Distance of the pooled activation moments from the mean-field map."""
    if not reading.direct:
        return absent(reading.tau, "residual_pooled_low", "residual_pooled_high")
    # The measured value and after it its replicates, which go through the map together.
    mu, nu = reading.input_moments
    mu_redrawn, nu_redrawn = entering.over_samples
    second_moment = torch.cat(
        [(nu + mu.square()).unsqueeze(1), nu_redrawn + mu_redrawn.square()], 1
    )
    tau = _mean_and_redrawn(reading.tau)
    square = _mean_and_redrawn(reading.biases.square())
    q = tau * second_moment + square
    mean, variance = gaussian_moments(reading.activation_module, torch.zeros_like(q), q)
    measured = pooled(after.moments)
    means = torch.cat([measured.mean.unsqueeze(1), after.over_both.mean], 1)
    variances = torch.cat([measured.variance.unsqueeze(1), after.over_both.variance], 1)
    residual = torch.hypot(means - mean, variances - variance)
    columns = distance_interval("residual_pooled", residual[:, 0], residual[:, 1:])
    return _where_enough(columns, after)


def _mean_and_redrawn(values: Tensor) -> Tensor:
    """Mean over units, and after it the means of redrawn units: (trials, 1 + replicates)."""
    weights = draws(values.shape[1], "units", values.device).weights.double()
    mean = values.mean(1, keepdim=True)
    return torch.cat([mean, mean + values @ weights.T], 1)


def _empirical_slope(reading: LayerReading) -> Columns:
    if not reading.direct:
        return absent(reading.tau, "empirical_slope_low", "empirical_slope_high")
    low, high = (
        Resampled.of(values, unit_moments(values)) for values in scaled_activations(reading)
    )
    measured = elasticity(pooled(low.moments).variance, pooled(high.moments).variance)
    replicates = elasticity(low.over_both.variance, high.over_both.variance)
    return _where_enough(number_interval("empirical_slope", measured, replicates), low)


def _normalized_wasserstein(reading: LayerReading) -> Columns:
    """Distance of z / sqrt(q(x)) from normal, by its distribution function on a grid."""
    direction = _directions(reading)
    resampled = Resampled.of(direction, unit_moments(direction))
    mean, variance = (part.unsqueeze(-1) for part in pooled(resampled.moments))
    redrawn_mean, redrawn_variance = (part.unsqueeze(-1) for part in resampled.over_both)
    sd = variance.sqrt()
    shift = (redrawn_mean - mean.unsqueeze(1)) / sd.unsqueeze(1)
    scale = (redrawn_variance / variance.unsqueeze(1)).sqrt()
    standard = (direction - mean.float().unsqueeze(2)) / sd.float().unsqueeze(2)
    cells = ((standard.nan_to_num() + _REACH) / _CELL).long().clamp_(0, _POINTS - 1)
    by_sample = _distributions(in_blocks(cells).flatten(2))
    by_unit = _distributions(cells.transpose(1, 2))
    sample_weights = draws(by_sample.shape[1], "samples", cells.device).weights
    unit_weights = draws(by_unit.shape[1], "units", cells.device).weights
    change = sample_weights @ by_sample + unit_weights @ by_unit
    points = _CELL * torch.arange(1, _POINTS + 1, device=cells.device) - _REACH
    distribution = by_sample.mean(1, keepdim=True)
    difference = (distribution - torch.special.ndtr(points)).abs()
    measured = _CELL * difference.sum(2)[:, 0].double()
    normal = torch.special.ndtr((points - shift) / scale)
    replicates = _CELL / scale[..., 0] * (distribution + change - normal).abs().sum(2)
    columns = distance_interval(
        "normalized_wasserstein", torch.where(variance[:, 0] > 0, measured, torch.nan), replicates
    )
    return _where_enough(columns, resampled)


def _directions(reading: LayerReading) -> Tensor:
    """Normalized z / sqrt(q(x)) of at most `_MOST_UNITS` spread units: (trials, rows, units)."""
    square, _ = squared_lengths(reading)
    stride = -(-reading.tau.shape[1] // _MOST_UNITS)
    inverse = torch.where(square > 0, square.rsqrt(), 0.0).float().unsqueeze(2)
    return inverse * reading.rows.pre_activation[:, :, ::stride]


def _distributions(cells: Tensor) -> Tensor:
    """Distribution functions at the upper ends of cells.

    `cells` holds the cell of every entry, (trials, owners, entries); each owner (a sample or a
    unit) has a distribution of its own: (trials, owners, points).
    """
    trials, owners, entries = cells.shape
    owner = torch.arange(trials * owners, device=cells.device).view(trials, owners, 1)
    places = (cells + _POINTS * owner).flatten()
    size = trials * owners * _POINTS
    if places.device.type == "cpu":
        # On a CPU NumPy counts seven times faster than torch.
        counts = torch.from_numpy(np.bincount(places.numpy(), minlength=size))
    else:
        counts = places.bincount(minlength=size)
    return counts.view(trials, owners, _POINTS).cumsum(2).float() / entries


def _predicted_variances(
    module: nn.Module, moments: Moments, nearby: Moments
) -> tuple[Tensor, Tensor]:
    """Variance of phi(z) for Gaussian z with these moments, and with moments nearby.

    Computed at `moments` (trials, units), and extended by its slopes to `nearby`
    (trials, replicates, units).
    """
    mean, variance = moments
    mean_step = _STEP * variance.sqrt()
    variance_step = _STEP * variance
    means = torch.cat([mean, mean + mean_step, mean], 1)
    variances = torch.cat([variance, variance, variance + variance_step], 1)
    predicted = gaussian_moments(module, means, variances)[1]
    at_moments, at_mean_step, at_variance_step = predicted.chunk(3, 1)
    by_mean = torch.where(mean_step > 0, (at_mean_step - at_moments) / mean_step, 0.0)
    by_variance = torch.where(
        variance_step > 0, (at_variance_step - at_moments) / variance_step, 0.0
    )
    origin = at_moments - by_mean * mean - by_variance * variance
    origin, by_mean, by_variance = (
        part.to(nearby.mean.dtype).unsqueeze(1) for part in (origin, by_mean, by_variance)
    )
    return at_moments, origin + by_mean * nearby.mean + by_variance * nearby.variance


def _median_error(measured: Tensor, predicted: Tensor) -> Tensor:
    """Median of the relative error over the last dimension.

    Units predicted to be constant are left out.
    """
    error = (measured - predicted).abs() / predicted
    ratio = torch.where(predicted > 0, error, torch.nan)
    finite = torch.isfinite(measured).all(-1)
    return torch.where(finite, torch.nanmedian(ratio, -1).values, torch.nan)


def _where_enough(columns: Columns, resampled: Resampled) -> Columns:
    """The columns, or NaN where there are too few blocks of samples or units to draw from."""
    samples, units = resampled.first.shape[1:]
    if samples >= fewest_samples() and units >= FEWEST_UNITS:
        return columns
    return absent(resampled.moments.mean, *columns)
