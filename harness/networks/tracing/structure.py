"""The structure of a model in the order in which it runs: layers, sums, pools.

Nothing here holds values of samples.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from harness.networks.tracing.input_statistics import InputStatistics

_NUMBERS_AT_A_TIME = 2**20


@dataclass(frozen=True)
class Dropout:
    """A dropout of kind "standard" or "alpha"; `rate` is the share dropped in training.

    `before_activation` is True where it stands between the weights and the activation.
    """

    kind: str
    rate: float
    before_activation: bool = False


@dataclass(frozen=True)
class Pool:
    """A pooling that follows a layer.

    Attributes:
        kind: "max" or "average".
        window: positions along each side of the window.
        before_activation: True where it stands between the weights and the activation.
        disjoint: True where the windows do not overlap.
        whole: True where the window is the whole map.
    """

    kind: str
    window: tuple[int, ...]
    before_activation: bool
    disjoint: bool = True
    whole: bool = False

    @property
    def entries(self) -> int:
        """Positions of a window."""
        return math.prod(self.window)


@dataclass(frozen=True)
class Scale:
    """Moments of a layer's weights.

    Attributes:
        omega: the sum of each unit's weights, (units,).
        tau: the sum of the squares of each unit's weights, (units,).
        largest: the largest absolute weight.
        kurtosis: E w^4 / (E w^2)^2 over all weights, without subtracting their mean.
    """

    omega: Tensor
    tau: Tensor
    largest: float
    kurtosis: float


@dataclass(eq=False)
class Layer:
    """One call of a weight module or function; a module used twice is two layers.

    Attributes:
        name: the name of the weight's module.
        call: number of this use of the weight, from 1.
        kind: "linear", "conv1d", "conv2d", "conv3d", or one of these with "_transpose".
        weight: (units, inputs per group, ...), the one that acts. Of a transposed convolution it is
            divided by the square root of the strides' product, because an output sees only that
            share of the taps.
        bias: (units,), or None.
        convolution: a module without values that has the layer's kernel, stride, padding and
            dilation; None for a linear layer and in three dimensions.
        map_size: height and width of a convolution's input.
        padded: True where the convolution itself surrounds its input with zeros.
        padding_mode: the mode of a separate padding step before the convolution ("circular",
            "reflect", ...), or None.
        unpadded_size: the map's size before that step.
        normalizations: kinds of those between the weights and the activation.
        normalizations_after: kinds of those after the activation.
        residual: True where a sum stands between the weights and the activation.
        scaled: True where other arithmetic stands there.
        activation: name of the activation, None where none follows.
        module: the activation as a module of one argument.
        options: the numbers among the activation's arguments.
        dropouts: those that follow the weights, before or after the activation.
        pools: those that follow the weights, before or after the activation.
        source: the last layer whose output enters; None for the model's input, or where units were
            mixed before any activation.
        reads_model_input: True where the model's input enters without any weights in between.
        input_function: the first function that changed the values between the source, or the
            model's input, and these weights.
        depth: number of layers from the model's input to this one, itself included.
        number: position in the order in which the weights ran, from 0.
        repeats: True for a further activation of weights that have one already.
        undescribed: properties of its normalizations that theory does not describe.
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
    padding_mode: str | None = None
    unpadded_size: tuple[int, int] | None = None
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
    reads_model_input: bool = False
    input_function: str | None = None
    depth: int = 1
    number: int = 0
    repeats: bool = False
    undescribed: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The name, with the number of the call after the first one."""
        name = self.name if self.call == 1 else f"{self.name} (call {self.call})"
        return f"{name} ({self.activation})" if self.repeats else name

    @property
    def columns(self) -> int:
        """Weights of a unit; of a transposed convolution more than see an input at once."""
        return self.weight[0].numel()

    @functools.cached_property
    def scale(self) -> Scale:
        """Moments of the weights, in double precision, a few units at a time to bound memory."""
        count = self.columns
        step = max(1, _NUMBERS_AT_A_TIME // count)
        device = self.weight.device
        # One buffer for all steps, because the allocator does not reuse freed ones of this size.
        buffer = torch.empty(min(step, self.units), count, dtype=torch.float64, device=device)
        omega, tau, fourth = torch.empty(3, self.units, dtype=torch.float64, device=device)
        for start in range(0, self.units, step):
            part = slice(start, min(start + step, self.units))
            rows = buffer[: part.stop - start].copy_(self.weight[part].flatten(1))
            # Each round squares the rows: sums of w, w^2 and w^4.
            for sums in (omega, tau, fourth):
                torch.sum(rows, 1, out=sums[part])
                rows.square_()
        largest = max(float(self.weight.max()), -float(self.weight.min()))
        mean_square = float(tau.mean()) / count
        kurtosis = math.nan
        if mean_square > 0:
            kurtosis = float(fourth.mean()) / count / mean_square**2
        return Scale(omega, tau, largest, kurtosis)

    @property
    def pools_before_activation(self) -> list[Pool]:
        """The pools between the weights and the activation."""
        return [pool for pool in self.pools if pool.before_activation]

    @property
    def direct(self) -> bool:
        """True where W x + b itself enters the activation."""
        between = self.normalizations or self.residual or self.scaled
        return not between and not self.pools_before_activation


@dataclass(frozen=True)
class Sum:
    """A residual sum that follows `layer`.

    Attributes:
        layer: the last layer of the branch.
        branch: mean square of the branch, before it was multiplied by a number.
        skip: mean square of the other term, before it was multiplied by a number.
        total: mean square of the sum.
    """

    layer: Layer
    branch: float
    skip: float
    total: float


@dataclass
class Structure:
    """The structure of a model as seen in one pass.

    Attributes:
        layers: in the order in which their weights ran.
        activated: layers with an activation, in the order in which the activations ran.
        sums: all residual sums.
        stray_activations: activations that no single layer feeds: their name and place.
        left_out: activated layers that could not be measured, and why.
        unfollowed: weights used inside a function of which only the result is seen: by the name of
            the weights, the function and its place.
        functional_dropouts: dropouts called as functions: their rate and place.
        functions: names of all other functions that a layer's values went through.
        entering: statistics of what enters the first weights where the model changes its inputs
            first, else None.
    """

    layers: list[Layer] = field(default_factory=list)
    activated: list[Layer] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    stray_activations: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unfollowed: dict[str, str] = field(default_factory=dict)
    functional_dropouts: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    entering: InputStatistics | None = None

    def append(self, layer: Layer) -> None:
        """Adds a layer behind those that ran before."""
        layer.number = len(self.layers)
        self.layers.append(layer)

    def repeated(self, layer: Layer) -> Layer:
        """Adds and returns a copy of a layer for a further activation of its weights."""
        copied = replace(
            layer,
            repeats=True,
            normalizations=list(layer.normalizations),
            normalizations_after=[],
            dropouts=[dropout for dropout in layer.dropouts if dropout.before_activation],
            pools=layer.pools_before_activation,
        )
        self.append(copied)
        return copied
