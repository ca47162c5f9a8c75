"""How many trials of one shape fit side by side: a model of a pack's memory, from the layer sizes alone."""

from __future__ import annotations

from harness.networks.layout import layer_sizes

# Numbers kept for every parameter: the parameter, its gradient, a copy for the update ratio, and the optimizer's moments.
_COPIES = {"sgd": 3, "momentum": 4, "adam": 6, "adamw": 6}
# Tensors of one layer's shape that a training step keeps or passes through.
_TAPS = 3
_TAPS_OF_NORMALIZATION = 3
_TAPS_OF_DROPOUT = 3
# Tensors of the weights' shape that weight standardization keeps, instead of any of a layer's.
_COPIES_OF_STANDARDIZED = 3
_SHARE_OF_FREE_MEMORY = 0.5
_NUMBER = 4


def bytes_per_trial(spec: dict, shape: tuple[int, int, int], classes: int) -> int:
    """Bytes that one more trial adds to a pack: state, and one step's activations and batch."""
    sizes = layer_sizes(spec, shape, classes)
    parameters = sum((size.fan_in + 1) * size.units for size in sizes)
    normalization = spec["normalization"]["name"]
    copies = _COPIES[spec["optimizer"]["name"]] + _COPIES_OF_STANDARDIZED * (
        normalization == "weight_standardization"
    )
    taps = (
        _TAPS
        + _TAPS_OF_NORMALIZATION * (normalization not in ("none", "weight_standardization"))
        + _TAPS_OF_DROPOUT * (spec["dropout"]["name"] != "none")
    )
    activations = sum(size.units * size.height * size.width for size in sizes) * taps
    inputs = shape[0] * shape[1] * shape[2]
    batch = spec["budget"]["batch_size"] * (activations + inputs)
    return _NUMBER * (parameters * copies + batch)


def largest_pack(spec: dict, shape: tuple[int, int, int], classes: int, free: int) -> int:
    """Trials that fit into half of `free` bytes, at least one."""
    return max(1, int(free * _SHARE_OF_FREE_MEMORY) // bytes_per_trial(spec, shape, classes))
