"""SELU's assumptions at initialisation, on Gaussian inputs and on MNIST, over several seeds.

Theory has no free parameter: shares from the normal and the chi-square distribution,
CV = sqrt(2 / PR), excess kurtosis 3 CV(q)^2, and chi_1 = 1.0716 per layer for squared gradients.
Bands are 3 standard errors of what is measured, or stated beside the number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from harness.configuration.schema import PROJECT_ROOT
from harness.data import idx
from harness.probes.measurement import FULL, QUICK, measure
from harness.probes.statistics.weights import theorem_shares, weights

SEEDS = (0, 1, 2)
# E[selu'(z)^2] at z ~ N(0, 1): (lambda^2 / 2) (1 + alpha^2 e^2 erfc(sqrt 2)).
CHI_1 = 1.071574992456


@pytest.fixture(scope="module")
def mnist() -> Tensor:
    """2,048 test images as they are, (samples, 784)."""
    places = (
        os.environ.get("HARNESS_DATA"),
        PROJECT_ROOT / "data",
        PROJECT_ROOT.parent / "shared" / "data",
    )
    for place in filter(None, places):
        files = idx.find([Path(place) / "MNIST" / "raw"])
        if files is not None:
            images = idx.read(files["test"][0], (10_000, 28, 28))[:2048]
            return torch.from_numpy(images.copy()).flatten(1).float()
    pytest.skip("MNIST is not on this machine; set HARNESS_DATA to a folder that holds MNIST/raw")


def globally_standardized(images: Tensor) -> Tensor:
    return (images - images.mean()) / images.std()


def standardized_per_pixel(images: Tensor) -> Tensor:
    deviation = images.std(0)
    return (images - images.mean(0)) / torch.where(deviation > 0, deviation, 1.0)


def profiles(networks: Callable, statistics=FULL) -> dict[str, np.ndarray]:
    """Returns columns as arrays (seeds, layers); `networks(seed)` makes the readings."""
    runs = [measure(networks(seed), statistics) for seed in SEEDS]
    columns = {name: np.empty((len(runs), len(runs[0]))) for name in runs[0][0]}
    for seed, layers in enumerate(runs):
        for layer, measured in enumerate(layers):
            for name, values in measured.items():
                columns[name][seed, layer] = float(values[0])
    return columns


def test_six_units_of_a_hundred_lie_in_theorem_1s_box(dense, normal):
    """P(|omega| <= 0.1) = 0.0797 whatever the fan-in, times P(0.95 <= tau <= 1.1).

    Together 0.058 at fan-in 512, over 20,480 units.
    """
    reading = dense(normal(40, 2, 512), normal(40, 512, 512, seed=1) / 512**0.5, nn.SELU())
    tau = scipy.stats.chi2(512)
    of_omega = 2 * scipy.stats.norm.cdf(0.1) - 1
    expected = of_omega * (tau.cdf(1.1 * 512) - tau.cdf(0.95 * 512))
    assert expected == pytest.approx(0.058, abs=0.001)
    share = theorem_shares(reading)["theorem_1_weight_share"]
    assert float(share.mean()) == pytest.approx(expected, abs=3 * (expected / 20_480) ** 0.5)
    columns = weights(reading)
    assert float(columns["omega_sd"].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(columns["tau_sd"].mean()) == pytest.approx((2 / 512) ** 0.5, rel=0.03)


@pytest.mark.slow
def test_gaussian_inputs_leave_the_box_and_gradients_grow(deep, normal):
    x = normal(2048, 512, seed=5)
    columns = profiles(lambda seed: deep(x, 32, 512, nn.SELU(), 1.0, seed), QUICK)
    inside = columns["theorem_1_moment_share"].mean(0)
    assert inside[0] > 0.999
    assert inside[31] == pytest.approx(0.64, abs=0.04)
    # 31 gains of chi_1; between seeds the product scatters by 4 to 6 %.
    growth = columns["gradient_product"][:, 0]
    assert growth.mean() == pytest.approx(CHI_1**31, rel=0.1)
    assert pytest.approx(8.53, abs=0.01) == CHI_1**31


@pytest.mark.slow
def test_a_narrower_network_leaves_the_box_sooner(deep, normal):
    """The box is a statement about the limit of many inputs.

    At width 256 fewer than half of the units are left at layer 32.
    """
    x = normal(2048, 256, seed=5)
    columns = profiles(lambda seed: deep(x, 32, 256, nn.SELU(), 1.0, seed), QUICK)
    inside = columns["theorem_1_moment_share"].mean(0)
    assert inside[0] > 0.99
    assert inside[31] == pytest.approx(0.44, abs=0.06)


@pytest.mark.slow
def test_mnist_is_outside_the_box_unit_by_unit_while_pooled_moments_hold(deep, mnist):
    x = globally_standardized(mnist)
    columns = profiles(lambda seed: deep(x, 16, 512, nn.SELU(), 1.0, seed))
    assert abs(columns["pre_activation_mean"].mean(0)).max() < 0.05
    assert (abs(columns["pre_activation_variance"].mean(0) - 1) < 0.06).all()
    inside = columns["theorem_1_moment_share"].mean(0)
    assert (inside > 0.03).all()
    assert (inside < 0.14).all()
    assert inside[15] > inside[0]
    assert columns["input_participation_ratio"][0, 0] == pytest.approx(31, rel=0.05)
    # 512 units know their own CV to 3 %; three seeds.
    predicted = columns["predicted_unit_variance_cv"].mean(0)
    measured = columns["unit_variance_cv"].mean(0)
    assert predicted[0] == pytest.approx((2 / 31) ** 0.5, rel=0.03)
    np.testing.assert_allclose(measured, predicted, rtol=0.08)
    # The share of z^2 between units is the mean cosine of pairs, as samples have about one length.
    np.testing.assert_allclose(columns["between_unit_share"], columns["cosine"], rtol=0.05)


@pytest.mark.slow
def test_selu_equalizes_lengths_and_relu_does_not(deep, mnist):
    """Per-pixel standardised MNIST mixes lengths: excess kurtosis 3 CV(q)^2.

    Each layer of SELU halves it; ReLU keeps it.
    """
    x = standardized_per_pixel(mnist)
    selu = profiles(lambda seed: deep(x, 6, 512, nn.SELU(), 1.0, seed))
    relu = profiles(lambda seed: deep(x, 6, 512, nn.ReLU(), 2.0, seed))
    for columns in (selu, relu):
        measured = columns["pooled_excess_kurtosis"][:, 0]
        predicted = columns["predicted_pooled_excess_kurtosis"][:, 0]
        np.testing.assert_allclose(measured, predicted, rtol=0.12)
        # z is Gaussian over units for every sample.
        assert abs(columns["normalized_excess_kurtosis"][:, 0]).max() < 0.1
    kurtosis = selu["pooled_excess_kurtosis"].mean(0)
    assert kurtosis[0] > 5
    assert (kurtosis[1:4] / kurtosis[:3] < 0.7).all()
    assert kurtosis[5] < 0.1 * kurtosis[0]
    assert (relu["pooled_excess_kurtosis"].mean(0) > 0.75 * kurtosis[0]).all()
    # The CV itself shrinks by about chi_q = 0.783 a layer once it is small, and faster while it is
    # large.
    cv = selu["q_cv"].mean(0)
    shrinkage = cv[1:] / cv[:-1]
    assert (shrinkage > 0.65).all()
    assert (shrinkage < 0.83).all()
    assert (relu["q_cv"].mean(0) > 0.95 * cv[0]).all()


@pytest.mark.slow
def test_the_ladder_finds_dependence_on_mnist_and_little_on_gaussian_inputs(deep, mnist, normal):
    """On pixels nearly all of the error of g is dependence and unequal means.

    Gaussianity costs an order of magnitude less.
    """

    def first_layer(x: Tensor) -> dict[str, float]:
        columns = profiles(lambda seed: deep(x, 1, 512, nn.SELU(), 1.0, seed))
        return {name: values.mean(0)[0] for name, values in columns.items()}

    def price_of_dependence(columns: dict[str, float]) -> float:
        return columns["ladder_weights"] - columns["ladder_moments"]

    pixels = first_layer(globally_standardized(mnist))
    control = first_layer(normal(2048, 784, seed=5))
    assert price_of_dependence(pixels) > 10 * price_of_dependence(control)
    assert pixels["ladder_map"] - pixels["ladder_weights"] < 0.2 * pixels["ladder_map"]
    assert pixels["ladder_moments"] < 0.15 * pixels["ladder_map"]
    assert pixels["ladder_empirical"] == 0.0
    assert control["ladder_empirical"] == 0.0
