"""Networks of the user's own code: `module:factory` is a function or class that gives a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.networks.hidden_stack import Shape
from harness.networks.named.named_architecture import NamedArchitecture
from harness.registry import load_callable

if TYPE_CHECKING:
    from torch import nn


class Factory(NamedArchitecture):
    """Modules that a user's function gives.

    It is called without arguments, but for those of `_arguments` that its signature has by name.
    """

    def make(self, name: str, shape: Shape, classes: int) -> nn.Module:
        """Returns a network; see `NamedArchitecture.make`."""
        from torch import nn

        factory = load_callable(name, "architecture")
        arguments = _accepted(factory, name, _arguments(shape, classes))
        try:
            network = factory(**arguments)
        except Exception as error:
            # A user's code may raise anything; the message names it.
            lines = [line.strip() for line in str(error).splitlines()]
            first_line = next((line for line in lines if line), "no message")
            raise RequestError(
                f"architecture {name!r} raised {type(error).__name__}: {first_line}"
            ) from error
        if not isinstance(network, nn.Module):
            raise RequestError(
                f"architecture {name!r} returned a {type(network).__name__}; "
                "expected a torch.nn.Module"
            )
        return network


def _arguments(shape: Shape, classes: int) -> dict[str, Any]:
    """Returns what a factory may ask for by the name of an argument."""
    return {"num_classes": classes, "in_channels": shape[0], "input_shape": tuple(shape)}


def _accepted(factory: Callable[..., Any], name: str, offered: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the offered arguments that a factory has by name.

    Raises:
        RequestError: it needs others.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        # A callable written in C says nothing about its arguments.
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = (*by_name, inspect.Parameter.POSITIONAL_ONLY)
    accepted = {}
    for parameter in parameters:
        if parameter.name in offered and parameter.kind in by_name:
            accepted[parameter.name] = offered[parameter.name]
        elif parameter.default is inspect.Parameter.empty and parameter.kind in needed:
            raise RequestError(
                f"architecture {name!r} needs an argument {parameter.name!r}; it is called with "
                f"none but {', '.join(offered)}, those of them that it has"
            )
    return accepted


ARCHITECTURE = Factory()
