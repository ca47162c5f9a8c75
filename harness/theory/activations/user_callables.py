"""Activations from a user's own callable: checked, with kinks and slope found from its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.errors import RequestError
from harness.theory.activations.piecewise import Panels, analyse
from harness.theory.activations.specifications import ActivationFunction, Array


def from_callable(
    function: Callable[[Array], Array],
    name: str,
    kinks: tuple[float, ...] | None = None,
    slope: Callable[[Array], Array] | None = None,
) -> ActivationFunction:
    """Returns a user's own function as an activation.

    Args:
        function: acts elementwise on a NumPy array of float64.
        name: its name in messages.
        kinks: where its slope jumps; they are searched for within +-40 when not given.
        slope: its derivative; computed to about 1e-12 when not given.

    Raises:
        RequestError: the function raises, returns another shape or no real numbers, mixes entries,
            is not finite within +-13, jumps, or is too rough.
    """
    value = _checked(function, name)
    panels = analyse(value, name, kinks)
    breaks = tuple(float(edge) for edge in panels.edges)
    return ActivationFunction(
        name, value, slope or _slope_from_panels(panels, value), panels.kinks, breaks
    )


def _slope_from_panels(panels: Panels, value: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: panels.slope(value, np.asarray(x, dtype=float))


def _checked(function: Callable[[Array], Array], name: str) -> Callable[[Array], Array]:
    """Returns the function with a check of every result.

    It is called on a few entries first, together and alone.
    """

    def value(x: Array) -> Array:
        x = np.asarray(x, dtype=float)
        try:
            with np.errstate(all="ignore"):
                # A function that works in place must not change the caller's array.
                result = function(x.copy())
        except Exception as error:  # A user's code may raise anything; the message names it.
            raise RequestError(
                f"activation {name!r} raised {type(error).__name__}: {error}; "
                "expected a map of an array to an array of the same shape"
            ) from error
        return _as_real(result, x.shape, name)

    _require_elementwise(value, name)
    return value


def _as_real(result: Any, shape: tuple[int, ...], name: str) -> Array:
    """Returns a function's result as float64; RequestError for another shape or type."""
    result_shape = getattr(result, "shape", None)
    if result_shape != shape:
        described = type(result).__name__ if result_shape is None else result_shape
        raise RequestError(
            f"activation {name!r} maps shape {shape} to {described}; expected the same shape"
        )
    dtype = np.asarray(result).dtype
    if dtype.kind not in "fiub":
        raise RequestError(f"activation {name!r} returns {dtype}; expected real numbers")
    if dtype.kind == "f" and dtype.itemsize < 8:
        raise RequestError(
            f"activation {name!r} returns {dtype} for float64; "
            "it must compute in the precision of its input"
        )
    return np.asarray(result, dtype=float)


def _require_elementwise(value: Callable[[Array], Array], name: str) -> None:
    """Raises RequestError unless a few entries have the same values together and alone."""
    entries = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    together = value(entries)
    alone = np.array([value(entry) for entry in entries.ravel()[:, None]]).reshape(2, 3)
    if not np.allclose(together, alone, rtol=1e-6, atol=1e-12, equal_nan=True):
        raise RequestError(
            f"activation {name!r} mixes entries or is random: a value depends on what else is in "
            "the array; it must act on every entry alone"
        )
