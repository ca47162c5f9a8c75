"""Augmentation changes training batches alone, by noise that is the same in any pack."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.configuration.composing import compose
from harness.configuration.options import known_names
from harness.errors import RequestError
from harness.sweeps.cells import check
from harness.training.augmentation import augmentation, augmentations, crop_and_flip
from harness.training.events import Evaluated, Probed

CPU = torch.device("cpu")


def test_every_name_in_conf_is_declared():
    assert known_names("augmentation") == augmentations.names()


def test_a_crop_is_a_window_of_the_padded_image_or_of_its_mirror_image():
    """Against padding, slicing and flipping one image after the other."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 30, 3, 6, 8, generator=generator)
    down, across = (torch.randint(-3, 4, (2, 30), generator=generator) for _ in range(2))
    flipped = torch.rand(2, 30, generator=generator) < 0.5
    result = crop_and_flip(images, down, across, flipped)
    for trial in range(2):
        for sample in range(30):
            image = images[trial, sample]
            if flipped[trial, sample]:
                image = image.flip(2)
            y, x = 3 + int(down[trial, sample]), 3 + int(across[trial, sample])
            expected = functional.pad(image, (3, 3, 3, 3))[:, y : y + 6, x : x + 8]
            assert torch.equal(result[trial, sample], expected)


@pytest.fixture
def crop_flip(make_trial):
    """Trials with augmentation: `crop_flip(seeds, padding=2, flip=0.3)`."""

    def make(seeds, padding=2, flip=0.3):
        options = {"augmentation.padding": padding, "augmentation.flip": flip}
        return [make_trial(seed=seed, augmentation="crop_flip", **options) for seed in seeds]

    return make


def test_noise_depends_on_seed_and_step_alone(crop_flip):
    trials = crop_flip([4, 7, 9])
    images = torch.randn(3, 20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    together = augmentation(trials, CPU)(images, torch.tensor([5, 5, 5]))
    alone = augmentation(trials[1:2], CPU)
    assert torch.equal(alone(images[1:2], torch.tensor([5]))[0], together[1])
    assert not torch.equal(alone(images[1:2], torch.tensor([6]))[0], together[1])
    same_images = images[:1].expand(3, -1, -1, -1, -1)
    by_seed = augmentation(trials, CPU)(same_images, torch.tensor([5, 5, 5]))
    assert not torch.equal(by_seed[0], by_seed[1])


def test_all_shifts_are_equally_likely_and_flips_have_their_probability(crop_flip):
    (trial,) = crop_flip([0], padding=2, flip=0.3)
    count = 50_000
    # The brightest pixel tells the shift; the second one, to its right, the flip.
    images = torch.zeros(1, count, 1, 7, 7)
    images[..., 3, 3] = 2.0
    images[..., 3, 4] = 1.0
    result = augmentation([trial], CPU)(images, torch.tensor([1])).flatten(0, 2)
    brightest = result.flatten(1).argmax(1)
    second = (result == 1).flatten(1).float().argmax(1)
    shares = brightest.bincount(minlength=49) / count
    reached = shares[shares > 0]
    assert len(reached) == 25
    assert reached.sub(1 / 25).abs().max() < 0.005
    assert float((second < brightest).float().mean()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("program", ["auto", "stacked"])
def test_an_augmented_trial_alone_equals_the_trial_in_a_pack(
    train_pack, budget, make_trial, assert_same_losses_and_columns, program
):
    settings = budget | {"augmentation": "crop_flip", "depth": 1, "budget.probes": 0}
    trials = [make_trial(seed=seed, **settings) for seed in range(3)]
    _, together = train_pack(trials, program)
    _, alone = train_pack([trials[1]])
    assert_same_losses_and_columns(together, alone, trial=1)


def test_evaluations_and_probes_see_the_images_as_they_are(train_pack, budget, make_trial):
    """At step 0 nothing differs, and after some steps everything does."""
    _, plain = train_pack([make_trial(**budget)])
    _, augmented = train_pack([make_trial(augmentation="crop_flip", **budget)])
    for before, after in zip(plain, augmented, strict=True):
        if isinstance(before, Evaluated):
            same = torch.equal(before.validation_loss, after.validation_loss)
            assert same == (before.step == 0)
        if isinstance(before, Probed):
            q, other_q = before.layers[0].columns["q"], after.layers[0].columns["q"]
            assert torch.equal(q, other_q) == (before.step == 0)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("augmentation.padding=8", "images of dataset=digits have a side of 8; .* from 0 to 7"),
        ("augmentation.padding=-1", "augmentation.padding=-1: expected an integer of at least 0"),
        ("augmentation.flip=1.1", r"augmentation.flip=1.1: expected a number in \[0, 1\]"),
        ("augmentation.padding=0 augmentation.flip=0", "leave images as they are"),
    ],
)
def test_an_augmentation_that_means_nothing_is_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        check(compose(["augmentation=crop_flip", *overrides.split()]))


def test_an_option_without_its_augmentation_is_refused():
    with pytest.raises(RequestError, match="augmentation=none takes no such option"):
        check(compose(["augmentation.flip=0.5"]))
