"""Activations as theory sees them: value, slope and kinks as NumPy functions, by name or from a user's callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from harness.errors import RequestError
from harness.registry import Registry
from harness.theory.activations.closed_forms import (
    ClosedForms,
    erf_forms,
    exponential_linear_forms,
    gelu_forms,
    piecewise_linear_forms,
)
from harness.theory.activations.piecewise import analyse
from harness.theory.selu.moment_map import ALPHA, LAMBDA, selu, selu_slope

Array = NDArray[np.float64]

# Between these points, and beyond the outer ones, every built-in activation is a polynomial of degree 30 to the last bit.
_BREAKS = (-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0)


@dataclass(frozen=True)
class ActivationFunction:
    """An activation phi: R -> R.

    `value`, `slope`: elementwise functions of float64 arrays. `kinks`: where the slope or a higher
    derivative jumps. `breaks`: further points at which quadrature splits its range. `closed`: expectations with a closed form.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()
    breaks: tuple[float, ...] = _BREAKS
    closed: ClosedForms = field(default_factory=ClosedForms)


_activations = Registry("activation")


def from_callable(
    function: Callable[[Array], Array],
    name: str,
    kinks: tuple[float, ...] | None = None,
    slope: Callable[[Array], Array] | None = None,
) -> ActivationFunction:
    """A user's own activation, a function of a NumPy array that acts on every entry alone.

    Kinks are found when they are not told; so is the slope, to about 1e-12.

    Raises:
        RequestError: it raises, returns another shape or no real numbers, mixes entries, is not finite within +-13, jumps, or is too rough.
    """
    value = _checked(function, name)
    panels = analyse(value, name, kinks)
    breaks = tuple(float(edge) for edge in panels.edges)
    return ActivationFunction(
        name,
        value,
        slope or (lambda x: panels.slope(value, np.asarray(x, dtype=float))),
        panels.kinks,
        breaks,
    )


def _checked(function: Callable[[Array], Array], name: str) -> Callable[[Array], Array]:
    def value(x: Array) -> Array:
        x = np.asarray(x, dtype=float)
        try:
            with np.errstate(all="ignore"):
                result = function(
                    x.copy()
                )  # a function that works in place must not change the nodes
        except Exception as error:  # a user's code may raise anything; the message names it
            raise RequestError(
                f"activation {name!r} raised {type(error).__name__}: {error}; expected a map of an array to an array of the same shape"
            ) from error
        if getattr(result, "shape", None) != x.shape:
            raise RequestError(
                f"activation {name!r} maps shape {x.shape} to {getattr(result, 'shape', type(result).__name__)}; expected the same shape"
            )
        if np.asarray(result).dtype.kind not in "fiub":
            raise RequestError(
                f"activation {name!r} returns {np.asarray(result).dtype}; expected real numbers"
            )
        if np.asarray(result).dtype.kind == "f" and np.asarray(result).dtype.itemsize < 8:
            raise RequestError(
                f"activation {name!r} returns {np.asarray(result).dtype} for float64; it must compute in the precision of its input"
            )
        return np.asarray(result, dtype=float)

    probe = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    together, alone = (
        value(probe),
        np.array([value(entry) for entry in probe.ravel()[:, None]]).reshape(2, 3),
    )
    if not np.allclose(together, alone, rtol=1e-6, atol=1e-12, equal_nan=True):
        raise RequestError(
            f"activation {name!r} mixes entries or is random: a value depends on what else is in the array; it must act on every entry alone"
        )
    return value


def activation(name: str, **options: float) -> ActivationFunction:
    """The built-in activation of this name; options as in `harness.networks.activations` (`alpha`, `negative_slope`), for SELU `alpha` and `lam`.

    Raises:
        RequestError: unknown name or option, or an option that is not a finite number.
    """
    factory = _activations[name]
    allowed = factory.__code__.co_varnames[: factory.__code__.co_argcount]
    for option, value in options.items():
        if option not in allowed:
            raise RequestError(
                f"activation {name!r} has no option {option!r}; it has {', '.join(allowed) or 'none'}"
            )
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise RequestError(f"activation {name!r}: {option}={value!r} must be a finite number")
    return factory(**options)


@_activations.register("selu")
def _selu(alpha: float = ALPHA, lam: float = LAMBDA) -> ActivationFunction:
    return ActivationFunction(
        "selu",
        lambda x: selu(x, alpha, lam),
        lambda x: selu_slope(x, alpha, lam),
        (0.0,),
        closed=exponential_linear_forms(alpha, lam),
    )


@_activations.register("elu")
def _elu(alpha: float = 1.0) -> ActivationFunction:
    return ActivationFunction(
        "elu",
        lambda x: selu(x, alpha, 1.0),
        lambda x: selu_slope(x, alpha, 1.0),
        (0.0,),
        closed=exponential_linear_forms(alpha, 1.0),
    )


@_activations.register("relu")
def _relu() -> ActivationFunction:
    return _piecewise_linear("relu", 0.0)


@_activations.register("leaky_relu")
def _leaky_relu(negative_slope: float = 0.01) -> ActivationFunction:
    return _piecewise_linear("leaky_relu", negative_slope)


@_activations.register("identity")
def _identity() -> ActivationFunction:
    return _piecewise_linear("identity", 1.0)


def _piecewise_linear(name: str, negative_slope: float) -> ActivationFunction:
    return ActivationFunction(
        name,
        lambda x: np.where(x > 0, x, negative_slope * x),
        lambda x: np.where(x > 0, 1.0, negative_slope),
        () if negative_slope == 1 else (0.0,),
        (0.0,),
        piecewise_linear_forms(negative_slope),
    )


@_activations.register("gelu")
def _gelu() -> ActivationFunction:
    return ActivationFunction(
        "gelu",
        lambda x: x * ndtr(x),
        lambda x: ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi),
        closed=gelu_forms(),
    )


@_activations.register("silu")
def _silu() -> ActivationFunction:
    return ActivationFunction(
        "silu", lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x))
    )


@_activations.register("mish")
def _mish() -> ActivationFunction:
    # tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2); from x = 40 on it is 1.
    def growth(x: Array) -> Array:
        power = np.exp(np.minimum(x, 40.0))
        return power * (power + 2)

    def value(x: Array) -> Array:
        n = growth(x)
        return x * (n / (n + 2))

    def slope(x: Array) -> Array:
        n = growth(x)
        return n / (n + 2) + x * expit(x) * (4 * (n + 1) / (n + 2) ** 2)

    return ActivationFunction("mish", value, slope)


@_activations.register("tanh")
def _tanh() -> ActivationFunction:
    return ActivationFunction("tanh", np.tanh, lambda x: np.cosh(np.clip(x, -350.0, 350.0)) ** -2.0)


@_activations.register("softplus")
def _softplus() -> ActivationFunction:
    return ActivationFunction("softplus", lambda x: np.logaddexp(0.0, x), expit)


@_activations.register("erf")
def _erf() -> ActivationFunction:
    return ActivationFunction(
        "erf", erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-np.square(x)), closed=erf_forms()
    )


NAMES: tuple[str, ...] = tuple(_activations.names())
