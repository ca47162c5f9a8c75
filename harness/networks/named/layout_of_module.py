"""The layout of a named network: its layers and their sizes, as forward passes show them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RequestError
from harness.networks.hidden_stack import LayerSize, Shape
from harness.networks.named.assembly import cannot_take, run, sample_images
from harness.networks.normalization_kinds import normalizations
from harness.networks.tracing.structure import Layer, Structure
from harness.networks.tracing.tracer import run_traced

_SAMPLES = 2
_NO_SIZE = (1, 1)


@dataclass(frozen=True)
class ModuleLayout:
    """The layers of a network.

    Attributes:
        sizes: weight layers in the order in which they run.
        activated: names of the layers that probes measure, in order.
        head: name of the layer that gives the logits, None where it has an activation.
    """

    sizes: tuple[LayerSize, ...]
    activated: tuple[str, ...]
    head: str | None


def layout_of_module(
    network: nn.Module, spec: Mapping[str, Any], shape: Shape, classes: int
) -> ModuleLayout:
    """Returns the layout of a network, and refuses one that cannot be trained and measured.

    Args:
        network: the network with its parts replaced; it changes.
        spec: the parts of `Trial.spec` on which it depends, and `single`: a batch is one image.
        shape: (channels, height, width) of an image.
        classes: the number of classes.

    Raises:
        RequestError: it does not take the images, does not give one number for each class, draws
            random numbers of its own in training, or has no layer with an activation.
    """
    name = spec["architecture"]["name"]
    images = sample_images(shape, _SAMPLES)
    _check_logits(run(network, images, name), name, classes)
    with _maps_of(network) as maps:
        structure = structure_of_module(network, images)
    if not structure.activated:
        raise RequestError(
            f"architecture {name!r} has no layer with an activation that a forward pass shows"
        )
    if normalizations_need_maps(spec):
        _check_maps(network, images)
    _check_training(network, images[:1] if spec["single"] else images, name)
    sizes = {}
    for layer in structure.layers:
        sizes.setdefault(layer.name, _size(layer, maps.get(layer.name, _NO_SIZE)))
    labels = tuple(layer.label for layer in structure.activated)
    head = head_of(structure)
    return ModuleLayout(tuple(sizes.values()), labels, None if head is None else head.name)


def structure_of_module(network: nn.Module, images: Tensor) -> Structure:
    """Returns a network's structure from a forward pass in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return run_traced(network, images).structure


def head_of(structure: Structure) -> Layer | None:
    """Returns the layer that gives the logits: the last one, if nothing bends what it gives."""
    last = structure.layers[-1]
    return last if last.activation is None else None


def normalizations_need_maps(spec: Mapping[str, Any]) -> bool:
    """Returns True where the swept normalization acts on the positions of a map."""
    name = spec["normalization"]["name"]
    return name in normalizations and normalizations[name].needs_maps


def _size(layer: Layer, sides: tuple[int, int]) -> LayerSize:
    kind = "linear" if layer.kind == "linear" else "conv2d"
    return LayerSize(layer.name, kind, layer.fan_in, layer.units, *sides)


@contextmanager
def _maps_of(network: nn.Module) -> Iterator[dict[str, tuple[int, int]]]:
    """Gives height and width of what each module put out last; all else counts as height."""
    maps: dict[str, tuple[int, int]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            handles.append(module.register_forward_hook(_noting(maps, name)))
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _noting(maps: dict[str, tuple[int, int]], name: str) -> Any:
    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            maps[name] = (output.shape[-2], output.shape[-1])
        else:
            maps[name] = (math.prod(output.shape[1:-1]), 1)

    return note


def _check_logits(logits: Any, name: str, classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise RequestError(
            f"architecture {name!r} gives a {type(logits).__name__}; expected a tensor of logits "
            "(samples, classes)"
        )
    if logits.dim() != 2 or len(logits) != _SAMPLES:
        raise RequestError(
            f"architecture {name!r} gives shape {tuple(logits.shape)} for {_SAMPLES} images; "
            f"expected logits of shape ({_SAMPLES}, {classes})"
        )
    if logits.shape[1] != classes:
        raise RequestError(
            f"architecture {name!r} gives {logits.shape[1]} numbers for an image, and the data "
            f"have {classes} classes; a factory with the argument num_classes is told how many"
        )


def _check_training(network: nn.Module, images: Tensor, name: str) -> None:
    """Refuses a network that fails in training mode, or draws random numbers there."""
    network.train()
    before = torch.get_rng_state()
    try:
        network(images)
    except Exception as error:
        # Code that others wrote may raise anything.
        raise cannot_take(images, name, error) from error
    if not torch.equal(before, torch.get_rng_state()):
        raise RequestError(
            f"architecture {name!r} draws random numbers in training by itself, so that a trial "
            "would depend on those beside it; give dropouts as modules, such as nn.Dropout"
        )


def _check_maps(network: nn.Module, images: Tensor) -> None:
    """Refuses a normalization over the positions of a map that has only one."""

    def check(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            if math.prod(inputs[0].shape[2:]) == 1:
                raise RequestError(
                    f"normalization=instance: {name} has one position, over which nothing varies; "
                    "larger images, or architecture.image_size, have more"
                )

        return hook

    handles = [
        module.register_forward_pre_hook(check(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.GroupNorm)
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
