"""Memory: how many trials of one shape fit side by side, from the sizes of the layers alone.

A test holds the model to what packs take: it may count up to twice too much, and hardly ever too
little.
"""

from __future__ import annotations

from typing import Any

from harness.networks.hidden_layers import weight_form
from harness.networks.layout import layer_sizes
from harness.training.optimizers import optimizers

# Tensors of a layer's output shape that a training step keeps or passes through.
_LAYER_TENSORS = 3
_NORMALIZATION_TENSORS = 3
_DROPOUT_TENSORS = 3
_RESIDUAL_TENSORS = 1
# Tensors of the pooled shape: the values, their gradient, and the places of maxima in 64 bits.
_POOLED_TENSORS = 4
# Tensors of the weights' shape that a form of weights keeps; it keeps none of a layer's output
# shape.
_FORMED_COPIES = 3
_SHARE_OF_FREE_MEMORY = 0.5
_FLOAT_BYTES = 4


def bytes_per_trial(
    spec: dict[str, Any], shape: tuple[int, int, int], classes: int, kept_copies: int = 0
) -> int:
    """Returns the bytes that one more trial adds to a pack.

    They hold the parameters with the optimizer's state, and one step's batch and activations.

    Args:
        spec: the trial's specification.
        shape: channels, height and width of the images.
        classes: the number of classes.
        kept_copies: copies of the weights that are kept while it trains.
    """
    sizes = layer_sizes(spec, shape, classes)
    normalization = spec["normalization"]["name"]
    parameters = sum((size.fan_in + 1) * size.units for size in sizes)
    copies = optimizers[spec["optimizer"]["name"]].copies + kept_copies
    tensors = _LAYER_TENSORS
    if weight_form(spec):
        copies += _FORMED_COPIES
    elif normalization != "none":
        tensors += _NORMALIZATION_TENSORS
    if spec["dropout"]["name"] != "none":
        tensors += _DROPOUT_TENSORS
    if "residual" in spec["architecture"]:
        tensors += _RESIDUAL_TENSORS
    outputs = sum(size.units * size.height * size.width for size in sizes)
    overlapping = sum(size.units * size.overlapping for size in sizes)
    channels, height, width = shape
    numbers_per_sample = outputs * tensors + overlapping * _POOLED_TENSORS
    numbers_per_sample += channels * height * width
    numbers = parameters * copies + spec["budget"]["batch_size"] * numbers_per_sample
    return _FLOAT_BYTES * numbers


def largest_pack(
    spec: dict[str, Any],
    shape: tuple[int, int, int],
    classes: int,
    free: int,
    kept_copies: int = 0,
) -> int:
    """Returns the number of trials that fit into half of `free` bytes, at least one."""
    usable = int(free * _SHARE_OF_FREE_MEMORY)
    return max(1, usable // bytes_per_trial(spec, shape, classes, kept_copies))
