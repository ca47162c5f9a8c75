"""Published data sets that torchvision knows, read from disk or downloaded on first use."""

from __future__ import annotations

import http.client
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from harness.configuration.result_folder import absolute
from harness.configuration.schema import INSTALLED, PROJECT_ROOT, DatasetConfig
from harness.data import idx
from harness.data.dataset_spec import Content, DatasetSpec, LabelledImages
from harness.errors import RequestError

_SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
# Errors that torchvision raises where a file is not what it should be.
_READ_ERRORS = (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError)
_DOWNLOAD_ERRORS = (
    OSError,
    RuntimeError,
    EOFError,
    urllib.error.URLError,
    http.client.HTTPException,
)


def read_idx_files(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Reads a set of the MNIST family, in the official splits.

    The name of torchvision's class is also that of the folder.

    Raises:
        RequestError: a file is missing or damaged, or cannot be downloaded; the message names it
            and says how to mend it.
    """
    root = _existing_root(config)
    folders = [root / spec.family / "raw", root / spec.family, root]
    files = idx.find(folders)
    if files is None:
        most_complete = min(folders, key=lambda folder: len(idx.missing(folder)))
        lacking = [f"{name} or {name}.gz" for name in idx.missing(most_complete)]
        _download(spec, config, most_complete, lacking)
        files = idx.find(folders)
    training = _read_idx_split(spec, files["training"], spec.samples)
    test = _read_idx_split(spec, files["test"], spec.test_samples)
    return Content(training, test=test)


def read_cifar(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Reads CIFAR-10 or CIFAR-100, in the official splits; RequestError as `read_idx_files`."""
    root = _existing_root(config)
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    published = getattr(datasets, spec.family)
    # The files may also lie in `root` itself, whatever its name is.
    inside = (root / published.meta["filename"]).is_file()
    folder = root if inside else root / published.base_folder
    meta = (published.meta["filename"], published.meta["md5"])
    # Unpickling runs the code that a file contains, so nothing is read whose checksum is not the
    # published one.
    damaged = [
        name
        for name, md5 in [*published.train_list, *published.test_list, meta]
        if not check_integrity(str(folder / name), md5)
    ]
    if damaged:
        _download(spec, config, folder, damaged)
        inside = False
    members = {"base_folder": "" if inside else published.base_folder}
    dataset = type(spec.family, (published,), members)

    def read_split(train: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        split = dataset(str(root), train=train, download=False)
        return split.data.transpose(0, 3, 1, 2), np.asarray(split.targets)

    return _from_torchvision(spec, root, read_split)


def read_svhn(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Reads SVHN, in the official splits; RequestError as `read_idx_files`."""
    root = _existing_root(config)
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import check_integrity

    folder = root if (root / _SVHN_FILES[0]).is_file() else root / "SVHN"
    checksums = {filename: md5 for _, filename, md5 in SVHN.split_list.values()}
    damaged = [
        name for name in _SVHN_FILES if not check_integrity(str(folder / name), checksums[name])
    ]
    if damaged:
        _download(spec, config, folder, damaged)

    def read_split(train: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        split = SVHN(str(folder), split="train" if train else "test", download=False)
        return split.data, np.asarray(split.labels)

    return _from_torchvision(spec, root, read_split)


def data_root(config: DatasetConfig) -> Path:
    """Returns the absolute folder of published data sets: `dataset.root`, or the default place.

    The default place is `data/` in the checkout; an installed harness has it in the working
    directory.
    """
    if config.root is None:
        return (Path.cwd() if INSTALLED else PROJECT_ROOT) / "data"
    return absolute(config.root, "dataset.root")


def _existing_root(config: DatasetConfig) -> Path:
    """The data root, which must exist where the user named it.

    A folder is made for the default place only: a misspelled one would be filled with a second
    copy.
    """
    root = data_root(config)
    if config.root is not None and not root.is_dir():
        raise RequestError(
            f"dataset.root={root}: no such folder; name the folder that holds "
            f"dataset={config.name}, or make it first to download into it"
        )
    return root


def _read_idx_split(spec: DatasetSpec, files: tuple[Path, Path], count: int) -> LabelledImages:
    images_path, labels_path = files
    images = idx.read(images_path, (count, *spec.shape[1:]))[:, None]
    labels = _labels(idx.read(labels_path, (count,)), spec.classes, labels_path)
    return LabelledImages(images, labels)


def _from_torchvision(
    spec: DatasetSpec, root: Path, read_split: Callable[[bool], tuple[NDArray[Any], NDArray[Any]]]
) -> Content:
    """Reads both splits by `read_split(train)`, and checks their shapes and labels."""
    splits = []
    for train, count in ((True, spec.samples), (False, spec.test_samples)):
        try:
            pixels, labels = read_split(train)
        except _READ_ERRORS as error:
            reason = f"dataset={spec.name} cannot be read: {_first_line(error)}"
            raise idx.damaged(root, reason) from error
        images = np.ascontiguousarray(pixels)
        expected = (count, *spec.shape)
        if images.shape != expected:
            raise idx.damaged(
                root,
                f"dataset={spec.name} holds images of shape {images.shape} "
                f"where {expected} is expected",
            )
        splits.append(LabelledImages(images, _labels(labels, spec.classes, root)))
    return Content(splits[0], test=splits[1])


def _download(spec: DatasetSpec, config: DatasetConfig, folder: Path, lacking: list[str]) -> None:
    """Lets torchvision download what is lacking in `folder`, where the request allows it."""
    from torchvision import datasets

    problem = f"dataset={spec.name}: missing or damaged in {folder}: {', '.join(lacking)}"
    mend = "put the files there, or name the folder that has them with dataset.root"
    if not config.download:
        raise RequestError(f"{problem}; {mend}, or allow the download with dataset.download=true")
    root = data_root(config)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Another sweep that downloads the same is waited for; what it brought is not loaded again.
        with filelock.FileLock(root / f".{spec.name}.lock"):
            if spec.family == "SVHN":
                for split in ("train", "test"):
                    datasets.SVHN(str(folder), split=split, download=True)
            else:
                getattr(datasets, spec.family)(str(root), download=True)
    except _DOWNLOAD_ERRORS as error:
        raise RequestError(
            f"{problem}; the download failed ({_first_line(error)}); {mend}"
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
    message = str(error)
    return message.splitlines()[0] if message else type(error).__name__
