"""The images a pack sees: every split of its data set, preprocessed as each of its trials asks, on its device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from harness.data import datasets, preprocessing
from harness.data.batches import make_source
from harness.data.moments import InputMoments, input_moments
from harness.schema import DatasetConfig, PreprocessingConfig
from harness.theory.predictions import Inputs, representatives
from harness.training.events import PackData, Samples

# Training accuracy is read on at most so many samples.
_TRAINING_SAMPLES_READ = 10_000
# Input moments are measured on at most so many samples of the training split.
_MOMENT_SAMPLES = 2_048


@dataclass(frozen=True)
class Prepared:
    """One data set under one preprocessing: float32 images (samples, channels, height, width) of every split.

    `moments` and `representatives` are of the training split; theory starts from them.
    """

    training: Tensor
    validation: Tensor
    test: Tensor
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
    training = fitted.apply(images.training.images)
    some = training[:_MOMENT_SAMPLES]
    validation, test = fitted.apply(images.validation.images), fitted.apply(images.test.images)
    return Prepared(training, validation, test, dict(fitted.report), input_moments(some), Inputs(representatives(some.numpy())))


def pack_data(views: Sequence[View], probe_samples: int, device: torch.device) -> PackData:
    """The data of a pack whose trial t sees `views[t]`; all views are of one data set."""
    distinct = list(dict.fromkeys(views))
    variant_of_trial = torch.tensor([distinct.index(view) for view in views], device=device)
    prepared = [view.prepared for view in distinct]
    images = datasets.load(distinct[0].dataset)

    def samples(split: str, count: int | None = None) -> Samples:
        variants = [getattr(one, split)[:count] for one in prepared]
        stacked = variants[0].unsqueeze(0) if len(variants) == 1 else torch.stack(variants)  # packs of one view share its images
        return Samples(stacked.to(device), getattr(images, split).labels[:count].to(device), variant_of_trial)

    source = make_source([one.training for one in prepared], images.training.labels, variant_of_trial, device, distinct[0].dataset.residency)
    return PackData(source, samples("training", _TRAINING_SAMPLES_READ), samples("validation"), samples("test"), samples("validation", probe_samples))
