"""What is known of a data set before its pixels are read: shape, classes, number of training samples. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from harness.configuration.schema import INSTALLED, PROJECT_ROOT, DatasetConfig
from harness.data import folders
from harness.data.splits import SplitSizes, split_sizes
from harness.errors import RequestError
from harness.registry import unknown


@dataclass(frozen=True)
class Facts:
    """`shape` is (channels, height, width); `training_samples` counts the training split after every cut."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    training_samples: int


@dataclass(frozen=True)
class Published:
    """A data set of fixed content. `test` is the size of its official test split, None where it has none."""

    shape: tuple[int, int, int]
    classes: int
    samples: int
    test: int | None


PUBLISHED: dict[str, Published] = {
    "digits": Published((1, 8, 8), 10, 1_797, None),
    "mnist": Published((1, 28, 28), 10, 60_000, 10_000),
    "fashion_mnist": Published((1, 28, 28), 10, 60_000, 10_000),
    "kmnist": Published((1, 28, 28), 10, 60_000, 10_000),
    "cifar10": Published((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": Published((3, 32, 32), 100, 50_000, 10_000),
    "svhn": Published((3, 32, 32), 10, 73_257, 26_032),
}

# Options that only some data sets take; `root` and `download` say where and are ignored where there is nothing to find.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "image_folder": ("image_size", "classes"),
    "gaussian": ("samples", "shape", "classes", "participation_ratio"),
}


def facts(config: DatasetConfig) -> Facts:
    """Shape, classes and training samples, without reading pixels (`image_folder`: names and image headers only).

    Raises:
        RequestError: unknown name, an option that the data set does not take, values out of range, an unusable folder.
    """
    check(config)
    if config.name == "image_folder":
        listing = folders.listing(folder_root(config))
        shape = folders.image_shape(listing, config.image_size)
        return Facts(
            config.name,
            shape,
            len(expected_classes(config, listing)),
            folder_sizes(config, listing).training,
        )
    shape, classes = (
        (tuple(config.shape), config.classes)
        if config.name == "gaussian"
        else (PUBLISHED[config.name].shape, PUBLISHED[config.name].classes)
    )
    return Facts(config.name, shape, classes, sizes(config).training)


def fingerprint(config: DatasetConfig) -> str | None:
    """A digest of the content of a user's own images (relative paths and bytes); None for data sets of fixed content.

    Raises:
        RequestError: the folder is missing, empty or cannot be read.
    """
    check(config)
    return (
        folders.digest(folders.listing(folder_root(config)))
        if config.name == "image_folder"
        else None
    )


def check(config: DatasetConfig) -> None:
    """Refuse what can be refused from the configuration alone.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    names = sorted([*PUBLISHED, *_OPTIONS])
    if config.name not in names:
        raise unknown("dataset", config.name, names)
    for option in sorted({option for options in _OPTIONS.values() for option in options}):
        takers = [name for name, options in _OPTIONS.items() if option in options]
        if getattr(config, option) is not None and config.name not in takers:
            raise RequestError(
                f"dataset.{option}={getattr(config, option)}: dataset={config.name} takes no such option; it belongs to {', '.join(takers)}"
            )
    if config.split_seed < 0:
        raise RequestError(
            f"dataset.split_seed={config.split_seed}: expected an integer of at least 0"
        )
    if config.image_size is not None and config.image_size < 1:
        raise RequestError(
            f"dataset.image_size={config.image_size}: expected an integer of at least 1 (pixels a side)"
        )
    if config.name == "gaussian":
        _check_gaussian(config)


def sizes(config: DatasetConfig) -> SplitSizes:
    """The split sizes of a data set whose number of samples is known without looking."""
    where = f"dataset={config.name}"
    if config.name == "gaussian":
        return split_sizes(
            config.samples,
            config.validation_share,
            config.test_share,
            config.training_samples,
            where,
        )
    known = PUBLISHED[config.name]
    return split_sizes(
        known.samples,
        config.validation_share,
        config.test_share,
        config.training_samples,
        where,
        own_test=known.test,
    )


def folder_sizes(config: DatasetConfig, listing: folders.Listing) -> SplitSizes:
    """The split sizes of a user's folder: its own validation and test folders count where there are any."""
    own = {
        name: len(listing.splits[name]) if name in listing.splits else None
        for name in ("validation", "test")
    }
    where = f"dataset.root={listing.root}"
    return split_sizes(
        len(listing.splits["training"]),
        config.validation_share,
        config.test_share,
        config.training_samples,
        where,
        own_test=own["test"],
        own_validation=own["validation"],
    )


def expected_classes(config: DatasetConfig, listing: folders.Listing) -> tuple[str, ...]:
    """The class folders, which must be as many as `dataset.classes` says where it says so."""
    found = listing.classes
    if config.classes is not None and config.classes != len(found):
        raise RequestError(
            f"dataset.classes={config.classes}: {listing.root} holds {len(found)} class folders ({_shortened(found)}); leave dataset.classes out, or mend the folder"
        )
    return found


def data_root(config: DatasetConfig) -> Path:
    """Returns the absolute folder of a named data set.

    It is `dataset.root`, or `data/` of the checkout, or of the working directory where the harness
    is installed.
    """
    if config.root is not None:
        return Path(config.root).expanduser().resolve()
    return (Path.cwd() if INSTALLED else PROJECT_ROOT) / "data"


def folder_root(config: DatasetConfig) -> Path:
    """The absolute folder of a user's images.

    Raises:
        RequestError: none was given.
    """
    if config.root is None:
        raise RequestError(
            "dataset.root is missing: dataset=image_folder needs the folder that holds one sub-folder per class"
        )
    return data_root(config)


def _check_gaussian(config: DatasetConfig) -> None:
    for option in ("samples", "shape", "classes"):
        if getattr(config, option) is None:
            raise RequestError(f"dataset.{option} is missing: dataset=gaussian needs it")
    shape = list(config.shape)
    if len(shape) != 3 or min(shape) < 1:
        raise RequestError(
            f"dataset.shape={shape}: expected three integers of at least 1, [channels,height,width]"
        )
    if config.classes < 2:
        raise RequestError(f"dataset.classes={config.classes}: expected an integer of at least 2")
    if config.samples < config.classes:
        raise RequestError(
            f"dataset.samples={config.samples}: expected at least as many samples as classes ({config.classes})"
        )
    ratio, pixels = config.participation_ratio, prod(shape)
    if ratio is not None and not 1 <= ratio <= pixels:
        raise RequestError(
            f"dataset.participation_ratio={ratio}: expected a number from 1 to {pixels}, the number of pixels of shape {shape}"
        )


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
