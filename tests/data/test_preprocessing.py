"""Preprocessing: what each name promises, constants, and values that cannot be fitted."""

from __future__ import annotations

import pytest
import torch

from harness.configuration.schema import DatasetConfig, PreprocessingConfig, known_names
from harness.data.datasets import load
from harness.data.preprocessing import fit
from harness.errors import RequestError


def config(name, **options):
    defaults = {"epsilon": 0.01} if name == "zca" else {}
    return PreprocessingConfig(name, **(defaults | options))


def photographs(count=600, seed=0):
    """uint8 images (count, 3, 6, 6) whose channels and pixels differ.

    They differ in mean, spread and correlation.
    """
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(count, 1, 1, 1, generator=generator)
    own = torch.randn(count, 3, 6, 6, generator=generator)
    spread = torch.linspace(5, 30, 3 * 36).view(1, 3, 6, 6)
    mean = torch.tensor([90.0, 120.0, 150.0]).view(1, 3, 1, 1)
    return (mean + spread * (0.8 * common + 0.6 * own)).clamp(0, 255).to(torch.uint8)


def applied(name, images, full_scale=255.0, **options):
    """The images after a preprocessing that was fitted on them, float64."""
    return fit(config(name, **options), images, full_scale).apply(images).double()


def test_none_and_raw_are_the_scales_that_they_name():
    images = photographs()
    assert torch.equal(applied("none", images), (images / 255).double())
    assert torch.equal(applied("raw", images), images.double())


@pytest.mark.parametrize("name, top", [("none", 1.0), ("raw", 255.0)])
def test_none_and_raw_reach_their_full_scale_on_digits(name, top):
    digits = load(DatasetConfig("digits"))
    images = applied(name, digits.training.images, digits.full_scale)
    assert float(images.min()) == pytest.approx(0.0)
    assert float(images.max()) == pytest.approx(top)


def test_inputs_that_are_no_brightnesses_stay_as_they_are():
    images = torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for name in ("none", "raw"):
        assert torch.equal(fit(config(name), images, None).apply(images), images)


@pytest.mark.parametrize(
    "name, over",
    [
        ("global", (0, 1, 2, 3)),
        ("per_channel", (0, 2, 3)),
        ("per_pixel", (0,)),
        ("per_sample", (1, 2, 3)),
    ],
)
def test_standardising_gives_mean_0_and_variance_1_where_its_name_says(name, over):
    x = applied(name, photographs())
    assert x.mean(over).abs().max() < 1e-6
    assert (x.var(over, correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("coarser", ["global", "per_channel"])
def test_coarser_standardising_leaves_pixels_unequal(coarser):
    x = applied(coarser, photographs())
    assert (x.var(0, correction=0) - 1).abs().max() > 0.5


def test_standardising_uses_the_training_split_alone():
    train = photographs(seed=0)
    test = photographs(seed=1) // 2
    x = fit(config("global"), train, 255.0).apply(test).double()
    pixels = train.double()
    expected = (test.double() - pixels.mean()) / pixels.std(correction=0)
    assert (x - expected).abs().max() < 1e-5
    assert abs(x.mean()) > 1


def covariance(images):
    return torch.cov(images.flatten(1).double().T, correction=0)


@pytest.mark.parametrize("epsilon", [0.1, 0.01, 1e-6])
def test_zca_whitens_up_to_epsilon(epsilon):
    images = photographs(2000)
    x = applied("zca", images, epsilon=epsilon)
    values, vectors = torch.linalg.eigh(covariance(images))
    expected = values / (values + epsilon * values.mean())
    after = covariance(x)
    assert x.mean(0).abs().max() < 1e-5
    assert (vectors.T @ after @ vectors - torch.diag(expected)).abs().max() < 1e-4
    if epsilon == 1e-6:
        assert (after - torch.eye(108)).abs().max() < 1e-3


def test_zca_stays_as_close_to_the_images_as_a_whitening_can():
    # Among all whitenings W with W S W' = 1, the symmetric one is nearest to the centred images.
    images = photographs(2000)
    x = applied("zca", images, epsilon=1e-6)
    flat = images.flatten(1).double()
    correlation = torch.corrcoef(torch.cat([flat.T, x.flatten(1).T]))[:108, 108:].diagonal()
    assert correlation.min() > 0.5


def test_zca_does_not_depend_on_the_scale_of_brightness():
    images = photographs()
    difference = applied("zca", images) - applied("zca", images.float() / 255)
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("name", known_names("preprocessing"))
def test_constant_pixels_and_samples_are_counted_and_never_nan(name):
    images = photographs(200)
    images[:, 1, 2, :] = 77
    images[5:8] = torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1, 1)
    images[5:8, 1, 2] = images[5:8, :1, 0, 0]
    images[:, 0, 0, 0] = 0
    images[5] = 0
    fitted = fit(config(name), images, 255.0)
    flat = images.flatten(1)
    expected = {
        "constant_pixels": sum(len(pixel.unique()) == 1 for pixel in flat.T),
        "zero_variance_samples": sum(len(sample.unique()) == 1 for sample in flat),
    }
    assert fitted.report == expected
    assert expected["constant_pixels"] >= 1
    assert expected["zero_variance_samples"] >= 1
    assert torch.isfinite(fitted.apply(images)).all()


@pytest.mark.parametrize("name", ["per_pixel", "zca"])
def test_a_pixel_that_is_constant_in_training_is_0_in_every_split(name):
    train = photographs(seed=0)
    test = photographs(seed=1)
    train[:, 2, 3, 3] = 4
    fitted = fit(config(name), train, 255.0)
    assert (fitted.apply(train)[:, 2, 3, 3] == 0).all()
    assert (fitted.apply(test)[:, 2, 3, 3] == 0).all()


def test_a_sample_of_one_value_is_0_after_per_sample_in_every_split():
    test = photographs(seed=1)
    test[3] = 200
    x = fit(config("per_sample"), photographs(), 255.0).apply(test)
    assert (x[3] == 0).all()
    assert (x[4] != 0).any()


@pytest.mark.parametrize("name", known_names("preprocessing"))
def test_a_black_training_split_gives_finite_images(name):
    fitted = fit(config(name), torch.zeros(10, 1, 4, 4, dtype=torch.uint8), 255.0)
    assert fitted.report == {"constant_pixels": 16, "zero_variance_samples": 10}
    assert torch.isfinite(fitted.apply(photographs()[:, :1, :4, :4])).all()


@pytest.mark.parametrize("name", ["global", "per_pixel", "per_sample", "zca"])
def test_the_faintest_variation_gives_finite_images(name):
    images = torch.zeros(10, 1, 4, 4)
    # The variance of this is no float32.
    images[0, 0, 1, 1] = 1e-42
    assert torch.isfinite(fit(config(name), images, 255.0).apply(images)).all()


def test_shift_and_scale_are_applied_last():
    plain = applied("global", photographs())
    dosed = applied("global", photographs(), shift=0.5, scale=2.0)
    assert (dosed - (2 * plain + 0.5)).abs().max() < 1e-5


def test_images_are_accumulated_in_blocks_without_a_seam():
    images = photographs(9000)
    fitted = fit(config("global"), images, 255.0)
    x = fitted.apply(images)
    assert abs(float(x.double().mean())) < 1e-6
    assert abs(float(x.double().var(correction=0)) - 1) < 1e-5
    assert torch.equal(fitted.apply(images[4000:4200]), x[4000:4200])


def test_the_training_images_are_not_changed():
    images = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for name in known_names("preprocessing"):
        fit(config(name, shift=1.0), images, None).apply(images)
    assert torch.equal(images, before)


BLACK = torch.zeros(2, 1, 2, 2)


@pytest.mark.parametrize(
    "name, options, images, message",
    [
        ("zac", {}, BLACK, "unknown preprocessing 'zac'; known: global, none"),
        (
            "zca",
            {"epsilon": 0.0},
            BLACK,
            "preprocessing.epsilon=0.0: expected a number above 0",
        ),
        (
            "zca",
            {"epsilon": float("nan")},
            BLACK,
            "preprocessing.epsilon=nan: expected a number above 0",
        ),
        (
            "zca",
            {"epsilon": float("inf")},
            BLACK,
            "preprocessing.epsilon=inf: expected a number above 0",
        ),
        ("none", {}, BLACK + float("nan"), "a value that is not a finite number"),
        ("global", {}, BLACK + float("inf"), "a value that is not a finite number"),
    ],
)
def test_what_cannot_be_fitted_is_refused(name, options, images, message):
    with pytest.raises(RequestError, match=message):
        fit(config(name, **options), images, 255.0)
