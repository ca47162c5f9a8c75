"""Replacement of activations that a network calls as functions, such as `functional.relu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.networks.named.replaced_modules import is_activation

# Functions that bend what leaves a layer, without a trailing underscore; gates are left alone.
_FUNCTIONS = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu"),
        *("mish", "hardswish", "hardtanh", "softplus", "softsign", "tanh"),
    )
)


class _Replacing(TorchFunctionMode):
    """Gives every call of such a function to `activation` instead.

    torch switches a mode off while it handles a call, so `activation` may call such functions.
    """

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_activation_function(func) or not args or not isinstance(args[0], Tensor):
            return func(*args, **kwargs)
        x = args[0]
        in_place = func.__name__.endswith("_") or kwargs.get("inplace", False)
        y = self.activation(x.clone() if in_place else x)
        if in_place:
            # Whoever does not look at the result finds it here.
            x.copy_(y)
        return y


class _ReplacesFunctions(nn.Module):
    """Base of a network whose functions are replaced by its module `swept_activation`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Replacing(self.swept_activation):
            return super().forward(*args, **kwargs)


def replace_functions(network: nn.Module, activation: nn.Module) -> None:
    """Lets a network call `activation` wherever it calls a function that is an activation.

    The network gets a class of its own with the same name, so that its modules keep their names.
    """
    kind = type(network)
    network.__class__ = type(kind.__name__, (_ReplacesFunctions, kind), {})
    network.swept_activation = activation


@torch.no_grad()
def count_function_calls(network: nn.Module, images: Tensor) -> int:
    """Returns how often a forward pass calls an activation as a function, outside of modules.

    Args:
        network: any module.
        images: (samples, channels, height, width).
    """
    counter = _Counting()
    handles = []
    for module in network.modules():
        if is_activation(module):
            handles.append(module.register_forward_pre_hook(counter.enter))
            handles.append(module.register_forward_hook(counter.leave))
    try:
        with counter:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return counter.count


class _Counting(TorchFunctionMode):
    """Counts calls of activations as functions, but for those of activation modules."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._inside = 0

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Notes that an activation module begins."""
        self._inside += 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Notes that an activation module ends."""
        self._inside -= 1

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not self._inside and _is_activation_function(func):
            self.count += 1
        return func(*args, **(kwargs or {}))


def _is_activation_function(function: Callable[..., Any]) -> bool:
    return getattr(function, "__name__", "").rstrip("_") in _FUNCTIONS
