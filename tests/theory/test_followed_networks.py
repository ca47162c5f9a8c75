"""Predictions for whole networks against limits with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.networks.description import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Network,
    Normalization,
    Opaque,
    Residual,
)
from harness.theory.networks.predictions import (
    BAND_DEVIATIONS,
    Inputs,
    LayerPrediction,
    normal_inputs,
    predict,
    recovery_depths,
    representatives,
)

# So wide that nothing scatters.
WIDE = 10**9
CHI_1 = 1.07157499245579926
BLOCK = (Dense(256, 256, 256, 1.0), Activation("selu"))
HEAD = (*BLOCK, Dense(256, 10, 10, 1.0))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(7))


def mlp(
    weights: tuple[str, float, float] | tuple[str, float],
    depth: int = 32,
    width: int = 256,
    before: tuple[Layer, ...] = (),
    after: tuple[Layer, ...] = (),
) -> Network:
    """Returns dense layers and a readout of 10 units.

    Args:
        weights: the activation, sigma_w2, and sigma_b2 if it is not 0.
        depth: number of activated layers.
        width: units of each.
        before: layers directly before each activation.
        after: layers directly after it.
    """
    name, *variances = weights
    hidden = (Dense(width, width, width, *variances), *before, Activation(name), *after)
    return (*hidden * depth, Dense(width, 10, 10, variances[0]))


def column(layers: tuple[LayerPrediction, ...], name: str) -> np.ndarray:
    return np.array([layer[name] for layer in layers])


def test_selu_keeps_its_moments_in_a_wide_network():
    layers = predict(mlp(("selu", 1.0), width=WIDE), normal_inputs(1.0, 0.3))
    np.testing.assert_allclose(column(layers, "q"), 1.0, atol=1e-9)
    np.testing.assert_allclose(column(layers, "activation_mean"), 0.0, atol=1e-9)
    np.testing.assert_allclose(column(layers, "activation_variance"), 1.0, atol=1e-8)


def test_gradients_of_selu_grow_8_5_fold_over_31_layers():
    layers = predict(mlp(("selu", 1.0), width=WIDE), normal_inputs(1.0, 0.3))
    np.testing.assert_allclose(column(layers, "gradient_gain")[1:], CHI_1, rtol=1e-7)
    assert layers[0]["gradient_product"] == pytest.approx(CHI_1**31, rel=1e-6)
    assert layers[0]["gradient_product"] == pytest.approx(8.53, abs=0.01)


def test_cosines_move_by_the_correlation_map():
    layers = predict(mlp(("selu", 1.0), depth=2), normal_inputs(1.0, 0.25))
    assert layers[1]["cosine"] == pytest.approx(0.243810497913, abs=1e-8)


def test_lengths_of_selu_grow_with_he():
    layers = predict(mlp(("selu", 2.0), depth=128, width=WIDE), normal_inputs(1.0, 0.1))
    q = column(layers, "q")
    assert q[-1] / q[-2] == pytest.approx(2 / 1.81163922339716, abs=0.01)
    assert q[-1] / q[-2] == pytest.approx(1.104, abs=0.01)


def test_lengths_of_selu_fall_with_pytorchs_default():
    layers = predict(mlp(("selu", 1 / 3), depth=40, width=WIDE), normal_inputs(1.0, 0.1))
    q = column(layers, "q")
    assert q[-1] / q[-2] == pytest.approx(1 / 3 / 0.476771017882753, abs=1e-3)
    assert q[-1] / q[-2] == pytest.approx(0.699, abs=2e-3)


def test_the_slope_of_a_homogeneous_network_is_1():
    """Twice the scale is twice the output, at any width, depth and similarity of samples."""
    layers = predict(mlp(("relu", 1.0), depth=6, width=32), normal_inputs(1.0, 0.3))
    np.testing.assert_allclose(column(layers, "empirical_slope"), 1.0, rtol=1e-9)


def test_the_slope_of_selu_is_the_jacobian_of_g():
    layers = predict(mlp(("selu", 1.0), depth=6), normal_inputs(1.0, 0.0))
    np.testing.assert_allclose(column(layers, "empirical_slope"), 0.782648, atol=1e-5)


@pytest.mark.parametrize(
    "weights, gain", [(("relu", 2.0), math.pi / (math.pi - 1)), (("selu", 1.0), 1.07157)]
)
def test_the_gradient_gain_with_batch_normalization(weights, gain):
    """The value holds once the directions of many samples are spread."""
    network = mlp(weights, depth=12, width=WIDE, before=(Normalization("batch", 0.0),))
    layers = predict(network, normal_inputs(1.0, 0.0, samples=48))
    assert layers[5]["gradient_gain"] == pytest.approx(gain, rel=0.03)


def test_the_gradient_gain_with_layer_normalization_before_relu():
    network = mlp(("relu", 2.0), depth=12, width=WIDE, before=(Normalization("layer", 0.0),))
    layers = predict(network, normal_inputs(1.0, 0.0))
    assert layers[5]["gradient_gain"] == pytest.approx(1.0, rel=1e-9)


def test_the_gradient_gain_with_layer_normalization_after_relu():
    network = mlp(("relu", 1.0), depth=12, width=WIDE, after=(Normalization("layer", 0.0),))
    layers = predict(network, normal_inputs(1.0, 0.0))
    assert layers[5]["gradient_gain"] == pytest.approx(math.pi / (math.pi - 1), rel=1e-6)
    np.testing.assert_allclose(column(layers, "q")[1:], 1.0, rtol=1e-9)


@pytest.mark.parametrize(
    "rate, product", [(0.0231565837302467, 1.0), (0.05, 0.0991), (0.1, 0.0020)]
)
def test_alpha_dropout_over_31_layers(rate, product):
    network = mlp(("selu", 1.0), width=WIDE, after=(Dropout("alpha", rate),))
    layers = predict(network, normal_inputs(1.0, 0.0), training=True)
    assert layers[0]["gradient_product"] == pytest.approx(product, rel=0.03)
    np.testing.assert_allclose(column(layers, "q"), 1.0, atol=1e-8)


def test_dropout_acts_in_training_only():
    network = mlp(("selu", 1.0), width=WIDE, after=(Dropout("alpha", 0.1),))
    layers = predict(network, normal_inputs(1.0, 0.0))
    assert layers[0]["gradient_product"] == pytest.approx(8.5256, rel=1e-3)


@pytest.mark.parametrize("rate", [0.0231565837302467, 0.05, 0.1])
def test_alpha_dropout_moves_equal_samples_apart(rate):
    """The cosine is multiplied by a^2 (1 - rate)^2 a layer."""
    network = mlp(("selu", 1.0), width=WIDE, after=(Dropout("alpha", rate),))
    layers = predict(network, normal_inputs(1.0, 1.0), training=True)
    a2 = 1 / ((1 - rate) * (1 + rate * 1.7580993408473768**2))
    assert layers[1]["cosine"] == pytest.approx(a2 * (1 - rate) ** 2, abs=1e-6)


def test_standard_dropout_adds_to_the_second_moment():
    network = mlp(("relu", 1.0), depth=3, after=(Dropout("standard", 0.5),))
    layers = predict(network, normal_inputs(1.0, 0.2), training=True)
    np.testing.assert_allclose(column(layers, "q"), 1.0, rtol=1e-9)
    assert layers[0]["gradient_product"] == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("padding, share", [("zeros", 0.694), ("circular", 1.0)])
def test_zero_padding_costs_the_border(padding, share, random):
    network = (
        Convolution(576, 576, 64, 1.0, height=4, width=4, padding=padding),
        Activation("relu"),
        Flatten(),
        Dense(1024, 10, 10, 1.0),
    )
    layers = predict(network, Inputs(random.standard_normal((16, 64, 4, 4))))
    assert layers[0]["q"] == pytest.approx(share, rel=0.03)


@pytest.mark.parametrize("scales, q", [((1.0, 1.0), 2.0), ((0.6, 0.8), 1.0)])
def test_squares_add_where_a_residual_branch_ends_in_weights(scales, q):
    branch = (*BLOCK, Dense(256, 256, 256, 1.0))
    layers = predict((Residual(branch, *scales), *HEAD), normal_inputs(1.0, 0.4))
    assert layers[1]["q"] == pytest.approx(q, rel=1e-6)


def test_the_cross_term_counts_where_a_residual_branch_has_no_weights():
    """E (x + relu x)^2 = 1 + 1/2 + 2/2."""
    network = (Residual((Activation("relu"),)), *HEAD)
    layers = predict(network, normal_inputs(1.0, 0.4))
    assert layers[1]["q"] == pytest.approx(2.5, rel=1e-6)


def test_the_means_meet_where_a_residual_branch_ends_in_an_activation():
    relu = (Dense(256, 256, 256, 1.0), Activation("relu"))
    layers = predict((*relu, Residual(relu), *HEAD), normal_inputs(1.0, 0.4))
    mean = 1 / math.sqrt(2 * math.pi)
    second_moment = 0.5
    branch_mean = math.sqrt(second_moment) * mean
    branch_second_moment = second_moment * 0.5
    expected = second_moment + branch_second_moment + 2 * mean * branch_mean
    assert layers[2]["q"] == pytest.approx(expected, rel=1e-6)


def test_gradients_of_skip_and_branch_add():
    network = (
        Dense(256, 256, 256, 1.0),
        Activation("identity"),
        Residual((Dense(256, 256, 256, 1.0),)),
        *HEAD,
    )
    layers = predict(network, normal_inputs(1.0, 0.4))
    assert layers[0]["gradient_product"] == pytest.approx(2.0, rel=0.05)


def test_both_paths_lead_to_the_activation_at_the_start_of_a_branch():
    """E |dL/dx|^2 of x + W phi(x) is 1 + chi_1 times that of the sum."""
    block = Residual((Activation("selu"), Dense(256, 256, 256, 1.0)))
    network = (
        Dense(256, WIDE, WIDE, 1.0),
        block,
        Activation("identity"),
        Dense(256, 10, 10, 1.0),
    )
    layers = predict(network, normal_inputs(1.0, 0.4))
    assert layers[0]["gradient_product"] == pytest.approx(1 + CHI_1, rel=1e-6)


def test_centred_weights_do_not_see_the_common_mean(random):
    x = 3.0 + random.standard_normal((16, 1, 4, 4))
    network = (
        Flatten(),
        Dense(16, 64, 64, 1.0, centred=True, exact=True),
        Activation("selu"),
        Dense(64, 10, 10, 1.0),
    )
    flat = x.reshape(16, -1)
    centred = flat - flat.mean(1, keepdims=True)
    expected = np.square(centred).sum(1).mean() / 15
    assert predict(network, Inputs(x))[0]["q"] == pytest.approx(expected, rel=1e-9)


def test_pooled_moments_are_those_of_quadrature():
    layers = predict(mlp(("tanh", 1.7, 0.05), depth=3), normal_inputs(2.0, 0.5))
    q = 1.7 * 2.0 + 0.05
    for layer in layers:
        mean, variance = quadrature.moments(activation("tanh"), 0.0, q)
        assert layer["q"] == pytest.approx(q, rel=1e-9)
        assert layer["activation_variance"] == pytest.approx(variance, abs=0.01)
        q = 1.7 * (variance + mean**2) + 0.05


def test_layers_after_one_that_cannot_be_followed_have_its_reason():
    opaque = Opaque("attention", "its weights depend on the inputs")
    network = (*BLOCK, *BLOCK, opaque, *HEAD)
    layers = predict(network, normal_inputs())
    reason = "attention: its weights depend on the inputs"
    assert [layer.reason for layer in layers] == [None, None, reason]
    assert layers[0]["activation_variance"] == pytest.approx(1.0, abs=0.01)
    assert math.isnan(layers[0]["gradient_product"])
    assert math.isnan(layers[2]["q"])


def test_an_activation_without_weights_in_front_cannot_be_followed():
    layers = predict((*BLOCK, Activation("selu"), Dense(256, 2, 2, 1.0)), normal_inputs())
    assert "not normal" in layers[1].reason


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 1, 3, 3)), "at least 4 samples"),
        (np.full((8, 1, 3, 3), np.nan), "not a finite number"),
    ],
)
def test_unusable_inputs_are_refused(images, message):
    with pytest.raises(RequestError, match=message):
        Inputs(images)


def test_nothing_is_predicted_for_inputs_of_0():
    layers = predict(mlp(("selu", 1.0), depth=2), normal_inputs(0.0, 0.0))
    assert [layer.values for layer in layers] == [{}, {}]
    assert [layer.reason for layer in layers] == [None, None]


def test_networks_that_part_ways_are_not_predicted():
    """GELU with He's weights has an unstable length.

    At finite width some networks vanish and others do not. In measurements means were off by a
    factor of 10^4 at layer 32.
    """
    layers = predict(mlp(("gelu", 2.0)), normal_inputs(1.9, 0.5))
    unknown = [layer for layer in layers if layer.reason is not None]
    assert 16 < len(unknown) < 30
    assert "different fates" in unknown[0].reason
    assert math.isnan(layers[0]["gradient_product"])


@pytest.mark.parametrize(
    "weights, width, q",
    [
        (("gelu", 2.0), 10**7, 1.9),
        (("selu", 2.0), 64, 1.0),
        (("relu", 2.0), 64, 1.0),
        (("tanh", 2.0), 64, 1.0),
        (("gelu", 1 / 3), 64, 1.0),
    ],
)
def test_networks_of_one_fate_are_predicted_to_the_end(weights, width, q):
    layers = predict(mlp(weights, width=width), normal_inputs(q, 0.5))
    assert all(layer.reason is None for layer in layers)


def test_recovery_depths_are_the_first_layers_past_their_thresholds():
    layers = predict(mlp(("selu", 1.0), depth=64), normal_inputs(0.1, 0.3))
    variance_depth, cosine_depth = recovery_depths(layers, 0.3)
    variances = column(layers, "activation_variance")
    cosines = column(layers, "cosine")
    assert variances[variance_depth - 2] < 0.8 <= variances[variance_depth - 1]
    assert cosines[cosine_depth - 1] <= 0.15 < cosines[cosine_depth - 2]


def test_a_cosine_that_rises_never_recovers():
    layers = predict(mlp(("relu", 2.0), depth=8), normal_inputs(1.0, 0.3))
    assert recovery_depths(layers, 0.3)[1] is None


def test_representatives_stand_for_all(random):
    scale = random.lognormal(0, 0.5, (1500, 1, 1, 1))
    mean = 0.4 * random.standard_normal((1, 1, 6, 6))
    images = random.standard_normal((1500, 1, 6, 6)) * scale + mean
    chosen = representatives(images)
    lengths = np.square(chosen).mean((1, 2, 3))
    all_lengths = np.square(images).mean((1, 2, 3))
    assert chosen.shape == (48, 1, 6, 6)
    assert lengths.mean() == pytest.approx(all_lengths.mean(), rel=1e-9)
    assert lengths.std() == pytest.approx(all_lengths.std(), rel=0.25)
    np.testing.assert_array_equal(chosen, representatives(images))


def test_few_images_are_their_own_representatives(random):
    images = random.standard_normal((20, 1, 6, 6))
    np.testing.assert_array_equal(representatives(images), images)


def test_the_band_of_a_share_ends_at_0_and_1():
    spread = predict(mlp(("selu", 1.0), depth=6, width=16), normal_inputs(1.0, 0.1))
    together = predict(mlp(("relu", 2.0), depth=30, width=16), normal_inputs(1.0, 0.9))
    bands = [layer.values["between_unit_share"] for layer in spread + together]
    assert min(band.low for band in bands) == 0
    assert max(band.high for band in bands) == 1
    assert all(band.low < band.value < band.high for band in bands)


def test_bands_hold_99_percent_of_a_normal():
    assert math.erf(BAND_DEVIATIONS / math.sqrt(2)) == pytest.approx(0.99, abs=1e-12)
