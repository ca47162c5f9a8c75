"""Forms of weights: what they do to a layer's weights, alone and in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.networks.weight_forms import (
    SPECTRAL_NORM,
    STANDARDIZED,
    WEIGHT_NORM,
    FormedConv2d,
    FormedLinear,
    over_largest_singular_value,
    standardize,
)
from harness.theory.networks.description import Opaque
from harness.theory.networks.identities import largest_random_square

FORMS = [STANDARDIZED, WEIGHT_NORM, SPECTRAL_NORM]
SHAPE, CLASSES = (1, 8, 8), 10


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [normal(20, 30), normal(20, 5, 3, 3)])
def test_standardized_weights_have_omega_zero_and_tau_one(weight):
    rows = standardize(weight).flatten(1)
    torch.testing.assert_close(rows.sum(1), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.square().sum(1), torch.ones(20), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_gradients_pass_through_a_form(form, kind):
    if kind == "linear":
        layer, x = FormedLinear(30, 20, form), normal(4, 30)
    else:
        layer, x = FormedConv2d(5, 20, 3, form), normal(4, 5, 6, 6)
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape))
    layer(x).square().sum().backward()
    assert layer.weight.grad.abs().max() > 0


@pytest.mark.parametrize("form", FORMS)
def test_a_form_acts_on_every_trial_of_a_pack_alone(form):
    weight, companion = normal(3, 6, 4, 2, 2), normal(3, 6).abs()
    together, following = form.effective(weight, companion, 2)
    for trial in range(3):
        alone, own_following = form.effective(weight[trial], companion[trial], 1)
        torch.testing.assert_close(together[trial], alone)
        if following is not None:
            torch.testing.assert_close(following[trial], own_following)


def test_weight_norm_is_that_of_torch():
    layer = FormedLinear(7, 5, WEIGHT_NORM)
    reference = nn.Linear(7, 5)
    with torch.no_grad():
        layer.weight.copy_(normal(5, 7))
        layer.lengths.copy_(normal(5, seed=1).abs())
        layer.bias.zero_()
        reference.bias.zero_()
    parametrizations.weight_norm(reference)
    with torch.no_grad():
        reference.parametrizations.weight.original0.copy_(layer.lengths.unsqueeze(1))
        reference.parametrizations.weight.original1.copy_(layer.weight)
    for module in (layer, reference):
        module(normal(9, 7, seed=2)).square().sum().backward()
    torch.testing.assert_close(layer.effective_weight(), reference.weight)
    original = reference.parametrizations.weight
    torch.testing.assert_close(layer.weight.grad, original.original1.grad)
    torch.testing.assert_close(layer.lengths.grad, original.original0.grad.squeeze(1))


def test_spectral_norm_makes_the_largest_singular_value_one():
    weight = normal(12, 5, 3, 3)
    left = SPECTRAL_NORM.initial(weight)
    effective, following = over_largest_singular_value(weight, left)
    largest = torch.linalg.matrix_norm(effective.flatten(1), 2)
    assert float(largest) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(following, left, atol=1e-3, rtol=0)


def test_the_gradient_through_spectral_norm_is_that_of_the_singular_value():
    weight = normal(5, 4).double().requires_grad_()
    left = torch.linalg.svd(weight.detach())[0][:, 0]
    target = normal(5, 4, seed=3).double()
    (own,) = torch.autograd.grad(
        (over_largest_singular_value(weight, left)[0] * target).sum(), weight
    )
    norm = torch.linalg.matrix_norm(weight, 2)
    (expected,) = torch.autograd.grad((weight / norm * target).sum(), weight)
    torch.testing.assert_close(own, expected)


def test_the_singular_vector_follows_training_and_rests_otherwise():
    layer = FormedLinear(6, 5, SPECTRAL_NORM)
    with torch.no_grad():
        layer.weight.copy_(normal(5, 6))
    before = layer.left.clone()
    layer.eval()
    layer(normal(2, 6))
    assert torch.equal(layer.left, before)
    layer.train()
    for _ in range(100):
        layer(normal(2, 6))
    expected = torch.linalg.svd(layer.weight.detach())[0][:, 0].abs()
    torch.testing.assert_close(layer.left.abs(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_zero_stay_finite(form):
    effective, _ = form.effective(torch.zeros(4, 3), torch.ones(4) / 2, 1)
    assert torch.equal(effective, torch.zeros(4, 3))


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_weight_norm_begins_with_the_drawn_weights(make_trial, architecture):
    drawn = {}
    for normalization in ("none", "weight_norm"):
        spec = make_trial(
            normalization=normalization, architecture=architecture, depth=2, width=6
        ).spec
        network = build_network(spec, SHAPE, CLASSES)
        initialize(network, spec["initializer"], 0)
        drawn[normalization] = network
    for layer in ("layer_01", "layer_02"):
        plain, formed = (getattr(network, layer).weights for network in drawn.values())
        torch.testing.assert_close(formed.effective_weight(), plain.weight)


@pytest.mark.parametrize("units, fan_in", [(64, 64), (32, 128), (256, 64)])
@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_the_largest_singular_value_of_random_weights_is_predicted(units, fan_in, law):
    random = np.random.default_rng(0)
    draw = (
        random.standard_normal if law == "normal" else lambda s: random.uniform(-1, 1, s) * 3**0.5
    )
    largest = [np.linalg.norm(draw((units, fan_in)), 2) ** 2 / fan_in for _ in range(60)]
    tolerance = 0.015 if law == "normal" else 0.04
    expected = largest_random_square(units, fan_in)
    assert np.mean(largest) == pytest.approx(expected, rel=tolerance)


def described(make_trial, **changes):
    from harness.networks.layout import describe

    return describe(make_trial(normalization="spectral_norm", **changes).spec, SHAPE, CLASSES)


def test_spectral_norm_is_described_by_the_law_of_its_weights(make_trial):
    layers = described(make_trial, depth=2, width=64)
    assert layers[1].sigma_w2 == pytest.approx(1 / largest_random_square(64, 64))
    orthogonal = described(make_trial, depth=2, width=64, initializer="orthogonal")
    assert orthogonal[1].sigma_w2 == 1
    heavy = described(make_trial, depth=2, width=64, initializer="heavy_tailed")
    assert isinstance(heavy[2], Opaque)
    assert "largest singular value" in heavy[2].reason
