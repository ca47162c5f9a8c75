"""Folders as people have them: names of splits, links, thumbnails, and what is told of them."""

from __future__ import annotations

import logging
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from harness.configuration.schema import DatasetConfig
from harness.data import catalog, folder_listing
from harness.data.datasets import load
from harness.errors import RequestError


def config(root, **changes):
    return DatasetConfig("image_folder", root=str(root), **changes)


def fill(folder, classes=("cat", "dog"), count=10, start=0):
    """Makes class folders of `count` grey images each."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((6, 6), start + 20 * label + index, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")


@pytest.fixture
def told(caplog):
    """What is told while a folder is read; every line once."""
    folder_listing.tell_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def lengths(root):
    images = load(config(root))
    return [len(split.labels) for split in (images.training, images.validation, images.test)]


@pytest.mark.parametrize(
    "training, test", [("Training", "Testing"), ("TRAIN", "TEST"), ("train", "testing")]
)
def test_split_folders_are_known_in_capitals_and_other_words(tmp_path, training, test):
    fill(tmp_path / training, count=10)
    fill(tmp_path / test, count=3)
    assert catalog.dataset_info(config(tmp_path)).classes == 2
    assert lengths(tmp_path) == [16, 4, 6]


def test_a_folder_dev_is_the_validation_split(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "dev", count=3)
    assert lengths(tmp_path) == [16, 6, 4]


def test_what_were_classes_and_are_splits_now_has_another_identity(tmp_path):
    fill(tmp_path / "one" / "Training")
    fill(tmp_path / "one" / "Testing", count=3)
    of_splits = catalog.fingerprint(config(tmp_path / "one"))
    folder_listing.SPLIT_FOLDERS, known = {"training": ("train",)}, folder_listing.SPLIT_FOLDERS
    try:
        of_classes = catalog.fingerprint(config(tmp_path / "one"))
    finally:
        folder_listing.SPLIT_FOLDERS = known
    assert of_splits != of_classes


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "val", "dev"):
        fill(tmp_path / name)
    with pytest.raises(RequestError, match="'dev' and 'val' both name the validation split"):
        catalog.dataset_info(config(tmp_path))


def test_what_is_left_out_is_counted_and_told_once(tmp_path, told):
    fill(tmp_path / "train")
    fill(tmp_path / "extra")
    cat = tmp_path / "train" / "cat"
    for name in ("notes.txt", "more.txt", "photo.heic", "README", ".hidden.png"):
        (cat / name).write_bytes(b"")
    for name in ("@eaDir", "__MACOSX", ".thumbnails"):
        shutil.copytree(tmp_path / "train" / "dog", cat / name)
    (cat / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (cat / "again").symlink_to(tmp_path / "train" / "dog")
    shutil.copytree(tmp_path / "train" / "dog", tmp_path / "train" / "@eaDir")
    assert sum(lengths(tmp_path)) == 20
    catalog.dataset_info(config(tmp_path))
    (line,) = told()
    for reason in (
        "2 files that end in .txt",
        "1 files that end in .heic",
        "1 files without an extension",
        "1 hidden files",
        "1 hidden folders",
        "1 @eaDir",
        "1 __MACOSX",
        "1 links that lead nowhere",
        "1 links to folders",
        "folder 'extra' beside the splits",
    ):
        assert reason in line


def test_a_clean_folder_is_told_nothing_of(tmp_path, told):
    fill(tmp_path)
    load(config(tmp_path))
    assert told() == []


def test_images_that_are_read_other_than_they_are_seen_are_counted(tmp_path, told):
    fill(tmp_path)
    turned = Image.new("RGB", (6, 6))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "cat" / "turned.jpg", exif=exif)
    Image.new("RGBA", (6, 6)).save(tmp_path / "cat" / "clear.png")
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "cat" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (8, 6)).save(tmp_path / "dog" / "wide.png")
    load(config(tmp_path, image_size=6))
    said = "\n".join(told())
    for line in (
        "1 of 24 images have an orientation that is not applied",
        "1 of 24 images lose their transparency",
        "1 of 24 images hold several frames",
        "1 of 24 images are cropped to a square",
    ):
        assert line in said


def test_class_names_agree_in_every_form_of_unicode(tmp_path):
    name = "épée"
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    for place, form in enumerate(forms):
        fill(tmp_path / str(place) / "train", classes=(form, "dog"))
        fill(tmp_path / str(place) / "test", classes=(forms[1 - place], "dog"), count=2)
    infos = [catalog.dataset_info(config(tmp_path / str(place))) for place in (0, 1)]
    assert [info.classes for info in infos] == [2, 2]
    prints = {catalog.fingerprint(config(tmp_path / str(place))) for place in (0, 1)}
    assert len(prints) == 1
    for form in forms:
        (tmp_path / "both" / form).mkdir(parents=True)
    with pytest.raises(RequestError, match="two forms of Unicode"):
        catalog.dataset_info(config(tmp_path / "both"))


def test_a_name_that_is_no_text_is_no_traceback(tmp_path):
    fill(tmp_path)
    first = catalog.fingerprint(config(tmp_path))
    path = os.fsencode(tmp_path / "cat" / "000.png")
    os.rename(path, path.replace(b"000", b"\xff\xfe"))
    assert catalog.fingerprint(config(tmp_path)) != first
    assert sum(lengths(tmp_path)) == 20


def test_a_folder_is_listed_once_in_a_command(tmp_path, monkeypatch):
    fill(tmp_path)
    walks = []
    walk = os.walk
    monkeypatch.setattr(folder_listing.os, "walk", lambda top: walks.append(top) or walk(top))
    with folder_listing.listed_once():
        for _ in range(3):
            catalog.dataset_info(config(tmp_path))
            catalog.fingerprint(config(tmp_path))
            load(config(tmp_path))
    assert len(walks) == 2  # one for each class
    catalog.dataset_info(config(tmp_path))
    assert len(walks) == 4
