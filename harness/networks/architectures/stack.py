"""A network of listed layers: convolutions, dense layers, and a linear readout."""

from __future__ import annotations

from typing import Any

from harness.configuration.layer_lists import complete_layers
from harness.errors import RequestError
from harness.networks.declaration import LayeredArchitecture
from harness.networks.hidden_layers import Pooling
from harness.networks.hidden_stack import HiddenLayer, Shape

_HEADS = ("flatten", "average")


class Stack(LayeredArchitecture):
    """The layers of `architecture.layers`, each with its own options."""

    def check(self, spec: dict[str, Any]) -> None:
        """Refuses a head that there is not; the layers were checked with the request.

        Raises:
            RequestError: one line that says what is allowed.
        """
        head = spec["architecture"]["head"]
        if head not in _HEADS:
            raise RequestError(f"architecture.head={head}: expected one of {', '.join(_HEADS)}")

    def head(self, spec: dict[str, Any]) -> str:
        """Returns how maps become vectors."""
        return spec["architecture"]["head"]

    def hidden_layers(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[HiddenLayer]:
        """Returns the hidden layers in order."""
        return [_hidden_layer(entry) for entry in complete_layers(spec["architecture"]["layers"])]


def _hidden_layer(entry: dict[str, Any]) -> HiddenLayer:
    if "dense" in entry:
        return HiddenLayer("linear", entry["dense"], dropout=entry.get("dropout"))
    pooling = None
    if entry["pool"] != "none":
        size = entry["pool_size"]
        stride = entry["pool_stride"] or size
        pooling = Pooling(entry["pool"], size, stride, entry["pool_position"] == "before")
    return HiddenLayer(
        kind="conv2d",
        units=entry["conv"],
        kernel_size=entry["kernel"],
        stride=entry["stride"],
        padding=entry["padding"],
        groups=entry["groups"],
        pooling=pooling,
        dropout=entry.get("dropout"),
    )


ARCHITECTURE = Stack()
