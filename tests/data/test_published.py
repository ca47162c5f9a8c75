"""The published sets, read from small files in their real formats, and MNIST itself where it lies."""

import functools
import gzip
import hashlib
import os
import pickle
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from scipy.io import savemat

from harness.configuration.schema import PROJECT_ROOT, DatasetConfig
from harness.data import catalog, datasets
from harness.data.catalog import Published
from harness.data.datasets import load
from harness.errors import RequestError

SIZES = {"train": 60, "t10k": 20}


@pytest.fixture(autouse=True)
def nothing_remembered():
    datasets._load.cache_clear()
    yield
    datasets._load.cache_clear()


def shrink(monkeypatch, name, shape, classes):
    monkeypatch.setitem(
        catalog.PUBLISHED, name, Published(shape, classes, SIZES["train"], SIZES["t10k"])
    )


def images_and_labels(count, shape, classes, seed):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx_bytes(array):
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_idx(folder, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (prefix, count) in enumerate(SIZES.items()):
        images, labels = images_and_labels(count, (28, 28), 10, seed)
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", images),
            (f"{prefix}-labels-idx1-ubyte", labels),
        ):
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))


def assert_holds(image_set, train, test):
    """The three splits hold what the files hold: the test split in order, the rest cut in two."""
    assert torch.equal(image_set.test.images, torch.from_numpy(test[0]))
    assert image_set.test.labels.tolist() == test[1].tolist()
    drawn = torch.cat([image_set.training.images, image_set.validation.images])
    labels = torch.cat([image_set.training.labels, image_set.validation.labels])
    content = lambda images, targets: sorted(
        (int(target), image.tobytes()) for image, target in zip(images, targets)
    )
    assert content(drawn.numpy(), labels) == content(np.ascontiguousarray(train[0]), train[1])
    assert (len(image_set.training.labels), len(image_set.validation.labels)) == (48, 12)


@pytest.mark.parametrize(
    "name, family",
    [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")],
)
@pytest.mark.parametrize("layout", ["raw", "family", "flat"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_found_in_every_layout(tmp_path, monkeypatch, name, family, layout, packed):
    shrink(monkeypatch, name, (1, 28, 28), 10)
    write_idx(
        {"raw": tmp_path / family / "raw", "family": tmp_path / family, "flat": tmp_path}[layout],
        packed,
    )
    before = sorted(tmp_path.rglob("*"))
    image_set = load(DatasetConfig(name, root=str(tmp_path), download=False))
    train, test = (
        images_and_labels(count, (1, 28, 28), 10, seed) for seed, count in enumerate(SIZES.values())
    )
    assert_holds(image_set, train, test)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_root_is_read_from_where_the_command_was_given(tmp_path, monkeypatch):
    shrink(monkeypatch, "mnist", (1, 28, 28), 10)
    write_idx(tmp_path / "data" / "MNIST" / "raw")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert (
        len(load(DatasetConfig("mnist", root="../data", download=False)).test.labels)
        == SIZES["t10k"]
    )


def break_file(path, how):
    content = path.read_bytes()
    path.write_bytes(
        {
            "short": content[:-1],
            "long": content + b"\0",
            "header": b"\xff" * 16 + content[16:],
            "empty": b"",
        }[how]
    )


@pytest.mark.parametrize("how", ["short", "long", "header", "empty"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_idx_file_is_named_with_the_mend(tmp_path, monkeypatch, name, how):
    shrink(monkeypatch, "mnist", (1, 28, 28), 10)
    write_idx(tmp_path / "MNIST" / "raw")
    break_file(tmp_path / "MNIST" / "raw" / name, how)
    with pytest.raises(
        RequestError,
        match=rf"{name} is damaged: .*; delete it and run again with dataset.download=true",
    ):
        load(DatasetConfig("mnist", root=str(tmp_path), download=False))


@pytest.mark.parametrize("how", ["short", "header", "empty"])
def test_a_damaged_packed_file_is_named(tmp_path, monkeypatch, how):
    shrink(monkeypatch, "mnist", (1, 28, 28), 10)
    write_idx(tmp_path, packed=True)
    break_file(tmp_path / "train-images-idx3-ubyte.gz", how)
    with pytest.raises(RequestError, match=r"train-images-idx3-ubyte.gz is damaged"):
        load(DatasetConfig("mnist", root=str(tmp_path), download=False))


def test_a_label_out_of_range_is_damage(tmp_path, monkeypatch):
    shrink(monkeypatch, "mnist", (1, 28, 28), 5)
    write_idx(tmp_path)
    with pytest.raises(
        RequestError,
        match="train-labels-idx1-ubyte is damaged: labels from 0 to 9 where 0 to 4 are expected",
    ):
        load(DatasetConfig("mnist", root=str(tmp_path), download=False))


def test_missing_files_are_named_and_nothing_is_fetched_without_leave(tmp_path):
    with pytest.raises(RequestError) as caught:
        load(DatasetConfig("fashion_mnist", root=str(tmp_path), download=False))
    message = str(caught.value)
    assert "missing or damaged in " + str(tmp_path / "FashionMNIST" / "raw") in message
    assert "train-images-idx3-ubyte or train-images-idx3-ubyte.gz" in message
    assert "dataset.download=true" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_only_what_is_missing_is_named(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        RequestError,
        match=rf"missing or damaged in {tmp_path}: t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz; put",
    ):
        load(DatasetConfig("mnist", root=str(tmp_path), download=False))


def test_a_failing_download_is_one_line_with_the_mend(tmp_path, monkeypatch):
    from torchvision import datasets as torchvision_datasets

    gone = (tmp_path / "gone").as_uri()
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(torchvision_datasets.KMNIST, "mirrors", [gone + "/"])
    monkeypatch.setattr(torchvision_datasets.CIFAR10, "url", gone)
    monkeypatch.setattr(
        torchvision_datasets.SVHN,
        "split_list",
        {name: [gone, *rest] for name, (_, *rest) in torchvision_datasets.SVHN.split_list.items()},
    )
    for name, lacking in (
        ("kmnist", "train-images-idx3-ubyte"),
        ("cifar10", "data_batch_1"),
        ("svhn", "train_32x32.mat"),
    ):
        with pytest.raises(RequestError) as caught:
            load(DatasetConfig(name, root=str(tmp_path / "data")))
        message = str(caught.value)
        assert message.startswith(f"dataset={name}: missing or damaged in {tmp_path / 'data'}")
        assert lacking in message
        assert "the download failed (" in message
        assert "dataset.root" in message
        assert "\n" not in message


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder and the address under which this machine serves it to itself."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["mnist", "cifar100", "svhn"])
def test_a_root_that_is_no_folder_is_refused_and_not_made(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    for place in ("file", "misspelled"):
        with pytest.raises(
            RequestError,
            match=f"dataset.root={tmp_path / place}: no such folder; name the folder that holds dataset={name}",
        ):
            load(DatasetConfig(name, root=str(tmp_path / place)))
    assert not (tmp_path / "misspelled").exists()


def test_the_default_place_is_made_for_a_download(tmp_path, monkeypatch, mirror):
    from torchvision.datasets import MNIST

    shrink(monkeypatch, "mnist", (1, 28, 28), 10)
    monkeypatch.setattr(catalog, "PROJECT_ROOT", tmp_path)
    folder, address = mirror
    write_idx(folder, packed=True)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    monkeypatch.setattr(
        MNIST, "resources", [(path.name, md5(path)) for path in sorted(folder.iterdir())]
    )
    image_set = load(DatasetConfig("mnist"))
    train, test = (
        images_and_labels(count, (1, 28, 28), 10, seed) for seed, count in enumerate(SIZES.values())
    )
    assert_holds(image_set, train, test)
    assert (tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()


def write_cifar(root, monkeypatch, name):
    """CIFAR's pickles, spread over as many batches as the real set has, with their checksums made known."""
    from torchvision import datasets as torchvision_datasets

    family = {"cifar10": torchvision_datasets.CIFAR10, "cifar100": torchvision_datasets.CIFAR100}[
        name
    ]
    classes = {"cifar10": 10, "cifar100": 100}[name]
    key = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
    folder = root / family.base_folder
    folder.mkdir(parents=True)
    train, test = (
        images_and_labels(count, (3, 32, 32), classes, seed)
        for seed, count in enumerate(SIZES.values())
    )

    def write(files, images, labels):
        known = []
        for (filename, _), pixels, targets in zip(
            files, np.array_split(images, len(files)), np.array_split(labels, len(files))
        ):
            (folder / filename).write_bytes(
                pickle.dumps({"data": pixels.reshape(len(pixels), -1), key: targets.tolist()})
            )
            known.append([filename, md5(folder / filename)])
        return known

    monkeypatch.setattr(family, "train_list", write(family.train_list, *train))
    monkeypatch.setattr(family, "test_list", write(family.test_list, *test))
    meta = folder / family.meta["filename"]
    meta.write_bytes(
        pickle.dumps({family.meta["key"]: [f"class {index}" for index in range(classes)]})
    )
    monkeypatch.setattr(family, "meta", family.meta | {"md5": md5(meta)})
    shrink(monkeypatch, name, (3, 32, 32), classes)
    return folder, train, test


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_pickles(tmp_path, monkeypatch, name):
    _, train, test = write_cifar(tmp_path, monkeypatch, name)
    assert_holds(load(DatasetConfig(name, root=str(tmp_path), download=False)), train, test)


def test_a_damaged_cifar_file_is_named_and_never_unpickled(tmp_path, monkeypatch):
    folder, _, _ = write_cifar(tmp_path, monkeypatch, "cifar10")
    (folder / "data_batch_3").write_bytes(
        b"cos\nsystem\n(S'touch " + str(tmp_path / "harm").encode() + b"'\ntR."
    )
    with pytest.raises(
        RequestError,
        match=r"missing or damaged in .*cifar-10-batches-py: data_batch_3; put the files there",
    ):
        load(DatasetConfig("cifar10", root=str(tmp_path), download=False))
    assert not (tmp_path / "harm").exists()


def test_a_cifar_of_the_wrong_size_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, "cifar10")
    monkeypatch.setitem(catalog.PUBLISHED, "cifar10", Published((3, 32, 32), 10, 61, 20))
    with pytest.raises(
        RequestError,
        match=r"holds images of shape \(60, 3, 32, 32\) where \(61, 3, 32, 32\) is expected",
    ):
        load(DatasetConfig("cifar10", root=str(tmp_path), download=False))


@pytest.mark.parametrize("folder", ["", "SVHN"])
def test_svhn_is_read_from_its_matlab_files(tmp_path, monkeypatch, folder):
    from torchvision.datasets import SVHN

    (tmp_path / folder).mkdir(exist_ok=True)
    arrays, checksums = [], {}
    for seed, (split, count) in enumerate({"train": 60, "test": 20}.items()):
        images, labels = images_and_labels(count, (3, 32, 32), 10, seed)
        path = tmp_path / folder / f"{split}_32x32.mat"
        # The files write the digit 0 as class 10, and images as (height, width, channels, samples).
        savemat(
            path,
            {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]},
        )
        arrays.append((images, labels))
        checksums[split] = ["", path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", checksums)
    shrink(monkeypatch, "svhn", (3, 32, 32), 10)
    assert_holds(load(DatasetConfig("svhn", root=str(tmp_path), download=False)), *arrays)
    break_file(tmp_path / folder / "test_32x32.mat", "short")
    datasets._load.cache_clear()
    with pytest.raises(
        RequestError, match="missing or damaged in .*: test_32x32.mat; put the files there"
    ):
        load(DatasetConfig("svhn", root=str(tmp_path), download=False))


@pytest.fixture(scope="module")
def mnist_root():
    """The folder that holds the real MNIST: $HARNESS_DATA, `data/` or `../shared/data`."""
    places = [
        os.environ.get("HARNESS_DATA"),
        PROJECT_ROOT / "data",
        PROJECT_ROOT.parent / "shared" / "data",
    ]
    for place in filter(None, places):
        if os.path.isdir(os.path.join(place, "MNIST")):
            return str(place)
    pytest.skip("MNIST is not on this machine; set HARNESS_DATA to a folder that holds MNIST/raw")


def test_mnist_itself_has_its_known_moments(mnist_root):
    image_set = load(DatasetConfig("mnist", root=mnist_root, download=False))
    pixels = torch.cat([image_set.training.images, image_set.validation.images]).double() / 255
    # 0.1307 and 0.3081 are the constants of the MNIST example of PyTorch.
    assert float(pixels.mean()) == pytest.approx(0.13066, abs=1e-5)
    assert float(pixels.std(correction=0)) == pytest.approx(0.30811, abs=1e-5)
    assert image_set.test.labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
