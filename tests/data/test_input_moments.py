"""Moments of inputs against their definitions and against theory."""

from __future__ import annotations

import math

import pytest
import torch

from harness.data import gaussian
from harness.data.input_moments import input_moments


def moments_by_definition(images):
    """The definitions, entry by entry."""
    x = images.flatten(1).double()
    q = x.square().mean(1)
    unit = x / x.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    covariance = torch.cov(x.T, correction=0)
    values = torch.linalg.eigvalsh(covariance)
    return {
        "mean": x.mean(),
        "variance": x.var(correction=0),
        "q": q.mean(),
        "cv_q": q.std(correction=0) / q.mean(),
        "c": cosines[~torch.eye(len(x), dtype=torch.bool)].mean(),
        "participation_ratio": values.sum() ** 2 / values.square().sum(),
    }


# Fewer samples than entries, more, and more than one block.
@pytest.mark.parametrize("count", [40, 300, 5000])
def test_moments_are_their_definitions(count):
    noise = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    images = noise * torch.linspace(0.1, 2, 25).view(5, 5) + 0.3
    moments = input_moments(images)
    for name, expected in moments_by_definition(images).items():
        assert getattr(moments, name) == pytest.approx(float(expected), rel=1e-10), name


def test_independent_inputs_have_the_moments_of_theory():
    images, _ = gaussian.draw(20_000, (1, 8, 8), 4, None)
    moments = input_moments(torch.from_numpy(images))
    assert moments.q == pytest.approx(1, rel=0.01)
    assert moments.variance == pytest.approx(1, rel=0.01)
    # A chi-square with 64 degrees of freedom.
    assert moments.cv_q == pytest.approx(math.sqrt(2 / 64), rel=0.03)
    assert abs(moments.mean) < 0.005
    assert abs(moments.c) < 0.001
    assert moments.participation_ratio == pytest.approx(1 / (1 / 64 + 1 / 20_000), rel=0.005)


def test_the_participation_ratio_sets_the_spread_of_a_units_variance():
    # The CV over units of the variance over samples is sqrt(2 / participation ratio) for Gaussian
    # weights.
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(500, 30, generator=generator) * torch.linspace(0.05, 3, 30)
    z = images.double() @ torch.randn(30, 40_000, generator=generator).double()
    variances = z.var(0, correction=0)
    measured = variances.std() / variances.mean()
    expected = math.sqrt(2 / input_moments(images).participation_ratio)
    assert float(measured) == pytest.approx(expected, rel=0.03)


def test_equal_samples_are_parallel_and_have_no_covariance():
    moments = input_moments(torch.full((10, 1, 2, 2), 3.0))
    assert moments.mean == 3
    assert moments.variance == 0
    assert moments.q == 9
    assert moments.cv_q == 0
    assert moments.c == pytest.approx(1)
    assert math.isnan(moments.participation_ratio)


def test_samples_of_norm_0_are_left_out_of_the_cosine():
    images = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert input_moments(images).c == pytest.approx(math.sqrt(0.5))
    assert math.isnan(input_moments(images[:2]).c)


def test_moments_are_accumulated_in_float64():
    noise = torch.randn(1000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = 1e4 + noise
    expected = float(images.double().var(correction=0))
    assert input_moments(images).variance == pytest.approx(expected, rel=1e-9)
