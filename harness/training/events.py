"""Samples that a pack is trained and measured on, and the events that it reports meanwhile.

`harness.training.loop.train` yields the events in the order of the steps. Tensors of an event lie
on the pack's device and have one entry per trial, in the order of `Pack.trials`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harness.data.batches import Source


@dataclass(frozen=True)
class Samples:
    """One split of a data set as the trials of a pack see it.

    A variant is one preprocessing of one number of training samples; several trials may share it.

    Attributes:
        images: for every variant a tensor (samples, channels, height, width). Variants of the
            training split may differ in the number of samples.
        labels: (samples,), those of the variant with the most samples; a shorter variant has the
            first of them.
        variant_of_trial: for every trial of the pack the index of its variant.
    """

    images: Sequence[Tensor]
    labels: Tensor
    variant_of_trial: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Samples:
        """Returns the first samples of every variant."""
        return Samples(
            [images[:count] for images in self.images], self.labels[:count], self.variant_of_trial
        )

    def sample_count(self, trial: int) -> int:
        """Returns the number of samples of one trial."""
        return len(self.images[self.variant_of_trial[trial]])

    def images_of(self, start: int, stop: int) -> Tensor:
        """Returns the images of trials `start:stop`, which must have equally many.

        Shape (trials, samples, channels, height, width). Trials that share a variant get one
        tensor expanded over them, without a copy.
        """
        variants = self.variant_of_trial[start:stop]
        if len(set(variants)) == 1:
            return self.images[variants[0]].expand(len(variants), *(-1,) * 4)
        return torch.stack([self.images[variant] for variant in variants])

    def ranges_of_equal_count(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Cuts trials `start:stop` where the number of samples changes, as (start, stop)."""
        changes = [
            trial
            for trial in range(start + 1, stop)
            if self.sample_count(trial) != self.sample_count(trial - 1)
        ]
        return list(pairwise([start, *changes, stop]))


@dataclass(frozen=True)
class PackData:
    """The data of one pack: the source of its batches, and the splits that are read.

    `training` is the part of the training split on which training accuracy is read, `probe` the
    fixed validation images on which layers are measured.
    """

    source: Source
    training: Samples
    validation: Samples
    test: Samples
    probe: Samples


@dataclass(frozen=True)
class Stepped:
    """Progress: `step` updates are done."""

    step: int


@dataclass(frozen=True)
class Evaluated:
    """Losses and accuracy after `step` updates, each (trials,).

    `train_loss` is the mean over the batches since the last evaluation, NaN at step 0.
    """

    step: int
    train_loss: Tensor
    validation_loss: Tensor
    validation_accuracy: Tensor


@dataclass(frozen=True)
class Probed:
    """One probe after `step` updates.

    Attributes:
        step: the number of updates done.
        layers: every activated layer, in the order of the network.
        sharpness: top Gauss-Newton eigenvalue of the loss, (trials,) float64; NaN where there is
            none. None at a probe that does not measure it.
    """

    step: int
    layers: list[ProbedLayer]
    sharpness: Tensor | None = None


@dataclass(frozen=True)
class ProbedLayer:
    """One layer of a probe.

    Attributes:
        name: the layer's module name.
        kind: `linear` or `conv2d`.
        units: the number of units; of a convolution, of its channels.
        fan_in: the number of weights of one unit.
        columns: what was measured, by column name; each (trials,), NaN where it has no number.
        histogram: counts of pre-activations, int32 (trials, bins); see `harness.probes.histograms`.
        absent: the reason why columns of such a layer are NaN, or an empty string.
    """

    name: str
    kind: str
    units: int
    fan_in: int
    columns: dict[str, Tensor]
    histogram: Tensor
    absent: str = ""


@dataclass(frozen=True)
class Finished:
    """The end of a pack after `step` updates.

    Attributes:
        step: the updates that were made; fewer than planned when every trial diverged.
        diverged_step: (trials,), the first step whose loss was not finite, or -1.
        scores: final losses and accuracies by name, each (trials,).
    """

    step: int
    diverged_step: Tensor
    scores: dict[str, Tensor]


Event = Stepped | Evaluated | Probed | Finished
