"""The images of a pack: every split of its data set, preprocessed for each trial, on its device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from harness.configuration.schema import DatasetConfig, PreprocessingConfig
from harness.data import datasets, preprocessing
from harness.data.batches import make_source
from harness.data.datasets import Split
from harness.data.input_moments import InputMoments, input_moments
from harness.theory.networks.predictions import Inputs, representatives
from harness.training.events import PackData, Samples

# Training accuracy is read on at most this many samples.
_TRAINING_SAMPLES_READ = 10_000
# Input moments are measured on at most this many samples of the training split.
_MOMENT_SAMPLES = 2_048


@dataclass(frozen=True, eq=False)
class Prepared:
    """One data set under one preprocessing.

    Every split has float32 images (samples, channels, height, width). `moments` and
    `representatives` describe the training split; theory starts from them.
    """

    training: Split
    validation: Split
    test: Split
    report: dict[str, int]
    moments: InputMoments
    representatives: Inputs


@dataclass(frozen=True)
class View:
    """A data set and a preprocessing of it, as a trial sees it."""

    dataset: DatasetConfig
    preprocessing: PreprocessingConfig

    def __hash__(self) -> int:
        return hash(repr((astuple(self.dataset), astuple(self.preprocessing))))

    @classmethod
    def of(cls, dataset: DatasetConfig, spec: dict) -> View:
        """Returns the view of a trial whose specification of preprocessing is `spec`."""
        return cls(dataset, PreprocessingConfig(**spec))

    def check(self) -> None:
        """Reads and preprocesses the data, so that damage is found before anything is written.

        Raises:
            RequestError: a file is missing or damaged.
        """
        _prepare(self)

    @property
    def prepared(self) -> Prepared:
        """The preprocessed images; the views used last are kept in memory."""
        return _prepare(self)


@functools.lru_cache(maxsize=4)
def _prepare(view: View) -> Prepared:
    images = datasets.load(view.dataset)
    fitted = preprocessing.fit(view.preprocessing, images.training.images, images.full_scale)
    training, validation, test = (
        Split(fitted.apply(split.images), split.labels)
        for split in (images.training, images.validation, images.test)
    )
    measured = training.images[:_MOMENT_SAMPLES]
    return Prepared(
        training,
        validation,
        test,
        dict(fitted.report),
        input_moments(measured),
        Inputs(representatives(measured.numpy())),
    )


def pack_data(
    prepared: Sequence[Prepared], probe_samples: int, device: torch.device, residency: str
) -> PackData:
    """Returns the data of a pack whose trial t sees `prepared[t]`.

    All are of one data set; preprocessings and numbers of training samples may differ.
    """
    variants = list(dict.fromkeys(prepared))
    variant_of_trial = [variants.index(images) for images in prepared]

    def samples(splits: Sequence[Split], count: int | None = None) -> Samples:
        images = [split.images[:count].to(device) for split in splits]
        labels = _longest_labels(splits)[:count].to(device)
        return Samples(images, labels, variant_of_trial)

    training = [variant.training for variant in variants]
    validation = [variant.validation for variant in variants]
    test = [variant.test for variant in variants]
    source = make_source(
        [split.images for split in training],
        _longest_labels(training),
        variant_of_trial,
        device,
        residency,
    )
    return PackData(
        source,
        samples(training, _TRAINING_SAMPLES_READ),
        samples(validation),
        samples(test),
        samples(validation, probe_samples),
    )


def _longest_labels(splits: Sequence[Split]) -> Tensor:
    # A smaller training split is the first part of a larger one.
    return max((split.labels for split in splits), key=len)
