"""Activation modules by name, made from the declarations in `harness.theory.activations`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.configuration.callable_identity import callable_digest
from harness.errors import RequestError
from harness.registry import Registry, load_callable
from harness.theory.activations.functions import NAMES, ActivationSpec, specification


def _module(spec: ActivationSpec, **options: float) -> nn.Module:
    """Returns the module of the declared class with the declared options, some replaced."""
    if ":" in spec.torch_class:
        torch_class = load_callable(spec.torch_class, "activation")
    else:
        torch_class = getattr(nn, spec.torch_class)
    return torch_class(**(dict(spec.options) | options))


def _factories() -> Registry:
    """Returns a factory of modules for each declared activation that has a class."""
    factories = Registry("activation")
    for name in NAMES:
        spec = specification(name)
        if spec.torch_class is not None:
            factories.register(name)(functools.partial(_module, spec))
    return factories


# Maps a name to a factory, which takes the activation's options and returns an elementwise module.
activations: Registry = _factories()


class Elementwise(nn.Module):
    """A user's own function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        super().__init__()
        self.function = function
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Returns the function's value, elementwise."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Returns the function's name, for printed networks."""
        return self.name


def build_activation(spec: dict) -> nn.Module:
    """Returns the activation module of a specification.

    Args:
        spec: name and options, such as `{"name": "elu", "alpha": 1.0}`, or a user's own function of
            tensors, such as `{"name": "package.module:function"}`. Its entry `source`, a digest of
            the function's source, is ignored.

    Raises:
        RequestError: the name is unknown, or a user's callable is no elementwise map of tensors, or
            it keeps something from one call to the next.
    """
    name = spec["name"]
    if ":" in name:
        function = load_callable(name, "activation")
        before = callable_digest(function, name)
        _require_elementwise(function, name)
        if callable_digest(function, name) != before:
            raise RequestError(
                f"activation {name!r} changes a value that it reads itself, so that its results "
                "could not be told from those of another value; expected a function without memory"
            )
        return Elementwise(function, name)
    options = {key: value for key, value in spec.items() if key not in ("name", "source")}
    return activations[name](**options)


def _require_elementwise(function: Callable[[Tensor], Tensor], name: str) -> None:
    """Raises RequestError where a user's function fails on a small tensor."""
    try:
        # A network is laid out on the meta device, where a function that reads values cannot run.
        with torch.device("cpu"):
            expected_input = torch.linspace(-2.0, 2.0, 6).reshape(2, 3)
            x = expected_input.clone()
            y = function(x)
    except Exception as error:  # A user's code may raise anything; the message names it.
        raise RequestError(
            f"activation {name!r} raised {type(error).__name__}: {error}; "
            "expected a map of a tensor to a tensor of the same shape"
        ) from error
    shape = getattr(y, "shape", None)
    if shape != expected_input.shape:
        raise RequestError(
            f"activation {name!r} maps shape {tuple(expected_input.shape)} to {shape}; "
            "expected the same shape (it must act on every entry alone)"
        )
    if not torch.equal(x, expected_input):
        raise RequestError(
            f"activation {name!r} writes over its input, which is measured too; "
            "expected a map to a new tensor"
        )
