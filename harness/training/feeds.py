"""The batches of a pack's steps, laid where the step expects them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.data.batches import Resident, Source, distinct_permutations, permutation
from harness.training.schedules import Plan


class Feed(Protocol):
    """Hands out one batch a step: `prepare` on the host before each step, `take` as part of the step itself."""

    def prepare(self, done: int) -> None:
        """Make ready for the step after `done` steps."""

    def take(self) -> tuple[Tensor, Tensor]:
        """Images (trials, batch, channels, height, width) and labels (trials, batch)."""


def feed(source: Source, seeds: Sequence[int], plan: Plan) -> Feed:
    """The feed for a source: resident images are gathered inside the step, streamed ones arrive from the host."""
    return ResidentFeed(source, seeds, plan) if isinstance(source, Resident) else StreamedFeed(source, seeds, plan)


class ResidentFeed:
    """An epoch's order lies on the device, and the step counts its own way through it: nothing comes from the host."""

    def __init__(self, source: Resident, seeds: Sequence[int], plan: Plan) -> None:
        device = source.index_device
        self.source, self.plan = source, plan
        distinct = sorted(set(seeds))
        self.seeds = torch.tensor(distinct, device=device)
        self.row = torch.tensor([distinct.index(seed) for seed in seeds], device=device)
        self.order = torch.zeros(plan.steps_per_epoch, len(seeds), plan.batch_size, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)

    def prepare(self, done: int) -> None:
        epoch, position = divmod(done, self.plan.steps_per_epoch)
        if position == 0:
            order = distinct_permutations(self.seeds, epoch, self.source.samples)[:, : self.plan.steps_per_epoch * self.plan.batch_size]
            self.order.copy_(order.unflatten(1, (-1, self.plan.batch_size)).transpose(0, 1)[:, self.row])
            self.position.zero_()

    def take(self) -> tuple[Tensor, Tensor]:
        indices = self.order.index_select(0, self.position)[0]
        self.position.add_(1)
        return self.source.gather(indices)


class StreamedFeed:
    """Batches are read ahead on the host and copied to one place on the device."""

    def __init__(self, source: Source, seeds: Sequence[int], plan: Plan) -> None:
        self.source, self.seeds, self.plan = source, torch.tensor(seeds, device=source.index_device), plan
        self.batches = source.batches(self._indices())
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

    def _indices(self) -> Iterator[Tensor]:
        """Each step's samples (trials, batch), in each seed's own order, epoch after epoch."""
        for epoch in itertools.count():
            order = permutation(self.seeds, epoch, self.source.samples)
            for position in range(self.plan.steps_per_epoch):
                yield order[:, position * self.plan.batch_size : (position + 1) * self.plan.batch_size]
