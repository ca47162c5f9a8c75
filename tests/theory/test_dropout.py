"""Constants and effects of alpha dropout and of standard dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations.functions import activation
from harness.theory.mean_field import maps
from harness.theory.networks import dropout
from harness.theory.selu import moment_map


@pytest.mark.parametrize("mean, variance", [(0.0, 1.0), (0.3, 2.0), (-0.5, 0.4)])
def test_alpha_dropout_keeps_its_target(mean, variance):
    after = dropout.alpha_dropout(0.1, mean, variance).moments(mean, variance)
    assert after == (pytest.approx(mean, abs=1e-14), pytest.approx(variance, rel=1e-14))


def test_alpha_dropout_moves_what_is_not_its_target():
    mean, variance = dropout.alpha_dropout(0.1).moments(0.1, 1.5)
    assert mean == pytest.approx(0.0829156, abs=5e-8)
    assert variance == pytest.approx(1.4095681, abs=5e-8)


def test_alpha_dropout_against_samples():
    random = np.random.default_rng(0)
    x = 0.4 + 1.3 * random.standard_normal(1_000_000)
    partner = 0.4 + 0.6 * (x - 0.4) + 0.8 * 1.3 * random.standard_normal(x.size)
    layer = dropout.alpha_dropout(0.2, 0.1, 0.9)

    def drop(values):
        dropped = random.random(values.size) < layer.rate
        return layer.a * np.where(dropped, layer.floor, values) + layer.b

    after = drop(x)
    partner_after = drop(partner)
    mean, variance = layer.moments(0.4, 1.69)
    assert after.mean() == pytest.approx(mean, abs=0.006)
    assert after.var() == pytest.approx(variance, rel=0.006)
    # Covariance of two inputs under independent masks, and the gradient through one.
    covariance_factor = np.cov(after, partner_after)[0, 1] / np.cov(x, partner)[0, 1]
    assert covariance_factor == pytest.approx(layer.forward_factor, rel=0.01)
    assert layer.backward_factor == pytest.approx(layer.a**2 * (1 - layer.rate))


def test_the_neutral_rate_makes_chi_1_one():
    chi_1 = maps.gradient_gain(activation("selu"), 1.0, 1.0)
    factor = dropout.alpha_dropout(dropout.neutral_rate()).backward_factor
    assert chi_1 * factor == pytest.approx(1.0, abs=1e-14)


def test_the_backward_factor_has_a_closed_form():
    factor = dropout.alpha_dropout(0.05).backward_factor
    assert factor == pytest.approx(1 / (1 + moment_map.FLOOR**2 * 0.05), abs=1e-14)


def test_vanishing_gradients_have_no_neutral_rate():
    """ELU has chi_1 below 1."""
    assert dropout.neutral_rate(alpha=1.0, lam=1.0) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1.0,), "rate=1"),
        ((-0.1,), "rate=-0.1"),
        ((math.nan,), "rate=nan"),
        ((0.1, 0.0, 0.0), "variance=0"),
        ((0.1, math.inf), "finite"),
    ],
)
def test_an_impossible_dropout_is_refused(arguments, message):
    with pytest.raises(RequestError, match=message):
        dropout.alpha_dropout(*arguments)
