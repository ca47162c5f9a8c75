"""A dense network: flatten, `depth` hidden layers of `width` units, and a linear readout."""

from __future__ import annotations

from math import prod
from typing import Any

from harness.networks.declaration import LayeredArchitecture, widths
from harness.networks.hidden_stack import HiddenLayer, Shape


class MLP(LayeredArchitecture):
    """A multi-layer perceptron; `width=input` makes it as wide as its input."""

    def check(self, spec: dict[str, Any]) -> None:
        """Accepts every specification, as there are no options."""

    def hidden_layers(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[HiddenLayer]:
        """Returns the hidden layers in order."""
        units = [prod(shape) if width == "input" else width for width in widths(spec)]
        return [HiddenLayer("linear", count) for count in units]


ARCHITECTURE = MLP()
