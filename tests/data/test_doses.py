"""Shuffled pixels and noisy labels: what changes, and what must not."""

from __future__ import annotations

import pytest
import torch

from harness.configuration.composing import compose
from harness.configuration.schema import DatasetConfig
from harness.configuration.trial import trials
from harness.data.datasets import load
from harness.data.doses import add_label_noise, shuffle_pixels
from harness.errors import RequestError
from harness.sweeps.cells import check

SPLITS = ("training", "validation", "test")


def test_one_permutation_moves_the_pixels_of_all_splits():
    plain = load(DatasetConfig("digits"))
    shuffled = load(DatasetConfig("digits", pixel_shuffle=3))
    positions = torch.arange(64).reshape(1, 1, 8, 8)
    order = shuffle_pixels(positions, 3).flatten()
    assert sorted(order.tolist()) == list(range(64))
    assert order.tolist() != list(range(64))
    for name in SPLITS:
        before, after = getattr(plain, name), getattr(shuffled, name)
        assert torch.equal(after.images.flatten(1), before.images.flatten(1)[:, order])
        assert torch.equal(after.labels, before.labels)


def test_the_channels_of_a_pixel_stay_together():
    images = torch.arange(2 * 3 * 20).reshape(2, 3, 4, 5)
    shuffled = shuffle_pixels(images, 0)
    assert shuffled.shape == images.shape
    assert torch.equal(shuffled - shuffled[:1, :1], images - images[:1, :1])
    assert not torch.equal(shuffle_pixels(images, 1), shuffled)


def test_the_permutation_and_the_noise_are_frozen():
    # Another one would be other data under the same trial id.
    order = shuffle_pixels(torch.arange(6).reshape(1, 1, 2, 3), 0).flatten()
    assert order.tolist() == [1, 3, 4, 2, 0, 5]
    labels = add_label_noise(torch.zeros(8, dtype=torch.int64), 10, 0.5, 0)
    assert labels.tolist() == [8, 0, 0, 5, 4, 5, 0, 2]


def test_noise_changes_training_labels_alone():
    plain = load(DatasetConfig("digits"))
    noisy = load(DatasetConfig("digits", label_noise=0.5))
    changed = (noisy.training.labels != plain.training.labels).double().mean()
    # A label that is drawn anew is the old one in 1 of 10 cases.
    assert float(changed) == pytest.approx(0.5 * 0.9, abs=0.05)
    assert torch.equal(noisy.training.images, plain.training.images)
    for name in ("validation", "test"):
        assert torch.equal(getattr(noisy, name).labels, getattr(plain, name).labels)


def test_all_labels_are_drawn_uniformly_at_a_share_of_one():
    labels = add_label_noise(torch.zeros(50_000, dtype=torch.int64), 7, 1.0, 5)
    shares = labels.bincount(minlength=7) / len(labels)
    assert shares.sub(1 / 7).abs().max() < 0.01


def test_noise_grows_with_its_share_and_from_the_first_sample_on():
    labels = torch.arange(4000) % 10
    little = add_label_noise(labels, 10, 0.1, 0)
    much = add_label_noise(labels, 10, 0.4, 0)
    changed = little != labels
    assert torch.equal(much[changed], little[changed])
    assert torch.equal(add_label_noise(labels[:100], 10, 0.4, 0), much[:100])
    assert not torch.equal(add_label_noise(labels, 10, 0.4, 1), much)


def test_fewer_training_samples_have_the_labels_of_the_whole_split():
    whole = load(DatasetConfig("digits", label_noise=0.5))
    part = load(DatasetConfig("digits", label_noise=0.5, training_samples=100))
    assert torch.equal(part.training.labels, whole.training.labels[:100])


def test_doses_are_axes_of_trials_of_their_own():
    def trial(*overrides):
        return trials(compose(list(overrides)))[0]

    doses = ["dataset.pixel_shuffle=0", "dataset.label_noise=0.2", "dataset.label_noise=0.3"]
    ids = {trial(*overrides).trial_id for overrides in ([], *([dose] for dose in doses))}
    assert len(ids) == 4
    assert trial("dataset.label_noise=0.0").trial_id == trial().trial_id
    axes = trial("dataset.label_noise=0.2", "dataset.pixel_shuffle=0").axes
    assert axes["dataset.label_noise"] == 0.2
    assert axes["dataset.pixel_shuffle"] == 0
    assert "dataset.label_noise_seed" not in axes


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["dataset.label_noise=1.5"], r"dataset.label_noise=1.5: expected a number in \[0, 1\]"),
        (["dataset.label_noise=-0.1"], "dataset.label_noise=-0.1: expected a number"),
        (["dataset.label_noise=nan"], "dataset.label_noise=nan: expected a number"),
        (["dataset.label_noise_seed=1"], "there is no noise to draw"),
        (["dataset.pixel_shuffle=-1"], "dataset.pixel_shuffle=-1: expected an integer"),
    ],
)
def test_doses_out_of_range_are_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        check(compose(overrides))
