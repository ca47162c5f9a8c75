"""What a pack reports while it trains, and the samples it trains and is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harness.data.batches import Source


@dataclass(frozen=True)
class Samples:
    """One split for a pack: `images` of every variant (samples, channels, height, width), `labels` (samples,).

    A variant is one preprocessing of one data dose; trial t of the pack sees variant `variant_of_trial[t]`. Variants of the
    training split may differ in the number of samples: `labels` are those of the longest, the others' its first ones.
    """

    images: Sequence[Tensor]
    labels: Tensor
    variant_of_trial: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def count(self, trial: int) -> int:
        """How many samples a trial has."""
        return len(self.images[self.variant_of_trial[trial]])

    def of(self, start: int, stop: int) -> Tensor:
        """The images of trials `start:stop`, which have equally many: (trials, samples, channels, height, width)."""
        seen = self.variant_of_trial[start:stop]
        if len(set(seen)) == 1:
            return self.images[seen[0]].expand(len(seen), *(-1,) * 4)
        return torch.stack([self.images[variant] for variant in seen])

    def alike(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Trials `start:stop` cut where the number of samples changes, as (start, stop)."""
        cuts = [
            start,
            *(
                trial
                for trial in range(start + 1, stop)
                if self.count(trial) != self.count(trial - 1)
            ),
            stop,
        ]
        return list(pairwise(cuts))


@dataclass(frozen=True)
class PackData:
    """The training source and the splits that are looked at: `training` is the part on which training accuracy is read."""

    source: Source
    training: Samples
    validation: Samples
    test: Samples
    probe: Samples


@dataclass(frozen=True)
class Stepped:
    """`step` updates are done."""

    step: int


@dataclass(frozen=True)
class Evaluated:
    """All tensors (trials,). `train_loss` is the mean over the batches since the last evaluation, NaN at step 0."""

    step: int
    train_loss: Tensor
    validation_loss: Tensor
    validation_accuracy: Tensor


@dataclass(frozen=True)
class Probed:
    """One probe: for every activated layer in order its name, kind, units, fan-in and columns (trials,)."""

    step: int
    layers: list[ProbedLayer]


@dataclass(frozen=True)
class ProbedLayer:
    """One layer of a probe; a column is (trials,). `absent` says why columns are missing or NaN for this kind of layer."""

    name: str
    kind: str
    units: int
    fan_in: int
    columns: dict[str, Tensor]
    absent: str = ""


@dataclass(frozen=True)
class Finished:
    """The end: tensors (trials,); `diverged_step` is the first step with a loss that is no number, or -1."""

    step: int
    diverged_step: Tensor
    scores: dict[str, Tensor]


Event = Stepped | Evaluated | Probed | Finished
