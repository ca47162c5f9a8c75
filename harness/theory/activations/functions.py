"""Activations by name: the entry point to built-in ones and to a user's own callables."""

from __future__ import annotations

from typing import Any

from harness.theory.activations.derived import SPECIFICATIONS
from harness.theory.activations.specifications import ActivationFunction, ActivationSpec
from harness.theory.activations.user_callables import from_callable

__all__ = [
    "NAMES",
    "ActivationFunction",
    "ActivationSpec",
    "activation",
    "from_callable",
    "recommended_initializers",
    "specification",
]

# The names of all built-in activations, sorted.
NAMES: tuple[str, ...] = tuple(SPECIFICATIONS.names())


def specification(name: str) -> ActivationSpec:
    """Returns the declaration of the built-in activation of this name.

    Raises:
        RequestError: the name is unknown.
    """
    return SPECIFICATIONS[name]


def activation(name: str, **options: Any) -> ActivationFunction:
    """Returns the built-in activation of this name.

    Args:
        name: one of `NAMES`.
        options: those of `conf/activation/NAME.yaml`, and `alpha` and `lam` of SELU.

    Raises:
        RequestError: an unknown name or option, or a value that the option cannot have.
    """
    return specification(name).build(**options)


def recommended_initializers(name: str) -> tuple[str, ...]:
    """Returns the initializers an activation is commonly used with, the preferred one first.

    The tuple is empty for a user's own `module:function`.

    Raises:
        RequestError: the name is unknown.
    """
    if ":" in name:
        return ()
    return specification(name).recommended_initializers
