"""Data sets by name, as three fixed splits of tensors."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.configuration.schema import DatasetConfig
from harness.data import catalog, folders, gaussian
from harness.data.published import read_published
from harness.data.splits import SplitSizes, stratified_order
from harness.errors import RequestError
from harness.registry import Registry

datasets: Registry = Registry("dataset")


@dataclass(frozen=True)
class Split:
    """`images` (samples, channels, height, width) uint8 or float32, `labels` (samples,) int64 from 0."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet:
    """A data set. `full_scale` is what preprocessing=none divides by: 255, or None where inputs are no brightnesses."""

    name: str
    classes: int
    training: Split
    validation: Split
    test: Split
    full_scale: float | None = 255.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return tuple(self.training.images.shape[1:])


def load(config: DatasetConfig) -> ImageSet:
    """The data set of a configuration, read once per process; its tensors are shared and must not be changed.

    Splits are fixed by `split_seed`. An official test split is kept whole and the validation split is cut from the official
    training split; other sets give `test_share` and `validation_share` of all samples. `training_samples` keeps that many
    of the training split, the classes in proportion.

    Raises:
        RequestError: whatever is wrong with the request or the files, in one line.
    """
    catalog.check(config)
    fields = asdict(config) | {
        "residency": "auto",
        "shape": tuple(config.shape) if config.shape is not None else None,
    }
    # A user may add an image between two loads: the files are part of the key.
    files = (
        tuple(folders.listing(catalog.folder_root(config)).files)
        if config.name == "image_folder"
        else ()
    )
    return _load(tuple(sorted(fields.items())), files)


@functools.lru_cache(maxsize=4)
def _load(fields: tuple[tuple[str, object], ...], files: tuple[folders.ImageFile, ...]) -> ImageSet:
    config = DatasetConfig(**dict(fields))
    return datasets[config.name](config)


def _digits_of_scikit_learn() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (samples, 64) and labels (samples,), from the file itself: importing scikit-learn takes longer than all else that reading data does."""
    package = importlib.util.find_spec("sklearn")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():  # its place is no promise of the package
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1]


@datasets.register("digits")
def _digits(config: DatasetConfig) -> ImageSet:
    pixels, labels = _digits_of_scikit_learn()
    # 0..16 in the file; every image set is kept on the scale 0..255.
    images = (pixels.reshape(-1, *catalog.PUBLISHED["digits"].shape) * (255.0 / 16.0)).astype(
        np.float32
    )
    return _cut(
        config,
        images,
        labels.astype(np.int64),
        catalog.PUBLISHED["digits"].classes,
        catalog.sizes(config),
    )


@datasets.register("gaussian")
def _gaussian(config: DatasetConfig) -> ImageSet:
    sizes = catalog.sizes(config)
    images, labels = gaussian.draw(
        config.samples, tuple(config.shape), config.classes, config.participation_ratio
    )
    return _cut(config, images, labels, config.classes, sizes, full_scale=None)


@datasets.register("image_folder")
def _image_folder(config: DatasetConfig) -> ImageSet:
    listing = folders.listing(catalog.folder_root(config))
    classes, sizes = (
        catalog.expected_classes(config, listing),
        catalog.folder_sizes(config, listing),
    )
    shape = folders.image_shape(listing, config.image_size)
    deep = folders.is_deep(listing)
    read = {
        name: (
            folders.read_images(files, shape, config.image_size is not None, deep),
            np.array([file.label for file in files]),
        )
        for name, files in listing.splits.items()
    }
    own = {name: _split(*arrays) for name, arrays in read.items() if name != "training"}
    image_set = _cut(config, *read["training"], len(classes), sizes, own=own)
    if config.training_samples is None:
        _check_every_class(listing, image_set)
    return image_set


def _published(config: DatasetConfig) -> ImageSet:
    sizes = catalog.sizes(config)
    (images, labels), test = read_published(config)
    return _cut(
        config,
        images,
        labels,
        catalog.PUBLISHED[config.name].classes,
        sizes,
        own={"test": _split(*test)},
    )


for _name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100", "svhn"):
    datasets.register(_name)(_published)


def _cut(
    config: DatasetConfig,
    images: NDArray[np.uint8] | NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    sizes: SplitSizes,
    own: dict[str, Split] | None = None,
    full_scale: float | None = 255.0,
) -> ImageSet:
    """Cut test, validation and training, in this order, from the stratified order; `own` splits are not cut."""
    order, start = stratified_order(labels, config.split_seed), 0
    splits = dict(own or {})
    for name, size in (
        ("test", sizes.test),
        ("validation", sizes.validation),
        ("training", sizes.training),
    ):
        if name not in splits:
            chosen = order[start : start + size]
            splits[name] = _split(images[chosen], labels[chosen])
            start += size
    return ImageSet(
        config.name, classes, splits["training"], splits["validation"], splits["test"], full_scale
    )


def _split(images: NDArray[np.uint8] | NDArray[np.float32], labels: NDArray[np.int64]) -> Split:
    return Split(
        torch.from_numpy(np.require(images, requirements=["C", "W"])),
        torch.from_numpy(np.require(labels, requirements=["C", "W"])),
    )


def _check_every_class(listing: folders.Listing, image_set: ImageSet) -> None:
    present = set(image_set.training.labels.tolist())
    for label, name in enumerate(listing.classes):
        if label not in present:
            count = sum(file.label == label for file in listing.splits["training"])
            raise RequestError(
                f"dataset.root={listing.root}: class {name!r} has {count} image(s), too few for the splits: none is left to train on; add images, or lower dataset.validation_share and dataset.test_share"
            )
