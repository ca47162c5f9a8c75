"""Batches for many trials at once: their order by seed, and where the images lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from harness.data.gpu_memory import free_gpu_memory
from harness.errors import RequestError

# The share of a GPU's free memory that `residency=auto` may fill with images; networks, gradients
# and taps need the rest.
RESIDENT_SHARE = 0.5

RESIDENCIES = ("auto", "resident", "streamed")

_GAMMA = 0x9E3779B97F4A7C15


def splitmix64(x: Tensor) -> Tensor:
    """One output of SplitMix64 for every state `x` (int64, read as 64 bits without sign).

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), Figure 17 with
    Stafford's constants. A bijection on 64-bit words. Integer arithmetic wraps, so the result is
    the same to the bit on every device.
    """
    z = x + _signed(_GAMMA)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def permutation(seeds: Tensor, epoch: int, samples: int) -> Tensor:
    """Returns the order in which each trial sees the samples in one epoch.

    Row t depends on (seeds[t], epoch, samples) only: neither on the other rows nor on the device,
    for which nothing here waits. Keys are a bijection of distinct counters, so no two are equal and
    the order is unambiguous.

    Args:
        seeds: int64 (trials,).
        epoch: counted from 0.
        samples: number of samples.

    Returns:
        int64 (trials, samples); every row is a permutation of 0..samples-1.
    """
    streams = splitmix64(splitmix64(seeds) ^ epoch)
    counters = torch.arange(samples, dtype=torch.int64, device=seeds.device) * _signed(_GAMMA)
    return splitmix64(streams[:, None] + counters).argsort(dim=1)


class Source(Protocol):
    """Training images and labels by index, for the trials of one pack.

    Attributes:
        samples: number of training samples of each trial.
        index_device: where indices should lie.
    """

    samples: tuple[int, ...]
    index_device: torch.device

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images and labels on the pack's device.

        Images are (trials, batch, channels, height, width) float32, labels (trials, batch).
        `indices` (trials, batch) int64 are moved to `index_device` if they lie on another one;
        make them there to save a wait.
        """

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what `gather` returns for each of `indices`; the next may be read ahead."""


class Resident:
    """A source whose variants all lie on the pack's device."""

    def __init__(
        self,
        variants: Sequence[Tensor],
        labels: Tensor,
        variant_of_trial: Sequence[int],
        device: torch.device,
    ) -> None:
        self.samples = _samples(variants, variant_of_trial)
        self.index_device = device
        self._rows = _Rows(variants, variant_of_trial, device)
        self._labels = labels.to(device)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Source.gather`."""
        indices = indices.to(self.index_device)
        return self._rows(indices), self._labels[indices]

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Source.batches`; nothing is read ahead."""
        return map(self.gather, indices)


class Streamed:
    """A source whose variants lie in host memory.

    A thread gathers the next batch, into pinned memory if the device is a GPU.
    """

    def __init__(
        self,
        variants: Sequence[Tensor],
        labels: Tensor,
        variant_of_trial: Sequence[int],
        device: torch.device,
    ) -> None:
        self.samples = _samples(variants, variant_of_trial)
        self.index_device = torch.device("cpu")
        self._device = device
        self._pinned = device.type == "cuda"
        self._rows = _Rows(variants, variant_of_trial, self.index_device)
        self._labels = labels.cpu()

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Source.gather`."""
        return self._send(self._read(indices))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Source.batches`; one batch is read ahead."""
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            ahead = None
            for batch_indices in indices:
                following = thread.submit(self._read, batch_indices)
                if ahead is not None:
                    yield self._send(ahead.result())
                ahead = following
            if ahead is not None:
                yield self._send(ahead.result())

    def _read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        indices = indices.to(self.index_device)
        images = self._rows(indices, self._pinned)
        labels = self._labels[indices]
        return images, labels.pin_memory() if self._pinned else labels

    def _send(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        # The allocator of pinned memory keeps a block until its copy is done, so there is no need
        # to wait for it here.
        images, labels = (part.to(self._device, non_blocking=True) for part in batch)
        return images, labels


def make_source(
    variants: Sequence[Tensor],
    labels: Tensor,
    variant_of_trial: Sequence[int],
    device: torch.device,
    residency: str = "auto",
) -> Source:
    """Returns a source over one set of training images in one or more preprocessings and doses.

    Args:
        variants: float32 tensors (samples, channels, height, width); they may differ in the number
            of samples.
        labels: int64 (samples,), of the variant with the most; the others' are its first ones.
        variant_of_trial: index of the variant that each trial reads.
        device: the pack's device.
        residency: `resident` on the device, `streamed` from the host, or `auto`: resident on a
            CPU, and on a GPU when the images fill at most `RESIDENT_SHARE` of its free memory.

    Raises:
        RequestError: unknown residency, or `resident` and the images exceed the GPU's free memory.
    """
    if residency not in RESIDENCIES:
        raise RequestError(
            f"dataset.residency={residency}: expected one of {', '.join(RESIDENCIES)}"
        )
    device = torch.device(device)
    if residency == "streamed":
        return Streamed(variants, labels, variant_of_trial, device)
    if device.type == "cuda":
        needed = sum(images.numel() * images.element_size() for images in variants)
        free = free_gpu_memory(device)
        if residency == "auto" and needed > RESIDENT_SHARE * free:
            return Streamed(variants, labels, variant_of_trial, device)
        if needed > free:
            raise RequestError(
                f"dataset.residency=resident: the images need {needed / 2**30:.1f} GiB and "
                f"{device} has {free / 2**30:.1f} GiB free; use dataset.residency=streamed"
            )
    return Resident(variants, labels, variant_of_trial, device)


class _Rows:
    """The images of all variants as rows of one matrix: any pack's batch is one `index_select`."""

    def __init__(
        self, variants: Sequence[Tensor], variant_of_trial: Sequence[int], device: torch.device
    ) -> None:
        self._shape = variants[0].shape[1:]
        matrices = [images.to(device).flatten(1) for images in variants]
        if len(matrices) == 1:
            # One variant is not copied.
            self._matrix = matrices[0]
            self._offsets = None
            return
        self._matrix = torch.cat(matrices)
        starts = list(itertools.accumulate((len(images) for images in variants), initial=0))
        offsets = [[starts[variant]] for variant in variant_of_trial]
        self._offsets = torch.tensor(offsets, device=device)

    def __call__(self, indices: Tensor, pinned: bool = False) -> Tensor:
        """Returns images (trials, batch, channels, height, width) for indices (trials, batch)."""
        if self._offsets is not None:
            rows = (indices + self._offsets).flatten()
        else:
            rows = indices.flatten()
        images = torch.empty(
            len(rows),
            self._matrix.shape[1],
            dtype=self._matrix.dtype,
            device=self._matrix.device,
            pin_memory=pinned,
        )
        torch.index_select(self._matrix, 0, rows, out=images)
        return images.view(*indices.shape, *self._shape)


def _samples(variants: Sequence[Tensor], variant_of_trial: Sequence[int]) -> tuple[int, ...]:
    return tuple(len(variants[variant]) for variant in variant_of_trial)


def _signed(word: int) -> int:
    """The signed 64-bit integer with the bits of an unsigned one."""
    return word - 2**64 if word >= 2**63 else word


def _shifted(z: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
