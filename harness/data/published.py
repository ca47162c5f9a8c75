"""The published data sets that torchvision knows, read from disk or downloaded on first use."""

from __future__ import annotations

import http.client
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.configuration.schema import DatasetConfig
from harness.data import idx
from harness.data.catalog import PUBLISHED, data_root
from harness.errors import RequestError

# Images (samples, channels, height, width) uint8 and labels int64.
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]

_MNIST_FAMILY = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
_SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


def read_published(config: DatasetConfig) -> tuple[Arrays, Arrays]:
    """Official training and test splits.

    Raises:
        RequestError: a file is missing or damaged, or cannot be downloaded; the message names it and the mend.
    """
    root = data_root(config)
    # A folder is made for the default place only: a misspelled one would be filled with a second copy.
    if config.root is not None and not root.is_dir():
        raise RequestError(
            f"dataset.root={root}: no such folder; name the folder that holds dataset={config.name}, or make it first to download into it"
        )
    reader = (
        _read_mnist
        if config.name in _MNIST_FAMILY
        else _read_svhn
        if config.name == "svhn"
        else _read_cifar
    )
    return reader(config)


def _read_mnist(config: DatasetConfig) -> tuple[Arrays, Arrays]:
    root, family, known = data_root(config), _MNIST_FAMILY[config.name], PUBLISHED[config.name]
    folders = [root / family / "raw", root / family, root]
    found = idx.find(folders)
    if found is None:
        begun = min(folders, key=lambda folder: len(idx.missing(folder)))
        _download(config, family, begun, [f"{name} or {name}.gz" for name in idx.missing(begun)])
        found = idx.find(folders)
    arrays = []
    for split, count in (("training", known.samples), ("test", known.test)):
        images, labels = found[split]
        arrays.append(
            (
                idx.read(images, (count, *known.shape[1:]))[:, None],
                _labels(idx.read(labels, (count,)), known.classes, labels),
            )
        )
    return arrays[0], arrays[1]


def _read_cifar(config: DatasetConfig) -> tuple[Arrays, Arrays]:
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    root, family = (
        data_root(config),
        {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.name],
    )
    folder = root / family.base_folder
    files = [
        (folder / name, md5)
        for name, md5 in [
            *family.train_list,
            *family.test_list,
            (family.meta["filename"], family.meta["md5"]),
        ]
    ]
    # Unpickling runs what a file says, so nothing is read whose checksum is not the published one.
    bad = [path for path, md5 in files if not check_integrity(str(path), md5)]
    if bad:
        _download(config, family.__name__, folder, [path.name for path in bad])
    return _from_torchvision(
        config,
        lambda train: family(str(root), train=train, download=False),
        lambda data: data.transpose(0, 3, 1, 2),
        "targets",
    )


def _read_svhn(config: DatasetConfig) -> tuple[Arrays, Arrays]:
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import check_integrity

    root = data_root(config)
    folder = root if (root / _SVHN_FILES[0]).is_file() else root / "SVHN"
    bad = [
        name
        for name in _SVHN_FILES
        if not check_integrity(str(folder / name), _svhn_checksum(SVHN, name))
    ]
    if bad:
        _download(config, "SVHN", folder, bad)
    return _from_torchvision(
        config,
        lambda train: SVHN(str(folder), split="train" if train else "test", download=False),
        lambda data: data,
        "labels",
    )


def _svhn_checksum(family: Any, name: str) -> str:
    return next(md5 for _, filename, md5 in family.split_list.values() if filename == name)


def _from_torchvision(
    config: DatasetConfig,
    make: Callable[[bool], Any],
    arrange: Callable[[Any], NDArray[np.uint8]],
    labels: str,
) -> tuple[Arrays, Arrays]:
    known, root = PUBLISHED[config.name], data_root(config)
    arrays = []
    for train, count in ((True, known.samples), (False, known.test)):
        try:
            split = make(train)
        except (
            OSError,
            EOFError,
            RuntimeError,
            KeyError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            raise idx.damaged(
                root, f"dataset={config.name} cannot be read: {_first_line(error)}"
            ) from error
        images = np.ascontiguousarray(arrange(split.data))
        if images.shape != (count, *known.shape):
            raise idx.damaged(
                root,
                f"dataset={config.name} holds images of shape {images.shape} where {(count, *known.shape)} is expected",
            )
        arrays.append((images, _labels(np.asarray(getattr(split, labels)), known.classes, root)))
    return arrays[0], arrays[1]


def _download(config: DatasetConfig, family: str, folder: Path, wanted: list[str]) -> None:
    from torchvision import datasets

    lacking = f"dataset={config.name}: missing or damaged in {folder}: {', '.join(wanted)}"
    mend = "put the files there, or name the folder that has them with dataset.root"
    if not config.download:
        raise RequestError(f"{lacking}; {mend}, or allow the download with dataset.download=true")
    try:
        if family == "SVHN":
            for split in ("train", "test"):
                datasets.SVHN(str(folder), split=split, download=True)
        else:
            getattr(datasets, family)(str(data_root(config)), download=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        urllib.error.URLError,
        http.client.HTTPException,
    ) as error:
        raise RequestError(
            f"{lacking}; the download failed ({_first_line(error)}); {mend}"
        ) from error


def _labels(values: NDArray[Any], classes: int, path: Path) -> NDArray[np.int64]:
    labels = values.astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise idx.damaged(
            path,
            f"labels from {labels.min()} to {labels.max()} where 0 to {classes - 1} are expected",
        )
    return labels


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
