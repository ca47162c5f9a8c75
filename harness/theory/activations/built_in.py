"""The built-in activations: one declaration each.

To add an activation, declare it here and describe it in `conf/activation/NAME.yaml`; no other file
changes. A declaration is a function decorated with `declare`. It takes the activation's options as
arguments of the same names, gets their defaults from the decorator, and returns the activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import special

from harness.errors import RequestError
from harness.registry import Registry
from harness.theory.activations.closed_forms import (
    erf_forms,
    exponential_linear_forms,
    gelu_forms,
    piecewise_linear_forms,
)
from harness.theory.activations.specifications import ActivationFunction, ActivationSpec, Array
from harness.theory.selu import selu_function
from harness.theory.selu.selu_function import ALPHA, LAMBDA

SPECIFICATIONS = Registry("activation")

Build = Callable[..., ActivationFunction]

# Klambauer et al. 2017, section "Initialization", and variants with the same variance.
LECUN = ("lecun_normal", "lecun_truncated", "lecun_uniform")
# He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers", Eq. 10.
_HE = ("he_normal", "he_uniform")
# Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
# networks", Eq. 12 and 16, for activations that are symmetric about 0 and saturate.
_XAVIER = ("xavier_normal", "xavier_uniform", "lecun_normal")
# Weights that keep the variance of a linear network.
_VARIANCE_KEEPING = ("lecun_normal", "xavier_normal")


def declare(
    source: str,
    torch_class: str | None,
    recommended_initializers: tuple[str, ...],
    options: Mapping[str, Any] | None = None,
    theory_options: Mapping[str, float] | None = None,
) -> Callable[[Build], Build]:
    """Returns a decorator that declares an activation under its function's name.

    The arguments are those of `ActivationSpec`.
    """

    def register(function: Build) -> Build:
        name = function.__name__
        specification = ActivationSpec(
            name=name,
            source=source,
            function=function,
            torch_class=torch_class,
            recommended_initializers=recommended_initializers,
            options=dict(options or {}),
            theory_options=dict(theory_options or {}),
        )
        SPECIFICATIONS.register(name)(specification)
        return function

    return register


@declare(
    source="Klambauer, Unterthiner, Mayr and Hochreiter 2017, Self-normalizing neural networks",
    torch_class="SELU",
    recommended_initializers=LECUN,
    theory_options={"alpha": ALPHA, "lam": LAMBDA},
)
def selu(alpha: float, lam: float) -> ActivationFunction:
    """Returns SELU: lam * (x if x > 0 else alpha * (e^x - 1))."""
    return _exponential_linear("selu", alpha, lam)


@declare(
    source="Clevert, Unterthiner and Hochreiter 2016, Fast and accurate deep network learning by "
    "exponential linear units (ELUs)",
    torch_class="ELU",
    recommended_initializers=_HE,
    options={"alpha": 1.0},
)
def elu(alpha: float) -> ActivationFunction:
    """Returns ELU: x if x > 0 else alpha * (e^x - 1)."""
    return _exponential_linear("elu", alpha, 1.0)


@declare(
    source="Barron 2017, Continuously differentiable exponential linear units",
    torch_class="CELU",
    recommended_initializers=_HE,
    options={"alpha": 1.0},
)
def celu(alpha: float) -> ActivationFunction:
    """Returns CELU: x if x > 0 else alpha * (e^(x / alpha) - 1).

    Raises:
        RequestError: alpha is not above 0; CELU is then not defined or falls exponentially.
    """
    if alpha <= 0:
        raise RequestError(f"activation.alpha={alpha:g}: expected a number above 0 for celu")

    def value(x: Array) -> Array:
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))

    def slope(x: Array) -> Array:
        return np.exp(np.minimum(x, 0.0) / alpha)

    return ActivationFunction("celu", value, slope, kinks=(0.0,))


@declare(
    source="So, Manke, Liu, Dai, Shazeer and Le 2021, Primer: searching for efficient transformers "
    "for language modeling",
    torch_class="harness.networks.activation_modules:SquaredReLU",
    recommended_initializers=_VARIANCE_KEEPING,
)
def squared_relu() -> ActivationFunction:
    """Returns squared ReLU: x^2 if x > 0 else 0."""

    def value(x: Array) -> Array:
        return np.square(np.maximum(x, 0.0))

    def slope(x: Array) -> Array:
        return 2.0 * np.maximum(x, 0.0)

    return ActivationFunction("squared_relu", value, slope, kinks=(0.0,))


@declare(
    source="Nair and Hinton 2010, Rectified linear units improve restricted Boltzmann machines",
    torch_class="ReLU",
    recommended_initializers=_HE,
)
def relu() -> ActivationFunction:
    """Returns ReLU: x if x > 0 else 0."""
    return _piecewise_linear("relu", 0.0)


@declare(
    source="Maas, Hannun and Ng 2013, Rectifier nonlinearities improve neural network acoustic "
    "models",
    torch_class="LeakyReLU",
    recommended_initializers=_HE,
    options={"negative_slope": 0.01},
)
def leaky_relu(negative_slope: float) -> ActivationFunction:
    """Returns leaky ReLU: x if x > 0 else negative_slope * x."""
    return _piecewise_linear("leaky_relu", negative_slope)


@declare(
    source="no paper; a linear network is the control for what activations do",
    torch_class="Identity",
    recommended_initializers=_VARIANCE_KEEPING,
)
def identity() -> ActivationFunction:
    """Returns the identity: x."""
    return _piecewise_linear("identity", 1.0)


@declare(
    source="Hendrycks and Gimpel 2016, Gaussian error linear units (GELUs)",
    torch_class="GELU",
    recommended_initializers=_HE,
)
def gelu() -> ActivationFunction:
    """Returns GELU: x * Phi(x), with the distribution function Phi of N(0, 1)."""

    def value(x: Array) -> Array:
        return x * special.ndtr(x)

    def slope(x: Array) -> Array:
        return special.ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)

    return ActivationFunction("gelu", value, slope, closed=gelu_forms())


@declare(
    source="Elfwing, Uchibe and Doya 2018, Sigmoid-weighted linear units for neural network "
    "function approximation in reinforcement learning",
    torch_class="SiLU",
    recommended_initializers=_HE,
)
def silu() -> ActivationFunction:
    """Returns SiLU, also called swish: x * sigmoid(x)."""

    def value(x: Array) -> Array:
        return x * special.expit(x)

    def slope(x: Array) -> Array:
        return special.expit(x) * (1 + x * special.expit(-x))

    return ActivationFunction("silu", value, slope)


@declare(
    source="Misra 2019, Mish: a self regularized non-monotonic activation function",
    torch_class="Mish",
    recommended_initializers=_HE,
)
def mish() -> ActivationFunction:
    """Returns Mish: x * tanh(log(1 + e^x)).

    It is computed without a logarithm: tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2).
    """

    def growth(x: Array) -> Array:
        # From x = 40 on n / (n + 2) is 1 to the last bit, so that larger x need no larger n.
        power = np.exp(np.minimum(x, 40.0))
        return power * (power + 2)

    def value(x: Array) -> Array:
        n = growth(x)
        return x * (n / (n + 2))

    def slope(x: Array) -> Array:
        n = growth(x)
        return n / (n + 2) + x * special.expit(x) * (4 * (n + 1) / (n + 2) ** 2)

    return ActivationFunction("mish", value, slope)


@declare(
    source="LeCun, Bottou, Orr and Mueller 1998, Efficient backprop",
    torch_class="Tanh",
    recommended_initializers=_XAVIER,
)
def tanh() -> ActivationFunction:
    """Returns the hyperbolic tangent."""

    def slope(x: Array) -> Array:
        return np.cosh(np.clip(x, -350.0, 350.0)) ** -2.0

    return ActivationFunction("tanh", np.tanh, slope)


@declare(
    source="Dugas, Bengio, Belisle, Nadeau and Garcia 2001, Incorporating second-order functional "
    "knowledge for better option pricing",
    torch_class="Softplus",
    recommended_initializers=_HE,
)
def softplus() -> ActivationFunction:
    """Returns softplus: log(1 + e^x)."""

    def value(x: Array) -> Array:
        return np.logaddexp(0.0, x)

    return ActivationFunction("softplus", value, special.expit)


@declare(
    source="Williams 1997, Computing with infinite networks",
    torch_class=None,
    recommended_initializers=_XAVIER,
)
def erf() -> ActivationFunction:
    """Returns the error function, whose kernel is known in closed form."""

    def slope(x: Array) -> Array:
        return 2 / np.sqrt(np.pi) * np.exp(-np.square(x))

    return ActivationFunction("erf", special.erf, slope, closed=erf_forms())


def _exponential_linear(name: str, alpha: float, lam: float) -> ActivationFunction:
    return ActivationFunction(
        name,
        value=lambda x: selu_function.selu(x, alpha, lam),
        slope=lambda x: selu_function.selu_slope(x, alpha, lam),
        kinks=(0.0,),
        closed=exponential_linear_forms(alpha, lam),
    )


def _piecewise_linear(name: str, negative_slope: float) -> ActivationFunction:
    return ActivationFunction(
        name,
        value=lambda x: np.where(x > 0, x, negative_slope * x),
        slope=lambda x: np.where(x > 0, 1.0, negative_slope),
        kinks=() if negative_slope == 1 else (0.0,),
        breaks=(0.0,),
        closed=piecewise_linear_forms(negative_slope),
    )
