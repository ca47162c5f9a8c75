"""Data sets as three fixed splits of tensors."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.configuration.schema import DatasetConfig
from harness.data import catalog
from harness.data.dataset_spec import Content, LabelledImages
from harness.data.doses import add_label_noise, shuffle_pixels
from harness.data.splits import SplitSizes, split_sizes, stratified_order


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes:
        images: (samples, channels, height, width), uint8 or float32.
        labels: (samples,), int64 from 0.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet:
    """A data set in three splits.

    Attributes:
        name: the data set's name.
        classes: number of classes.
        training: the training split.
        validation: the validation split.
        test: the test split.
        full_scale: what preprocessing=none divides by: 255, or None where inputs are no
            brightnesses.
    """

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
    """Returns the data set of a configuration, read once per process.

    Its tensors are shared and must not be changed. Splits are fixed by `split_seed`. An official
    test split is kept whole and the validation split is cut from the official training split;
    other sets give `test_share` and `validation_share` of all samples. `training_samples` keeps
    that many of the training split, the classes in proportion. `pixel_shuffle` moves the pixels of
    all splits, `label_noise` changes labels of the training split alone.

    Raises:
        RequestError: anything that is wrong with the request or the files, in one line.
    """
    catalog.check(config)
    fields = asdict(config)
    # The residency of images changes nothing about their content.
    fields["residency"] = "auto"
    if config.shape is not None:
        fields["shape"] = tuple(config.shape)
    user_files = catalog.datasets[config.name].user_files
    state = () if user_files is None else user_files.state(config)
    return _load(tuple(sorted(fields.items())), state)


def forget() -> None:
    """Drops the data sets that are kept in memory, so that the next `load` reads again."""
    _load.cache_clear()


@functools.lru_cache(maxsize=4)
def _load(fields: tuple[tuple[str, object], ...], state: tuple[Any, ...]) -> ImageSet:
    """Reads a data set; `fields` are those of its configuration, `state` that of its files."""
    config = DatasetConfig(**dict(fields))
    spec = catalog.datasets[config.name]
    composition = spec.composition(config)
    sizes = split_sizes(composition.splits, config, composition.place)
    splits = _cut(spec.content(config), sizes, config.split_seed)
    # A user who asks for few training samples may get some without every class.
    if spec.user_files is not None and config.training_samples is None:
        present = set(splits["training"].labels.tolist())
        for label in range(composition.classes):
            if label not in present:
                raise spec.user_files.missing_class(config, label)
    splits = _dosed(splits, composition.classes, config)
    return ImageSet(config.name, composition.classes, **splits, full_scale=spec.full_scale)


def _dosed(splits: dict[str, Split], classes: int, config: DatasetConfig) -> dict[str, Split]:
    """Shuffles the pixels of all splits, and adds noise to the labels of the training split."""
    if config.pixel_shuffle is not None:
        splits = {
            name: Split(shuffle_pixels(split.images, config.pixel_shuffle), split.labels)
            for name, split in splits.items()
        }
    if config.label_noise > 0:
        images, labels = splits["training"].images, splits["training"].labels
        noisy = add_label_noise(labels, classes, config.label_noise, config.label_noise_seed)
        splits = splits | {"training": Split(images, noisy)}
    return splits


def _cut(content: Content, sizes: SplitSizes, seed: int) -> dict[str, Split]:
    """Cuts test, validation and training, in this order, from the stratified order.

    A validation or test split that the data comes with is kept as it is.
    """
    official = {"validation": content.validation, "test": content.test}
    images = content.training.images
    labels = content.training.labels
    order = stratified_order(labels, seed)
    splits = {}
    start = 0
    for name in ("test", "validation", "training"):
        if official.get(name) is not None:
            splits[name] = _split(official[name])
            continue
        stop = start + getattr(sizes, name)
        members = order[start:stop]
        splits[name] = _split(LabelledImages(images[members], labels[members]))
        start = stop
    return splits


def _split(arrays: LabelledImages) -> Split:
    return Split(_tensor(arrays.images), _tensor(arrays.labels))


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
