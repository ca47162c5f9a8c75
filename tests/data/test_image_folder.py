"""A user's own images: classes, splits, sizes, depths, fingerprints, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from harness.configuration.schema import DatasetConfig, PreprocessingConfig
from harness.data import catalog
from harness.data.catalog import DatasetInfo, dataset_info
from harness.data.datasets import load
from harness.data.preprocessing import fit
from harness.errors import RequestError


def config(root, **changes):
    return DatasetConfig("image_folder", root=str(root), **changes)


def picture(seed, height=6, width=5, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(root, classes=("cat", "dog"), count=10, **shape):
    """Makes class folders of `count` images each; returns the pixels by (class, index)."""
    pixels = {}
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels[label, index] = picture(100 * label + index, **shape)
            Image.fromarray(pixels[label, index]).save(root / name / f"{index:03d}.png")
    return pixels


def splits(image_set):
    return image_set.training, image_set.validation, image_set.test


def lengths(image_set):
    return [len(split.labels) for split in splits(image_set)]


def contents(image_set):
    """Label and bytes of every image of all splits, sorted."""
    pairs = []
    for split in splits(image_set):
        for image, label in zip(split.images.numpy(), split.labels, strict=True):
            pairs.append((int(label), image.tobytes()))
    return sorted(pairs)


def test_class_folders_become_three_splits(tmp_path):
    pixels = fill(tmp_path)
    image_set = load(config(tmp_path))
    assert image_set.classes == 2
    assert image_set.shape == (3, 6, 5)
    assert image_set.training.images.dtype == torch.uint8
    assert lengths(image_set) == [12, 4, 4]
    assert image_set.test.labels.bincount().tolist() == [2, 2]
    expected = sorted(
        (label, np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes())
        for (label, _), image in pixels.items()
    )
    assert contents(image_set) == expected
    assert dataset_info(config(tmp_path)) == DatasetInfo("image_folder", (3, 6, 5), 2, 12)


def test_split_folders_are_kept(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "val", count=3)
    fill(tmp_path / "test", classes=("dog",), count=2)
    image_set = load(config(tmp_path))
    assert lengths(image_set) == [20, 6, 2]
    assert image_set.test.labels.tolist() == [1, 1]
    assert dataset_info(config(tmp_path)).training_samples == 20


def test_a_missing_split_folder_is_cut_from_training(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "test", count=3)
    assert lengths(load(config(tmp_path, validation_share=0.1))) == [18, 2, 6]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, classes=("car", "train"))
    assert load(config(tmp_path)).classes == 2


def test_grey_images_have_one_channel_and_mixed_ones_three(tmp_path):
    fill(tmp_path, channels=1)
    assert dataset_info(config(tmp_path)).shape == (1, 6, 5)
    assert load(config(tmp_path)).shape == (1, 6, 5)
    Image.fromarray(picture(7)).save(tmp_path / "cat" / "colour.png")
    assert dataset_info(config(tmp_path)).shape == (3, 6, 5)
    images = torch.cat([split.images for split in splits(load(config(tmp_path)))])
    # The 20 grey images have three equal channels.
    grey = (images == images[:, :1]).all(3).all(2).all(1)
    assert grey.sum() == 20


def test_unequal_images_need_an_image_size(tmp_path):
    fill(tmp_path, height=6, width=6)
    Image.fromarray(np.zeros((10, 30), dtype=np.uint8)).save(tmp_path / "dog" / "wide.png")
    message = (
        r"images differ in size \(000.png: 6x6, wide.png: 30x10\); "
        r"give dataset.image_size, the pixels a side to cut all to"
    )
    with pytest.raises(RequestError, match=message):
        load(config(tmp_path))


def test_images_are_cropped_to_a_square_of_the_size_that_was_asked_for(tmp_path):
    fill(tmp_path, height=6, width=6)
    # Bright in the middle, dark at both ends, which the centre crop leaves out.
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 7:23] = 200
    Image.fromarray(wide).save(tmp_path / "dog" / "wide.png")
    image_set = load(config(tmp_path, image_size=4))
    assert image_set.shape == (3, 4, 4)
    assert dataset_info(config(tmp_path, image_size=4)).shape == (3, 4, 4)
    images = torch.cat([split.images for split in splits(image_set)])
    assert (images == 200).flatten(1).all(1).sum() == 1


@pytest.mark.parametrize("dtype, top", [(np.uint16, 65535), (np.float32, 1)])
def test_images_of_more_than_eight_bits_keep_their_depth(tmp_path, dtype, top):
    ramp = (np.linspace(0, top, 24).reshape(4, 6)).astype(dtype)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.fromarray(ramp).save(tmp_path / name / f"{index}.tif")
    image_set = load(config(tmp_path))
    assert image_set.training.images.dtype == torch.float32
    assert image_set.shape == (1, 4, 6)
    images = image_set.training.images
    unit = fit(PreprocessingConfig("none"), images, image_set.full_scale).apply(images)
    assert np.abs(unit[0, 0].numpy() - ramp / top).max() < 1e-6


def test_files_that_are_no_images_and_hidden_ones_are_left_out(tmp_path):
    fill(tmp_path, count=5)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / "._000.png").write_text("x")
    (tmp_path / "cat" / ".thumbnails").mkdir()
    (tmp_path / "cat" / ".thumbnails" / "000.png").write_text("x")
    (tmp_path / ".cache").mkdir()
    assert dataset_info(config(tmp_path)).training_samples == 6


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path):
    fill(tmp_path / "one")
    fill(tmp_path / "two")
    first = catalog.fingerprint(config(tmp_path / "one"))
    assert first == catalog.fingerprint(config(tmp_path / "two"))
    assert len(first) == 16
    Image.fromarray(picture(999)).save(tmp_path / "two" / "cat" / "000.png")
    changed = catalog.fingerprint(config(tmp_path / "two"))
    os.rename(tmp_path / "one" / "cat" / "000.png", tmp_path / "one" / "cat" / "zzz.png")
    renamed = catalog.fingerprint(config(tmp_path / "one"))
    assert len({first, changed, renamed}) == 3


def test_an_image_added_after_the_first_load_is_seen(tmp_path):
    fill(tmp_path)
    first = load(config(tmp_path))
    assert load(config(tmp_path)) is first
    Image.fromarray(picture(999)).save(tmp_path / "cat" / "new.png")
    assert len(load(config(tmp_path)).training.labels) == 13


def assert_refused(config, message):
    """Loading raises one line that matches the message."""
    with pytest.raises(RequestError, match=message) as caught:
        load(config)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path):
    assert_refused(
        config(tmp_path / "nowhere"),
        "nowhere: no such folder; expected a folder that holds one sub-folder of images per class",
    )


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(config(tmp_path), "empty, no class folders in it")


def test_a_folder_of_one_class_is_refused(tmp_path):
    fill(tmp_path, classes=("cat",))
    assert_refused(config(tmp_path), r"one class folder only \(cat\); expected at least two")


def test_a_class_without_images_is_refused(tmp_path):
    fill(tmp_path, classes=("cat",))
    (tmp_path / "dog").mkdir()
    assert_refused(config(tmp_path), "dog holds no images; expected files that end in .bmp, .gif")


def test_another_number_of_classes_than_asked_for_is_refused(tmp_path):
    fill(tmp_path)
    message = r"dataset.classes=3: .* holds 2 class folders \(cat, dog\); leave dataset.classes out"
    assert_refused(config(tmp_path, classes=3), message)
    assert load(config(tmp_path, classes=2)).classes == 2


def test_a_class_that_training_lacks_is_refused(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "cow"))
    message = "test has a class folder 'cow' that the training folder lacks; its classes: cat, dog"
    assert_refused(config(tmp_path), message)


@pytest.mark.parametrize("damage", [b"", b"no image at all", "cut"])
def test_an_unreadable_image_is_named(tmp_path, damage):
    fill(tmp_path, height=64, width=64)
    path = tmp_path / "dog" / "004.png"
    path.write_bytes(path.read_bytes()[:2000] if damage == "cut" else damage)
    assert_refused(config(tmp_path), "004.png: not a readable image .*; mend or remove the file")


@pytest.mark.parametrize(
    "value, message",
    [
        (float("nan"), "bad.tif: a pixel is not a finite number"),
        (float("inf"), "bad.tif: a pixel is not a finite number"),
        (1.5, "bad.tif: pixels from 0 to 1.5; expected 0 to 1 for an image of mode F"),
        (-0.5, "bad.tif: pixels from -0.5 to 0; expected 0 to 1 for an image of mode F"),
    ],
)
def test_a_pixel_that_is_no_brightness_is_named(tmp_path, value, message):
    fill(tmp_path, channels=1)
    pixels = np.zeros((6, 5), dtype=np.float32)
    pixels[3, 2] = value
    Image.fromarray(pixels).save(tmp_path / "dog" / "bad.tif")
    assert_refused(config(tmp_path), message)


def test_too_few_images_for_three_splits_are_refused(tmp_path):
    fill(tmp_path, count=1)
    assert_refused(config(tmp_path), "2 samples are too few for the splits")


def test_a_class_that_the_splits_leave_without_training_images_is_refused(tmp_path):
    fill(tmp_path, classes=("cat", "dog"), count=30)
    fill(tmp_path, classes=("lone",), count=1)
    refused_seeds = [seed for seed in range(20) if not loads(config(tmp_path, split_seed=seed))]
    assert refused_seeds
    assert len(refused_seeds) < 20
    seed = refused_seeds[0]
    message = r"class 'lone' has 1 image\(s\), too few for the splits"
    assert_refused(config(tmp_path, split_seed=seed), message)
    # A user who asks for few training samples may get some without every class.
    assert loads(config(tmp_path, split_seed=seed, training_samples=10))


def loads(config):
    try:
        load(config)
    except RequestError:
        return False
    return True
