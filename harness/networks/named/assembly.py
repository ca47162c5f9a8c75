"""Assembly of a named network: it is made, its parts are replaced, and its images enlarged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from harness.errors import RequestError
from harness.networks.activations import build_activation
from harness.networks.hidden_stack import Shape
from harness.networks.named.replaced_functions import count_function_calls, replace_functions
from harness.networks.named.replaced_modules import (
    keep_inputs,
    replace_activations,
    replace_dropouts,
    replace_normalizations,
)

# Function from a name, the shape of what enters and the number of classes to a new network.
Make = Callable[[str, Shape, int], nn.Module]

# Functions that replace a part of a network, and return at how many places.
_MODULES: Mapping[str, Callable[[nn.Module, Mapping[str, Any]], int]] = {
    "normalization": replace_normalizations,
    "dropout": replace_dropouts,
}
_SAMPLES = 2
# torch has one generator for all threads.
_GLOBAL_GENERATOR = threading.Lock()


def assembled(
    make: Make, spec: Mapping[str, Any], sizes: tuple[Shape, int], seed: int
) -> nn.Module:
    """Returns a network with its parts replaced, on the CPU.

    Args:
        make: makes the network, with weights that follow from torch's generator.
        spec: `Trial.spec`.
        sizes: the shape (channels, height, width) of an image, and the number of classes.
        seed: of torch's generator while the network draws its weights.

    Raises:
        RequestError: it cannot be made or run, or has nothing of a part that is to be replaced.
    """
    name = spec["architecture"]["name"]
    size = spec["architecture"].get("image_size")
    shape, classes = sizes
    entering = shape if size is None else (shape[0], size, size)
    # Its own code may read the numbers that it draws, which the meta device has not.
    with _GLOBAL_GENERATOR, torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = make(name, entering, classes)
        images = sample_images(entering, _SAMPLES)
        if any(is_lazy(parameter) for parameter in network.parameters()):
            run(network, images, name)
        _replace_parts(network, spec, images)
        if size is not None:
            network.register_forward_pre_hook(_Resizing(size))
    return network


def _replace_parts(network: nn.Module, spec: Mapping[str, Any], images: Tensor) -> None:
    """Replaces the parts that are swept; its dropouts get noise of the trial's in any case."""
    name = spec["architecture"]["name"]
    replaced = spec["architecture"]["replace"]
    counts = {"dropout": replace_dropouts(network, spec)}
    if "normalization" in replaced:
        counts["normalization"] = replace_normalizations(network, spec)
    if "activation" in replaced:
        counts["activation"] = _replace_all_activations(network, spec, images)
    else:
        keep_inputs(network)
    for part, count in counts.items():
        if part in replaced and count == 0:
            raise RequestError(
                f"architecture.replace: {name} has no {part} that can be replaced; "
                f"leave {part} out of it"
            )


def _replace_all_activations(network: nn.Module, spec: Mapping[str, Any], images: Tensor) -> int:
    """Replaces activations that are modules, and those that are called as functions."""
    if spec["activation"]["name"] == "identity":
        raise RequestError(
            f"activation=identity: the layers of {spec['architecture']['name']} are found by "
            "their activations; use architecture=mlp, cnn or stack"
        )
    calls = run(network, images, spec["architecture"]["name"], count_function_calls)
    count = replace_activations(network, spec)
    if calls:
        replace_functions(network, build_activation(dict(spec["activation"])))
    return count + calls


def run(
    network: nn.Module,
    images: Tensor,
    name: str,
    function: Callable[[nn.Module, Tensor], Any] = lambda network, images: network(images),
) -> Any:
    """Returns what a function makes of a network in evaluation mode and of images.

    Raises:
        RequestError: it raises; the message says what the network is given.
    """
    network.eval()
    try:
        with torch.no_grad():
            return function(network, images)
    except RequestError:
        raise
    except Exception as error:
        # Code that others wrote may raise anything.
        raise cannot_take(images, name, error) from error


def cannot_take(images: Tensor, name: str, error: BaseException) -> RequestError:
    """Returns the error for a network that raises when it is given images."""
    channels, height, width = images.shape[1:]
    lines = [line.strip() for line in str(error).splitlines()]
    first_line = next((line for line in lines if line), "no message")
    return RequestError(
        f"architecture {name!r} cannot take images of {channels} x {height} x {width} "
        f"(channels, height, width): {type(error).__name__}: {first_line}; "
        "architecture.image_size resizes them"
    )


def sample_images(shape: Shape, count: int) -> Tensor:
    """Returns normal images (count, channels, height, width), the same each time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def resized(images: Tensor, size: int) -> Tensor:
    """Returns images of `size` pixels a side, of the nearest pixels, so that moments are kept."""
    return functional.interpolate(images, size=(size, size), mode="nearest")


class _Resizing:
    """A hook in front of a network that resizes its images."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return resized(inputs[0], self.size)
