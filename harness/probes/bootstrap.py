"""Bootstrap over samples and units: draws, redrawn moments, and the ends of 99 % intervals.

Samples and units are drawn anew together, as samples x units are no independent draws (the
pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1). The positions of a convolution
stay with their image, and beyond `_MOST_BLOCKS` samples neighbours stay together, so that values
that depend on each other are drawn as one. Owen shows that a cell's own noise then counts up to
three times, once for samples, once for units, once for both: intervals are rather too wide than
too narrow.

Draws depend only on how many samples and units there are, so that a layer has the same interval
alone and in any pack.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.probes.columns import Columns
from harness.probes.reductions import Moments, blocks, pooled

_REPLICATES = 128
_MOST_BLOCKS = 256
# Half the width of a 99 % interval in standard deviations. 128 replicates estimate a standard
# deviation, but no quantile of 0.5 %.
HALF_WIDTH = 2.5758
# Rounding that is added to an interval: relative to the number, or to 1 in a distance.
_ROUNDING = 1e-5
_SEEDS = {"samples": 1, "units": 2}


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of `count` things.

    Attributes:
        indices: drawn with replacement, (replicates, count).
        weights: (times drawn - 1) / count, (replicates, count), so that `weights @ values` is the
            change of the mean.
    """

    indices: Tensor
    weights: Tensor


@functools.lru_cache(maxsize=32)
def draws(count: int, axis: str, device: torch.device) -> Draws:
    """Returns the draws of `count` samples or units.

    Args:
        count: number of samples (or blocks of samples) or units.
        axis: "samples" or "units", which are drawn independently of each other.
        device: where the tensors lie.
    """
    generator = torch.Generator().manual_seed(_SEEDS[axis])
    indices = torch.randint(count, (_REPLICATES, count), generator=generator)
    ones = torch.ones(1).expand(indices.shape)
    times = torch.zeros(_REPLICATES, count).scatter_add_(1, indices, ones)
    return Draws(indices.to(device), ((times - 1) / count).to(device))


def in_blocks(samples: Tensor) -> Tensor:
    """Groups neighbouring samples: (trials, samples, ...) -> (trials, blocks, size, ...).

    Those left over take no part in the draws.
    """
    size = -(-samples.shape[1] // _MOST_BLOCKS)
    whole = samples.shape[1] // size * size
    return samples[:, :whole].unflatten(1, (-1, size))


def redrawn_units(values: Tensor) -> Tensor:
    """The units of each replicate, drawn with replacement from (trials, replicates, units)."""
    indices = draws(values.shape[2], "units", values.device).indices
    return values.gather(2, indices.expand(len(values), -1, -1))


@dataclass(frozen=True)
class Resampled:
    """Units' moments, and the means over blocks of samples that redrawing them needs.

    Attributes:
        moments: of every unit, (trials, units).
        first: mean over each block and over positions of the difference from the unit's mean,
            (trials, blocks, units).
        second: the same of the difference's square.
    """

    moments: Moments
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, values: Tensor, moments: Moments) -> Resampled:
        """Prepares values (trials, samples, units[, positions ...]) with their unit moments."""
        more_dimensions = [1] * (values.dim() - 3)
        centre = moments.mean.to(values.dtype).view(len(values), 1, -1, *more_dimensions)
        first = []
        second = []
        for part in blocks(values, 1):
            difference = (part - centre).float()
            first.append(_over_positions(difference))
            second.append(_over_positions(difference.square()))
        return cls(
            moments,
            in_blocks(torch.cat(first, 1)).mean(2),
            in_blocks(torch.cat(second, 1)).mean(2),
        )

    def by_unit(self) -> Moments:
        """Every unit's moments with redrawn samples: (trials, replicates, units)."""
        weights = draws(self.first.shape[1], "samples", self.first.device).weights
        change = weights @ self.first
        mean = self.moments.mean.to(change.dtype).unsqueeze(1)
        variance = self.moments.variance.to(change.dtype).unsqueeze(1)
        return Moments(mean + change, variance + weights @ self.second - change.square())

    @functools.cached_property
    def over_samples(self) -> Moments:
        """Moments of all units together with redrawn samples: (trials, replicates)."""
        return self._changed(self._changes_by_samples)

    @functools.cached_property
    def over_both(self) -> Moments:
        """Moments of all units together with redrawn samples and units: (trials, replicates).

        The change by samples and the change by units are added. Owen's third part, that of a
        cell's own noise, is left out; the margins of the first two hold it.
        """
        offset = self._offset
        units = torch.stack([offset, self.moments.variance + offset.square()], 2)
        weights = draws(offset.shape[1], "units", offset.device).weights.double()
        return self._changed(self._changes_by_samples + weights @ units)

    @functools.cached_property
    def _changes_by_samples(self) -> Tensor:
        """Changes of the pooled mean and mean square by redrawn samples: (trials, replicates, 2).

        Both are of differences from the mean of all entries.
        """
        first = self.first.mean(2)
        count = self.first.shape[2]
        offset = self._offset.to(self.first.dtype).unsqueeze(2)
        # The square about the mean of all is that about the unit's mean, plus a cross term.
        second = self.second.mean(2) + 2 * (self.first @ offset).squeeze(2) / count
        weights = draws(first.shape[1], "samples", first.device).weights.double()
        return weights @ torch.stack([first, second], 2).double()

    @functools.cached_property
    def _offset(self) -> Tensor:
        """Distance of each unit's mean from the mean of all, (trials, units)."""
        return self.moments.mean - self.moments.mean.mean(1, keepdim=True)

    def _changed(self, changes: Tensor) -> Moments:
        mean, variance = (part.unsqueeze(1) for part in pooled(self.moments))
        change = changes[..., 0]
        return Moments(mean + change, variance + changes[..., 1] - change.square())


def number_interval(name: str, measured: Tensor, replicates: Tensor) -> Columns:
    """Interval of a number: `measured` (trials,) and its replicates (trials, replicates)."""
    half = HALF_WIDTH * replicates.std(1) + _ROUNDING * measured.abs()
    return {f"{name}_low": measured - half, f"{name}_high": measured + half}


def distance_interval(name: str, measured: Tensor, replicates: Tensor) -> Columns:
    """Interval of a distance, which is never below 0.

    Computed for squares. Noise adds as much to the measured square as to those of the replicates;
    one end of the interval is that of the square without this bias.
    """
    square = measured.square()
    squares = replicates.square()
    unbiased = 2 * square - squares.mean(1)
    half = HALF_WIDTH * squares.std(1) + _ROUNDING**2
    return {
        f"{name}_low": (torch.minimum(square, unbiased) - half).clamp(min=0).sqrt(),
        f"{name}_high": (torch.maximum(square, unbiased) + half).sqrt(),
    }


def share_interval(name: str, measured: Tensor, replicates: Tensor, units: int) -> Columns:
    """Wilson interval of a share of units.

    The effective sample size is p (1 - p) / variance over replicates, at most the number of units.
    """
    mean = replicates.mean(1)
    variance = replicates.var(1)
    size = torch.where(variance > 0, mean * (1 - mean) / variance, units).clamp(max=units)
    unbiased = (2 * measured - mean).clamp(0, 1)
    add = HALF_WIDTH**2 / size
    low = torch.minimum(measured, unbiased)
    high = torch.maximum(measured, unbiased)
    return {
        f"{name}_low": torch.where(low > 0, _wilson_end(low, add, -1), low),
        f"{name}_high": torch.where(high < 1, _wilson_end(high, add, 1), high),
    }


def _wilson_end(share: Tensor, add: Tensor, sign: int) -> Tensor:
    """One end of Wilson's interval (Wilson 1927) with `add` = z^2 / n."""
    root = (add * (share * (1 - share) + add / 4)).sqrt()
    return (share + add / 2 + sign * root) / (1 + add)


def _over_positions(values: Tensor) -> Tensor:
    return values if values.dim() == 3 else values.flatten(3).mean(3)
