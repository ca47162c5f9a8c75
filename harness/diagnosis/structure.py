"""What a model is made of, in the order in which it runs: layers with what stands around them, sums, pools. No values of samples."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_NUMBERS_AT_A_TIME = 2**20


@dataclass(frozen=True)
class Dropout:
    """`kind`: "standard" or "alpha"; `rate` is the share of entries dropped in training."""

    kind: str
    rate: float


@dataclass(frozen=True)
class Pool:
    """`kind`: "max" or "average"; `size` positions by `size`, 0 for the whole map. `before` the activation or after it.

    `blocks`: whether the windows do not overlap.
    """

    kind: str
    size: int
    before: bool
    blocks: bool = True


@dataclass(frozen=True)
class Scale:
    """Of a layer's weights: each unit's omega and tau (units,), the largest size, and E w^4 / (E w^2)^2 without a mean taken off."""

    omega: Tensor
    tau: Tensor
    largest: float
    kurtosis: float


@dataclass(eq=False)
class Layer:
    """One call of a weight module or function; a module used twice is two layers.

    Attributes:
        name: of the weight's module; `call` counts its uses from 1.
        kind: "linear", "conv1d", "conv2d" or "conv3d".
        weight: (units, inputs per group, ...), the one that acts; `bias`: (units,) or None.
        convolution: a module without values that walks as this layer does, None for a linear layer.
        map_size: height and width of a convolution's input.
        padded: whether the convolution surrounds its input with zeros.
        wrapped: how a padding step of its own in front of it works ("circular", "reflect", ...), `inner_size` the map before that.
        normalizations: kinds between the weights and the activation; `normalizations_after` behind the activation.
        residual: whether a sum stands between the weights and the activation.
        activation: its name, None where none follows; `module` is the function and `options` its arguments.
        source: the last layer whose output enters, None for the model's input or where units were mixed before any activation.
        behind: the first function that changed the values between the source, or the model's input, and these weights.
    """

    name: str
    call: int
    kind: str
    weight: Tensor
    bias: Tensor | None
    units: int
    fan_in: int
    fan_out: int
    groups: int
    convolution: nn.Conv2d | None = None
    map_size: tuple[int, int] | None = None
    padded: bool = False
    wrapped: str | None = None
    inner_size: tuple[int, int] | None = None
    normalizations: list[str] = field(default_factory=list)
    normalizations_after: list[str] = field(default_factory=list)
    residual: bool = False
    scaled: bool = False
    activation: str | None = None
    module: nn.Module | None = None
    options: dict[str, float] = field(default_factory=dict)
    dropouts: list[Dropout] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    source: Layer | None = None
    first: bool = False
    behind: str | None = None

    @functools.cached_property
    def depth(self) -> int:
        """Layers on the way from the model's input to here, itself included."""
        return 1 + (self.source.depth if self.source is not None else 0)

    @property
    def label(self) -> str:
        """The name, with the number of the call where there are several."""
        return self.name if self.call == 1 else f"{self.name} (call {self.call})"

    @functools.cached_property
    def scale(self) -> Scale:
        """The moments of the weights, computed over a few units at a time: a weight in double precision may be large."""
        step = max(1, _NUMBERS_AT_A_TIME // self.fan_in)
        # One buffer for all steps: freed ones of this size are not taken again by the allocator, and would add up.
        buffer = torch.empty(
            min(step, self.units), self.fan_in, dtype=torch.float64, device=self.weight.device
        )
        omega, tau, fourth = torch.empty(
            3, self.units, dtype=torch.float64, device=self.weight.device
        )
        for start in range(0, self.units, step):
            part = slice(start, min(start + step, self.units))
            rows = buffer[: part.stop - start].copy_(self.weight[part].flatten(1))
            for sums in (omega, tau, fourth):
                torch.sum(rows, 1, out=sums[part])
                rows.square_()
        largest = max(float(self.weight.max()), -float(self.weight.min()))
        mean_square = float(tau.mean()) / self.fan_in
        kurtosis = (
            float(fourth.mean()) / self.fan_in / mean_square**2 if mean_square > 0 else math.nan
        )
        return Scale(omega, tau, largest, kurtosis)

    @property
    def direct(self) -> bool:
        """Whether the activation is fed W x + b itself."""
        return not (
            self.normalizations
            or self.residual
            or self.scaled
            or any(pool.before for pool in self.pools)
        )


@dataclass(frozen=True)
class Sum:
    """A residual sum behind `layer`: mean squares of both terms, before they were multiplied by a number, and of what they add up to."""

    layer: Layer
    branch: float
    skip: float
    total: float


@dataclass
class Structure:
    """Everything seen in one pass.

    `layers` are in the order of their weights, `activated` in that of their activations. `stray_activations` have no weights of
    their own before them; `left_out` says which activated layers could not be read and why; `functions` are others that ran.
    `unfollowed` are weights used where only the result is seen: in which function and where. `functional_dropouts` are calls of dropout outside of a module for it: with which rate and where.
    """

    layers: list[Layer] = field(default_factory=list)
    activated: list[Layer] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    stray_activations: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unfollowed: dict[str, str] = field(default_factory=dict)
    functional_dropouts: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
