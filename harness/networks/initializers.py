"""Weight initializers: one law each, from which the draw and its moments follow.

A law gives every weight of a layer the variance gain / fan. The draw, `sigma_w2` (fan-in times the
variance of a weight, the expected sum of squares of a unit's weights) and the kurtosis that theory
needs all come from the same declaration. Draws use methods of the tensor that they fill, so that
the laws can be read without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.registry import Registry
from harness.theory.networks.identities import (
    KURTOSIS_NORMAL,
    KURTOSIS_TRUNCATED,
    KURTOSIS_UNIFORM,
    TRUNCATED_VARIANCE,
    largest_random_square,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

Options = Mapping[str, Any]

initializers: Registry = Registry("initializer")


@dataclass(frozen=True)
class Fans:
    """Inputs of a unit, and units that an input feeds.

    For a convolution, channels count once for every tap of the kernel.
    """

    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Distribution:
    """A family of weight distributions, fixed up to the variance gain / fan.

    Attributes:
        draw: `draw(weight, gain, fan, generator)` fills a weight (units, inputs, ...) in place.
        kurtosis: E w^4 / (E w^2)^2; NaN where it is infinite.
        largest_square: `largest_square(units, fan_in)` is the mean square of the largest singular
            value of a layer's weights over `sigma_w2`; None where it is not known.
        centred: each unit's weights sum to 0.
        exact: `exact(units, fan_in)` is True where the sum of squares of each unit's weights is
            `sigma_w2` in every draw, not on average only.
        omega: mean sum of each unit's weights; the mean of a weight is omega / fan_in.
        at_centre: a kernel's weights are 0 but at its centre; `fan_in` of `exact` and of
            `largest_square` then counts input channels.
    """

    draw: Callable[[Tensor, float, float, Generator], None]
    kurtosis: float
    largest_square: Callable[[int, int], float] | None = largest_random_square
    centred: bool = False
    exact: Callable[[int, int], bool] = lambda units, fan_in: False
    omega: float = 0.0
    at_centre: bool = False


@dataclass(frozen=True)
class BiasLaw:
    """The distribution of a layer's biases, as a function of an initializer's options.

    Attributes:
        variance: `variance(options, fan_in)` is that of one bias.
        draw: `draw(bias, options, fan_in, generator)` fills the biases of a layer in place.
    """

    variance: Callable[[Options, int], float]
    draw: Callable[[Tensor, Options, int, Generator], None]


@dataclass(frozen=True)
class Initializer:
    """The law of a layer's initial weights and biases.

    The variance of a weight is `gain(options) / fan(fans)`.

    Attributes:
        family: `family(options)` is the distribution of the weights.
        gain: numerator of the variance, from the initializer's options.
        fan: denominator of the variance, from the fans of the layer.
        bias: distribution of the biases.
        check: `check(options)` raises RequestError for options that are out of range.
        unit_variance: the drawn weights of the hidden layers are then scaled on a trial's first
            batch (`harness.training.unit_variance`).
    """

    family: Callable[[Options], Distribution]
    gain: Callable[[Options], float]
    fan: Callable[[Fans], float]
    bias: BiasLaw
    check: Callable[[Options], None]
    unit_variance: bool = False

    def sigma_w2(self, fans: Fans, options: Options) -> float:
        """Returns fan_in times the variance of a weight.

        The quotient comes first: it is exactly 1 where the fan is the fan-in.
        """
        return self.gain(options) * (fans.fan_in / self.fan(fans))

    def draw(self, weight: Tensor, fans: Fans, options: Options, generator: Generator) -> None:
        """Fills one weight (units, inputs, ...) in place."""
        distribution = self.family(options)
        distribution.draw(weight, self.gain(options), self.fan(fans), generator)


def is_scaled_on_data(spec: Mapping[str, Any]) -> bool:
    """Returns True for an initializer whose weights are scaled on a trial's first batch.

    A named network may keep its own weights, which no initializer draws.
    """
    return spec["name"] in initializers and initializers[spec["name"]].unit_variance


def initializer_of(spec: Mapping[str, Any]) -> Initializer:
    """Returns the law that a specification such as `{"name": "lecun_normal"}` names.

    Raises:
        RequestError: unknown name.
    """
    return initializers[spec["name"]]


# Distributions


def _draw_normal(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    weight.normal_(0.0, math.sqrt(gain / fan), generator=generator)


def _draw_uniform(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    bound = math.sqrt(3.0 * (gain / fan))
    weight.uniform_(-bound, bound, generator=generator)


def _draw_truncated(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    """Draws normal weights again until they lie within two standard deviations.

    Truncation leaves the share `TRUNCATED_VARIANCE` of the normal's variance.
    """
    from torch.nn.init import trunc_normal_

    deviation = 1.0 / math.sqrt(fan * (TRUNCATED_VARIANCE / gain))
    trunc_normal_(weight, 0.0, deviation, -2.0 * deviation, 2.0 * deviation, generator=generator)


def _draw_exact(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    """Draws normal weights, then centres each unit's and scales their sum of squares to 1."""
    weight.normal_(0.0, 1.0, generator=generator)
    rows = weight.flatten(1)
    rows -= rows.mean(1, keepdim=True)
    rows /= rows.norm(dim=1, keepdim=True)


def _draw_orthogonal(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    """Draws orthonormal rows, or columns scaled so that a unit's sum of squares averages 1."""
    from torch.nn.init import orthogonal_

    orthogonal_(weight, generator=generator)
    rows = weight.flatten(1)
    units, fan_in = rows.shape
    if units > fan_in:
        rows *= math.sqrt(units / fan_in)


def _heavy_tailed(options: Options) -> Distribution:
    """Returns Student's t with so many degrees of freedom, scaled to the variance gain / fan.

    t is normal / sqrt(chi^2 / degrees), of variance degrees / (degrees - 2) and kurtosis
    3 (degrees - 2) / (degrees - 4).
    """
    degrees = options["degrees"]

    def draw(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
        weight.normal_(0.0, math.sqrt(gain / fan * (degrees - 2) / degrees), generator=generator)
        chi_squared = weight.new_zeros(weight.shape)
        for _ in range(degrees):
            normal = weight.new_empty(weight.shape).normal_(0.0, 1.0, generator=generator)
            chi_squared += normal.square()
        weight /= (chi_squared / degrees).sqrt()

    kurtosis = 3.0 * (degrees - 2) / (degrees - 4) if degrees > 4 else math.nan
    return Distribution(draw, kurtosis, largest_square=None)


def _mean_shifted(options: Options) -> Distribution:
    """Returns normal weights of mean omega / fan_in, with sum of squares 1 on average."""
    omega = float(options["omega"])

    def draw(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
        mean = omega / fan
        variance = max(gain / fan - mean**2, 0.0)
        weight.normal_(mean, math.sqrt(variance), generator=generator)

    return Distribution(draw, KURTOSIS_NORMAL, omega=omega)


def _largest_orthogonal_square(units: int, fan_in: int) -> float:
    return max(1.0, units / fan_in)


def _draw_delta_orthogonal(weight: Tensor, gain: float, fan: float, generator: Generator) -> None:
    """Draws orthogonal weights at the centre of each kernel, and zeros around it."""
    if weight.dim() == 2:
        _draw_orthogonal(weight, gain, fan, generator)
        return
    centre = weight.new_empty(weight.shape[:2])
    _draw_orthogonal(centre, gain, fan, generator)
    weight.zero_()
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = centre


NORMAL = Distribution(_draw_normal, KURTOSIS_NORMAL)
UNIFORM = Distribution(_draw_uniform, KURTOSIS_UNIFORM)
TRUNCATED = Distribution(_draw_truncated, KURTOSIS_TRUNCATED)
# Both are drawn with sum of squares 1, so their gain is 1 and their fan the fan-in.
EXACT = Distribution(_draw_exact, KURTOSIS_NORMAL, centred=True, exact=lambda units, fan_in: True)
ORTHOGONAL = Distribution(
    _draw_orthogonal,
    KURTOSIS_NORMAL,
    largest_square=_largest_orthogonal_square,
    exact=lambda units, fan_in: units <= fan_in,
)

DELTA_ORTHOGONAL = Distribution(
    _draw_delta_orthogonal,
    KURTOSIS_NORMAL,
    largest_square=_largest_orthogonal_square,
    exact=lambda units, fan_in: units <= fan_in,
    at_centre=True,
)


# Biases


def _draw_zero_bias(bias: Tensor, options: Options, fan_in: int, generator: Generator) -> None:
    bias.zero_()


def _normal_bias_variance(options: Options, fan_in: int) -> float:
    return float(options["sigma_b2"])


def _draw_normal_bias(bias: Tensor, options: Options, fan_in: int, generator: Generator) -> None:
    if options["sigma_b2"] == 0:
        bias.zero_()
    else:
        bias.normal_(0.0, math.sqrt(options["sigma_b2"]), generator=generator)


def _torch_bias_variance(options: Options, fan_in: int) -> float:
    return 1.0 / (3.0 * fan_in) if options["bias"] == "uniform" else 0.0


def _draw_torch_bias(bias: Tensor, options: Options, fan_in: int, generator: Generator) -> None:
    if options["bias"] == "uniform":
        bound = 1.0 / math.sqrt(fan_in)
        bias.uniform_(-bound, bound, generator=generator)
    else:
        bias.zero_()


ZERO_BIAS = BiasLaw(lambda options, fan_in: 0.0, _draw_zero_bias)
NORMAL_BIAS = BiasLaw(_normal_bias_variance, _draw_normal_bias)
TORCH_BIAS = BiasLaw(_torch_bias_variance, _draw_torch_bias)


# Initializers


def _fan_in(fans: Fans) -> float:
    return fans.fan_in


def _fan_sum(fans: Fans) -> float:
    return fans.fan_in + fans.fan_out


def _accept(options: Options) -> None:
    """Accepts an initializer without options."""


def declare(  # noqa: PLR0913 - the first two say what it is, the others are keywords
    name: str,
    distribution: Distribution | Callable[[Options], Distribution],
    gain: float | Callable[[Options], float] = 1.0,
    fan: Callable[[Fans], float] = _fan_in,
    bias: BiasLaw = ZERO_BIAS,
    check: Callable[[Options], None] = _accept,
    unit_variance: bool = False,
) -> None:
    """Declares one initializer.

    `distribution` and `gain` are what they say, or functions of the initializer's options.
    """
    family = distribution if callable(distribution) else lambda options: distribution
    gain_of = gain if callable(gain) else lambda options: gain
    initializer = Initializer(family, gain_of, fan, bias, check, unit_variance)
    initializers.register(name)(initializer)


def _check_torch_bias(options: Options) -> None:
    if options["bias"] not in ("zeros", "uniform"):
        raise RequestError(f"initializer.bias={options['bias']}: expected one of zeros, uniform")


# LeCun et al. 1998, section 4.6.
declare("lecun_normal", NORMAL)
declare("lecun_uniform", UNIFORM)
declare("lecun_truncated", TRUNCATED)
# The normal has variance 1 / fan_in before it is truncated, as libraries without a correction draw.
declare("lecun_truncated_raw", TRUNCATED, gain=TRUNCATED_VARIANCE)
declare("lecun_exact", EXACT)
# He et al. 2015, equation 10.
declare("he_normal", NORMAL, gain=2.0)
declare("he_uniform", UNIFORM, gain=2.0)
# Glorot and Bengio 2010, equation 12.
declare("xavier_normal", NORMAL, gain=2.0, fan=_fan_sum)
declare("xavier_uniform", UNIFORM, gain=2.0, fan=_fan_sum)
# Saxe et al. 2013.
declare("orthogonal", ORTHOGONAL)
# Mishkin and Matas 2016, Algorithm 1.
declare("lsuv", ORTHOGONAL, unit_variance=True)
# Xiao et al. 2018.
declare("delta_orthogonal", DELTA_ORTHOGONAL)
# torch's own for Linear and Conv2d: kaiming_uniform with a = sqrt(5), so Var w = 1 / (3 fan_in).
declare(
    "pytorch_default",
    UNIFORM,
    fan=lambda fans: 3.0 * fans.fan_in,
    bias=TORCH_BIAS,
    check=_check_torch_bias,
)
# torch.nn.init.calculate_gain("selu") is 3/4, whose square leaves SELU's fixed point (tau = 9/16).
declare("torch_selu_gain", UNIFORM, gain=9.0 / 16.0)
# The two numbers of mean-field theory (Poole et al. 2016).
declare("gaussian", NORMAL, gain=lambda options: float(options["sigma_w2"]), bias=NORMAL_BIAS)
# The point of the edge of chaos of the swept activation at q* (Poole et al. 2016, Schoenholz et al.
# 2017), which the specification holds beside q.
declare("edge_of_chaos", NORMAL, gain=lambda options: float(options["sigma_w2"]), bias=NORMAL_BIAS)


def _check_degrees(options: Options) -> None:
    if options["degrees"] < 3:
        raise RequestError(
            f"initializer.degrees={options['degrees']}: expected an integer of at least 3, "
            "as fewer degrees of freedom have no variance"
        )


# Weights far from normal, of the variance of LeCun's: a dose of a broken premise.
declare("heavy_tailed", _heavy_tailed, check=_check_degrees)
# Weights whose sum is not 0 on average: a dose of a broken premise (omega in Theorem 1).
declare("mean_shifted", _mean_shifted)
