import os

import numpy as np
import pytest
import torch
from PIL import Image

from harness.configuration.schema import DatasetConfig, PreprocessingConfig
from harness.data import catalog
from harness.data.datasets import load
from harness.data.preprocessing import fit
from harness.errors import RequestError


def config(root, **changes):
    return DatasetConfig("image_folder", root=str(root), **changes)


def picture(seed, height=6, width=5, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(root, classes=("cat", "dog"), count=10, **shape):
    """Class folders of `count` images each; returns the pixels by (class, index)."""
    pixels = {}
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels[label, index] = picture(100 * label + index, **shape)
            Image.fromarray(pixels[label, index]).save(root / name / f"{index:03d}.png")
    return pixels


def contents(*splits):
    return sorted(
        (int(label), image.tobytes())
        for split in splits
        for image, label in zip(split.images.numpy(), split.labels)
    )


def test_class_folders_become_three_splits(tmp_path):
    pixels = fill(tmp_path)
    image_set = load(config(tmp_path))
    assert (image_set.classes, image_set.shape, image_set.training.images.dtype) == (
        2,
        (3, 6, 5),
        torch.uint8,
    )
    assert [
        len(split.labels) for split in (image_set.training, image_set.validation, image_set.test)
    ] == [12, 4, 4]
    assert image_set.test.labels.bincount().tolist() == [2, 2]
    expected = sorted(
        (label, np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes())
        for (label, _), image in pixels.items()
    )
    assert contents(image_set.training, image_set.validation, image_set.test) == expected
    assert catalog.facts(config(tmp_path)) == catalog.Facts("image_folder", (3, 6, 5), 2, 12)


def test_split_folders_are_kept(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "val", count=3)
    fill(tmp_path / "test", classes=("dog",), count=2)
    image_set = load(config(tmp_path))
    assert [
        len(split.labels) for split in (image_set.training, image_set.validation, image_set.test)
    ] == [20, 6, 2]
    assert image_set.test.labels.tolist() == [1, 1]
    assert catalog.facts(config(tmp_path)).training_samples == 20


def test_a_missing_split_folder_is_cut_from_training(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "test", count=3)
    image_set = load(config(tmp_path, validation_share=0.1))
    assert [
        len(split.labels) for split in (image_set.training, image_set.validation, image_set.test)
    ] == [18, 2, 6]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, classes=("car", "train"))
    assert load(config(tmp_path)).classes == 2


def test_grey_images_have_one_channel_and_mixed_ones_three(tmp_path):
    fill(tmp_path, channels=1)
    assert catalog.facts(config(tmp_path)).shape == load(config(tmp_path)).shape == (1, 6, 5)
    Image.fromarray(picture(7)).save(tmp_path / "cat" / "colour.png")
    assert catalog.facts(config(tmp_path)).shape == (3, 6, 5)
    drawn = torch.cat(
        [
            getattr(load(config(tmp_path)), name).images
            for name in ("training", "validation", "test")
        ]
    )
    assert sum(bool((image[0] == image[1]).all()) for image in drawn) == 20


def test_unequal_images_are_cropped_to_a_square_of_the_size_asked_for(tmp_path):
    fill(tmp_path, height=6, width=6)
    # Bright in the middle, dark at both ends, which the centre crop leaves out.
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 7:23] = 200
    Image.fromarray(wide).save(tmp_path / "dog" / "wide.png")
    with pytest.raises(
        RequestError,
        match=r"images differ in size \(000.png: 6x6, wide.png: 30x10\); give dataset.image_size",
    ):
        load(config(tmp_path))
    image_set = load(config(tmp_path, image_size=4))
    assert image_set.shape == catalog.facts(config(tmp_path, image_size=4)).shape == (3, 4, 4)
    assert (3 * 16 * [200]) in [
        image.flatten().tolist()
        for name in ("training", "validation", "test")
        for image in getattr(image_set, name).images
    ]


@pytest.mark.parametrize("dtype, top", [(np.uint16, 65535), (np.float32, 1)])
def test_images_finer_than_eight_bits_keep_their_depth(tmp_path, dtype, top):
    ramp = (np.linspace(0, top, 24).reshape(4, 6)).astype(dtype)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.fromarray(ramp).save(tmp_path / name / f"{index}.tif")
    image_set = load(config(tmp_path))
    assert image_set.training.images.dtype == torch.float32
    assert image_set.shape == (1, 4, 6)
    unit = fit(PreprocessingConfig("none"), image_set.training.images, image_set.full_scale).apply(
        image_set.training.images
    )
    assert np.abs(unit[0, 0].numpy() - ramp / top).max() < 1e-6


def test_files_that_are_no_images_and_hidden_ones_are_left_out(tmp_path):
    fill(tmp_path, count=5)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / "._000.png").write_text("x")
    (tmp_path / "cat" / ".thumbnails").mkdir()
    (tmp_path / "cat" / ".thumbnails" / "000.png").write_text("x")
    (tmp_path / ".cache").mkdir()
    assert catalog.facts(config(tmp_path)).training_samples == 6


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


def refused(config, told):
    with pytest.raises(RequestError, match=told) as caught:
        load(config)
    assert "\n" not in str(caught.value)


def test_a_wrong_or_empty_folder_is_refused(tmp_path):
    refused(
        config(tmp_path / "nowhere"),
        "nowhere: no such folder; expected a folder that holds one sub-folder of images per class",
    )
    refused(config(tmp_path), "empty, no class folders in it")
    fill(tmp_path, classes=("cat",))
    refused(config(tmp_path), r"one class folder only \(cat\); expected at least two")
    (tmp_path / "dog").mkdir()
    refused(config(tmp_path), "dog holds no images; expected files that end in .bmp, .gif")


def test_classes_that_do_not_match_are_refused(tmp_path):
    fill(tmp_path / "train")
    refused(
        config(tmp_path, classes=3), r"dataset.classes=3: .* holds 2 class folders \(cat, dog\)"
    )
    fill(tmp_path / "test", classes=("cat", "cow"))
    refused(
        config(tmp_path),
        "test has a class folder 'cow' that the training folder lacks; its classes: cat, dog",
    )


@pytest.mark.parametrize("damage", [b"", b"no image at all", "cut"])
def test_an_unreadable_image_is_named(tmp_path, damage):
    fill(tmp_path, height=64, width=64)
    path = tmp_path / "dog" / "004.png"
    path.write_bytes(path.read_bytes()[:2000] if damage == "cut" else damage)
    refused(config(tmp_path), "004.png: not a readable image .*; mend or remove the file")


@pytest.mark.parametrize(
    "value, told",
    [
        (float("nan"), "bad.tif: a pixel is not a finite number"),
        (float("inf"), "bad.tif: a pixel is not a finite number"),
        (1.5, "bad.tif: pixels from 0 to 1.5; expected 0 to 1 for an image of mode F"),
        (-0.5, "bad.tif: pixels from -0.5 to 0; expected 0 to 1 for an image of mode F"),
    ],
)
def test_a_pixel_that_is_no_brightness_is_named(tmp_path, value, told):
    fill(tmp_path, channels=1)
    pixels = np.zeros((6, 5), dtype=np.float32)
    pixels[3, 2] = value
    Image.fromarray(pixels).save(tmp_path / "dog" / "bad.tif")
    refused(config(tmp_path), told)


def test_too_few_samples_are_refused(tmp_path):
    fill(tmp_path, count=1)
    refused(config(tmp_path), "2 samples are too few for the splits")
    fill(tmp_path / "more", classes=("cat", "dog"), count=30)
    fill(tmp_path / "more", classes=("lone",), count=1)
    taken = [seed for seed in range(20) if not _loads(config(tmp_path / "more", split_seed=seed))]
    assert taken
    assert len(taken) < 20
    refused(
        config(tmp_path / "more", split_seed=taken[0]),
        r"class 'lone' has 1 image\(s\), too few for the splits",
    )


def _loads(config):
    try:
        load(config)
    except RequestError:
        return False
    return True
