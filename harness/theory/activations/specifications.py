"""The types: an activation as theory uses it, and the declaration of a built-in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError
from harness.theory.activations.closed_forms import ClosedForms

Array = NDArray[np.float64]

# Between these points, and beyond the outer ones, every built-in activation agrees with a
# polynomial of degree 30 to the last bit.
BREAKS = (-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0)


@dataclass(frozen=True)
class ActivationFunction:
    """An activation phi: R -> R, as theory uses it.

    Attributes:
        name: its name in messages.
        value: phi, elementwise on float64 arrays.
        slope: phi', elementwise on float64 arrays; at a kink the derivative from the left.
        kinks: the points where phi' or a higher derivative jumps.
        breaks: further points at which quadrature splits its range.
        closed: the Gaussian expectations that have a closed form.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()
    breaks: tuple[float, ...] = BREAKS
    closed: ClosedForms = field(default_factory=ClosedForms)


@dataclass(frozen=True)
class ActivationSpec:
    """The declaration of a built-in activation: all that the harness knows of it.

    Attributes:
        name: its name in configurations and tables.
        source: the paper that introduced it, with its year.
        function: makes the activation from its options and theory options.
        torch_class: the name of its class in `torch.nn`, or `module:class` of a class of our own,
            which takes `options` by keyword; None where the activation is known to theory only.
        recommended_initializers: initializers that it is published or commonly used with, the
            preferred one first.
        options: its options with their defaults, as in `conf/activation/NAME.yaml`: numbers,
            names, or None for what a network settles.
        theory_options: further parameters of `function` with their defaults, which PyTorch's class
            does not take.
    """

    name: str
    source: str
    function: Callable[..., ActivationFunction]
    torch_class: str | None
    recommended_initializers: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    theory_options: Mapping[str, float] = field(default_factory=dict)

    def build(self, **options: Any) -> ActivationFunction:
        """Returns the activation with these options, and defaults for the others.

        Raises:
            RequestError: an option is unknown, or is not a finite number where its default is one.
        """
        defaults = {**self.options, **self.theory_options}
        for option, value in options.items():
            if option not in defaults:
                allowed = ", ".join(defaults) or "none"
                raise RequestError(
                    f"activation {self.name!r} has no option {option!r}; it has {allowed}"
                )
            if isinstance(defaults[option], str) or value is defaults[option]:
                continue
            if not isinstance(value, (int, float)) or not np.isfinite(value):
                raise RequestError(
                    f"activation {self.name!r}: {option}={value!r} must be a finite number"
                )
        return self.function(**(defaults | options))
