"""Fixed, seeded, stratified splits, the same on every platform and for every NumPy version."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.configuration.schema import DatasetConfig
from harness.errors import RequestError

# Theory describes the inputs of a network by at least so many of them
# (`harness.theory.networks.representatives.Inputs`).
LEAST_TRAINING_SAMPLES = 4


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of samples of the three splits."""

    training: int
    validation: int
    test: int


@dataclass(frozen=True)
class OfficialSplits:
    """Numbers of samples in the splits that a data set comes with.

    A split that is None is cut from `training`.
    """

    training: int
    validation: int | None = None
    test: int | None = None


def hashes(seed: int, count: int) -> NDArray[np.uint64]:
    """Returns the first `count` outputs of SplitMix64 with this seed; they are distinct.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(seed) + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns a random order whose every run of samples holds the classes in proportion.

    Within a class the order is random; the r-th of a class's m samples stands at (r + u) / m of
    the way, with one random offset u in [0, 1) per class. Splits are runs of this order, and a
    smaller training split is a subset of a larger one.
    """
    shuffled = np.argsort(hashes(seed, len(labels)), kind="stable")
    place = np.empty(len(labels))
    classes = np.unique(labels)
    offsets = hashes(seed ^ 0x5EED, len(classes)) / 2.0**64
    for label, offset in zip(classes, offsets, strict=True):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + offset) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def split_sizes(official: OfficialSplits, config: DatasetConfig, place: str) -> SplitSizes:
    """Returns the sizes of the splits after every cut.

    Args:
        official: the splits that the data set comes with; missing ones are cut from training, by
            `validation_share` and `test_share` of its samples.
        config: the shares, and `training_samples`, to which the training split is cut down.
        place: words that name the data in an error.

    Raises:
        RequestError: a split would be empty or have too few samples to train on, or
            `training_samples` is less than these or more than there are.
    """
    total = official.training
    training = total
    test = official.test
    if test is None:
        test = round(total * config.test_share)
        training -= test
    validation = official.validation
    if validation is None:
        validation = round(total * config.validation_share)
        training -= validation
    if min(test, validation) < 1 or training < LEAST_TRAINING_SAMPLES:
        raise RequestError(
            f"{place}: {total} samples are too few for the splits (training {max(training, 0)}, "
            f"validation {validation}, test {test}; at least {LEAST_TRAINING_SAMPLES}, 1 and 1 are "
            "needed); give more samples, or change dataset.validation_share and "
            "dataset.test_share (their sum stays below 1)"
        )
    wanted = config.training_samples
    if wanted is not None and not LEAST_TRAINING_SAMPLES <= wanted <= training:
        raise RequestError(
            f"dataset.training_samples={wanted}: expected from {LEAST_TRAINING_SAMPLES} to "
            f"{training}, the training split of {place}"
        )
    return SplitSizes(wanted or training, validation, test)
