"""The declaration of a data set: facts, options and the functions that read it. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.configuration.schema import DatasetConfig
from harness.data.splits import OfficialSplits
from harness.errors import RequestError
from harness.registry import load_callable


@dataclass(frozen=True)
class LabelledImages:
    """Pixels and labels of one split.

    Attributes:
        images: (samples, channels, height, width), uint8 or float32.
        labels: (samples,), int64 from 0.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Content:
    """The pixels of a data set, in the splits that it comes with.

    A split that is None is cut from `training`.
    """

    training: LabelledImages
    validation: LabelledImages | None = None
    test: LabelledImages | None = None


@dataclass(frozen=True)
class Composition:
    """Facts of a request's data that are known before its pixels are read.

    Attributes:
        shape: (channels, height, width).
        classes: number of classes.
        splits: numbers of samples in the splits that the data comes with.
        place: words that name the data in an error.
    """

    shape: tuple[int, int, int]
    classes: int
    splits: OfficialSplits
    place: str


@dataclass(frozen=True)
class UserFiles:
    """Functions for a data set whose content lies in files of the user.

    Attributes:
        state: returns a hashable description of the files that changes when one of them does.
        fingerprint: returns a digest of their content.
        missing_class: returns the error for a class (its index) none of whose images is left to
            train on.
    """

    state: Callable[[DatasetConfig], tuple[Any, ...]]
    fingerprint: Callable[[DatasetConfig], str]
    missing_class: Callable[[DatasetConfig, int], RequestError]


@dataclass(frozen=True)
class DatasetSpec:
    """A declared data set.

    A set of fixed content states `shape`, `classes`, `samples` and `test_samples`; any other has a
    function `compose` that finds them for a request.

    Attributes:
        name: as in `dataset=NAME` and `conf/dataset/NAME.yaml`.
        read: `module:function` that returns the `Content` for this declaration and a checked
            request. Imported when pixels are read, so that it may need what facts do not.
        options: options of `conf/dataset/NAME.yaml`, besides the name.
        family: torchvision's class, for the sets that torchvision knows.
        shape: (channels, height, width).
        classes: number of classes.
        samples: size of the official training split, or of the whole set where it has no splits.
        test_samples: size of the official test split; None where it is cut from `samples`.
        full_scale: the value of full brightness; None where inputs are no brightnesses.
        check: refuses what is wrong with a request without reading anything.
        compose: finds shape, classes and sizes for a request without reading pixels.
        user_files: for content in files of the user.
    """

    name: str
    read: str
    options: tuple[str, ...] = ()
    family: str | None = None
    shape: tuple[int, int, int] | None = None
    classes: int | None = None
    samples: int | None = None
    test_samples: int | None = None
    full_scale: float | None = 255.0
    check: Callable[[DatasetConfig], None] | None = None
    compose: Callable[[DatasetConfig], Composition] | None = None
    user_files: UserFiles | None = None

    def content(self, config: DatasetConfig) -> Content:
        """Reads the pixels of a checked request.

        Raises:
            RequestError: files are missing, damaged or cannot be read.
        """
        return load_callable(self.read, f"reader of dataset={self.name}")(self, config)

    def composition(self, config: DatasetConfig) -> Composition:
        """Returns what is known of a request's data before pixels are read.

        Raises:
            RequestError: the user's files cannot be used.
        """
        if self.compose is not None:
            return self.compose(config)
        splits = OfficialSplits(self.samples, test=self.test_samples)
        return Composition(self.shape, self.classes, splits, f"dataset={self.name}")
