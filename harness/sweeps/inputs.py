"""The images a pack sees: every split of its data set, preprocessed as each of its trials asks, on its device."""

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

# Training accuracy is read on at most so many samples.
_TRAINING_SAMPLES_READ = 10_000
# Input moments are measured on at most so many samples of the training split.
_MOMENT_SAMPLES = 2_048


@dataclass(frozen=True, eq=False)
class Prepared:
    """One data set under one preprocessing: every split with float32 images (samples, channels, height, width).

    `moments` and `representatives` are of the training split; theory starts from them.
    """

    training: Split
    validation: Split
    test: Split
    report: dict[str, int]
    moments: InputMoments
    representatives: Inputs


@dataclass(frozen=True)
class View:
    """What a trial sees: a data set and a preprocessing of it."""

    dataset: DatasetConfig
    preprocessing: PreprocessingConfig

    def __hash__(self) -> int:
        return hash(repr((astuple(self.dataset), astuple(self.preprocessing))))

    @classmethod
    def of(cls, dataset: DatasetConfig, spec: dict) -> View:
        """The view of a trial whose specification of preprocessing is `spec`."""
        return cls(dataset, PreprocessingConfig(**spec))

    def check(self) -> None:
        """Read and preprocess, so that a damaged file is found before anything is written; RequestError says what is wrong."""
        _prepare(self)

    @property
    def prepared(self) -> Prepared:
        """The preprocessed images, made once a process for the views used last."""
        return _prepare(self)


@functools.lru_cache(maxsize=4)
def _prepare(view: View) -> Prepared:
    images = datasets.load(view.dataset)
    fitted = preprocessing.fit(view.preprocessing, images.training.images, images.full_scale)
    training, validation, test = (
        Split(fitted.apply(split.images), split.labels)
        for split in (images.training, images.validation, images.test)
    )
    some = training.images[:_MOMENT_SAMPLES]
    return Prepared(
        training,
        validation,
        test,
        dict(fitted.report),
        input_moments(some),
        Inputs(representatives(some.numpy())),
    )


def pack_data(
    prepared: Sequence[Prepared], probe_samples: int, device: torch.device, residency: str
) -> PackData:
    """The data of a pack whose trial t sees `prepared[t]`: one data set, in preprocessings and doses that may differ."""
    distinct = list(dict.fromkeys(prepared))
    variant_of_trial = [distinct.index(one) for one in prepared]

    def samples(split: str, count: int | None = None) -> Samples:
        variants = [getattr(one, split) for one in distinct]
        return Samples(
            [variant.images[:count].to(device) for variant in variants],
            _longest_labels(variants)[:count].to(device),
            variant_of_trial,
        )

    training = [one.training for one in distinct]
    source = make_source(
        [split.images for split in training],
        _longest_labels(training),
        variant_of_trial,
        device,
        residency,
    )
    return PackData(
        source,
        samples("training", _TRAINING_SAMPLES_READ),
        samples("validation"),
        samples("test"),
        samples("validation", probe_samples),
    )


def _longest_labels(splits: Sequence[Split]) -> Tensor:
    # A smaller training split is the first part of a larger one.
    return max((split.labels for split in splits), key=len)
