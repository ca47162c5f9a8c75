"""What the full set must show at initialisation: SELU's assumptions on Gaussian inputs and on MNIST, over several seeds.

Theory has no free parameter: shares from the normal and the chi-square distribution, CV = sqrt(2 / PR), excess kurtosis 3 CV(q)^2,
and chi_1 = 1.0716 per layer for squared gradients. Bands are 3 standard errors of what is measured, or said beside the number.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from harness.configuration.schema import PROJECT_ROOT
from harness.data import idx
from harness.probes.measurement import FULL, QUICK, measure
from harness.probes.weights import theorem_shares, weights

SEEDS = (0, 1, 2)
# E[selu'(z)^2] at z ~ N(0, 1): (lambda^2 / 2) (1 + alpha^2 e^2 erfc(sqrt 2)).
CHI_1 = 1.071574992456


@pytest.fixture(scope="module")
def mnist() -> Tensor:
    """2,048 test images as they are, (samples, 784)."""
    for place in (
        os.environ.get("HARNESS_DATA"),
        PROJECT_ROOT / "data",
        PROJECT_ROOT.parent / "shared" / "data",
    ):
        folder = place and idx.find([Path(place) / "MNIST" / "raw"])
        if folder:
            return (
                torch.from_numpy(idx.read(folder["test"][0], (10_000, 28, 28))[:2048].copy())
                .flatten(1)
                .float()
            )
    pytest.skip("MNIST is not on this machine; set HARNESS_DATA to a folder that holds MNIST/raw")


def globally_standardized(images: Tensor) -> Tensor:
    return (images - images.mean()) / images.std()


def standardized_per_pixel(images: Tensor) -> Tensor:
    deviation = images.std(0)
    return (images - images.mean(0)) / torch.where(deviation > 0, deviation, 1.0)


def profiles(
    deep, x: Tensor, depth: int, width: int, activation: nn.Module, sigma_w2: float, statistics=FULL
) -> dict[str, np.ndarray]:
    """Columns as arrays (seeds, layers)."""
    runs = [
        measure(deep(x, depth, width, activation, sigma_w2, seed), statistics) for seed in SEEDS
    ]
    return {
        name: np.array([[float(layer[name][0]) for layer in run] for run in runs])
        for name in runs[0][0]
    }


def test_six_units_of_a_hundred_lie_in_theorem_1s_box(dense, normal):
    """P(|omega| <= 0.1) = 0.0797 whatever the fan-in, times P(0.95 <= tau <= 1.1): 0.058 at fan-in 512, over 20,480 units."""
    reading = dense(normal(40, 2, 512), normal(40, 512, 512, seed=1) / 512**0.5, nn.SELU())
    tau = scipy.stats.chi2(512)
    expected = (2 * scipy.stats.norm.cdf(0.1) - 1) * (tau.cdf(1.1 * 512) - tau.cdf(0.95 * 512))
    assert expected == pytest.approx(0.058, abs=0.001)
    share = theorem_shares(reading)["theorem_1_weight_share"]
    assert float(share.mean()) == pytest.approx(expected, abs=3 * (expected / 20_480) ** 0.5)
    columns = weights(reading)
    assert float(columns["omega_sd"].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(columns["tau_sd"].mean()) == pytest.approx((2 / 512) ** 0.5, rel=0.03)


@pytest.mark.slow
def test_gaussian_inputs_leave_the_box_and_gradients_grow(deep, normal):
    found = profiles(deep, normal(2048, 512, seed=5), 32, 512, nn.SELU(), 1.0, QUICK)
    inside = found["theorem_1_moment_share"].mean(0)
    assert inside[0] > 0.999
    assert inside[31] == pytest.approx(0.64, abs=0.04)
    # 31 gains of chi_1; between seeds the product scatters by 4 to 6 %.
    growth = found["gradient_product"][:, 0]
    assert growth.mean() == pytest.approx(CHI_1**31, rel=0.1)
    assert pytest.approx(8.53, abs=0.01) == CHI_1**31


@pytest.mark.slow
def test_a_narrower_network_leaves_the_box_sooner(deep, normal):
    """The box is a statement about the limit of many inputs: at width 256 fewer than half of the units are left at layer 32."""
    found = profiles(deep, normal(2048, 256, seed=5), 32, 256, nn.SELU(), 1.0, QUICK)[
        "theorem_1_moment_share"
    ].mean(0)
    assert found[0] > 0.99
    assert found[31] == pytest.approx(0.44, abs=0.06)


@pytest.mark.slow
def test_mnist_is_outside_the_box_unit_by_unit_while_pooled_moments_hold(deep, mnist):
    found = profiles(deep, globally_standardized(mnist), 16, 512, nn.SELU(), 1.0)
    assert abs(found["pre_activation_mean"].mean(0)).max() < 0.05
    assert (abs(found["pre_activation_variance"].mean(0) - 1) < 0.06).all()
    inside = found["theorem_1_moment_share"].mean(0)
    assert (inside > 0.03).all()
    assert (inside < 0.14).all()
    assert inside[15] > inside[0]
    assert found["input_participation_ratio"][0, 0] == pytest.approx(31, rel=0.05)
    # 512 units know their own CV to 3 %; three seeds.
    predicted, measured = (
        found["predicted_unit_variance_cv"].mean(0),
        found["unit_variance_cv"].mean(0),
    )
    assert predicted[0] == pytest.approx((2 / 31) ** 0.5, rel=0.03)
    np.testing.assert_allclose(measured, predicted, rtol=0.08)
    # The share of z^2 that is between units is the mean cosine of pairs, as samples have about one length.
    np.testing.assert_allclose(found["between_unit_share"], found["cosine"], rtol=0.05)


@pytest.mark.slow
def test_selu_equalizes_lengths_and_relu_does_not(deep, mnist):
    """Per-pixel standardised MNIST mixes lengths: excess kurtosis 3 CV(q)^2, halved by each layer of SELU and kept by ReLU."""
    x = standardized_per_pixel(mnist)
    selu, relu = (
        profiles(deep, x, 6, 512, module, sigma_w2)
        for module, sigma_w2 in ((nn.SELU(), 1.0), (nn.ReLU(), 2.0))
    )
    for found in (selu, relu):
        np.testing.assert_allclose(
            found["pooled_excess_kurtosis"][:, 0],
            found["predicted_pooled_excess_kurtosis"][:, 0],
            rtol=0.12,
        )
        assert (
            abs(found["normalized_excess_kurtosis"][:, 0]).max() < 0.1
        )  # Gaussian over units for every sample
    kurtosis = selu["pooled_excess_kurtosis"].mean(0)
    assert kurtosis[0] > 5
    assert (kurtosis[1:4] / kurtosis[:3] < 0.7).all()
    assert kurtosis[5] < 0.1 * kurtosis[0]
    assert (relu["pooled_excess_kurtosis"].mean(0) > 0.75 * kurtosis[0]).all()
    # The CV itself shrinks by about chi_q = 0.783 a layer once it is small, and faster while it is large.
    shrinkage = selu["q_cv"].mean(0)
    assert ((shrinkage[1:] / shrinkage[:-1] > 0.65) & (shrinkage[1:] / shrinkage[:-1] < 0.83)).all()
    assert (relu["q_cv"].mean(0) > 0.95 * shrinkage[0]).all()


@pytest.mark.slow
def test_the_ladder_finds_dependence_on_mnist_and_little_on_gaussian_inputs(deep, mnist, normal):
    """On pixels nearly all of the error of g is dependence and unequal means; Gaussianity costs an order of magnitude less."""
    pixels = {
        name: values.mean(0)[0]
        for name, values in profiles(
            deep, globally_standardized(mnist), 1, 512, nn.SELU(), 1.0
        ).items()
    }
    control = {
        name: values.mean(0)[0]
        for name, values in profiles(
            deep, normal(2048, 784, seed=5), 1, 512, nn.SELU(), 1.0
        ).items()
    }
    assert pixels["ladder_weights"] - pixels["ladder_moments"] > 10 * (
        control["ladder_weights"] - control["ladder_moments"]
    )
    assert pixels["ladder_map"] - pixels["ladder_weights"] < 0.2 * pixels["ladder_map"]
    assert pixels["ladder_moments"] < 0.15 * pixels["ladder_map"]
    assert pixels["ladder_empirical"] == control["ladder_empirical"] == 0.0
