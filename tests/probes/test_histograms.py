"""Histograms of pre-activations: counts by hand, of Gaussian numbers, and what has none."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from harness.probes.histogram_bins import BINS, COUNT_COLUMNS, EDGES
from harness.probes.histograms import histogram

MIDDLES = [
    math.copysign(math.sqrt(low * high), low)
    for low, high in zip(EDGES, EDGES[1:], strict=False)
    if low * high > 0 and abs(low) != abs(high)
]


def counts_of(values: torch.Tensor, variance: float | None = None) -> list[int]:
    """The histogram of one trial with one layer of these values."""
    z = values.view(1, -1, 1).float()
    pooled = z.double().var(correction=0) if variance is None else torch.tensor(variance)
    (counts,) = histogram(z, pooled.double().view(1))
    return counts.tolist()


def occupied(counts: list[int]) -> dict[int, int]:
    return {index: count for index, count in enumerate(counts) if count}


def test_edges_are_32_bins_of_each_sign_from_a_hundredth_to_a_hundred():
    assert len(COUNT_COLUMNS) == BINS == 64
    assert len(EDGES) == 66
    assert tuple(sorted(EDGES)) == EDGES
    assert (EDGES[0], EDGES[32], EDGES[33], EDGES[65]) == (-100.0, -0.01, 0.01, 100.0)
    assert EDGES[34] / EDGES[33] == pytest.approx(10 ** (1 / 8))


def test_the_middle_of_every_bin_is_counted_in_it():
    assert len(MIDDLES) == BINS
    for number, middle in enumerate(MIDDLES):
        assert occupied(counts_of(torch.tensor([middle]), variance=1.0)) == {number: 1}


def test_values_are_divided_by_the_standard_deviation_and_not_centred():
    # Standard deviation 3, so the values are 0.1, 1.2, 12 and -1.2 of it, a little off the edges.
    values = 3.0 * torch.tensor([0.105, 1.2, 12.0, 12.0, -1.2])
    expected = {32 + 8: 1, 32 + 16: 1, 32 + 24: 2, 31 - 16: 1}
    assert occupied(counts_of(values, variance=9.0)) == expected


def test_values_beyond_the_edges_fall_into_the_outermost_and_innermost_bins():
    values = torch.tensor([1e30, 101.0, -1e4, 0.0, 1e-30, -1e-3])
    assert occupied(counts_of(values, variance=1.0)) == {63: 2, 0: 1, 32: 2, 31: 1}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_gaussian_numbers_fill_the_bins_as_the_normal_distribution_says(scale):
    count = 200_000
    z = torch.randn(count, generator=torch.Generator().manual_seed(0)) * scale
    counts = torch.tensor(counts_of(z), dtype=torch.float64)
    inner = norm.cdf(EDGES[1:32]), norm.cdf(EDGES[34:65])
    negative = torch.tensor([0.0, *inner[0], 0.5]).diff()
    positive = torch.tensor([0.5, *inner[1], 1.0]).diff()
    expected = count * torch.cat([negative, positive])
    assert counts.sum() == count
    # Five standard deviations of a Poisson number.
    assert ((counts - expected).abs() <= 5 * expected.sqrt() + 1).all()


def test_units_samples_and_positions_are_counted_together():
    z = torch.randn(2, 7, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    variance = z.double().flatten(1).var(1, correction=0)
    counts = histogram(z, variance)
    assert counts.shape == (2, BINS)
    assert counts.sum(1).tolist() == [7 * 3 * 4 * 5] * 2
    flat = histogram(z.flatten(1).unsqueeze(2), variance)
    assert torch.equal(counts, flat)


def test_trials_alone_have_the_counts_that_they_have_side_by_side():
    z = torch.randn(5, 64, 12, generator=torch.Generator().manual_seed(0))
    z *= torch.tensor([1e-3, 1.0, 7.0, 40.0, 1e6]).view(-1, 1, 1)
    variance = z.double().flatten(1).var(1, correction=0)
    together = histogram(z, variance)
    for trial in range(5):
        alone = histogram(z[trial : trial + 1], variance[trial : trial + 1])
        assert torch.equal(alone[0], together[trial])


def test_layers_that_are_constant_or_not_finite_have_no_histogram():
    z = torch.ones(4, 6, 2)
    z[1, 0, 0] = math.nan
    z[2, 0, 0] = math.inf
    z[3, 0] = 2.0
    counts = histogram(z, z.double().flatten(1).var(1, correction=0))
    assert (counts[:3] == -1).all()
    assert counts[3].sum() == 12
