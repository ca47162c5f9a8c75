"""The data set of a user's own images. No torch."""

from __future__ import annotations

import numpy as np

from harness.configuration.result_folder import absolute
from harness.configuration.schema import DatasetConfig
from harness.data import folder_listing, folders
from harness.data.dataset_spec import (
    Composition,
    Content,
    DatasetSpec,
    LabelledImages,
    UserFiles,
)
from harness.data.folder_listing import ImageFile, Listing
from harness.data.splits import OfficialSplits
from harness.errors import RequestError

# Class names that an error lists.
_MOST_NAMES = 5


def check(config: DatasetConfig) -> None:
    """Refuses an image size below 1; RequestError."""
    if config.image_size is not None and config.image_size < 1:
        raise RequestError(
            f"dataset.image_size={config.image_size}: expected an integer of at least 1 "
            "(pixels a side)"
        )


def compose(config: DatasetConfig) -> Composition:
    """Returns shape, classes and sizes from file names and image headers.

    The folder's own validation and test splits count where there are any.

    Raises:
        RequestError: an unusable folder, or not as many class folders as `dataset.classes` says.
    """
    listing = _listing(config)
    shape = folders.image_shape(listing, config.image_size)
    _check_classes(config, listing)
    counts = {name: len(files) for name, files in listing.splits.items()}
    splits = OfficialSplits(counts["training"], counts.get("validation"), counts.get("test"))
    return Composition(shape, len(listing.classes), splits, f"dataset.root={listing.root}")


def read(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Reads the pixels of every split of the folder.

    Raises:
        RequestError: an image cannot be read.
    """
    listing = _listing(config)
    shape = folders.image_shape(listing, config.image_size)
    resize = config.image_size is not None
    deep = folders.is_deep(listing)
    splits = {}
    for name, files in listing.splits.items():
        images = folders.read_images(files, shape, resize, deep)
        labels = np.array([file.label for file in files])
        splits[name] = LabelledImages(images, labels)
    return Content(**splits)


def _state(config: DatasetConfig) -> tuple[ImageFile, ...]:
    """Files with sizes and times of change; a user may add an image between two loads."""
    return _listing(config).files


def _fingerprint(config: DatasetConfig) -> str:
    return folders.digest(_listing(config))


def _missing_class(config: DatasetConfig, label: int) -> RequestError:
    listing = _listing(config)
    count = sum(file.label == label for file in listing.splits["training"])
    return RequestError(
        f"dataset.root={listing.root}: class {listing.classes[label]!r} has {count} image(s), too "
        "few for the splits: none is left to train on; add images, or lower "
        "dataset.validation_share and dataset.test_share"
    )


USER_FILES = UserFiles(_state, _fingerprint, _missing_class)


def _listing(config: DatasetConfig) -> Listing:
    if config.root is None:
        raise RequestError(
            "dataset.root is missing: dataset=image_folder needs the folder that holds one "
            "sub-folder per class"
        )
    return folder_listing.listing(absolute(config.root, "dataset.root"))


def _check_classes(config: DatasetConfig, listing: Listing) -> None:
    """Refuses a folder that has not as many classes as `dataset.classes` says."""
    names = listing.classes
    if config.classes is not None and config.classes != len(names):
        shown = ", ".join(names[:_MOST_NAMES])
        if len(names) > _MOST_NAMES:
            shown += ", ..."
        raise RequestError(
            f"dataset.classes={config.classes}: {listing.root} holds {len(names)} class folders "
            f"({shown}); leave dataset.classes out, or mend the folder"
        )
