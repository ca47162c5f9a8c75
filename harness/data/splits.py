"""Fixed, seeded, stratified splits. NumPy only; the same on every platform and for every NumPy version."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of samples."""

    training: int
    validation: int
    test: int


def hashes(seed: int, count: int) -> NDArray[np.uint64]:
    """`count` distinct 64-bit numbers, the first of the generator SplitMix64 (Steele, Lea and Flood, 2014) with that seed."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order of all samples in which every run of consecutive samples holds the classes in their proportions.

    Within a class the order is random; the r-th of a class's m samples stands at (r + u) / m of the way, with one random
    offset u in [0, 1) per class. Splits are runs of this order, and a smaller training split is a subset of a larger one.
    """
    shuffled = np.argsort(hashes(seed, len(labels)), kind="stable")
    place = np.empty(len(labels))
    classes = np.unique(labels)
    for label, offset in zip(classes, hashes(seed ^ 0x5EED, len(classes)) / 2.0**64):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + offset) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def split_sizes(
    total: int,
    validation_share: float,
    test_share: float,
    training_samples: int | None,
    where: str,
    own_test: int | None = None,
    own_validation: int | None = None,
) -> SplitSizes:
    """How many of `total` samples go where. Splits that the data set brings along (`own_...`) are not cut from them.

    Raises:
        RequestError: a split would be empty, or `training_samples` is more than there are.
    """
    test = round(total * test_share) if own_test is None else own_test
    validation = round(total * validation_share) if own_validation is None else own_validation
    training = (
        total - (test if own_test is None else 0) - (validation if own_validation is None else 0)
    )
    if min(test, validation, training) < 1:
        raise RequestError(
            f"{where}: {total} samples are too few for the splits (training {max(training, 0)}, validation {validation}, test {test}); "
            "give more samples, or change dataset.validation_share and dataset.test_share (their sum stays below 1)"
        )
    if training_samples is not None and not 1 <= training_samples <= training:
        raise RequestError(
            f"dataset.training_samples={training_samples}: expected from 1 to {training}, the training split of {where}"
        )
    return SplitSizes(training_samples or training, validation, test)
