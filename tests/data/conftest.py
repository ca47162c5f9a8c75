"""Small copies of published data sets, in their real file formats."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import catalog, datasets
from harness.registry import Registry

TRAINING, TEST = 60, 20


@pytest.fixture
def nothing_remembered():
    """Data sets are read anew in the test, and nothing of the test is kept."""
    datasets.forget()
    yield
    datasets.forget()


@pytest.fixture
def shrink(monkeypatch, nothing_remembered) -> Callable[..., None]:
    """Declares a data set with 60 training and 20 test samples, and other changes."""

    def redeclare(name: str, **changes) -> None:
        sizes = {"samples": TRAINING, "test_samples": TEST}
        registry = Registry("dataset")
        for known in catalog.datasets:
            spec = catalog.datasets[known]
            if known == name:
                spec = dataclasses.replace(spec, **(sizes | changes))
            registry.register(known)(spec)
        monkeypatch.setattr(catalog, "datasets", registry)

    return redeclare


def make_split(count: int, shape: tuple[int, ...], classes: int, seed: int):
    """Random images (count, *shape) and labels that run through the classes."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.arange(count) % classes


@pytest.fixture
def make_splits() -> Callable[..., tuple]:
    """Makes training and test split of a small data set."""

    def make(shape: tuple[int, ...], classes: int) -> tuple:
        return make_split(TRAINING, shape, classes, 0), make_split(TEST, shape, classes, 1)

    return make


@pytest.fixture
def md5() -> Callable[[Path], str]:
    """Returns the checksum of a file."""
    return lambda path: hashlib.md5(path.read_bytes()).hexdigest()


def contents(images: np.ndarray, labels) -> list[tuple[int, bytes]]:
    """Label and bytes of every image, sorted."""
    pairs = zip(images, labels, strict=True)
    return sorted((int(label), np.ascontiguousarray(image).tobytes()) for image, label in pairs)


@pytest.fixture
def assert_holds() -> Callable[..., None]:
    """Asserts that a data set holds given splits.

    The test split is kept in order, the training split is cut in two.
    """

    def check(image_set, training, test) -> None:
        assert torch.equal(image_set.test.images, torch.from_numpy(test[0]))
        assert image_set.test.labels.tolist() == test[1].tolist()
        assert len(image_set.training.labels) == 48
        assert len(image_set.validation.labels) == 12
        images = torch.cat([image_set.training.images, image_set.validation.images])
        labels = torch.cat([image_set.training.labels, image_set.validation.labels])
        assert contents(images.numpy(), labels) == contents(*training)

    return check


@pytest.fixture
def break_file() -> Callable[[Path, str], None]:
    """Damages a file: cut short, too long, another header, or empty."""

    def damage(path: Path, how: str) -> None:
        content = path.read_bytes()
        damaged = {
            "short": content[:-1],
            "long": content + b"\0",
            "header": b"\xff" * 16 + content[16:],
            "empty": b"",
        }
        path.write_bytes(damaged[how])

    return damage
