"""Moments and norms of float32 tensors against the same in float64."""

from __future__ import annotations

import pytest
import torch

from harness.probes.reductions import norms, ratio, unit_moments


@pytest.mark.parametrize(
    "shift, scale", [(0.0, 1.0), (1e4, 1.0), (0.0, 1e25), (0.0, 1e-25), (-30.0, 0.01)]
)
def test_moments_of_float32_entries_are_as_good_as_float64(normal, shift, scale):
    rows = shift + scale * normal(2, 3000, 8)
    mean, variance = unit_moments(rows)
    torch.testing.assert_close(mean, rows.double().mean(1), rtol=1e-12, atol=1e-12 * scale)
    torch.testing.assert_close(variance, rows.double().var(1, correction=0), rtol=1e-11, atol=0.0)


@pytest.mark.parametrize("head", [1.0, 1e3, 1e6])
def test_moments_do_not_suffer_from_first_rows_that_are_unlike_the_others(normal, head):
    """The provisional mean is that of the first 64 rows, however far they lie from the others.

    Constant units have variance 0 to the bit.
    """
    rows = normal(2, 3000, 8)
    rows[:, :64] += head
    rows[:, :, 7] = head / 3
    mean, variance = unit_moments(rows)
    expected = rows[:, :, :7].double().var(1, correction=0)
    torch.testing.assert_close(mean, rows.double().mean(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance[:, :7], expected, rtol=1e-11, atol=0.0)
    assert (variance[:, 7] == 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25, 0.0])
@pytest.mark.parametrize("length", [64, 5000])
def test_norms_are_right_at_any_scale(normal, scale, length):
    """Squares of 1e-25 and 1e25 are no float32 numbers; long vectors are summed in float64."""
    vectors = scale * normal(2, 30, length)
    vectors[0, 3] = 0.0
    lengths = norms(vectors)
    tolerance = 5e-7 if length == 64 else 1e-12
    torch.testing.assert_close(lengths, vectors.double().norm(dim=2), rtol=tolerance, atol=0.0)
    assert lengths.dtype == torch.float64
    assert lengths[0, 3] == 0


def test_no_vectors_have_no_norms():
    assert norms(torch.empty(2, 0, 5)).shape == (2, 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30, 0.0])
def test_norms_of_a_trial_do_not_depend_on_its_companions(normal, bad):
    """To the bit: how they are summed is decided for each trial."""
    vectors = normal(3, 30, 64)
    alone = norms(vectors)
    vectors[1, 4] = bad
    beside = norms(vectors)
    assert torch.equal(beside[[0, 2]], alone[[0, 2]])


def test_a_ratio_to_nothing_is_missing():
    numerator = torch.tensor([0.0, 1.0, -1.0, 3.0])
    divisor = torch.tensor([0.0, 0.0, 0.0, 2.0])
    expected = torch.tensor([torch.nan, torch.nan, torch.nan, 1.5])
    torch.testing.assert_close(ratio(numerator, divisor), expected, equal_nan=True)
