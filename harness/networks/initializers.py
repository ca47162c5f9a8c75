"""Weight initializers by name, each with the variance it promises.

`sigma_w2` is fan_in times the variance of a weight (the sum of squares tau of a unit's weights in expectation).
A draw fills one weight of shape (units, inputs, ...) from a generator; it never sees global random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from harness.registry import Registry

initializers: Registry = Registry("initializer")

# Variance of a standard normal truncated at two standard deviations: 1 - 4 phi(2) / (2 Phi(2) - 1).
TRUNCATED_VARIANCE = 1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(
    math.sqrt(2.0)
)


@dataclass(frozen=True)
class Fans:
    """Inputs of a unit, and units an input feeds: for a convolution both times the kernel's area."""

    fan_in: int
    fan_out: int


def fans(weight: Tensor, groups: int = 1) -> Fans:
    """Fan-in and fan-out of a weight (units, inputs per group, kernel...), grouped convolutions included."""
    area = weight[0, 0].numel() if weight.dim() > 2 else 1
    return Fans(weight.shape[1] * area, weight.shape[0] * area // groups)


Draw = Callable[[Tensor, Fans, Generator, dict], None]


def _normal(variance: Callable[[Fans], float]) -> Draw:
    return lambda weight, fan, generator, spec: weight.normal_(
        0.0, math.sqrt(variance(fan)), generator=generator
    )


def _uniform(variance: Callable[[Fans], float]) -> Draw:
    def draw(weight: Tensor, fan: Fans, generator: Generator, spec: dict) -> None:
        bound = math.sqrt(3.0 * variance(fan))
        weight.uniform_(-bound, bound, generator=generator)

    return draw


def _truncated(std: Callable[[Fans], float]) -> Draw:
    def draw(weight: Tensor, fan: Fans, generator: Generator, spec: dict) -> None:
        nn.init.trunc_normal_(
            weight, 0.0, std(fan), -2.0 * std(fan), 2.0 * std(fan), generator=generator
        )

    return draw


initializers.register("lecun_normal")(_normal(lambda fan: 1.0 / fan.fan_in))
initializers.register("lecun_uniform")(_uniform(lambda fan: 1.0 / fan.fan_in))
initializers.register("lecun_truncated")(
    _truncated(lambda fan: 1.0 / math.sqrt(fan.fan_in * TRUNCATED_VARIANCE))
)
initializers.register("lecun_truncated_raw")(_truncated(lambda fan: 1.0 / math.sqrt(fan.fan_in)))
initializers.register("he_normal")(_normal(lambda fan: 2.0 / fan.fan_in))
initializers.register("he_uniform")(_uniform(lambda fan: 2.0 / fan.fan_in))
initializers.register("xavier_normal")(_normal(lambda fan: 2.0 / (fan.fan_in + fan.fan_out)))
initializers.register("xavier_uniform")(_uniform(lambda fan: 2.0 / (fan.fan_in + fan.fan_out)))
# torch's own default for Linear and Conv2d: kaiming_uniform(a=sqrt(5)), so Var w = 1 / (3 fan_in).
initializers.register("pytorch_default")(_uniform(lambda fan: 1.0 / (3.0 * fan.fan_in)))


@initializers.register("gaussian")
def _gaussian(weight: Tensor, fan: Fans, generator: Generator, spec: dict) -> None:
    weight.normal_(0.0, math.sqrt(spec["sigma_w2"] / fan.fan_in), generator=generator)


@initializers.register("lecun_exact")
def _lecun_exact(weight: Tensor, fan: Fans, generator: Generator, spec: dict) -> None:
    """Normal weights, then every unit's centred and scaled: omega = 0 and tau = 1 exactly. Needs fan_in of at least 2."""
    weight.normal_(0.0, 1.0, generator=generator)
    rows = weight.flatten(1)
    rows -= rows.mean(1, keepdim=True)
    rows /= rows.norm(dim=1, keepdim=True)


@initializers.register("orthogonal")
def _orthogonal(weight: Tensor, fan: Fans, generator: Generator, spec: dict) -> None:
    """Orthonormal rows or columns (Saxe et al. 2013), scaled so that a unit's sum of squares is 1 on average."""
    nn.init.orthogonal_(weight, generator=generator)
    rows = weight.flatten(1)
    if rows.shape[0] > rows.shape[1]:
        rows *= math.sqrt(rows.shape[0] / rows.shape[1])


def draw_weight(weight: Tensor, spec: dict, generator: Generator, groups: int = 1) -> None:
    """Fill one weight in place as an initializer's specification says."""
    with torch.no_grad():
        initializers[spec["name"]](weight, fans(weight, groups), generator, spec)


def draw_bias(bias: Tensor, fan_in: int, spec: dict, generator: Generator) -> None:
    """Fill one bias in place: zero, unless the initializer asks for a variance or for torch's own uniform bias."""
    with torch.no_grad():
        if spec.get("sigma_b2"):
            bias.normal_(0.0, math.sqrt(spec["sigma_b2"]), generator=generator)
        elif spec.get("bias") == "uniform":
            bias.uniform_(-1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in), generator=generator)
        else:
            bias.zero_()
