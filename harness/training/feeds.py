"""Feeds: the batches of a pack's steps, put where the step expects them.

The order in which a trial sees its samples is a pure function of its seed, the epoch and the
number of samples (`harness.data.batches.permutation`), so that it is the same in every pack.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.data.batches import Resident, Source, permutation
from harness.training.schedules import Plan


class Feed(Protocol):
    """Hands out one batch per step.

    The two methods are apart because only the second is part of the step that a GPU replays.
    """

    def prepare(self, done: int) -> None:
        """Gets ready, on the host, for the step that follows `done` steps."""

    def take(self) -> tuple[Tensor, Tensor]:
        """Returns the images and labels of the next step.

        Images are (trials, batch, channels, height, width), labels (trials, batch).
        """


def feed(source: Source, seeds: Sequence[int], plan: Plan, done: int = 0) -> Feed:
    """Returns the feed that fits a source.

    Resident images are gathered on the device within the step; streamed ones come from the host.

    Args:
        source: the training images of a pack.
        seeds: the seed of every trial.
        plan: the pack's plan, which gives the batch size.
        done: the number of steps taken before.
    """
    orders = Orders(seeds, source.samples, plan, source.index_device)
    orders.seek(done)
    if isinstance(source, Resident):
        return ResidentFeed(source, orders)
    return StreamedFeed(source, orders, done)


@dataclass(frozen=True)
class _Dose:
    """The trials of a pack that have one number of samples.

    Attributes:
        samples: that number.
        trials: (trials of the dose,), their positions in the pack.
        seeds: (distinct seeds,), the seeds that occur among them, ascending.
        seed_of_trial: (trials of the dose,), each trial's index into `seeds`.
    """

    samples: int
    trials: Tensor
    seeds: Tensor
    seed_of_trial: Tensor


class Orders:
    """Indices of the samples in each trial's next batch, kept on one device.

    Trials may have different numbers of samples; they then begin their epochs at different steps.
    Taking a batch needs nothing from the host.
    """

    def __init__(
        self, seeds: Sequence[int], samples: Sequence[int], plan: Plan, device: torch.device
    ) -> None:
        self.plan = plan
        self.doses = [_dose(count, seeds, samples, device) for count in sorted(set(samples))]
        # The current epoch of every trial: (steps of the longest epoch, trials, batch).
        self.order = torch.zeros(
            plan.steps_per_epoch(max(samples)),
            len(seeds),
            plan.batch_size,
            dtype=torch.int64,
            device=device,
        )
        # For every trial the row of its next batch in `order` flattened over steps and trials.
        self.position = torch.arange(len(seeds), device=device)

    def prepare(self, done: int) -> None:
        """Shuffles for the trials that begin an epoch after `done` steps."""
        for dose in self.doses:
            epoch, step = divmod(done, self.plan.steps_per_epoch(dose.samples))
            if step == 0:
                self._begin_epoch(dose, epoch)

    def seek(self, done: int) -> None:
        """Goes to where the orders stand after `done` steps, in the middle of epochs."""
        for dose in self.doses:
            epoch, step = divmod(done, self.plan.steps_per_epoch(dose.samples))
            if step:
                self._begin_epoch(dose, epoch)
                position = dose.trials + step * self.order.shape[1]
                self.position.index_copy_(0, dose.trials, position)

    def take(self) -> Tensor:
        """Returns the samples of the next step, int64 (trials, batch), and moves on."""
        indices = self.order.flatten(0, 1).index_select(0, self.position)
        self.position.add_(self.order.shape[1])
        return indices

    def _begin_epoch(self, dose: _Dose, epoch: int) -> None:
        steps = self.plan.steps_per_epoch(dose.samples)
        order = permutation(dose.seeds, epoch, dose.samples)
        whole_batches = order[:, : steps * self.plan.batch_size]
        by_step = whole_batches.unflatten(1, (steps, self.plan.batch_size)).transpose(0, 1)
        self.order[:steps].index_copy_(1, dose.trials, by_step[:, dose.seed_of_trial])
        self.position.index_copy_(0, dose.trials, dose.trials)


def _dose(count: int, seeds: Sequence[int], samples: Sequence[int], device: torch.device) -> _Dose:
    trials = [trial for trial, own_count in enumerate(samples) if own_count == count]
    distinct = sorted({seeds[trial] for trial in trials})
    seed_of_trial = [distinct.index(seeds[trial]) for trial in trials]
    return _Dose(
        count,
        torch.tensor(trials, device=device),
        torch.tensor(distinct, device=device),
        torch.tensor(seed_of_trial, device=device),
    )


class ResidentFeed:
    """Feed of images that lie on the device, where the step gathers each batch by itself."""

    def __init__(self, source: Resident, orders: Orders) -> None:
        self.source = source
        self.orders = orders

    def prepare(self, done: int) -> None:
        """Shuffles for the trials that begin an epoch after `done` steps."""
        self.orders.prepare(done)

    def take(self) -> tuple[Tensor, Tensor]:
        """Returns images (trials, batch, channels, height, width), labels (trials, batch)."""
        return self.source.gather(self.orders.take())


class StreamedFeed:
    """Feed of images in host memory: batches are read ahead and copied to one fixed place.

    The place stays the same for all steps, because a replayed step reads from where it was
    recorded.
    """

    def __init__(self, source: Source, orders: Orders, done: int = 0) -> None:
        self.batches = source.batches(_indices_of_steps(orders, done))
        self.images: Tensor | None = None
        self.labels: Tensor | None = None

    def prepare(self, done: int) -> None:
        """Copies the next batch to its place on the device; steps are taken in order."""
        images, labels = next(self.batches)
        if self.images is None:
            self.images = torch.empty_like(images)
            self.labels = torch.empty_like(labels)
        self.images.copy_(images)
        self.labels.copy_(labels)

    def take(self) -> tuple[Tensor, Tensor]:
        """Returns images (trials, batch, channels, height, width), labels (trials, batch)."""
        return self.images, self.labels


def _indices_of_steps(orders: Orders, first: int) -> Iterator[Tensor]:
    """Yields the samples of each step after the first ones, (trials, batch), without end."""
    for done in itertools.count(first):
        orders.prepare(done)
        yield orders.take()
