"""Digits and Gaussian inputs as loaded, their splits, and what is read once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from harness.configuration.schema import DatasetConfig
from harness.data import gaussian
from harness.data.catalog import dataset_info
from harness.data.datasets import load
from harness.data.digits import read_bundled_digits


def gaussian_config(**changes):
    values = {"samples": 4000, "shape": [1, 8, 8], "classes": 4}
    return DatasetConfig("gaussian", **(values | changes))


def splits(image_set):
    return image_set.training, image_set.validation, image_set.test


def rows(pixels, labels):
    """Label and pixels of every image, sorted."""
    return sorted((label, *row) for label, row in zip(labels, pixels, strict=True))


def test_digits_are_the_bundled_images_on_the_scale_of_brightness():
    image_set = load(DatasetConfig("digits"))
    assert image_set.name == "digits"
    assert image_set.classes == 10
    assert image_set.shape == (1, 8, 8)
    assert image_set.full_scale == 255.0
    assert [len(split.labels) for split in splits(image_set)] == [1079, 359, 359]
    images = torch.cat([split.images for split in splits(image_set)])
    labels = torch.cat([split.labels for split in splits(image_set)])
    loaded = (images.flatten(1) * 16 / 255).round().int()
    pixels, targets = load_digits(return_X_y=True)
    expected = rows(pixels.astype(int).tolist(), targets.tolist())
    assert rows(loaded.tolist(), labels.tolist()) == expected


def test_digits_are_read_without_importing_scikit_learn():
    program = """
import sys
from harness.data.datasets import load
from harness.configuration.schema import DatasetConfig
load(DatasetConfig("digits"))
sys.exit("sklearn" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_digits_are_found_wherever_scikit_learn_keeps_them(monkeypatch, tmp_path):
    expected = read_bundled_digits()
    moved = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: moved)
    for part, same in zip(read_bundled_digits(), expected, strict=True):
        assert np.array_equal(part, same)


def test_splits_follow_their_seed_and_nothing_else():
    first = load(DatasetConfig("digits", split_seed=0))
    again = load(DatasetConfig("digits", split_seed=0, root="/elsewhere"))
    other = load(DatasetConfig("digits", split_seed=1))
    assert torch.equal(first.training.images, again.training.images)
    assert not torch.equal(first.test.labels, other.test.labels)


def test_the_splits_of_digits_are_frozen():
    # Another order would be other data under the same trial id.
    image_set = load(DatasetConfig("digits"))
    assert image_set.training.labels[:12].tolist() == [4, 6, 0, 3, 9, 8, 7, 1, 5, 2, 4, 6]
    assert image_set.test.labels[:12].tolist() == [0, 4, 7, 6, 9, 1, 5, 2, 3, 8, 4, 0]


def test_a_subsample_is_balanced_and_within_the_larger_one():
    whole = load(DatasetConfig("digits"))
    part = load(DatasetConfig("digits", training_samples=100))
    assert torch.equal(part.training.images, whole.training.images[:100])
    assert torch.equal(part.test.images, whole.test.images)
    assert part.training.labels.bincount().min() >= 8


def test_every_split_holds_every_class_in_proportion():
    for split in splits(load(DatasetConfig("digits"))):
        shares = split.labels.bincount() / len(split.labels)
        assert shares.sub(0.1).abs().max() < 0.012


def test_a_data_set_is_read_once_however_it_is_moved():
    assert load(DatasetConfig("digits")) is load(DatasetConfig("digits", residency="streamed"))
    assert load(gaussian_config()) is load(gaussian_config(shape=(1, 8, 8)))
    assert load(DatasetConfig("digits")) is not load(DatasetConfig("digits", validation_share=0.1))


@pytest.mark.parametrize(
    "config",
    [
        DatasetConfig("digits", training_samples=77),
        gaussian_config(validation_share=0.123, test_share=0.3),
    ],
    ids=["digits", "gaussian"],
)
def test_the_catalog_agrees_with_what_is_loaded(config):
    info = dataset_info(config)
    image_set = load(config)
    assert info.shape == image_set.shape
    assert info.classes == image_set.classes
    assert info.training_samples == len(image_set.training.labels)


def test_gaussian_inputs_are_independent_standard_normal():
    image_set = load(gaussian_config())
    assert image_set.full_scale is None
    assert image_set.training.images.dtype == torch.float32
    x = image_set.training.images.flatten(1).double()
    assert abs(x.mean()) < 4 / np.sqrt(x.numel())
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.numel())
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / x.numel())
    correlation = torch.corrcoef(x.T) - torch.eye(64)
    assert correlation.abs().max() < 5 / np.sqrt(len(x))


@pytest.mark.parametrize("ratio", [1.0, 5.0, 64.0])
def test_gaussian_inputs_have_the_participation_ratio_that_was_asked_for(ratio):
    x, labels = gaussian.draw(20_000, (1, 8, 8), 4, ratio)
    covariance = np.cov(x.reshape(-1, 64).T.astype(np.float64))
    trace = np.trace(covariance)
    assert trace == pytest.approx(64, rel=0.05)
    assert trace**2 / (covariance**2).sum() == pytest.approx(ratio, rel=0.03)
    assert np.bincount(labels).min() > 1000


@pytest.mark.parametrize("ratio", [1.0, 1.5, 20.0, 299.0, 300.0])
def test_the_spectrum_has_mean_one_and_its_participation_ratio(ratio):
    values = gaussian.spectrum(300, ratio)
    assert values.mean() == pytest.approx(1, rel=1e-12)
    assert values.sum() ** 2 / (values**2).sum() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("ratio", [None, 5.0])
def test_the_labels_of_gaussian_inputs_can_be_learned(ratio):
    image_set = load(gaussian_config(participation_ratio=ratio))
    x = image_set.training.images.flatten(1).double()
    targets = torch.nn.functional.one_hot(image_set.training.labels).double()
    weights = torch.linalg.lstsq(x, targets).solution
    guesses = (image_set.test.images.flatten(1).double() @ weights).argmax(1)
    assert (guesses == image_set.test.labels).double().mean() > 0.8
