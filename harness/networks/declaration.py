"""The interface of an architecture, and of one that is a list of hidden layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from harness.networks.hidden_stack import (
    HiddenLayer,
    LayerSize,
    PlacedLayer,
    Shape,
    add_hidden,
    describe_hidden,
    place,
)
from harness.networks.readout import READOUT, build_readout, describe_readout
from harness.theory.networks.description import Network

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from harness.theory.activations.functions import ActivationFunction


class Architecture(ABC):
    """A kind of network. Its methods take `Trial.spec`, and the shape and classes of a data set."""

    @abstractmethod
    def check(self, spec: dict[str, Any]) -> None:
        """Refuses options that are out of range.

        Raises:
            RequestError: one line that says what is wrong and what is allowed.
        """

    @abstractmethod
    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last.

        Raises:
            RequestError: a layer does not fit the map that enters it.
        """

    @abstractmethod
    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Module:
        """Returns the network with torch's own weights."""

    @abstractmethod
    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it."""

    def initialize(
        self,
        network: nn.Module,
        spec: dict[str, Any],
        seed: int,
        sizes: tuple[Shape, int],
        state: dict[str, Tensor],
    ) -> None:
        """Gives the tensors of `state` the initial values of a trial.

        Args:
            network: as `build` returned it.
            spec: `Trial.spec`.
            seed: the trial's seed.
            sizes: the shape (channels, height, width) of an image, and the number of classes.
            state: tensors by parameter or buffer name.
        """
        from harness.networks.initialization import initialize

        initialize(network, spec["initializer"], seed, state, spec.get("readout"))

    def hidden_weights(
        self, network: nn.Module, spec: dict[str, Any], sizes: tuple[Shape, int]
    ) -> list[str]:
        """Returns the names of the weights of hidden layers among a network's parameters."""
        names = [name for name, _ in network.named_parameters()]
        return [name for name in names if name.endswith("weights.weight")]

    def activation_functions(
        self, spec: dict[str, Any], shape: Shape, classes: int
    ) -> dict[str, ActivationFunction]:
        """Returns the activations of `describe` that are not built in, by their names there."""
        # Its SciPy takes long to load, and few need it.
        from harness.networks.users_activation import own_activation

        name = spec["activation"]["name"]
        return {name: own_activation(name)} if ":" in name else {}

    def entering(self, spec: dict[str, Any], images: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns images (samples, channels, height, width) as they enter the first layer."""
        return images

    def depth_and_width(
        self, spec: dict[str, Any], shape: Shape, classes: int
    ) -> tuple[int, Any] | None:
        """Returns the depth and the width that the network has of its own; None if it has none."""
        return None


class LayeredArchitecture(Architecture):
    """An architecture that is a list of hidden layers.

    `hidden_layers` says what the network is. Its sizes, its modules and its description for theory
    follow from that list. Only `build` may import torch.
    """

    @abstractmethod
    def hidden_layers(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[HiddenLayer]:
        """Returns the hidden layers in order."""

    def head(self, spec: dict[str, Any]) -> str:
        """Returns how maps become vectors: "flatten", or "average" over positions."""
        return "flatten"

    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last.

        Raises:
            RequestError: a layer does not fit the map that enters it.
        """
        placed, inputs = self._placed(spec, shape, classes)
        readout = LayerSize(READOUT, "linear", inputs, classes)
        return [*(item.size for item in placed), readout]

    def build(self, spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
        """Returns the network with torch's own weights.

        Every hidden layer is a `Sequential` named `layer_01`, `layer_02`, ... from
        `harness.networks.hidden_layers.build_hidden`; the last module is `readout`.
        """
        from torch import nn

        placed, inputs = self._placed(spec, shape, classes)
        network = nn.Sequential()
        add_hidden(network, placed, spec, self.head(spec))
        network.add_module(READOUT, build_readout(spec, inputs, classes))
        return network

    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it."""
        placed, inputs = self._placed(spec, shape, classes)
        hidden = describe_hidden(placed, spec, self.head(spec))
        return (*hidden, describe_readout(spec, inputs, classes))

    def _placed(
        self, spec: dict[str, Any], shape: Shape, classes: int
    ) -> tuple[list[PlacedLayer], int]:
        return place(self.hidden_layers(spec, shape, classes), shape, self.head(spec))


def widths(spec: dict[str, Any]) -> list[int]:
    """Returns the units of every hidden layer, from a number or a list."""
    width = spec["width"]
    return width if isinstance(width, list) else [width] * spec["depth"]
