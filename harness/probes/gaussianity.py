"""How far pre-activations are from Gaussian: unit by unit, pooled, and pooled with each sample's length divided out.

All read `reading.rows`, whose rows are independent draws, so that the simulated null distributions hold. Four measures of a
standardised sample: skewness, excess kurtosis, and the distance of its distribution function from the normal one by Kolmogorov
(largest difference) and by Wasserstein (mean distance of quantiles, in standard deviations).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from harness.probes.columns import Columns, quantiles
from harness.probes.nulls import fewest_samples, null_quantile
from harness.probes.readings import LayerReading, blocks, norms, pooled

# Units looked at one by one, evenly spread over the layer.
_MOST_UNITS = 128
# Entries of a layer whose pooled distances are taken, evenly spread: their own noise is about 0.02. Skewness and kurtosis take them all.
_MOST_ENTRIES = 2**12
_UNIT_LEVELS = {"q50": 0.50, "q90": 0.90}


def unit_gaussianity(reading: LayerReading) -> Columns:
    """Median and 90 % quantile over units of each measure's size, each with what Gaussian samples of as many rows would show.

    Units that are constant over the rows have no shape: they are left out, and counted in `constant_units`.
    """
    standard = reading.standard_rows
    rows, count = standard.shape[1:]
    units = (
        torch.linspace(0, count - 1, min(count, _MOST_UNITS), device=standard.device).round().long()
    )
    constant = reading.constant[:, units]
    chosen = (standard if len(units) == count else standard[:, :, units]).transpose(1, 2)
    parts = [measures(part.contiguous()) for part in blocks(chosen, 1)]
    found = {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}
    # A unit without finite numbers makes the layer's columns NaN, and too few rows do.
    unknown = ~torch.isfinite(reading.row_moments.variance).all(1, keepdim=True) | (
        rows < fewest_samples()
    )
    columns = quantiles(
        {
            f"unit_{name}": torch.where(constant | unknown, torch.nan, values.abs())
            for name, values in found.items()
        },
        _UNIT_LEVELS,
        among_known=True,
    )
    columns["constant_units"] = reading.constant.sum(1).double()
    for name in found:
        for level, share in _UNIT_LEVELS.items():
            columns[f"unit_{name}_{level}_null"] = torch.full_like(
                columns["constant_units"], null_quantile(name, share, rows)
            )
    return columns


def pooled_gaussianity(reading: LayerReading) -> Columns:
    """Each measure of z pooled over rows and units, raw and as z / sqrt(q(x)).

    At initialisation with Gaussian weights z is Gaussian over units for every sample, whatever its inputs: raw z then mixes
    lengths and has excess kurtosis 3 CV(q)^2 (`predicted_pooled_excess_kurtosis`), and z / sqrt(q(x)) has none.
    """
    z = reading.rows.pre_activation
    rows, units = z.shape[1:]
    q, own = squared_lengths(reading)
    mean, variance = pooled(reading.row_moments)
    known = (variance > 0) & (rows * units >= fewest_samples())
    scale = torch.where(known, variance.rsqrt(), torch.nan)
    # A sample of no length has no direction; its zeros stay zeros.
    direction = torch.where(q > 0, (q.mean(1, keepdim=True) / q).sqrt(), 0.0)
    sums = _power_sums(z, mean, scale)
    columns = _pooled_measures(z, sums, mean, scale.unsqueeze(1).expand(-1, rows), "pooled")
    columns |= _pooled_measures(
        z,
        _shifted(sums, mean * scale, direction),
        torch.zeros_like(mean),
        scale.unsqueeze(1) * direction,
        "normalized",
    )
    columns["predicted_pooled_excess_kurtosis"] = (
        torch.full_like(mean, torch.nan) if own else 3 * q.var(1, correction=0) / q.mean(1).square()
    )
    return columns


def squared_lengths(reading: LayerReading) -> tuple[Tensor, bool]:
    """q(x) of `reading.rows`, (trials, rows): the mean square of what the sample's weights see, and whether it is that of its own z.

    Its own z stands in where z is not W x + b, or units see different inputs; it alone gives an excess kurtosis of -6 / (units + 2).
    """
    own = reading.rows.inputs is None or not reading.direct
    vectors = reading.rows.pre_activation if own else reading.rows.inputs
    return norms(vectors).square() / vectors.shape[2], own


def measures(standard: Tensor) -> Columns:
    """Signed skewness and excess kurtosis, and the two distances, over the last dimension of standardised float32 samples."""
    square = standard.square()
    return {
        "skewness": (square * standard).mean(-1, dtype=torch.float64),
        "excess_kurtosis": square.square().mean(-1, dtype=torch.float64) - 3.0,
    } | _distances(standard)


def _distances(standard: Tensor) -> Columns:
    ordered = _ascending(standard)
    count = ordered.shape[-1]
    normal = 0.5 * torch.erfc(ordered * -math.sqrt(0.5))
    # The larger of the distances to the step above and to the one below is that to their middle and half a step.
    middles = (torch.arange(count, device=ordered.device) + 0.5) / count
    kolmogorov = normal.sub_(middles).abs_().amax(-1).double() + 0.5 / count
    return {
        "wasserstein": ordered.sub_(_normal_cells(count).to(ordered)).abs_().mean(-1).double(),
        "kolmogorov": kolmogorov,
    }


def _power_sums(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Sums over units of ((z - shift) scale)^k, k = 0 .. 4: (trials, rows, units) with (trials,) twice -> (5, trials, rows), float64.

    A row's in float32, which is fast, as its last bits do not show.
    """
    parts = []
    for part in blocks(z, 1):
        first = (part - shift.to(z.dtype).view(-1, 1, 1)).mul_(scale.to(z.dtype).view(-1, 1, 1))
        second = first.square()
        parts.append(
            torch.stack(
                [
                    torch.full_like(first[:, :, 0], z.shape[2]),
                    *(power.sum(2) for power in (first, second, first * second, second.square())),
                ]
            )
        )
    return torch.cat(parts, 2).double()


def _shifted(sums: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Power sums of factor (x + shift) from those of x, by the binomial theorem; `shift` is (trials,), `factor` (trials, rows)."""
    shift = shift.unsqueeze(1)
    return torch.stack(
        [
            factor**power
            * sum(math.comb(power, k) * shift ** (power - k) * sums[k] for k in range(power + 1))
            for power in range(5)
        ]
    )


def _pooled_measures(z: Tensor, sums: Tensor, shift: Tensor, scale: Tensor, prefix: str) -> Columns:
    """Of (z - shift) scale: shape from its power sums (5, trials, rows), distances from a part of the entries; `shift` is (trials,), `scale` (trials, rows)."""
    rows, units = z.shape[1:]
    shift, scale = shift.to(z.dtype).unsqueeze(1), scale.to(z.dtype)
    mean, second, third, fourth = sums[1:].sum(2) / (rows * units)
    variance = second - mean.square()
    columns = {
        f"{prefix}_skewness": (third - 3 * mean * second + 2 * mean**3) / variance**1.5,
        f"{prefix}_excess_kurtosis": (
            fourth - 4 * mean * third + 6 * mean.square() * second - 3 * mean**4
        )
        / variance.square()
        - 3.0,
    }
    stride = _stride(rows * units, units)
    entries = (z.flatten(1)[:, ::stride] - shift) * scale[
        :, torch.arange(0, rows * units, stride, device=z.device) // units
    ]
    standard = (entries - mean.to(z.dtype).unsqueeze(1)) * variance.rsqrt().to(z.dtype).unsqueeze(1)
    parts = [_distances(part) for part in blocks(standard, 0)]
    return columns | {
        f"{prefix}_{name}": torch.cat([part[name] for part in parts]) for name in parts[0]
    }


def _stride(entries: int, units: int) -> int:
    """Every so-many-th entry, so that all units and samples take part."""
    stride = -(-entries // _MOST_ENTRIES)
    while math.gcd(stride, units) > 1:
        stride += 1
    return stride


def _ascending(values: Tensor) -> Tensor:
    # On a CPU NumPy's vectorised sort is twenty times faster than torch's.
    return (
        torch.from_numpy(np.sort(values.numpy(), axis=-1))
        if values.device.type == "cpu"
        else values.sort(-1).values
    )


@functools.lru_cache(maxsize=32)
def _normal_cells(count: int) -> Tensor:
    """Means of the standard normal's `count` equally likely cells: its best stand-in of `count` points.

    The distance from them is that from the normal distribution itself, except in the cells where the two quantile functions
    cross, which count too little: 1 % in all at 300 values, in the simulated null distribution as well.
    """
    edges = torch.special.ndtri(torch.linspace(0.0, 1.0, count + 1, dtype=torch.float64))
    density = torch.exp(-0.5 * edges.square()) / math.sqrt(2.0 * math.pi)
    return count * (density[:-1] - density[1:])
