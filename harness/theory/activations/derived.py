"""Built-in activations whose constants are solved for, from those with constants of their own.

They are declared as those of `harness.theory.activations.built_in`.
"""

from __future__ import annotations

import functools

import numpy as np

from harness.errors import RequestError
from harness.theory.activations import tailoring, unit_second_moment
from harness.theory.activations.built_in import LECUN, SPECIFICATIONS, declare
from harness.theory.activations.closed_forms import (
    leaky_exponential_forms,
    scaled_exponential_forms,
)
from harness.theory.activations.parameters import for_fixed_point
from harness.theory.activations.specifications import BREAKS, ActivationFunction, Array
from harness.theory.activations.tailoring import Tailoring

# The activations that others are made from; PyTorch has no module of the error function.
BASES = tuple(name for name in SPECIFICATIONS.names() if SPECIFICATIONS[name].torch_class)
_DEFAULT_LAYERS = 8
# About one over the depth of 32 layers.
_DEFAULT_EPSILON = 0.03


@declare(
    source="Klambauer, Unterthiner, Mayr and Hochreiter 2017, Self-normalizing neural networks",
    torch_class="harness.networks.activation_modules:SELUFixedPoint",
    recommended_initializers=LECUN,
    options={"mean": 0.0, "variance": 1.0},
)
def selu_fixed_point(mean: float, variance: float) -> ActivationFunction:
    """Returns SELU with the alpha and lambda whose fixed point is (mean, variance)."""
    parameters = for_fixed_point(mean, variance)
    selu = SPECIFICATIONS["selu"].function(alpha=parameters.alpha, lam=parameters.lam)
    return ActivationFunction(
        "selu_fixed_point", selu.value, selu.slope, selu.kinks, selu.breaks, selu.closed
    )


@declare(
    source="Chen, Zhao, Deng, Li and Xie 2021, Redefining the self-normalization property",
    torch_class="harness.networks.activation_modules:LeakySELU",
    recommended_initializers=LECUN,
    options={"epsilon": _DEFAULT_EPSILON},
)
def leaky_selu(epsilon: float) -> ActivationFunction:
    """Returns leaky SELU (lSELU): lam * (x if x > 0 else alpha * (e^x - 1) + beta * x).

    The form and the conditions on the moments are the paper's; `unit_second_moment` says which part
    of the choice of the constants is a reading of it.
    """
    constants = unit_second_moment.leaky_constants(epsilon)
    alpha, beta, lam = constants.alpha, constants.beta, constants.lam

    def value(x: Array) -> Array:
        negative = np.minimum(x, 0.0)
        return lam * np.where(x > 0, x, alpha * np.expm1(negative) + beta * negative)

    def slope(x: Array) -> Array:
        return lam * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)) + beta)

    closed = leaky_exponential_forms(alpha, beta, lam)
    return ActivationFunction("leaky_selu", value, slope, kinks=(0.0,), closed=closed)


@declare(
    source="Chen, Zhao, Deng, Li and Xie 2021, Redefining the self-normalization property",
    torch_class="harness.networks.activation_modules:ScaledSELU",
    recommended_initializers=LECUN,
    options={"epsilon": _DEFAULT_EPSILON},
)
def scaled_selu(epsilon: float) -> ActivationFunction:
    """Returns scaled SELU (sSELU): lam * (x if x > 0 else alpha * (e^(beta * x) - 1)).

    The form and the conditions on the moments are the paper's; `unit_second_moment` says which part
    of the choice of the constants is a reading of it.
    """
    constants = unit_second_moment.scaled_constants(epsilon)
    alpha, beta, lam = constants.alpha, constants.beta, constants.lam

    def value(x: Array) -> Array:
        return lam * np.where(x > 0, x, alpha * np.expm1(beta * np.minimum(x, 0.0)))

    def slope(x: Array) -> Array:
        return lam * np.where(x > 0, 1.0, alpha * beta * np.exp(beta * np.minimum(x, 0.0)))

    # It bends over lengths of 1 / beta.
    breaks = tuple(point / beta for point in BREAKS)
    closed = scaled_exponential_forms(alpha, beta, lam)
    return ActivationFunction("scaled_selu", value, slope, (0.0,), breaks, closed)


@declare(
    source="Lu, Gould and Ajanthan 2020, Bidirectionally self-normalizing neural networks",
    torch_class="harness.networks.activation_modules:GaussianPoincare",
    recommended_initializers=("orthogonal", "lecun_normal"),
    options={"base": "tanh"},
)
def gpn(base: str) -> ActivationFunction:
    """Returns a Gaussian-Poincare normalized activation."""
    return gpn_tailoring(base).apply(base_function(base), "gpn")


@declare(
    source="Martens, Ballard, Desjardins, Swirszcz, Dalibard, Sohl-Dickstein and Schoenholz 2021, "
    "Rapid training of deep neural networks without skip connections or normalization layers using "
    "deep kernel shaping",
    torch_class="harness.networks.activation_modules:DeepKernelShaped",
    recommended_initializers=("orthogonal", "lecun_normal"),
    options={"base": "tanh", "slope": 1.5, "layers": None},
)
def dks(base: str, slope: float, layers: int | None) -> ActivationFunction:
    """Returns an activation shaped so that the C map of all layers has a slope at 1."""
    return dks_tailoring(base, slope, layers).apply(base_function(base), "dks")


@declare(
    source="Zhang, Botev and Martens 2022, Deep learning without shortcuts: shaping the kernel "
    "with tailored rectifiers",
    torch_class="harness.networks.activation_modules:TailoredActivation",
    recommended_initializers=("orthogonal", "lecun_normal"),
    options={"base": "tanh", "cosine": 0.9, "curvature": 0.3, "layers": None},
)
def tat(base: str, cosine: float, curvature: float, layers: int | None) -> ActivationFunction:
    """Returns a tailored activation: of leaky ReLU by a cosine, of others by a curvature."""
    transformed, constants = tat_tailoring(base, cosine, curvature, layers)
    return constants.apply(transformed, "tat")


def base_function(base: str) -> ActivationFunction:
    """Returns the activation that another is made from, with its default options.

    Raises:
        RequestError: it is none, or one that is solved for itself.
    """
    if base not in BASES:
        raise RequestError(f"activation.base={base}: expected one of {', '.join(BASES)}")
    return SPECIFICATIONS[base].build()


def gpn_tailoring(base: str) -> Tailoring:
    """Returns the constants of `gpn`."""
    return tailoring.gaussian_poincare(base, _builder(base))


def dks_tailoring(base: str, slope: float, layers: int | None) -> Tailoring:
    """Returns the constants of `dks`; each layer's slope is slope^(1 / layers).

    Raises:
        RequestError: a slope of at most 1, or no such constants.
    """
    if slope <= 1:
        raise RequestError(f"activation.slope={slope}: expected a number above 1")
    local = slope ** (1.0 / _checked(layers))
    return tailoring.deep_kernel_shaping(base, _builder(base), local)


def tat_tailoring(
    base: str, cosine: float, curvature: float, layers: int | None
) -> tuple[ActivationFunction, Tailoring]:
    """Returns the activation and the constants of `tat`.

    Raises:
        RequestError: a number out of range, or no such constants.
    """
    layers = _checked(layers)
    if not 0 < cosine < 1:
        raise RequestError(f"activation.cosine={cosine}: expected a number between 0 and 1")
    if curvature <= 0:
        raise RequestError(f"activation.curvature={curvature}: expected a number above 0")
    if base == "leaky_relu":
        negative_slope = tailoring.tailored_rectifier(cosine, layers)
        scale = (2.0 / (1.0 + negative_slope**2)) ** 0.5
        leaky_relu = SPECIFICATIONS["leaky_relu"].build(negative_slope=negative_slope)
        return leaky_relu, Tailoring(output_scale=scale)
    constants = tailoring.tailored_transformation(base, _builder(base), curvature / layers)
    return base_function(base), constants


@functools.cache
def _builder(base: str) -> functools.partial[ActivationFunction]:
    """Returns one function that makes a base, by which solutions are kept."""
    return functools.partial(base_function, base)


def _checked(layers: float | None) -> int:
    layers = _DEFAULT_LAYERS if layers is None else layers
    if layers < 1 or layers != int(layers):
        raise RequestError(f"activation.layers={layers}: expected an integer of at least 1")
    return int(layers)
