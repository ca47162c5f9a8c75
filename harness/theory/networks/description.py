"""A network as theory sees it: a tuple of layers, without weights and without torch.

`Network` is what `harness.theory.networks.predictions.predict` follows layer by layer. A layer that theory cannot follow is
`Opaque`; everything behind it is then unknown, with the reason given.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dense:
    """A linear layer. `sigma_w2` is fan_in times the variance of a weight, `sigma_b2` the variance of a bias.

    `centred`: each unit's weights sum to 0; `exact`: the sum of their squares is `sigma_w2` exactly, not on average.
    `kurtosis`: E w^4 / (E w^2)^2, 3 for normal weights.
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


@dataclass(frozen=True)
class Convolution:
    """A convolution with square kernels; `height` and `width` are those of its input map, `units` its channels.

    `fan_in` counts channels times the kernel's area. `padding`: "zeros" or "circular" keep the map's size at stride 1,
    "none" does not. The rest as in `Dense`.
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


@dataclass(frozen=True)
class Activation:
    """An elementwise activation by its name in `harness.theory.activations.functions`, with its options as sorted pairs."""

    name: str
    options: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Normalization:
    """`kind`: "batch" (each unit over samples), "layer" or "rms" (each sample over units), "pooled" (all by one factor, to mean square 1).

    `epsilon` is added to the variance. In convolutions positions count as samples for "batch" and as units for the others.
    """

    kind: str
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Dropout:
    """`kind`: "standard" or "alpha"; `rate` is the share of entries dropped. Acts in training only."""

    kind: str
    rate: float


@dataclass(frozen=True)
class Pool:
    """Pooling over `size` x `size` blocks of positions, the whole map for size 0; `kind`: "max" or "average"."""

    kind: str
    size: int = 2


@dataclass(frozen=True)
class Flatten:
    """From maps to one vector per sample."""


@dataclass(frozen=True)
class Residual:
    """x -> skip_scale * x + branch_scale * branch(x)."""

    branch: Network
    skip_scale: float = 1.0
    branch_scale: float = 1.0


@dataclass(frozen=True)
class Opaque:
    """A layer that theory cannot follow, and why."""

    name: str
    reason: str


Layer = (
    Dense | Convolution | Activation | Normalization | Dropout | Pool | Flatten | Residual | Opaque
)
Network = tuple[Layer, ...]
