"""Description of a network for theory, without weights and without torch.

A `Network` is a tuple of layers, which `harness.theory.networks.predictions.predict` follows. A
layer that theory cannot follow is `Opaque`; every layer after it is then unknown, with the reason
given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Dense:
    """A linear layer.

    Attributes:
        fan_in: number of inputs of a unit.
        fan_out: number of units that an input reaches.
        units: number of units.
        sigma_w2: fan_in times the variance of a weight.
        sigma_b2: variance of a bias.
        bias: the layer has biases.
        centred: the weights of each unit sum to 0.
        exact: the squared weights of each unit sum to `sigma_w2` exactly, not only on average.
        kurtosis: E w^4 / (E w^2)^2, 3 for normal weights.
        omega: mean sum of each unit's weights.
    """

    fan_in: int
    fan_out: int
    units: int
    sigma_w2: float
    sigma_b2: float = 0.0
    bias: bool = True
    centred: bool = False
    exact: bool = False
    kurtosis: float = 3.0
    omega: float = 0.0


@dataclass(frozen=True)
class Convolution:
    """A convolution with square kernels; attributes not listed are those of `Dense`.

    Attributes:
        fan_in: input channels times the area of the kernel.
        units: output channels.
        height: height of the input map.
        width: width of the input map.
        padding: "zeros", "circular" or "reflect" keep the size of the map at stride 1; "none" does
            not.
        groups: groups of channels that are kept apart.
        at_centre: the weights are 0 but at the kernel's centre.
    """

    fan_in: int
    fan_out: int
    units: int
    sigma_w2: float
    sigma_b2: float = 0.0
    bias: bool = True
    centred: bool = False
    exact: bool = False
    kernel_size: int = 3
    stride: int = 1
    height: int = 1
    width: int = 1
    padding: str = "zeros"
    kurtosis: float = 3.0
    groups: int = 1
    omega: float = 0.0
    at_centre: bool = False

    @property
    def taps(self) -> int:
        """Number of taps whose weights are not 0."""
        return 1 if self.at_centre else self.kernel_size**2


@dataclass(frozen=True)
class Activation:
    """An elementwise activation.

    Attributes:
        name: name in `harness.theory.activations.functions`.
        options: its options as sorted pairs.
    """

    name: str
    options: tuple[tuple[str, float | str], ...] = ()


@dataclass(frozen=True)
class Normalization:
    """A normalization layer.

    In convolutions positions count as samples for "batch" and as units for the other kinds.

    Attributes:
        kind: "batch" (each unit over samples), "layer" or "rms" (each sample over units), "pooled"
            (everything by one factor, to mean square 1).
        epsilon: added to the variance.
        samples: of "pooled", the number of samples from which the factor is taken.
    """

    kind: str
    epsilon: float = 1e-5
    samples: float = math.inf


@dataclass(frozen=True)
class Dropout:
    """A dropout layer, which acts in training only.

    Attributes:
        kind: "standard" or "alpha".
        rate: share of entries dropped.
    """

    kind: str
    rate: float


@dataclass(frozen=True)
class Pool:
    """Pooling over square blocks of positions.

    Attributes:
        kind: "max" or "average".
        size: side of a block; 0 stands for the whole map.
        stride: step from one block to the next; 0 stands for the size.
    """

    kind: str
    size: int = 2
    stride: int = 0


@dataclass(frozen=True)
class Flatten:
    """The step from maps to one vector per sample."""


@dataclass(frozen=True)
class Residual:
    """x -> skip_scale * x + branch_scale * branch(x)."""

    branch: Network
    skip_scale: float = 1.0
    branch_scale: float = 1.0


@dataclass(frozen=True)
class Opaque:
    """A layer that theory cannot follow, and the reason."""

    name: str
    reason: str


Layer = (
    Dense | Convolution | Activation | Normalization | Dropout | Pool | Flatten | Residual | Opaque
)
Network = tuple[Layer, ...]
