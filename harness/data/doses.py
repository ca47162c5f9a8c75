"""Doses that any data set takes: its pixels out of place, and noise in its training labels.

Both are controls. Shuffled pixels leave every statistic that ignores position as it is, and take
from convolutions what they rely on. Noisy labels can be learned by heart only (Zhang, Bengio,
Hardt, Recht and Vinyals 2017, "Understanding deep learning requires rethinking generalization").
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.data.splits import hashes

# Keeps the streams of one seed apart: permutations, choices of labels, and their new values.
_PIXELS, _CHOICES, _CLASSES = 0x9127, 0x1ABE, 0xC1A5


def shuffle_pixels(images: Tensor, seed: int) -> Tensor:
    """Returns images with their positions permuted, all channels and images alike.

    Args:
        images: (samples, channels, height, width).
        seed: seed of the permutation.
    """
    height, width = images.shape[2:]
    order = torch.from_numpy(np.argsort(hashes(seed ^ _PIXELS, height * width), kind="stable"))
    return images.flatten(2)[:, :, order].unflatten(2, (height, width))


def add_label_noise(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    """Returns labels of which some are drawn anew, uniformly from all classes.

    Each is drawn with probability `share`, independently. A label's fate depends on its place and
    the seed alone: the first labels of a split fare as in the whole split, and what is drawn at a
    small share is drawn at every greater one, with the same result.

    Args:
        labels: (samples,), int64.
        classes: number of classes.
        share: probability of being drawn, in [0, 1].
        seed: seed of the noise.
    """
    count = len(labels)
    is_drawn = torch.from_numpy(hashes(seed ^ _CHOICES, count) / 2.0**64 < share)
    uniform = hashes(seed ^ _CLASSES, count) / 2.0**64
    drawn = torch.from_numpy(np.floor(uniform * classes).astype(np.int64)).clamp_max(classes - 1)
    return torch.where(is_drawn, drawn, labels)
