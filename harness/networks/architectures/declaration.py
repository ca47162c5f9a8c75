"""The interface of an architecture, and the size of a weight layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.networks.hidden_layers import describe_weights
from harness.theory.networks.description import Dense, Network

if TYPE_CHECKING:
    from torch import nn

# (channels, height, width) of an input.
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class LayerSize:
    """The size of one weight layer.

    `kind` is "linear" or "conv2d". `height` and `width` are those of the map that the weights put
    out, before any pooling; 1 for a linear layer.
    """

    name: str
    kind: str
    fan_in: int
    units: int
    height: int = 1
    width: int = 1
    kernel_size: int = 1
    pooled: bool = False


class Architecture(ABC):
    """A kind of network. Its methods take `Trial.spec`, and the shape and classes of a data set.

    Only `build` may import torch.
    """

    @abstractmethod
    def check(self, spec: dict[str, Any]) -> None:
        """Refuses options that are out of range.

        Raises:
            RequestError: one line that says what is wrong and what is allowed.
        """

    @abstractmethod
    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last."""

    @abstractmethod
    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
        """Returns the network with torch's own weights.

        Every hidden layer is a `Sequential` named `layer_01`, `layer_02`, ... from
        `harness.networks.hidden_layers.build_hidden`; the last module is `readout`.
        """

    @abstractmethod
    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it."""


def describe_readout(spec: dict[str, Any], size: LayerSize) -> Dense:
    """Returns the linear readout as theory sees it."""
    return Dense(**describe_weights(spec, size.fan_in, size.units, size.units, hidden=False))
