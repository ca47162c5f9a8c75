"""99 % intervals of measured columns over samples and units: `<column>_low` and `<column>_high`.

Samples and units are drawn anew together, as samples x units are no independent draws (the pigeonhole bootstrap, Owen 2007, Annals
of Applied Statistics 1). The positions of a convolution stay with their image, and beyond `_MOST_BLOCKS` samples neighbours stay
together, so that what depends on each other is drawn as one. Owen shows that a cell's own noise then counts up to three times, once
for samples, once for units, once for both: intervals are rather too wide than too narrow. Means over samples and units together take
the first two parts only, which their margins hold.

An interval is about what endless samples and units would give, and holds what was measured. Noise adds to a distance, which the
lower end takes into account: 0.03 with the interval [0, 0.04] is what these samples show where there is none. That of
`normalized_wasserstein` is about all entries, not about the few whose noise the column has.

What a layer did to these samples stays as it is: a batch normalization keeps its statistics, where new samples would bring new ones,
so that behind one intervals are wider still.

Draws depend on nothing but how many samples and units there are, so that a layer has one interval, alone and in any pack.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, absent
from harness.probes.contraction import elasticity, scaled_activations
from harness.probes.expectations import gaussian_moments
from harness.probes.gaussianity import squared_lengths
from harness.probes.nulls import fewest_samples
from harness.probes.readings import (
    FEWEST_UNITS,
    LayerReading,
    Moments,
    blocks,
    pooled,
    unit_moments,
)
from harness.probes.weights import inside_theorem_1

_REPLICATES = 128
_MOST_BLOCKS = 256
# Half the width of a 99 % interval in standard deviations: so many replicates tell a standard deviation, but no quantile of 0.5 %.
_HALF = 2.5758
# The distribution function is compared with the normal one at so many points up to so many standard deviations, for so many units.
_POINTS = 128
_REACH = 8.0
_CELL = 2 * _REACH / _POINTS
_MOST_UNITS = 128
# Beyond what replicates show numbers have so much rounding, relative to themselves, or to 1 in a distance.
_ROUNDING = 1e-5
# Step of the slopes of a Gaussian expectation, relative to the standard deviation and the variance.
_STEP = 1e-3


def bands(reading: LayerReading) -> Columns:
    """The intervals of all columns that have one; NaN where the column is, or where samples or units are too few to draw from."""
    before, after, inputs = (
        _Table.of(reading.pre_activation, reading.pre_activation_moments),
        _Table.of(reading.activation, reading.activation_moments),
        _inputs(reading),
    )
    found = [
        _units(reading, before, after, inputs),
        _pooled("activation", after),
        _pooled("input", inputs),
        _residual_pooled(reading, after, inputs),
        _slope(reading),
        _normalized(reading),
    ]
    return {name: values for columns in found for name, values in columns.items()}


@dataclass(frozen=True)
class _Table:
    """Units' moments (trials, units), and for each block of samples the mean over it and over positions of the distance from the
    unit's mean and of its square, (trials, blocks, units).
    """

    moments: Moments
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, values: Tensor, moments: Moments) -> _Table:
        """Of (trials, samples, units[, positions ...])."""
        shift = moments.mean.to(values.dtype).view(len(values), 1, -1, *[1] * (values.dim() - 3))
        first, second = [], []
        for part in blocks(values, 1):
            difference = (part - shift).float()
            first.append(_over_positions(difference))
            second.append(_over_positions(difference.square()))
        return cls(
            moments, _blocked(torch.cat(first, 1)).mean(2), _blocked(torch.cat(second, 1)).mean(2)
        )

    def by_unit(self) -> Moments:
        """Every unit's moments with other samples: (trials, replicates, units)."""
        weights = _draws(self.first.shape[1], "samples", self.first.device).weights
        moved = weights @ self.first
        mean, variance = (part.to(moved.dtype).unsqueeze(1) for part in self.moments)
        return Moments(mean + moved, variance + weights @ self.second - moved.square())

    @functools.cached_property
    def of_samples(self) -> Moments:
        """Moments of all units together with other samples: (trials, replicates)."""
        return self._moved(self._by_samples)

    @functools.cached_property
    def together(self) -> Moments:
        """Moments of all units together with other samples and other units: (trials, replicates)."""
        away = self._away
        units = torch.stack([away, self.moments.variance + away.square()], 2)
        return self._moved(
            self._by_samples + _draws(away.shape[1], "units", away.device).weights.double() @ units
        )

    @functools.cached_property
    def _by_samples(self) -> Tensor:
        """How far other samples move the mean distance from the mean of all, and that of its square: (trials, replicates, 2)."""
        first = self.first.mean(2)
        second = (
            self.second.mean(2)
            + 2
            * (self.first @ self._away.to(self.first.dtype).unsqueeze(2)).squeeze(2)
            / self.first.shape[2]
        )
        return (
            _draws(first.shape[1], "samples", first.device).weights.double()
            @ torch.stack([first, second], 2).double()
        )

    @functools.cached_property
    def _away(self) -> Tensor:
        return self.moments.mean - self.moments.mean.mean(1, keepdim=True)

    def _moved(self, by: Tensor) -> Moments:
        mean, variance = (part.unsqueeze(1) for part in pooled(self.moments))
        return Moments(mean + by[..., 0], variance + by[..., 1] - by[..., 0].square())


def _over_positions(values: Tensor) -> Tensor:
    return values if values.dim() == 3 else values.flatten(3).mean(3)


def _blocked(samples: Tensor) -> Tensor:
    """Neighbours together, (trials, samples, ...) -> (trials, blocks, size, ...); those left over take no part in the draws."""
    size = -(-samples.shape[1] // _MOST_BLOCKS)
    return samples[:, : samples.shape[1] // size * size].unflatten(1, (-1, size))


def _inputs(reading: LayerReading) -> _Table:
    """What enters the weights; of a convolution the units are its channels."""
    if reading.pre_activation.dim() == 3:
        return _Table.of(reading.inputs.flatten(2), reading.input_unit_moments)
    channels = reading.inputs.shape[2]
    return _Table.of(
        reading.inputs,
        pooled(
            Moments(*(part.unflatten(1, (channels, -1)) for part in reading.input_unit_moments))
        ),
    )


def _units(reading: LayerReading, before: _Table, after: _Table, inputs: _Table) -> Columns:
    """Of the median error of units' variances by their own Gaussian and by g, and of the share of units in Theorem 1's box."""
    redrawn, drawn = after.by_unit(), before.by_unit()
    predicted = {"residual_unit": _predicted(reading.activation_module, before.moments, drawn)}
    if reading.direct:
        omega, tau, biases = (
            part.unsqueeze(1) for part in (reading.omega, reading.tau, reading.biases)
        )
        (mu, nu), (other_mu, other_nu) = (
            [part.unsqueeze(-1) for part in moments]
            for moments in (reading.input_moments, inputs.of_samples)
        )
        here = Moments(mu * reading.omega + reading.biases, nu * reading.tau)
        predicted["residual_map"] = _predicted(
            reading.activation_module,
            here,
            Moments(*((other_mu * omega + biases).float(), (other_nu * tau).float())),
        )
    columns = absent(reading.tau, "residual_map_low", "residual_map_high")
    for name, (by_map, by_map_redrawn) in predicted.items():
        columns |= _distance(
            name,
            _error(after.moments.variance, by_map),
            _error(_other_units(redrawn.variance), _other_units(by_map_redrawn)),
        )
    known = torch.where(
        torch.isfinite(after.moments.mean + after.moments.variance).all(1), 1.0, torch.nan
    )
    share = inside_theorem_1(*after.moments).double().mean(1) * known
    columns |= _share(
        "theorem_1_moment_share",
        share,
        _other_units(inside_theorem_1(*redrawn).float()).mean(2),
        after.moments.mean.shape[1],
    )
    return _where_enough(columns, after)


def _pooled(name: str, table: _Table) -> Columns:
    columns: Columns = {}
    for moment, measured, replicates in zip(
        ("mean", "variance"), pooled(table.moments), table.together
    ):
        columns |= _number(f"{name}_{moment}", measured, replicates)
    return _where_enough(columns, table)


def _residual_pooled(reading: LayerReading, after: _Table, inputs: _Table) -> Columns:
    if not reading.direct:
        return absent(reading.tau, "residual_pooled_low", "residual_pooled_high")
    units = _draws(reading.tau.shape[1], "units", reading.tau.device).weights.double()
    (mu, nu), (other_mu, other_nu) = reading.input_moments, inputs.of_samples
    tau, square = (
        torch.cat([part.mean(1, keepdim=True), part.mean(1, keepdim=True) + part @ units.T], 1)
        for part in (reading.tau, reading.biases.square())
    )
    # The measured value and behind it its replicates, which go through the map together.
    q = tau * torch.cat([(nu + mu.square()).unsqueeze(1), other_nu + other_mu.square()], 1) + square
    found = [
        torch.cat([here.unsqueeze(1), other], 1)
        for here, other in zip(pooled(after.moments), after.together)
    ]
    mean, variance = gaussian_moments(reading.activation_module, torch.zeros_like(q), q)
    residual = torch.hypot(found[0] - mean, found[1] - variance)
    return _where_enough(_distance("residual_pooled", residual[:, 0], residual[:, 1:]), after)


def _slope(reading: LayerReading) -> Columns:
    if not reading.direct:
        return absent(reading.tau, "empirical_slope_low", "empirical_slope_high")
    low, high = (_Table.of(values, unit_moments(values)) for values in scaled_activations(reading))
    measured = elasticity(pooled(low.moments).variance, pooled(high.moments).variance)
    return _where_enough(
        _number(
            "empirical_slope", measured, elasticity(low.together.variance, high.together.variance)
        ),
        low,
    )


def _normalized(reading: LayerReading) -> Columns:
    """Of the distance of z / sqrt(q(x)) from the normal distribution, by its distribution function on a grid."""
    square = squared_lengths(reading)[0]
    direction = (
        torch.where(square > 0, square.rsqrt(), 0.0).float().unsqueeze(2)
        * reading.rows.pre_activation[:, :, :: -(-reading.tau.shape[1] // _MOST_UNITS)]
    )
    table = _Table.of(direction, unit_moments(direction))
    (mean, variance), others = (
        [part.unsqueeze(-1) for part in moments]
        for moments in (pooled(table.moments), table.together)
    )
    sd = variance.sqrt()
    shift, scale = (
        (others[0] - mean.unsqueeze(1)) / sd.unsqueeze(1),
        (others[1] / variance.unsqueeze(1)).sqrt(),
    )
    standard = (direction - mean.float().unsqueeze(2)) / sd.float().unsqueeze(2)
    cells = ((standard.nan_to_num() + _REACH) / _CELL).long().clamp_(0, _POINTS - 1)
    rows, units = _distribution(_blocked(cells).flatten(2)), _distribution(cells.transpose(1, 2))
    moved = (
        _draws(rows.shape[1], "samples", cells.device).weights @ rows
        + _draws(units.shape[1], "units", cells.device).weights @ units
    )
    points = _CELL * torch.arange(1, _POINTS + 1, device=cells.device) - _REACH
    here = rows.mean(1, keepdim=True)
    measured = _CELL * (here - torch.special.ndtr(points)).abs().sum(2)[:, 0].double()
    away = (
        _CELL
        / scale[..., 0]
        * (here + moved - torch.special.ndtr((points - shift) / scale)).abs().sum(2)
    )
    return _where_enough(
        _distance(
            "normalized_wasserstein", torch.where(variance[:, 0] > 0, measured, torch.nan), away
        ),
        table,
    )


def _distribution(cells: Tensor) -> Tensor:
    """Distribution functions at the upper ends of cells, from the cells of (trials, owners, entries): (trials, owners, points)."""
    trials, owners, entries = cells.shape
    places = (
        cells + _POINTS * torch.arange(trials * owners, device=cells.device).view(trials, owners, 1)
    ).flatten()
    # On a CPU NumPy counts seven times faster than torch.
    counts = (
        torch.from_numpy(np.bincount(places.numpy(), minlength=trials * owners * _POINTS))
        if places.device.type == "cpu"
        else places.bincount(minlength=trials * owners * _POINTS)
    )
    return counts.view(trials, owners, _POINTS).cumsum(2).float() / entries


def _predicted(module: nn.Module, moments: Moments, others: Moments) -> tuple[Tensor, Tensor]:
    """Variance of phi(z), z Gaussian: at each unit's moments (trials, units), and at others nearby, (trials, replicates, units), by its slopes."""
    mean, variance = moments
    steps = _STEP * variance.sqrt(), _STEP * variance
    found = gaussian_moments(
        module,
        torch.cat([mean, mean + steps[0], mean], 1),
        torch.cat([variance, variance, variance + steps[1]], 1),
    )[1]
    here, right, wider = found.chunk(3, 1)
    slopes = [
        torch.where(step > 0, (moved - here) / step, 0.0)
        for moved, step in zip((right, wider), steps)
    ]
    origin = here - slopes[0] * mean - slopes[1] * variance
    origin, *slopes = (part.to(others.mean.dtype).unsqueeze(1) for part in (origin, *slopes))
    return here, origin + slopes[0] * others.mean + slopes[1] * others.variance


def _error(measured: Tensor, predicted: Tensor) -> Tensor:
    """Median over the last dimension of the relative error; units predicted to be constant are left out."""
    ratio = torch.where(predicted > 0, (measured - predicted).abs() / predicted, torch.nan)
    return torch.where(
        torch.isfinite(measured).all(-1), torch.nanmedian(ratio, -1).values, torch.nan
    )


def _other_units(values: Tensor) -> Tensor:
    """The units of each replicate, drawn with replacement from (trials, replicates, units)."""
    return values.gather(
        2, _draws(values.shape[2], "units", values.device).chosen.expand(len(values), -1, -1)
    )


@dataclass(frozen=True)
class _Draws:
    """Of each replicate what is drawn, (replicates, count), and (how often - 1) / count, whose sum with values is how far their mean moves."""

    chosen: Tensor
    weights: Tensor


@functools.lru_cache(maxsize=32)
def _draws(count: int, what: str, device: torch.device) -> _Draws:
    generator = torch.Generator().manual_seed({"samples": 1, "units": 2}[what])
    chosen = torch.randint(count, (_REPLICATES, count), generator=generator)
    often = torch.zeros(_REPLICATES, count).scatter_add_(
        1, chosen, torch.ones(1).expand(chosen.shape)
    )
    return _Draws(chosen.to(device), ((often - 1) / count).to(device))


def _where_enough(columns: Columns, table: _Table) -> Columns:
    """NaN where what is drawn is too few."""
    enough = table.first.shape[1] >= fewest_samples() and table.first.shape[2] >= FEWEST_UNITS
    return columns if enough else absent(table.moments.mean, *columns)


def _number(name: str, measured: Tensor, replicates: Tensor) -> Columns:
    half = _HALF * replicates.std(1) + _ROUNDING * measured.abs()
    return {f"{name}_low": measured - half, f"{name}_high": measured + half}


def _distance(name: str, measured: Tensor, replicates: Tensor) -> Columns:
    """Of a size, in squares: to these noise adds as much as to those of the replicates, of which the interval's one end is freed."""
    square, squares = measured.square(), replicates.square()
    freed, half = 2 * square - squares.mean(1), _HALF * squares.std(1) + _ROUNDING**2
    return {
        f"{name}_low": (torch.minimum(square, freed) - half).clamp(min=0).sqrt(),
        f"{name}_high": (torch.maximum(square, freed) + half).sqrt(),
    }


def _share(name: str, measured: Tensor, replicates: Tensor, units: int) -> Columns:
    """Of a share of units: Wilson's interval for so many draws as the replicates' spread says, at most the units."""
    usual, spread = replicates.mean(1), replicates.var(1)
    draws = torch.where(spread > 0, usual * (1 - usual) / spread, units).clamp(max=units)
    freed, add = (2 * measured - usual).clamp(0, 1), _HALF**2 / draws
    low, high = torch.minimum(measured, freed), torch.maximum(measured, freed)
    ends = [
        (share + add / 2 + sign * (add * (share * (1 - share) + add / 4)).sqrt()) / (1 + add)
        for share, sign in ((low, -1), (high, 1))
    ]
    return {
        f"{name}_low": torch.where(low > 0, ends[0], low),
        f"{name}_high": torch.where(high < 1, ends[1], high),
    }
