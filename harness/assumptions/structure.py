"""What a model is made of, in the order in which it runs: layers with what stands around them, sums, pools. No values of samples."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


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
        source: the layer whose output enters, None for the model's input or where several do.
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

    @property
    def label(self) -> str:
        """The name, with the number of the call where there are several."""
        return self.name if self.call == 1 else f"{self.name} (call {self.call})"

    @property
    def direct(self) -> bool:
        """Whether the activation is fed W x + b itself."""
        return not (self.normalizations or self.residual or self.scaled or any(pool.before for pool in self.pools))


@dataclass(frozen=True)
class Sum:
    """A residual sum behind `layer`: mean squares of both terms and of what they add up to."""

    layer: Layer
    branch: float
    skip: float
    total: float


@dataclass
class Structure:
    """Everything seen in one pass.

    `layers` are in the order of their weights, `activated` in that of their activations. `stray_activations` have no weights of
    their own before them; `left_out` says which activated layers could not be read and why; `functions` are others that ran.
    """

    layers: list[Layer] = field(default_factory=list)
    activated: list[Layer] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    stray_activations: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
