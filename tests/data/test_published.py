"""CIFAR and SVHN in their real formats, folders that are refused, and downloads that fail."""

from __future__ import annotations

import pickle

import filelock
import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets as torchvision_datasets

from harness.configuration.schema import DatasetConfig
from harness.data.datasets import forget, load
from harness.errors import RequestError

SHAPE = (3, 32, 32)
CIFAR = {
    "cifar10": (torchvision_datasets.CIFAR10, 10, "labels"),
    "cifar100": (torchvision_datasets.CIFAR100, 100, "fine_labels"),
}

pytestmark = pytest.mark.usefixtures("nothing_remembered")


def load_from(folder, name):
    return load(DatasetConfig(name, root=str(folder), download=False))


@pytest.fixture
def write_cifar(monkeypatch, shrink, make_splits, md5):
    """Writes CIFAR's pickles into a root, and makes their checksums the published ones.

    The training split is spread over as many files as the real set has. Returns the folder of the
    files and both splits.
    """

    def write_split(folder, files, key, images, labels):
        listed = []
        pixels = np.array_split(images, len(files))
        targets = np.array_split(labels, len(files))
        for (name, _), part, part_labels in zip(files, pixels, targets, strict=True):
            content = {"data": part.reshape(len(part), -1), key: part_labels.tolist()}
            (folder / name).write_bytes(pickle.dumps(content))
            listed.append([name, md5(folder / name)])
        return listed

    def write(root, name):
        family, classes, key = CIFAR[name]
        folder = root / family.base_folder
        folder.mkdir(parents=True)
        training, test = make_splits(SHAPE, classes)
        train_list = write_split(folder, family.train_list, key, *training)
        test_list = write_split(folder, family.test_list, key, *test)
        monkeypatch.setattr(family, "train_list", train_list)
        monkeypatch.setattr(family, "test_list", test_list)
        meta = folder / family.meta["filename"]
        names = [f"class {index}" for index in range(classes)]
        meta.write_bytes(pickle.dumps({family.meta["key"]: names}))
        monkeypatch.setattr(family, "meta", family.meta | {"md5": md5(meta)})
        shrink(name)
        return folder, training, test

    return write


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_pickles(tmp_path, write_cifar, assert_holds, name):
    _, training, test = write_cifar(tmp_path, name)
    assert_holds(load_from(tmp_path, name), training, test)


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_folder_of_cifars_files_may_be_the_root(
    tmp_path, write_cifar, assert_holds, name, renamed
):
    folder, training, test = write_cifar(tmp_path, name)
    if renamed:
        folder = folder.rename(tmp_path / "images")
    assert_holds(load_from(folder, name), training, test)


def test_a_download_waits_for_another_of_the_same(tmp_path, monkeypatch):
    held = []

    class Unreachable(torchvision_datasets.CIFAR10):
        def __init__(self, root, download):
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(tmp_path / ".cifar10.lock").acquire(timeout=0)
            held.append(root)
            raise OSError("no network")

    monkeypatch.setattr(torchvision_datasets, "CIFAR10", Unreachable)
    with pytest.raises(RequestError, match="no network"):
        load(DatasetConfig("cifar10", root=str(tmp_path)))
    assert held == [str(tmp_path)]


def test_a_damaged_cifar_file_is_named_and_never_unpickled(tmp_path, write_cifar):
    folder, _, _ = write_cifar(tmp_path, "cifar10")
    harm = str(tmp_path / "harm").encode()
    (folder / "data_batch_3").write_bytes(b"cos\nsystem\n(S'touch " + harm + b"'\ntR.")
    message = r"missing or damaged in .*cifar-10-batches-py: data_batch_3; put the files there"
    with pytest.raises(RequestError, match=message):
        load_from(tmp_path, "cifar10")
    assert not (tmp_path / "harm").exists()


def test_a_cifar_of_the_wrong_size_is_refused(tmp_path, write_cifar, shrink):
    write_cifar(tmp_path, "cifar10")
    shrink("cifar10", samples=61)
    message = r"holds images of shape \(60, 3, 32, 32\) where \(61, 3, 32, 32\) is expected"
    with pytest.raises(RequestError, match=message):
        load_from(tmp_path, "cifar10")


@pytest.fixture
def write_svhn(monkeypatch, shrink, make_splits, md5):
    """Writes SVHN's MATLAB files into a folder, makes their checksums the published ones."""

    def write(folder):
        folder.mkdir(exist_ok=True)
        splits = make_splits(SHAPE, 10)
        checksums = {}
        for split, (images, labels) in zip(("train", "test"), splits, strict=True):
            path = folder / f"{split}_32x32.mat"
            # The files write the digit 0 as class 10, and images as (height, width, channels,
            # samples).
            targets = np.where(labels == 0, 10, labels)[:, None]
            savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": targets})
            checksums[split] = ["", path.name, md5(path)]
        monkeypatch.setattr(torchvision_datasets.SVHN, "split_list", checksums)
        shrink("svhn")
        return splits

    return write


@pytest.mark.parametrize("folder", ["", "SVHN"])
def test_svhn_is_read_from_its_matlab_files(tmp_path, write_svhn, assert_holds, folder):
    training, test = write_svhn(tmp_path / folder)
    assert_holds(load_from(tmp_path, "svhn"), training, test)


@pytest.mark.parametrize("folder", ["", "SVHN"])
def test_a_damaged_svhn_file_is_named(tmp_path, write_svhn, break_file, folder):
    write_svhn(tmp_path / folder)
    load_from(tmp_path, "svhn")
    break_file(tmp_path / folder / "test_32x32.mat", "short")
    forget()
    message = "missing or damaged in .*: test_32x32.mat; put the files there"
    with pytest.raises(RequestError, match=message):
        load_from(tmp_path, "svhn")


@pytest.mark.parametrize("name", ["mnist", "cifar100", "svhn"])
@pytest.mark.parametrize("place", ["file", "misspelled"])
def test_a_root_that_is_no_folder_is_refused_and_not_made(tmp_path, name, place):
    (tmp_path / "file").write_text("not a folder")
    message = (
        f"dataset.root={tmp_path / place}: no such folder; "
        f"name the folder that holds dataset={name}"
    )
    with pytest.raises(RequestError, match=message):
        load(DatasetConfig(name, root=str(tmp_path / place)))
    assert not (tmp_path / "misspelled").exists()


@pytest.fixture
def unreachable(tmp_path, monkeypatch):
    """Addresses of torchvision that lead to a file that does not exist."""
    address = (tmp_path / "gone").as_uri()
    svhn = torchvision_datasets.SVHN
    split_list = {name: [address, *rest] for name, (_, *rest) in svhn.split_list.items()}
    monkeypatch.setattr(torchvision_datasets.KMNIST, "mirrors", [address + "/"])
    monkeypatch.setattr(torchvision_datasets.CIFAR10, "url", address)
    monkeypatch.setattr(svhn, "split_list", split_list)


@pytest.mark.parametrize(
    "name, lacking",
    [
        ("kmnist", "train-images-idx3-ubyte"),
        ("cifar10", "data_batch_1"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_a_failing_download_is_one_line_that_says_what_to_do(tmp_path, unreachable, name, lacking):
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(RequestError) as caught:
        load(DatasetConfig(name, root=str(root)))
    message = str(caught.value)
    assert message.startswith(f"dataset={name}: missing or damaged in {root}")
    assert lacking in message
    assert "the download failed (" in message
    assert "dataset.root" in message
    assert "\n" not in message
