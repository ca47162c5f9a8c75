"""Distance of pre-activations from Gaussian: by unit, pooled, and pooled at equal sample length.

All read `reading.rows`, whose rows are independent draws, so that the simulated null distributions
hold. Four measures of a standardised sample: skewness, excess kurtosis, and the distance of its
distribution function from the normal one by Kolmogorov (largest difference) and by Wasserstein
(mean distance of quantiles, in standard deviations).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from harness.probes.columns import Columns, joined, quantiles
from harness.probes.nulls import fewest_samples, null_quantile
from harness.probes.readings import LayerReading
from harness.probes.reductions import blocks, norms, pooled
from harness.probes.statistic import statistic

# Units that are measured one by one, evenly spread over the layer.
_MOST_UNITS = 128
# Entries whose pooled distances are taken, evenly spread: their own noise is about 0.02.
# Skewness and kurtosis take all entries.
_MOST_ENTRIES = 2**12
_UNIT_LEVELS = {"q50": 0.50, "q90": 0.90}


@statistic(
    cost="slow",
    columns={
        "unit_{skewness,excess_kurtosis}_{q50,q90}": (
            "Median and 90 % quantile over units of the size of skewness and excess kurtosis of "
            f"single units' z over samples; of at most {_MOST_UNITS} units."
        ),
        "unit_wasserstein_{q50,q90}": (
            "Median and 90 % quantile over units of the mean distance between the quantiles of "
            "standardised z and of the normal distribution, in standard deviations."
        ),
        "unit_kolmogorov_{q50,q90}": (
            "Median and 90 % quantile over units of the largest difference between the "
            "distribution function of standardised z and the normal one."
        ),
        "unit_{skewness,excess_kurtosis,wasserstein,kolmogorov}_{q50,q90}_null": (
            "The value of the column without `_null` for as many independent Gaussian samples, "
            "simulated with fitted mean and variance (harness/probes/gaussian_nulls.json)."
        ),
        "constant_units": "Number of units that do not vary over samples; they have no shape.",
    },
)
def unit_gaussianity(reading: LayerReading) -> Columns:
    """Returns distances of single units from Gaussian, with those of Gaussian samples.

    Median and 90 % quantile over units of each measure's size. Units that are constant over the
    rows are left out, and counted in `constant_units`.
    """
    rows, count = reading.standard_rows.shape[1:]
    units = _spread_units(count, reading.standard_rows.device)
    by_unit = _unit_measures(reading.standard_rows, units)
    # A unit without finite numbers makes the layer's columns NaN, and too few rows do.
    broken = ~torch.isfinite(reading.row_moments.variance).all(1, keepdim=True)
    unknown = broken | (rows < fewest_samples())
    left_out = reading.constant[:, units] | unknown
    sizes = {
        f"unit_{name}": torch.where(left_out, torch.nan, values.abs())
        for name, values in by_unit.items()
    }
    columns = quantiles(sizes, _UNIT_LEVELS, ignore_nan=True)
    columns["constant_units"] = reading.constant.sum(1).double()
    for name in by_unit:
        for level, share in _UNIT_LEVELS.items():
            columns[f"unit_{name}_{level}_null"] = torch.full_like(
                columns["constant_units"], null_quantile(name, share, rows)
            )
    return columns


@statistic(
    cost="slow",
    columns={
        "pooled_{skewness,excess_kurtosis,wasserstein,kolmogorov}": (
            "The four distances from Gaussian of z over samples and units together (the last two "
            f"of about {_MOST_ENTRIES:,} entries). A mixture of sample lengths shows here although "
            "every sample is Gaussian over units."
        ),
        "normalized_{skewness,excess_kurtosis,wasserstein,kolmogorov}": (
            "The four distances from Gaussian of z / sqrt(q(x)), with each sample's length "
            "divided out: q(x) is the mean square of the inputs, or of z where z is not W x + b or "
            "units see different inputs."
        ),
        "predicted_pooled_excess_kurtosis": (
            "3 CV(q)^2, the pooled excess kurtosis for Gaussian weights and these lengths q(x)."
        ),
    },
)
def pooled_gaussianity(reading: LayerReading) -> Columns:
    """Returns distances from Gaussian of all entries together, raw and at equal sample length.

    At initialisation with Gaussian weights z is Gaussian over units for every sample, whatever its
    inputs: raw z then mixes lengths and has excess kurtosis 3 CV(q)^2, and z / sqrt(q(x)) has none.
    """
    z = reading.rows.pre_activation
    rows, units = z.shape[1:]
    q, from_z = squared_lengths(reading)
    mean, variance = pooled(reading.row_moments)
    measurable = (variance > 0) & (rows * units >= fewest_samples())
    scale = torch.where(measurable, variance.rsqrt(), torch.nan)
    # A sample of no length has no direction; its zeros stay zeros.
    equalized = torch.where(q > 0, (q.mean(1, keepdim=True) / q).sqrt(), 0.0)
    sums = _power_sums(z, mean, scale)
    columns = _pooled_measures(z, sums, mean, scale.unsqueeze(1).expand(-1, rows), "pooled")
    columns |= _pooled_measures(
        z,
        _shifted(sums, mean * scale, equalized),
        torch.zeros_like(mean),
        scale.unsqueeze(1) * equalized,
        "normalized",
    )
    if from_z:
        predicted = torch.full_like(mean, torch.nan)
    else:
        predicted = 3 * q.var(1, correction=0) / q.mean(1).square()
    columns["predicted_pooled_excess_kurtosis"] = predicted
    return columns


def squared_lengths(reading: LayerReading) -> tuple[Tensor, bool]:
    """Mean squares q(x) of the samples in `reading.rows`, (trials, rows).

    Taken of what the sample's weights see. The sample's own z stands in where z is not W x + b, or
    where units see different inputs; it alone gives an excess kurtosis of -6 / (units + 2).

    Returns:
        q(x), and whether it is that of z.
    """
    from_z = reading.rows.inputs is None or not reading.direct
    vectors = reading.rows.pre_activation if from_z else reading.rows.inputs
    return norms(vectors).square() / vectors.shape[2], from_z


def measures(standard: Tensor) -> Columns:
    """Signed skewness and excess kurtosis, and the two distances, over the last dimension.

    `standard` holds float32 samples with mean 0 and variance 1.
    """
    square = standard.square()
    shape = {
        "skewness": (square * standard).mean(-1, dtype=torch.float64),
        "excess_kurtosis": square.square().mean(-1, dtype=torch.float64) - 3.0,
    }
    return shape | _distances(standard)


def _spread_units(count: int, device: torch.device) -> Tensor:
    """Indices of at most `_MOST_UNITS` of `count` units, evenly spread."""
    return torch.linspace(0, count - 1, min(count, _MOST_UNITS), device=device).round().long()


def _unit_measures(standard: Tensor, units: Tensor) -> Columns:
    """The measures of each of the given units: (trials, rows, units) -> (trials, units)."""
    taken = standard if len(units) == standard.shape[2] else standard[:, :, units]
    parts = [measures(part.contiguous()) for part in blocks(taken.transpose(1, 2), 1)]
    return joined(parts, 1)


def _distances(standard: Tensor) -> Columns:
    ordered = _ascending(standard)
    count = ordered.shape[-1]
    normal = 0.5 * torch.erfc(ordered * -math.sqrt(0.5))
    # The larger of the distances to the step above and to the one below is that to their middle
    # and half a step.
    middles = (torch.arange(count, device=ordered.device) + 0.5) / count
    kolmogorov = normal.sub_(middles).abs_().amax(-1).double() + 0.5 / count
    cells = _normal_cells(count).to(ordered)
    wasserstein = ordered.sub_(cells).abs_().mean(-1).double()
    return {"wasserstein": wasserstein, "kolmogorov": kolmogorov}


def _power_sums(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Sums over units of ((z - shift) scale)^k for k = 0 .. 4.

    (trials, rows, units) with shift and scale (trials,) -> (5, trials, rows), float64. The sum of
    a row is taken in float32, which is fast, and whose last bits do not show.
    """
    shift = shift.to(z.dtype).view(-1, 1, 1)
    scale = scale.to(z.dtype).view(-1, 1, 1)
    parts = []
    for part in blocks(z, 1):
        first = (part - shift).mul_(scale)
        second = first.square()
        powers = [first, second, first * second, second.square()]
        zeroth = torch.full_like(first[:, :, 0], z.shape[2])
        parts.append(torch.stack([zeroth, *(power.sum(2) for power in powers)]))
    return torch.cat(parts, 2).double()


def _shifted(sums: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Power sums of factor (x + shift) from those of x, by the binomial theorem.

    `sums` is (5, trials, rows), `shift` (trials,), `factor` (trials, rows).
    """
    shift = shift.unsqueeze(1)
    powers = []
    for power in range(5):
        terms = (math.comb(power, k) * shift ** (power - k) * sums[k] for k in range(power + 1))
        powers.append(factor**power * sum(terms))
    return torch.stack(powers)


def _pooled_measures(z: Tensor, sums: Tensor, shift: Tensor, scale: Tensor, prefix: str) -> Columns:
    """The four measures of (z - shift) scale over rows and units together.

    Shape from its power sums (5, trials, rows), distances from a part of the entries; `shift` is
    (trials,), `scale` (trials, rows).
    """
    rows, units = z.shape[1:]
    shift = shift.to(z.dtype).unsqueeze(1)
    scale = scale.to(z.dtype)
    mean, second, third, fourth = sums[1:].sum(2) / (rows * units)
    variance = second - mean.square()
    third_central = third - 3 * mean * second + 2 * mean**3
    fourth_about_mean = fourth - 4 * mean * third
    fourth_central = fourth_about_mean + 6 * mean.square() * second - 3 * mean**4
    columns = {
        f"{prefix}_skewness": third_central / variance**1.5,
        f"{prefix}_excess_kurtosis": fourth_central / variance.square() - 3.0,
    }
    stride = _stride(rows * units, units)
    row_of_entry = torch.arange(0, rows * units, stride, device=z.device) // units
    entries = (z.flatten(1)[:, ::stride] - shift) * scale[:, row_of_entry]
    centred = entries - mean.to(z.dtype).unsqueeze(1)
    standard = centred * variance.rsqrt().to(z.dtype).unsqueeze(1)
    distances = joined([_distances(part) for part in blocks(standard, 0)], 0)
    for name, values in distances.items():
        columns[f"{prefix}_{name}"] = values
    return columns


def _stride(entries: int, units: int) -> int:
    """Smallest stride that leaves few enough entries and lets all units and samples take part."""
    stride = -(-entries // _MOST_ENTRIES)
    while math.gcd(stride, units) > 1:
        stride += 1
    return stride


def _ascending(values: Tensor) -> Tensor:
    # On a CPU NumPy's vectorised sort is twenty times faster than torch's.
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values


@functools.lru_cache(maxsize=32)
def _normal_cells(count: int) -> Tensor:
    """Means of the standard normal's `count` equally likely cells: its best fit by `count` points.

    The distance from them is that from the normal distribution itself, except in the cells where
    the two quantile functions cross, which count too little: 1 % in all at 300 values, in the
    simulated null distribution as well.
    """
    edges = torch.special.ndtri(torch.linspace(0.0, 1.0, count + 1, dtype=torch.float64))
    density = torch.exp(-0.5 * edges.square()) / math.sqrt(2.0 * math.pi)
    return count * (density[:-1] - density[1:])
