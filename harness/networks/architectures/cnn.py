"""A plain convolutional network: `depth` layers of `width` channels, pooling, a linear readout."""

from __future__ import annotations

from typing import Any

from harness.errors import RequestError
from harness.networks.declaration import LayeredArchitecture, widths
from harness.networks.hidden_layers import Pooling
from harness.networks.hidden_stack import HiddenLayer, Shape

# Maps whose smaller side is below this are not pooled, so that none vanishes in a deep network.
_SMALLEST_POOLED_SIDE = 4

_CHOICES = {
    "padding": ("zeros", "circular"),
    "pool": ("none", "max", "average"),
    "head": ("flatten", "average"),
}


class CNN(LayeredArchitecture):
    """Convolutions of stride 1 that keep the map's size, with 2x2 pooling after some of them."""

    def check(self, spec: dict[str, Any]) -> None:
        """Refuses options that are out of range.

        Raises:
            RequestError: one line that says what is wrong and what is allowed.
        """
        options = spec["architecture"]
        if spec["width"] == "input":
            raise RequestError(
                "width=input: only for architecture=mlp; give a number of channels for cnn"
            )
        kernel_size = options["kernel_size"]
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise RequestError(
                f"architecture.kernel_size={kernel_size}: expected an odd integer of at least 1"
            )
        for option, allowed in _CHOICES.items():
            if options[option] not in allowed:
                raise RequestError(
                    f"architecture.{option}={options[option]}: expected one of {', '.join(allowed)}"
                )
        if options["pool_every"] < 1:
            raise RequestError(
                f"architecture.pool_every={options['pool_every']}: "
                "expected an integer of at least 1"
            )

    def head(self, spec: dict[str, Any]) -> str:
        """Returns how maps become vectors."""
        return spec["architecture"]["head"]

    def hidden_layers(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[HiddenLayer]:
        """Returns the hidden layers in order."""
        options = spec["architecture"]
        _, height, width = shape
        layers = []
        for index, units in enumerate(widths(spec)):
            pooling = None
            if _pools_after(options, index, height, width):
                pooling = Pooling(options["pool"])
                height, width = pooling.pooled(height), pooling.pooled(width)
            layer = HiddenLayer(
                kind="conv2d",
                units=units,
                kernel_size=options["kernel_size"],
                padding=options["padding"],
                pooling=pooling,
            )
            layers.append(layer)
        return layers


def _pools_after(options: dict[str, Any], index: int, height: int, width: int) -> bool:
    """Returns True where 2x2 pooling follows hidden layer `index`, counted from 0."""
    due = options["pool"] != "none" and (index + 1) % options["pool_every"] == 0
    return due and min(height, width) >= _SMALLEST_POOLED_SIDE


ARCHITECTURE = CNN()
