"""An architecture whose networks are made elsewhere: by a library, or by the user's own code."""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.networks.declaration import Architecture
from harness.networks.hidden_stack import LayerSize, Shape
from harness.theory.networks.description import Network

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from harness.networks.named.layout_of_module import ModuleLayout
    from harness.theory.activations.functions import ActivationFunction

# Parts of a specification on which the description of a network depends.
_DESCRIBED_PARTS = (
    *("architecture", "activation", "initializer", "normalization", "dropout", "readout"),
    "repair",
)
# Whose weights are described where they are the network's own.
_DESCRIBED_SEED = 0
# Parts of a specification on which its layers depend.
_PARTS = ("architecture", "activation", "normalization", "dropout")


class NamedArchitecture(Architecture):
    """Networks by name. `make` gives one; what is swept is replaced in it.

    All else follows from a forward pass: its layers and their sizes, the taps of probes, and the
    description for theory.
    """

    @abstractmethod
    def make(self, name: str, shape: Shape, classes: int) -> nn.Module:
        """Returns a new network with weights that follow from torch's generator.

        Args:
            name: the network's name in its library, or `module:factory`.
            shape: (channels, height, width) of what enters it.
            classes: the number of classes.

        Raises:
            RequestError: there is no such network, or it cannot be made.
        """

    def check(self, spec: dict[str, Any]) -> None:
        """Accepts every specification; what `layer_sizes` runs may refuse it."""

    def layer_sizes(self, spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
        """Returns the size of every weight layer in order, the readout last.

        Raises:
            RequestError: the network cannot be made, or does not fit the images or the classes.
        """
        return list(self.layout(spec, shape, classes).sizes)

    def depth_and_width(self, spec: dict[str, Any], shape: Shape, classes: int) -> tuple[int, Any]:
        """Returns the number of activated layers, and `own`."""
        return len(self.layout(spec, shape, classes).activated), "own"

    def build(self, spec: dict[str, Any], shape: Shape, classes: int, seed: int = 0) -> nn.Module:
        """Returns the network with its parts replaced, on the CPU.

        Its weights are those that it draws itself, with torch's generator seeded by `seed`.
        """
        from harness.networks.named.assembly import assembled

        return assembled(self.make, spec, (shape, classes), seed)

    def initialize(
        self,
        network: nn.Module,
        spec: dict[str, Any],
        seed: int,
        sizes: tuple[Shape, int],
        state: dict[str, Tensor],
    ) -> None:
        """Gives the tensors of `state` the initial values of a trial."""
        from harness.networks.named.initial_state import initialize_module

        def built(network_seed: int) -> nn.Module:
            return self.build(spec, *sizes, seed=network_seed)

        head = self.layout(spec, *sizes).head
        initialize_module(network, spec, seed, head, built, state)

    def hidden_weights(
        self, network: nn.Module, spec: dict[str, Any], sizes: tuple[Shape, int]
    ) -> list[str]:
        """Returns the names of the weights of hidden layers, in the order in which they run."""
        from harness.networks.named.initial_state import drawn_layers

        layout = self.layout(spec, *sizes)
        drawn = {name for name, _ in drawn_layers(network)} - {layout.head}
        return [f"{size.name}.weight" for size in layout.sizes if size.name in drawn]

    def describe(self, spec: dict[str, Any], shape: Shape, classes: int) -> Network:
        """Returns the network as theory sees it, opaque from where theory cannot follow."""
        return self._described(spec, shape, classes)[0]

    def activation_functions(
        self, spec: dict[str, Any], shape: Shape, classes: int
    ) -> dict[str, ActivationFunction]:
        """Returns the activations of `describe` that are not built in, by their names there."""
        return self._described(spec, shape, classes)[1]

    def entering(self, spec: dict[str, Any], images: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns images as they enter the network: enlarged where `image_size` says so."""
        import torch

        from harness.networks.named.assembly import resized

        size = spec["architecture"].get("image_size")
        return images if size is None else resized(torch.from_numpy(images), size).numpy()

    def layout(self, spec: Mapping[str, Any], shape: Shape, classes: int) -> ModuleLayout:
        """Returns what a forward pass shows; each kind of network is run once."""
        parts: dict[str, Any] = {part: spec[part] for part in _PARTS}
        # A specification that is only to be described has no budget.
        parts["single"] = spec.get("budget", {}).get("batch_size") == 1
        text = json.dumps(parts, sort_keys=True)
        return _layout_of(self, text, tuple(shape), classes)

    def _described(
        self, spec: dict[str, Any], shape: Shape, classes: int
    ) -> tuple[Network, dict[str, ActivationFunction]]:
        parts = {part: spec[part] for part in _DESCRIBED_PARTS if part in spec}
        return _description_of(self, json.dumps(parts, sort_keys=True), tuple(shape), classes)


@functools.lru_cache(maxsize=64)
def _description_of(
    architecture: NamedArchitecture, text: str, shape: Shape, classes: int
) -> tuple[Network, dict[str, ActivationFunction]]:
    from harness.networks.named.described_module import described_module

    spec = json.loads(text)
    network = architecture.build(spec, shape, classes)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    architecture.initialize(network, spec, _DESCRIBED_SEED, (shape, classes), state)
    return described_module(network, spec, shape)


@functools.lru_cache(maxsize=256)
def _layout_of(
    architecture: NamedArchitecture, text: str, shape: Shape, classes: int
) -> ModuleLayout:
    from harness.networks.named.layout_of_module import layout_of_module

    spec = json.loads(text)
    return layout_of_module(architecture.build(spec, shape, classes), spec, shape, classes)
