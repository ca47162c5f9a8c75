import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.configuration.schema import DatasetConfig
from harness.data import catalog, datasets, gaussian
from harness.data.datasets import load


def gaussian_config(**changes):
    return DatasetConfig(
        "gaussian", **({"samples": 4000, "shape": [1, 8, 8], "classes": 4} | changes)
    )


def splits(image_set):
    return image_set.training, image_set.validation, image_set.test


def test_digits_are_the_bundled_images_on_the_scale_of_brightness():
    from sklearn.datasets import load_digits

    image_set = load(DatasetConfig("digits"))
    assert (image_set.name, image_set.classes, image_set.shape, image_set.full_scale) == (
        "digits",
        10,
        (1, 8, 8),
        255.0,
    )
    assert [len(split.labels) for split in splits(image_set)] == [1079, 359, 359]
    images = torch.cat([split.images for split in splits(image_set)])
    labels = torch.cat([split.labels for split in splits(image_set)])
    pixels, targets = load_digits(return_X_y=True)
    mine = sorted(
        (label, *row)
        for label, row in zip(
            labels.tolist(), (images.flatten(1) * 16 / 255).round().int().tolist()
        )
    )
    assert mine == sorted(
        (label, *row) for label, row in zip(targets.tolist(), pixels.astype(int).tolist())
    )


def test_digits_come_without_importing_scikit_learn_and_wherever_it_keeps_them(
    monkeypatch, tmp_path
):
    code = "import sys; from harness.data.datasets import load; from harness.configuration.schema import DatasetConfig; load(DatasetConfig('digits')); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    expected = datasets._digits_of_scikit_learn()
    elsewhere = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: elsewhere)
    assert all(
        np.array_equal(one, other)
        for one, other in zip(expected, datasets._digits_of_scikit_learn())
    )


def test_splits_follow_their_seed_and_nothing_else():
    first, again, other = (
        load(DatasetConfig("digits", split_seed=seed, root=root))
        for seed, root in [(0, None), (0, "/elsewhere"), (1, None)]
    )
    assert torch.equal(first.training.images, again.training.images)
    assert not torch.equal(first.test.labels, other.test.labels)


def test_a_split_of_digits_stays_what_it_was():
    # Frozen: another order would be other data under the same trial id.
    image_set = load(DatasetConfig("digits"))
    assert image_set.training.labels[:12].tolist() == [4, 6, 0, 3, 9, 8, 7, 1, 5, 2, 4, 6]
    assert image_set.test.labels[:12].tolist() == [0, 4, 7, 6, 9, 1, 5, 2, 3, 8, 4, 0]


def test_a_subsample_is_balanced_and_within_the_larger_one():
    whole, part = load(DatasetConfig("digits")), load(DatasetConfig("digits", training_samples=100))
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


def test_facts_agree_with_what_is_loaded():
    for config in (
        DatasetConfig("digits", training_samples=77),
        gaussian_config(validation_share=0.123, test_share=0.3),
    ):
        facts, image_set = catalog.facts(config), load(config)
        assert (facts.shape, facts.classes, facts.training_samples) == (
            image_set.shape,
            image_set.classes,
            len(image_set.training.labels),
        )


def test_gaussian_inputs_are_independent_standard_normal():
    image_set = load(gaussian_config())
    x = image_set.training.images.flatten(1).double()
    assert image_set.full_scale is None
    assert x.dtype == torch.float64
    assert image_set.training.images.dtype == torch.float32
    assert abs(x.mean()) < 4 / np.sqrt(x.numel())
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.numel())
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / x.numel())
    correlation = torch.corrcoef(x.T) - torch.eye(64)
    assert correlation.abs().max() < 5 / np.sqrt(len(x))


@pytest.mark.parametrize("ratio", [1.0, 5.0, 64.0])
def test_gaussian_inputs_have_the_participation_ratio_asked_for(ratio):
    x, labels = gaussian.draw(20_000, (1, 8, 8), 4, ratio)
    covariance = np.cov(x.reshape(-1, 64).T.astype(np.float64))
    assert np.trace(covariance) == pytest.approx(64, rel=0.05)
    assert np.trace(covariance) ** 2 / (covariance**2).sum() == pytest.approx(ratio, rel=0.03)
    assert np.bincount(labels).min() > 1000


@pytest.mark.parametrize("ratio", [1.0, 1.5, 20.0, 299.0, 300.0])
def test_the_spectrum_has_mean_one_and_its_participation_ratio(ratio):
    values = gaussian.spectrum(300, ratio)
    assert values.mean() == pytest.approx(1, rel=1e-12)
    assert values.sum() ** 2 / (values**2).sum() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("ratio", [None, 5.0])
def test_the_labels_of_gaussian_inputs_can_be_learned(ratio):
    image_set = load(gaussian_config(participation_ratio=ratio))
    x, y = (split.images.flatten(1).double() for split in (image_set.training, image_set.test))
    targets = torch.nn.functional.one_hot(image_set.training.labels).double()
    weights = torch.linalg.lstsq(x, targets).solution
    accuracy = ((y @ weights).argmax(1) == image_set.test.labels).double().mean()
    assert accuracy > 0.8
