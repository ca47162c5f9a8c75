"""The batches of a pack's steps, laid where the step expects them."""

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
    """Hands out one batch a step: `prepare` on the host before each step, `take` as part of the step itself."""

    def prepare(self, done: int) -> None:
        """Make ready for the step after `done` steps."""

    def take(self) -> tuple[Tensor, Tensor]:
        """Images (trials, batch, channels, height, width) and labels (trials, batch)."""


def feed(source: Source, seeds: Sequence[int], plan: Plan) -> Feed:
    """The feed for a source: resident images are gathered inside the step, streamed ones arrive from the host."""
    orders = Orders(seeds, source.samples, plan, source.index_device)
    return (
        ResidentFeed(source, orders)
        if isinstance(source, Resident)
        else StreamedFeed(source, orders)
    )


@dataclass(frozen=True)
class _Dose:
    """The trials of a pack with one number of samples: their places, their distinct seeds, and each trial's row among these."""

    samples: int
    trials: Tensor
    seeds: Tensor
    row: Tensor


class Orders:
    """Which samples each trial takes in its next batch: its own way through its epoch, with nothing that comes from the host.

    Trials may have different numbers of samples, and then begin their epochs at different steps.
    """

    def __init__(
        self, seeds: Sequence[int], samples: Sequence[int], plan: Plan, device: torch.device
    ) -> None:
        self.plan = plan
        self.doses = [_dose(count, seeds, samples, device) for count in sorted(set(samples))]
        self.order = torch.zeros(
            plan.steps_per_epoch(max(samples)),
            len(seeds),
            plan.batch_size,
            dtype=torch.int64,
            device=device,
        )
        # Where each trial's next batch stands among the rows of `order`.
        self.position = torch.arange(len(seeds), device=device)

    def prepare(self, done: int) -> None:
        """Shuffle for the trials that begin an epoch after `done` steps."""
        for dose in self.doses:
            steps = self.plan.steps_per_epoch(dose.samples)
            epoch, step = divmod(done, steps)
            if step == 0:
                order = permutation(dose.seeds, epoch, dose.samples)[
                    :, : steps * self.plan.batch_size
                ]
                self.order[:steps].index_copy_(
                    1,
                    dose.trials,
                    order.unflatten(1, (steps, self.plan.batch_size)).transpose(0, 1)[:, dose.row],
                )
                self.position.index_copy_(0, dose.trials, dose.trials)

    def take(self) -> Tensor:
        """The samples (trials, batch) of the next step."""
        indices = self.order.flatten(0, 1).index_select(0, self.position)
        self.position.add_(self.order.shape[1])
        return indices


def _dose(count: int, seeds: Sequence[int], samples: Sequence[int], device: torch.device) -> _Dose:
    trials = [trial for trial, own in enumerate(samples) if own == count]
    distinct = sorted({seeds[trial] for trial in trials})
    return _Dose(
        count,
        *(
            torch.tensor(values, device=device)
            for values in (trials, distinct, [distinct.index(seeds[trial]) for trial in trials])
        ),
    )


class ResidentFeed:
    """The images lie on the device, and so do the orders: the step counts its own way through them."""

    def __init__(self, source: Resident, orders: Orders) -> None:
        self.source, self.orders = source, orders
        self.prepare = orders.prepare

    def take(self) -> tuple[Tensor, Tensor]:
        return self.source.gather(self.orders.take())


class StreamedFeed:
    """Batches are read ahead on the host and copied to one place on the device."""

    def __init__(self, source: Source, orders: Orders) -> None:
        self.batches = source.batches(_taken(orders))
        self.images: Tensor | None = None
        self.labels: Tensor | None = None

    def prepare(self, done: int) -> None:
        images, labels = next(self.batches)
        if self.images is None:
            self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        self.images.copy_(images)
        self.labels.copy_(labels)

    def take(self) -> tuple[Tensor, Tensor]:
        return self.images, self.labels


def _taken(orders: Orders) -> Iterator[Tensor]:
    """Each step's samples (trials, batch), step after step."""
    for done in itertools.count():
        orders.prepare(done)
        yield orders.take()
