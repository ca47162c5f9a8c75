"""The record of one forward pass while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harness.networks.tracing.elementwise import IDENTITIES
from harness.networks.tracing.function_calls import tensors_in
from harness.networks.tracing.origins import Held, Origin, Origins
from harness.networks.tracing.structure import Dropout, Layer, Structure

# Functions that keep a layer's values and only rearrange them. The padding before a convolution is
# examined with the convolution.
REARRANGED = IDENTITIES | {
    "flatten",
    "unflatten",
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "t",
    "transpose",
    "permute",
    "movedim",
    "pad",
}
# Functions that put every value of a tensor at another place, or copy it to several.
MOVES = (REARRANGED - IDENTITIES - {"pad"}) | {
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "interpolate_nearest",
}
# Functions that sum over units, so that their result is no layer's W x, whatever its shape.
_MIXING = {"matmul", "bmm", "mm", "einsum", "scaled_dot_product_attention"}
WORDS = {
    "cat": "a concatenation",
    "concat": "a concatenation",
    "concatenate": "a concatenation",
    "stack": "a concatenation",
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "attention",
    "getitem": "a choice of entries",
    "setitem": "an assignment to entries",
}


@dataclass(frozen=True)
class Activated:
    """An activation that ran, with its tensors.

    Attributes:
        layer: the layer that it belongs to.
        inputs: what enters the weights, (samples, ...).
        outputs: W x + b.
        pre_activation: z, what enters the activation.
        activation: y = phi(z).
        module: the activation as a module of one argument.
        overwritten: True where the inputs were changed in place since.
    """

    layer: Layer
    inputs: Tensor
    outputs: Tensor
    pre_activation: Tensor
    activation: Tensor
    module: nn.Module
    overwritten: bool = False


@dataclass(frozen=True)
class Listeners:
    """Functions that are called while a forward pass runs.

    Attributes:
        on_activation: called after every activation of a layer. With None no tensors are kept.
        before_activation: called with (layer, z) before anything is computed from z, which is part
            of the autograd graph; the answer is kept in `Trace.tokens`.
        keep: copies what is needed of (z, held) where the activation overwrites z, all of it by
            default.
        on_dropout: called with (layer, x, y, dropout) after every dropout whose input x comes from
            a layer's activation.
    """

    on_activation: Callable[[Activated], None] | None = None
    before_activation: Callable[[Layer, Tensor], Any] | None = None
    keep: Callable[[Tensor, Held], Tensor] | None = None
    on_dropout: Callable[[Layer, Tensor, Tensor, Dropout], None] | None = None


class Trace:
    """The record of one forward pass.

    Attributes:
        structure: the layers seen so far, and what stands around them.
        origins: the layer that each tensor comes from.
        parameter_names: names of the model's parameters by their ids.
        fresh_means: ids of the running means of batch normalizations that never saw a batch.
        module_names: names of the modules that are running, the innermost last.
        modules: these modules.
        calls: number of uses of each weight.
        transposes: parameters by their transposes.
        unscaled: mean squares that tensors had before they were multiplied by a number.
        padded: mode and size before padding, by padded tensors.
        opaque: a module whose functions are not looked at while it runs, its copy and its input.
        tokens: what `before_activation` answered for each activated layer.
        numbers: count of all numbers that weights, normalizations and activations returned.
        largest: count of numbers in the largest of these tensors.
        output: what the model returned.
    """

    def __init__(self, model: nn.Module, model_input: Tensor, listeners: Listeners) -> None:
        self.structure = Structure()
        self.listeners = listeners
        self.origins = Origins(model_input)
        self.parameter_names = _parameter_names(model)
        self.fresh_means = _fresh_means(model)
        self.module_names: list[str] = []
        self.modules: list[nn.Module] = []
        self.calls: Counter[str] = Counter()
        self.transposes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.unscaled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.padded: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.opaque: tuple[nn.Module, nn.Module, Tensor] | None = None
        self.tokens: list[Any] = []
        self.numbers = 0
        self.largest = 0
        self.output: Any = None

    @property
    def module_name(self) -> str:
        """The name of the innermost module that is running, "" for the model itself."""
        return self.module_names[-1] if self.module_names else ""

    @property
    def place(self) -> str:
        """The name of that module as messages say it."""
        return self.module_name or "the model"

    def count_numbers(self, tensor: Tensor) -> None:
        """Adds a tensor that has one row a sample to the counts of numbers."""
        self.numbers += tensor.numel()
        self.largest = max(self.largest, tensor.numel())

    def pass_on(self, name: str, result: Any, args: Sequence[Any]) -> Any:
        """Hands the origin of the arguments on to the result of a function, and returns it."""
        arguments = tensors_in(args)
        found = [self.origins.get(argument) for argument in arguments]
        origins = [origin for origin in found if origin is not None]
        results = [tensor for tensor in tensors_in([result]) if tensor.is_floating_point()]
        word = name.strip("_")
        changed_by = None if name in REARRANGED else WORDS.get(word, word)
        if not origins:
            self._pass_on_input(arguments, results, changed_by)
            return result
        origin = _carrying(origins, results)
        mixed = name in _MIXING or any(self._is_weight(argument) for argument in arguments)
        for tensor in results:
            returned_unchanged = name in IDENTITIES and any(
                tensor is argument for argument in arguments
            )
            if returned_unchanged:
                continue
            self.origins.remember(
                tensor, self.origin_after(name, origin, tensor, changed_by, mixed)
            )
            if name not in IDENTITIES:
                self.structure.functions.add(name)
        return result

    def origin_after(
        self,
        name: str,
        origin: Origin,
        result: Tensor,
        changed_by: str | None = None,
        mixed: bool = False,
    ) -> Origin:
        """Returns the origin of a function's result, given that of its argument.

        Arithmetic between the weights and the activation leaves them together.
        """
        if name in IDENTITIES:
            return origin
        if origin.stage != "weights":
            return replace(origin, changed_by=origin.changed_by or changed_by)
        if _has_shape(origin, result) and not mixed:
            return replace(origin, scaled=True)
        return Origin(origin.layer, "merged", changed_by=changed_by)

    def note_unfollowed_weights(self, name: str, tensors: Sequence[Tensor]) -> None:
        """Records weights that are used inside a function of which only the result is seen."""
        reached = any(
            tensor in self.origins.of_input or tensor in self.origins for tensor in tensors
        )
        if not reached:
            return
        for tensor in tensors:
            if self._is_weight(tensor):
                weight = self.parameter_names[id(tensor)]
                self.structure.unfollowed[weight] = f"{name} in {self.place}"

    def note_dropout(self, x: Tensor, values: Tensor, y: Tensor, dropout: Dropout) -> None:
        """Records a dropout from `x` to `y`.

        `values` are those that `x` had before a dropout in place. A rate of 1 leaves nothing to
        measure.
        """
        origin = self.origins.get(x)
        if origin is None:
            return
        if 0 < dropout.rate < 1:
            dropout = replace(dropout, before_activation=origin.stage == "weights")
            origin.layer.dropouts.append(dropout)
            if self.listeners.on_dropout is not None and origin.stage != "weights":
                self.listeners.on_dropout(origin.layer, values, y, dropout)
        self.origins.remember(y, origin)

    def _pass_on_input(
        self, arguments: list[Tensor], results: list[Tensor], changed_by: str | None
    ) -> None:
        of_input = self.origins.of_input
        entered = [of_input[argument] for argument in arguments if argument in of_input]
        if entered:
            for tensor in results:
                of_input[tensor] = entered[0] or changed_by

    def _is_weight(self, tensor: Tensor) -> bool:
        return id(tensor) in self.parameter_names and tensor.dim() > 1


def _carrying(origins: Sequence[Origin], results: Sequence[Tensor]) -> Origin:
    """Returns the argument that a function's result belongs to.

    It is the latest layer, but a gate does not hide the pre-activation that it multiplies.
    """
    latest = max(origins, key=lambda origin: origin.layer.number)
    if latest.stage == "weights" or len(results) != 1:
        return latest
    waiting = [
        origin for origin in origins if origin.stage == "weights" and _has_shape(origin, results[0])
    ]
    return waiting[-1] if waiting else latest


def _has_shape(origin: Origin, result: Tensor) -> bool:
    """Returns True for a result of the shape that left the weights."""
    outputs = None if origin.held is None else origin.held.outputs
    return outputs is not None and result.shape == outputs.shape


def mean_square(tensor: Tensor) -> float:
    """Returns the mean square of all entries."""
    return float(tensor.detach().float().square().mean())


def _parameter_names(model: nn.Module) -> dict[int, str]:
    """Returns the name of each parameter by its id; a shared one has its first name."""
    named = list(model.named_parameters(remove_duplicate=False))
    return {id(parameter): name for name, parameter in reversed(named)}


def _fresh_means(model: nn.Module) -> set[int]:
    """Returns ids of the running means of batch normalizations that have not seen a batch yet."""
    fresh: set[int] = set()
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if module.running_mean is None or module.num_batches_tracked is None:
            continue
        if int(module.num_batches_tracked) == 0:
            fresh.add(id(module.running_mean))
    return fresh
