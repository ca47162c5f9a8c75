"""Dropout noise is a pure function of its key, with the moments that dropout promises."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from harness.configuration.options import known_names
from harness.networks.dropouts import (
    NEUTRAL_RATE,
    AlphaDropout,
    FeatureAlphaDropout,
    StandardDropout,
    hashed_uniform,
)
from harness.networks.hidden_layers import dropouts
from harness.theory.selu import FLOOR

KEY = torch.tensor(0x1234_5678_9ABC_DEF1)
COUNT = 200_000


def test_every_dropout_in_conf_is_declared():
    assert known_names("dropout") == dropouts.names()


def test_hash_is_uniform():
    values = hashed_uniform(KEY, torch.tensor(3), COUNT).double()
    assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_hash_is_uncorrelated_between_keys_steps_and_neighbours():
    values = hashed_uniform(KEY, torch.tensor(3), COUNT).double()
    others = [
        hashed_uniform(KEY, torch.tensor(4), COUNT).double(),
        hashed_uniform(KEY + 1, torch.tensor(3), COUNT).double(),
        torch.roll(values, 1),
    ]
    for other in others:
        correlation = float(torch.corrcoef(torch.stack([values, other]))[0, 1])
        assert abs(correlation) < 5 / COUNT**0.5


def test_rows_of_a_pack_equal_a_trial_alone():
    keys = torch.stack([KEY, KEY * 3, -KEY])
    pack = hashed_uniform(keys.unsqueeze(1), torch.full((3, 1), 7), 1000)
    for row, key in zip(pack, keys, strict=True):
        assert torch.equal(row, hashed_uniform(key, torch.tensor(7), 1000))


def murmur_finalizer(x: int) -> int:
    """MurmurHash3's 32-bit finalizer in plain integers (Appleby 2011)."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def bits(uniform: torch.Tensor) -> list[int]:
    """The 24 bits of which each uniform number is made."""
    return [round(float(value) * 2**24) for value in uniform]


def test_hash_is_the_murmur_finalizer_over_a_keyed_counter():
    key, step = int(KEY), 7
    low = murmur_finalizer((key ^ (step * 0x9E3779B1)) & 0xFFFFFFFF)
    high = murmur_finalizer(((key >> 32) ^ step) & 0xFFFFFFFF)
    expected = [
        murmur_finalizer(murmur_finalizer(counter ^ low) ^ high) >> 8 for counter in range(50)
    ]
    assert bits(hashed_uniform(KEY, torch.tensor(step), 50)) == expected


def test_hash_keeps_its_golden_numbers():
    # A change of these changes every trial with dropout, and needs a new RULES_VERSION.
    values = hashed_uniform(torch.tensor(1), torch.tensor(1), 3)
    assert bits(values) == [5284035, 8229318, 9240585]


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_alpha_dropout_keeps_mean_and_variance(rate):
    x = torch.nn.functional.selu(torch.randn(400, 500, generator=torch.Generator().manual_seed(0)))
    x = (x - x.mean()) / x.std()
    module = AlphaDropout(rate)
    module.key.copy_(KEY)
    y = module(x)
    assert float(y.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(y.var()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_alpha_dropout_sets_the_share_of_its_rate_to_the_floor(rate):
    x = torch.randn(400, 500, generator=torch.Generator().manual_seed(0))
    module = AlphaDropout(rate)
    module.key.copy_(KEY)
    floor = float(module.apply_mask(torch.zeros(1), torch.zeros(1), module.rate))
    dropped = float((module(x) == floor).double().mean())
    assert dropped == pytest.approx(rate, abs=5 * (rate / x.numel()) ** 0.5)


def test_standard_dropout_keeps_the_mean():
    module = StandardDropout(0.3)
    module.key.copy_(KEY)
    y = module(torch.ones(500, 500))
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("module", [AlphaDropout(0.5), StandardDropout(0.5)])
def test_evaluation_drops_nothing(module):
    x = torch.randn(5, 7)
    assert torch.equal(module.eval()(x), x)


def test_neutral_rate_undoes_the_gradient_gain_of_selu():
    # At mean 0 and variance 1 alpha dropout's backward factor is a^2 (1 - p) = 1 / (1 + p floor^2).
    chi_1 = 1.0 + NEUTRAL_RATE * FLOOR**2
    assert chi_1 == pytest.approx(1.0715749925, abs=1e-9)
    a_squared = 1.0 / ((1 - NEUTRAL_RATE) * (1 + NEUTRAL_RATE * FLOOR**2))
    assert a_squared * (1 - NEUTRAL_RATE) * chi_1 == pytest.approx(1.0, abs=1e-12)


def test_feature_alpha_dropout_drops_whole_maps_with_the_moments_of_alpha_dropout():
    module = FeatureAlphaDropout(0.2)
    module.key.fill_(int(KEY))
    x = torch.randn(400, 50, 3, 3, generator=torch.Generator().manual_seed(0))
    y = module(x)
    a = ((1 - 0.2) * (1 + 0.2 * FLOOR**2)) ** -0.5
    floor = a * FLOOR - a * 0.2 * FLOOR
    dropped = torch.isclose(y, torch.tensor(floor)).flatten(2)
    assert torch.equal(dropped.any(2), dropped.all(2))
    assert float(dropped.all(2).double().mean()) == pytest.approx(0.2, abs=0.02)
    assert float(y.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(y.var()) == pytest.approx(1.0, abs=0.05)
    vectors = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    alpha = AlphaDropout(0.2)
    alpha.key.fill_(int(KEY))
    assert torch.equal(module(vectors), alpha(vectors))
