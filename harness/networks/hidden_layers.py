"""Parts of a hidden layer: weights, normalization, activation, dropout.

Every dropout has one declaration here, which says how its module is made and what theory calls it;
normalizations have theirs in `harness.networks.normalization_kinds`. The order of the parts is
declared once, for the modules and for the description. Torch is imported only to make modules, so
that networks can be checked and described without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.networks.initializers import Fans, initializer_of
from harness.networks.normalization_kinds import UNKNOWN_EDGE, normalizations
from harness.registry import Registry
from harness.theory.networks import description as theory

if TYPE_CHECKING:
    from torch import nn

dropouts: Registry = Registry("dropout")


@dataclass(frozen=True)
class Dropout:
    """A dropout after a hidden layer's activation.

    Attributes:
        module: `module(rate)` makes the module; None where nothing is dropped.
        described: `described(rate)` is the same for theory.
    """

    module: Callable[[float], nn.Module] | None = None
    described: Callable[[float], theory.Dropout] | None = None


@dataclass(frozen=True)
class Pooling:
    """A pooling over square windows of a hidden layer's map.

    Attributes:
        kind: "max" or "average".
        size: side of a window.
        stride: step from one window to the next; below the size windows overlap.
        before_activation: it stands directly in front of the activation, not at the layer's end.
    """

    kind: str
    size: int = 2
    stride: int = 2
    before_activation: bool = False

    def pooled(self, side: int) -> int:
        """Returns the side of a map after the pooling."""
        return (side - self.size) // self.stride + 1

    def module(self) -> nn.Module:
        """Returns the pooling as a module."""
        from torch import nn

        pool = nn.MaxPool2d if self.kind == "max" else nn.AvgPool2d
        return pool(self.size, self.stride)

    def described(self) -> theory.Pool:
        """Returns the pooling as theory sees it."""
        return theory.Pool(self.kind, self.size, 0 if self.stride == self.size else self.stride)


# Dropouts


def _standard_dropout(rate: float) -> nn.Module:
    from harness.networks.dropouts import StandardDropout

    return StandardDropout(rate)


def _alpha_dropout(rate: float) -> nn.Module:
    from harness.networks.dropouts import AlphaDropout

    return AlphaDropout(rate)


def _feature_alpha_dropout(rate: float) -> nn.Module:
    from harness.networks.dropouts import FeatureAlphaDropout

    return FeatureAlphaDropout(rate)


dropouts.register("none")(Dropout())
# Srivastava et al. 2014.
dropouts.register("standard")(
    Dropout(_standard_dropout, lambda rate: theory.Dropout("standard", rate))
)
# torch's nn.FeatureAlphaDropout: alpha dropout of whole maps, after Tompson et al. 2015.
dropouts.register("feature_alpha")(
    Dropout(_feature_alpha_dropout, lambda rate: theory.Dropout("alpha", rate))
)
# Klambauer et al. 2017.
dropouts.register("alpha")(Dropout(_alpha_dropout, lambda rate: theory.Dropout("alpha", rate)))


# Hidden layers


def layer_name(index: int) -> str:
    """Returns the name of hidden layer `index`, counted from 0: `layer_01`, `layer_02`, ..."""
    return f"layer_{index + 1:02d}"


def standardizes_weights(spec: Mapping[str, Any]) -> bool:
    """Returns True where the normalization of a specification standardizes the hidden weights."""
    return weight_form(spec) == "STANDARDIZED"


def weight_form(spec: Mapping[str, Any]) -> str:
    """Returns the name of the form of the hidden weights, "" where they are as they are stored."""
    name = spec["normalization"]["name"]
    # A named network may keep its own normalizations, which are none of these.
    return normalizations[name].weight_form if name in normalizations else ""


def build_hidden(
    weights: nn.Module,
    units: int,
    spec: Mapping[str, Any],
    spatial: bool,
    pooling: Pooling | None = None,
    dropout_rate: float | None = None,
) -> nn.Sequential:
    """Returns a hidden layer: its weights, and what follows them, as named children.

    Args:
        weights: the linear layer or convolution.
        units: its outputs.
        spec: `Trial.spec`.
        spatial: the outputs are maps (units, height, width), not vectors.
        pooling: the layer's pooling.
        dropout_rate: the layer's own rate of dropout; None for that of the specification.
    """
    from torch import nn

    layer = nn.Sequential()
    layer.add_module("weights", weights)
    build_after_weights(layer, units, spec, spatial, pooling, dropout_rate)
    return layer


def build_after_weights(
    layer: nn.Sequential,
    units: int,
    spec: Mapping[str, Any],
    spatial: bool,
    pooling: Pooling | None = None,
    dropout_rate: float | None = None,
) -> None:
    """Adds to a layer what follows its weights; the other arguments are those of `build_hidden`."""
    from harness.networks.activations import build_activation

    normalization = normalizations[spec["normalization"]["name"]].module
    dropout = dropouts[spec["dropout"]["name"]].module
    for part in _order(spec, pooling):
        if part == "activation":
            layer.add_module(part, build_activation(spec["activation"]))
        elif part == "normalization" and normalization is not None:
            layer.add_module(part, normalization(units, spatial, **own_options(spec)))
        elif part == "dropout" and dropout is not None:
            layer.add_module(part, dropout(_rate(spec, dropout_rate)))
        elif part == "pool" and pooling is not None:
            layer.add_module(part, pooling.module())


def describe_after_weights(
    spec: Mapping[str, Any],
    pooling: Pooling | None = None,
    dropout_rate: float | None = None,
) -> list[theory.Layer]:
    """Returns for theory what follows the weights of a hidden layer.

    Arguments are those of `build_hidden`.
    """
    normalization = normalizations[spec["normalization"]["name"]]
    dropout = dropouts[spec["dropout"]["name"]]
    layers: list[theory.Layer] = []
    for part in _order(spec, pooling):
        if part == "activation":
            layers.append(_describe_activation(spec["activation"]))
        elif part == "normalization" and normalization.described is not None:
            layers.append(normalization.described)
        elif part == "dropout" and dropout.described is not None:
            layers.append(dropout.described(float(_rate(spec, dropout_rate))))
        elif part == "pool" and pooling is not None:
            layers.append(pooling.described())
    return layers


def describe_weight_repair(spec: Mapping[str, Any]) -> list[theory.Layer]:
    """Returns for theory what is done to the output of a hidden layer's weights.

    The repair and the initializer `lsuv` scale a whole layer by one factor to mean square 1 at
    initialisation, and are described as that. A form of weights would undo it.
    """
    form = weight_form(spec)
    if form == "SPECTRAL_NORM":
        initializer = spec["initializer"]
        if initializer_of(initializer).family(initializer).largest_square is None:
            return [theory.Opaque("spectral normalization", UNKNOWN_EDGE)]
    if spec.get("repair") == "lsuv" and not form:
        return [theory.Normalization("pooled", 0.0)]
    if initializer_of(spec["initializer"]).unit_variance:
        batch = float(spec["budget"]["batch_size"])
        return [theory.Normalization("pooled", 0.0, batch)]
    return []


def own_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that only this normalization has."""
    shared = ("name", "position")
    return {
        option: value for option, value in spec["normalization"].items() if option not in shared
    }


def _order(spec: Mapping[str, Any], pooling: Pooling | None) -> tuple[str, ...]:
    """Returns the parts after the weights in the order in which they act."""
    activation = ("activation",)
    at_end: tuple[str, ...] = ("pool",)
    if pooling is not None and pooling.before_activation:
        activation = ("pool", "activation")
        at_end = ()
    if spec["normalization"].get("position") == "after":
        return (*activation, "normalization", "dropout", *at_end)
    return ("normalization", *activation, "dropout", *at_end)


def _rate(spec: Mapping[str, Any], own: float | None) -> float:
    return spec["dropout"]["rate"] if own is None else own


def _describe_activation(activation: Mapping[str, Any]) -> theory.Activation:
    options = sorted(
        (option, value if isinstance(value, str) else float(value))
        for option, value in activation.items()
        if option not in ("name", "source") and value is not None
    )
    return theory.Activation(activation["name"], tuple(options))


# Weights


def describe_weights(
    spec: Mapping[str, Any], fan_in: int, fan_out: int, units: int, area: int = 1
) -> dict[str, Any]:
    """Returns what theory's `Dense` or `Convolution` says of a hidden layer's weights and biases.

    The initializer gives the law. A form of weights and the repairs `center_rows`, `rescale_tau`
    and `zero_bias` then change it.

    Args:
        spec: `Trial.spec`.
        fan_in: inputs of a unit.
        fan_out: units that an input feeds.
        units: units of the layer.
        area: taps of a convolution's kernel.
    """
    law = weights_law(spec["initializer"], fan_in, fan_out, units, area)
    repair = spec.get("repair")
    if repair == "center_rows":
        law |= {"centred": True, "omega": 0.0}
    if repair == "rescale_tau":
        law |= {"sigma_w2": 1.0, "exact": True}
    if repair == "zero_bias":
        law["sigma_b2"] = 0.0
    described = normalizations[spec["normalization"]["name"]].described_weights
    if described is not None:
        law = described(law, initializer_of(spec["initializer"]).family(spec["initializer"]), area)
    return law


def weights_law(
    options: Mapping[str, Any], fan_in: int, fan_out: int, units: int, area: int = 1
) -> dict[str, Any]:
    """Returns the same of an initializer alone, such as `{"name": "lecun_normal"}`."""
    initializer = initializer_of(options)
    distribution = initializer.family(options)
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "units": units,
        "kurtosis": distribution.kurtosis,
        "sigma_w2": initializer.sigma_w2(Fans(fan_in, fan_out), options),
        "sigma_b2": initializer.bias.variance(options, fan_in),
        "centred": distribution.centred,
        "exact": distribution.exact(units, fan_in // area if distribution.at_centre else fan_in),
        "omega": distribution.omega,
    }
