"""The layers that tensors come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from harness.networks.tracing.structure import Layer


@dataclass(frozen=True, eq=False)
class Held:
    """The input and output of a layer's weights, alive as long as anything computed from them.

    `outputs` is None in the origin of the output tensor itself, which must not keep itself alive.
    `version` is that of the inputs when the weights read them.
    """

    inputs: Tensor
    outputs: Tensor | None
    version: int = 0

    @property
    def overwritten(self) -> bool:
        """True where the inputs were changed in place since the weights read them."""
        return version_of(self.inputs) != self.version


def version_of(tensor: Tensor) -> int:
    """Returns a number that grows with every change in place."""
    return 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True, eq=False)
class Origin:
    """The last layer that a tensor comes from.

    Attributes:
        layer: that layer.
        stage: "weights" before its activation, "activation" after it, "merged" where its units
            were mixed before any activation.
        held: the tensors of its weights, at the stage "weights" only.
        changed_by: the first function since then that changed the values and is neither pooling
            nor normalization.
        scaled: True where arithmetic changed the values at the stage "weights".
    """

    layer: Layer
    stage: str
    held: Held | None = None
    changed_by: str | None = None
    scaled: bool = False


class Origins:
    """The origin of every tensor that is still in use.

    Attributes:
        of_input: tensors that come from the model's input without any weights in between, each
            with the first function that changed its values, or None.
    """

    def __init__(self, model_input: Tensor) -> None:
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.of_input: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.of_input[model_input] = None

    def __contains__(self, value: Any) -> bool:
        return value in self._origins

    def get(self, value: Any) -> Origin | None:
        """Returns the origin of a value, None where it has none or is no tensor."""
        origin = self._origins.get(value) if isinstance(value, Tensor) else None
        if origin is None or origin.held is None or origin.held.outputs is not None:
            return origin
        return replace(origin, held=replace(origin.held, outputs=value))

    def remember(self, tensor: Tensor, origin: Origin) -> None:
        """Records where a tensor comes from."""
        if origin.held is not None and origin.held.outputs is tensor:
            origin = replace(origin, held=replace(origin.held, outputs=None))
        self._origins[tensor] = origin

    def forget(self, tensor: Tensor) -> None:
        """Drops the origin of a tensor whose values are not known to be any layer's yet."""
        self._origins.pop(tensor, None)
