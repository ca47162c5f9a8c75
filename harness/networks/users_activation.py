"""A user's own activation, `module:function`, as theory sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError
from harness.registry import load_callable
from harness.theory.activations.functions import ActivationFunction, from_callable

Array = NDArray[np.float64]


def own_activation(path: str, kinks: tuple[float, ...] | None = None) -> ActivationFunction:
    """Returns a user's activation as a NumPy function with its slope.

    A function of arrays is taken as it is. A function of tensors, or a torch module class, is
    wrapped, and its slope comes from autograd.

    Args:
        path: `module:function`.
        kinks: where the slope jumps; None lets theory find them.

    Raises:
        RequestError: it cannot be loaded or made, or is no elementwise map.
    """
    function = load_callable(path, "activation")
    if _takes_arrays(function):
        return from_callable(function, path, kinks)
    import torch

    if isinstance(function, type) and issubclass(function, torch.nn.Module):
        try:
            function = function().double()
        except TypeError as error:
            raise RequestError(
                f"activation {path!r} cannot be made without arguments: {error}"
            ) from error

    def value(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(function(torch.from_numpy(np.array(x, dtype=float))))

    def slope(x: Array) -> Array:
        leaf = torch.from_numpy(np.array(x, dtype=float)).requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0].numpy()

    return from_callable(value, path, kinks, slope)


def _takes_arrays(function: Callable[..., Any]) -> bool:
    """Returns True where a function maps a NumPy array to one.

    A user's code may raise anything here; it is then tried as a function of tensors.
    """
    try:
        with np.errstate(all="ignore"):
            return isinstance(function(np.linspace(-1.0, 1.0, 3)), np.ndarray)
    except Exception:
        return False
