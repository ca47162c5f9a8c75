"""Augmentation: training images changed at random on the device, all trials of a pack at once.

The noise of a trial is a hash of (seed, step, sample of the batch), equal to the bit in any pack
and on any device. Evaluations and probes see the images as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.configuration.trial import Trial
from harness.networks.dropouts import hashed_uniform
from harness.registry import Registry
from harness.seeding import purpose_seed

# Maps images (trials, batch, channels, height, width) and the number of the step, (trials,) from 1,
# to images of the same shape.
Augment = Callable[[Tensor, Tensor], Tensor]
# Makes one from the keys of the trials' noise, int64 (trials, 1), and the augmentation's options.
Build = Callable[[Tensor, Mapping[str, Any]], Augment]

augmentations: Registry = Registry("augmentation")


def augmentation(trials: Sequence[Trial], device: torch.device) -> Augment:
    """Returns the augmentation of the trials of a pack, which all have the same."""
    spec = trials[0].spec.get("augmentation", {"name": "none"})
    keys = [[purpose_seed(trial.seed, "augmentation")] for trial in trials]
    build: Build = augmentations[spec["name"]]
    return build(torch.tensor(keys, device=device), spec)


@augmentations.register("none")
def _none(keys: Tensor, options: Mapping[str, Any]) -> Augment:
    return lambda images, step: images


@augmentations.register("crop_flip")
def _crop_flip(keys: Tensor, options: Mapping[str, Any]) -> Augment:
    padding, probability = options["padding"], options["flip"]

    def augment(images: Tensor, step: Tensor) -> Tensor:
        samples = images.shape[1]
        uniform = hashed_uniform(keys, step[:, None], 3 * samples).unflatten(1, (3, samples))
        shifts = (uniform[:, :2] * (2 * padding + 1)).long() - padding
        return crop_and_flip(images, shifts[:, 0], shifts[:, 1], uniform[:, 2] < probability)

    return augment


def crop_and_flip(images: Tensor, down: Tensor, across: Tensor, flipped: Tensor) -> Tensor:
    """Returns every image flipped or not, then seen through a window that is moved.

    What lies outside the image is 0.

    Args:
        images: (trials, batch, channels, height, width).
        down: (trials, batch) int64, rows by which the window is moved down.
        across: (trials, batch) int64, columns by which it is moved to the right.
        flipped: (trials, batch) bool, whether left and right are exchanged.
    """
    height, width = images.shape[3:]
    rows = torch.arange(height, device=images.device) + down[..., None]
    columns = torch.arange(width, device=images.device) + across[..., None]
    inside_rows = (rows >= 0) & (rows < height)
    inside_columns = (columns >= 0) & (columns < width)
    columns = torch.where(flipped[..., None], width - 1 - columns, columns)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    pixels = (rows[..., :, None] * width + columns[..., None, :]).flatten(2).unsqueeze(2)
    inside = inside_rows[..., :, None] & inside_columns[..., None, :]
    taken = images.flatten(3).gather(3, pixels.expand(-1, -1, images.shape[2], -1))
    return taken.view(images.shape) * inside.unsqueeze(2).to(images.dtype)
