"""The network of a trial as theory sees it, from its specification alone and without torch."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import RequestError
from harness.networks.layout import LayerSize, layer_sizes
from harness.registry import unknown
from harness.theory.networks.description import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Network,
    Normalization,
    Pool,
)
from harness.theory.networks.identities import (
    KURTOSIS_NORMAL,
    KURTOSIS_TRUNCATED,
    KURTOSIS_UNIFORM,
    TRUNCATED_VARIANCE,
)

# Added to variances by the modules of harness.networks.normalizations.
EPSILON = 1e-5

# sigma_w2 = fan_in Var w of each initializer, and the kurtosis of its weights.
_LAWS: dict[str, tuple[Callable[[int, int, dict], float], float]] = {
    "lecun_normal": (lambda fan_in, fan_out, spec: 1.0, KURTOSIS_NORMAL),
    "lecun_uniform": (lambda fan_in, fan_out, spec: 1.0, KURTOSIS_UNIFORM),
    "lecun_truncated": (lambda fan_in, fan_out, spec: 1.0, KURTOSIS_TRUNCATED),
    "lecun_truncated_raw": (lambda fan_in, fan_out, spec: TRUNCATED_VARIANCE, KURTOSIS_TRUNCATED),
    "lecun_exact": (lambda fan_in, fan_out, spec: 1.0, KURTOSIS_NORMAL),
    "he_normal": (lambda fan_in, fan_out, spec: 2.0, KURTOSIS_NORMAL),
    "he_uniform": (lambda fan_in, fan_out, spec: 2.0, KURTOSIS_UNIFORM),
    "xavier_normal": (
        lambda fan_in, fan_out, spec: 2.0 * fan_in / (fan_in + fan_out),
        KURTOSIS_NORMAL,
    ),
    "xavier_uniform": (
        lambda fan_in, fan_out, spec: 2.0 * fan_in / (fan_in + fan_out),
        KURTOSIS_UNIFORM,
    ),
    "orthogonal": (lambda fan_in, fan_out, spec: 1.0, KURTOSIS_NORMAL),
    "pytorch_default": (lambda fan_in, fan_out, spec: 1.0 / 3.0, KURTOSIS_UNIFORM),
    "gaussian": (lambda fan_in, fan_out, spec: float(spec["sigma_w2"]), KURTOSIS_NORMAL),
}


def describe(spec: dict, shape: tuple[int, int, int], classes: int) -> Network:
    """The network of a specification whose repair, where it changes preprocessing or dropout, is applied.

    Repairs of weights are described too: `center_rows`, `rescale_tau` and `zero_bias` by the law of the weights, `lsuv` as a
    normalization of the whole layer by one factor, which is what it does at initialisation.

    Args:
        spec: `Trial.spec`.
        shape: (channels, height, width) of an input.
        classes: units of the readout.

    Raises:
        RequestError: an architecture or initializer that is not described here.
    """
    name = spec["architecture"]["name"]
    if name not in _ARCHITECTURES:
        raise unknown("architecture", name, sorted(_ARCHITECTURES))
    return _ARCHITECTURES[name](spec, shape, layer_sizes(spec, shape, classes))


def _mlp(spec: dict, shape: tuple[int, int, int], sizes: list[LayerSize]) -> Network:
    layers: list[Layer] = [Flatten()]
    for size in sizes[:-1]:
        layers += [
            Dense(**_law(spec, size.fan_in, size.units, size.units, hidden=True)),
            *_behind(spec),
        ]
    return (*layers, _readout(spec, sizes[-1]))


def _cnn(spec: dict, shape: tuple[int, int, int], sizes: list[LayerSize]) -> Network:
    architecture = spec["architecture"]
    layers: list[Layer] = []
    for size in sizes[:-1]:
        area = size.kernel_size**2
        layers.append(
            Convolution(
                **_law(spec, size.fan_in, size.units * area, size.units, hidden=True),
                kernel_size=size.kernel_size,
                height=size.height,
                width=size.width,
                padding=architecture["padding"],
            )
        )
        layers += _behind(spec)
        if size.pooled:
            layers.append(Pool(architecture["pool"]))
    if architecture["head"] == "average":
        layers.append(Pool("average", 0))
    return (*layers, Flatten(), _readout(spec, sizes[-1]))


_ARCHITECTURES: dict[str, Callable[[dict, tuple[int, int, int], list[LayerSize]], Network]] = {
    "mlp": _mlp,
    "cnn": _cnn,
}


def _behind(spec: dict) -> list[Layer]:
    """What follows a hidden layer's weights: normalization before or after the activation, and dropout."""
    layers: list[Layer] = []
    kind = spec["normalization"]["name"]
    normalization = (
        [Normalization(kind, EPSILON)] if kind not in ("none", "weight_standardization") else []
    )
    after = spec["normalization"].get("position") == "after"
    if spec.get("repair") == "lsuv" and kind != "weight_standardization":
        layers.append(Normalization("pooled", 0.0))
    options = {
        key: float(value)
        for key, value in spec["activation"].items()
        if key not in ("name", "source")
    }
    layers += [] if after else normalization
    layers.append(Activation(spec["activation"]["name"], tuple(sorted(options.items()))))
    layers += normalization if after else []
    if spec["dropout"]["name"] != "none":
        layers.append(Dropout(spec["dropout"]["name"], float(spec["dropout"]["rate"])))
    return layers


def _readout(spec: dict, size: LayerSize) -> Dense:
    return Dense(**_law(spec, size.fan_in, size.units, size.units, hidden=False))


def _law(spec: dict, fan_in: int, fan_out: int, units: int, hidden: bool) -> dict:
    """The law of a layer's weights and biases; normalizations of weights and repairs act on hidden layers only."""
    initializer = spec["initializer"]
    name, repair = initializer["name"], spec.get("repair") if hidden else None
    if name not in _LAWS:
        raise RequestError(
            f"theory does not know the variance of initializer {name!r}; known: {', '.join(sorted(_LAWS))}"
        )
    variance, kurtosis = _LAWS[name]
    law = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "units": units,
        "kurtosis": kurtosis,
        "sigma_w2": variance(fan_in, fan_out, initializer),
        "sigma_b2": _bias_variance(initializer, fan_in),
        "centred": name == "lecun_exact" or repair == "center_rows",
        "exact": name == "lecun_exact" or (name == "orthogonal" and units <= fan_in),
    }
    if (
        hidden and spec["normalization"]["name"] == "weight_standardization"
    ) or repair == "rescale_tau":
        law |= {"sigma_w2": 1.0, "exact": True}
    if hidden and spec["normalization"]["name"] == "weight_standardization":
        law["centred"] = True
    return law | ({"sigma_b2": 0.0} if repair == "zero_bias" else {})


def _bias_variance(initializer: dict, fan_in: int) -> float:
    if initializer.get("bias") == "uniform":
        return 1.0 / (3.0 * fan_in)
    return float(initializer.get("sigma_b2") or 0.0)
