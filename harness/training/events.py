"""What a pack reports while it trains, and the samples it trains and is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.data.batches import Source


@dataclass(frozen=True)
class Samples:
    """One split for a pack: `images` (variants, samples, channels, height, width), `labels` (samples,).

    A variant is one preprocessing; trial t of the pack sees variant `variant_of_trial[t]`.
    """

    images: Tensor
    labels: Tensor
    variant_of_trial: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, start: int, stop: int) -> Tensor:
        """The images of trials `start:stop`: (trials, samples, channels, height, width)."""
        if len(self.images) == 1:
            return self.images.expand(stop - start, *self.images.shape[1:])
        return self.images[self.variant_of_trial[start:stop]]


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
