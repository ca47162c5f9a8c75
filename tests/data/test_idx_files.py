"""The MNIST family, read from small files in its real format, and MNIST itself where it lies."""

from __future__ import annotations

import functools
import gzip
import os
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from harness.configuration.schema import PROJECT_ROOT, DatasetConfig
from harness.data import published
from harness.data.datasets import load
from harness.errors import RequestError

SHAPE, CLASSES = (1, 28, 28), 10

pytestmark = pytest.mark.usefixtures("nothing_remembered")


def load_from(folder, name="mnist"):
    return load(DatasetConfig(name, root=str(folder), download=False))


def idx_bytes(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx(shrink, make_splits):
    """Writes a small data set into a folder, plain or packed, and returns its splits."""

    def write(folder, packed=False, name="mnist"):
        shrink(name)
        folder.mkdir(parents=True, exist_ok=True)
        training, test = make_splits(SHAPE, CLASSES)
        for prefix, (images, labels) in (("train", training), ("t10k", test)):
            files = {
                f"{prefix}-images-idx3-ubyte": idx_bytes(images[:, 0]),
                f"{prefix}-labels-idx1-ubyte": idx_bytes(labels),
            }
            for name, content in files.items():
                if packed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(content))
                else:
                    (folder / name).write_bytes(content)
        return training, test

    return write


FAMILIES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layout", ["{family}/raw", "{family}", ""], ids=["raw", "family", "flat"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_idx_files_are_read_in_every_layout(
    tmp_path, write_idx, assert_holds, name, layout, packed
):
    folder = tmp_path / layout.format(family=FAMILIES[name])
    training, test = write_idx(folder, packed, name)
    before = sorted(tmp_path.rglob("*"))
    image_set = load_from(tmp_path, name)
    assert_holds(image_set, training, test)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_root_is_read_from_the_working_directory(tmp_path, monkeypatch, write_idx):
    write_idx(tmp_path / "data" / "MNIST" / "raw")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    image_set = load(DatasetConfig("mnist", root="../data", download=False))
    assert len(image_set.test.labels) == 20


@pytest.mark.parametrize("how", ["short", "long", "header", "empty"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_idx_file_is_named(tmp_path, write_idx, break_file, name, how):
    write_idx(tmp_path / "MNIST" / "raw")
    break_file(tmp_path / "MNIST" / "raw" / name, how)
    message = rf"{name} is damaged: .*; delete it and run again with dataset.download=true"
    with pytest.raises(RequestError, match=message):
        load_from(tmp_path)


@pytest.mark.parametrize("how", ["short", "header", "empty"])
def test_a_damaged_packed_file_is_named(tmp_path, write_idx, break_file, how):
    write_idx(tmp_path, packed=True)
    break_file(tmp_path / "train-images-idx3-ubyte.gz", how)
    with pytest.raises(RequestError, match=r"train-images-idx3-ubyte.gz is damaged"):
        load_from(tmp_path)


def test_a_label_out_of_range_is_damage(tmp_path, shrink, write_idx):
    write_idx(tmp_path)
    shrink("mnist", classes=5)
    message = "train-labels-idx1-ubyte is damaged: labels from 0 to 9 where 0 to 4 are expected"
    with pytest.raises(RequestError, match=message):
        load_from(tmp_path)


def test_missing_files_are_named_and_nothing_is_downloaded_without_leave(tmp_path):
    with pytest.raises(RequestError) as caught:
        load_from(tmp_path, "fashion_mnist")
    message = str(caught.value)
    assert f"missing or damaged in {tmp_path / 'FashionMNIST' / 'raw'}" in message
    assert "train-images-idx3-ubyte or train-images-idx3-ubyte.gz" in message
    assert "dataset.download=true" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_only_missing_files_are_named(tmp_path, write_idx):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    name = "t10k-labels-idx1-ubyte"
    with pytest.raises(
        RequestError, match=rf"missing or damaged in {tmp_path}: {name} or {name}.gz; put"
    ):
        load_from(tmp_path)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder and the address under which this machine serves it to itself."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_default_place_is_made_for_a_download(
    tmp_path, monkeypatch, mirror, write_idx, assert_holds, md5
):
    monkeypatch.setattr(published, "PROJECT_ROOT", tmp_path)
    folder, address = mirror
    training, test = write_idx(folder, packed=True)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    checksums = [(path.name, md5(path)) for path in sorted(folder.iterdir())]
    monkeypatch.setattr(MNIST, "resources", checksums)
    image_set = load(DatasetConfig("mnist"))
    assert_holds(image_set, training, test)
    assert (tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()


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


def test_mnist_itself_has_its_published_moments(mnist_root):
    image_set = load_from(mnist_root)
    pixels = torch.cat([image_set.training.images, image_set.validation.images]).double() / 255
    # 0.1307 and 0.3081 are the constants of the MNIST example of PyTorch.
    assert float(pixels.mean()) == pytest.approx(0.13066, abs=1e-5)
    assert float(pixels.std(correction=0)) == pytest.approx(0.30811, abs=1e-5)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert image_set.test.labels.bincount().tolist() == counts
