"""Replacement of a network's modules: activations, normalizations, dropouts.

A module is replaced by its exact type, so that what a library builds upon it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from harness.errors import RequestError
from harness.networks.activations import build_activation
from harness.networks.dropouts import (
    AlphaDropout,
    FeatureAlphaDropout,
    FeatureDropout,
    SampleDropout,
    StandardDropout,
)
from harness.networks.hidden_layers import dropouts, own_options
from harness.networks.normalization_kinds import normalizations

# Modules of torch and timm that bend what leaves a layer. Sigmoid and Hardsigmoid are left alone,
# as they are the gates of a network more often than its activations.
_ACTIVATIONS = frozenset(
    (
        *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "CELU", "SELU", "GELU", "SiLU"),
        *("Mish", "Hardswish", "Hardtanh", "Softplus", "Softsign", "Tanh"),
        *("Swish", "HardSwish", "HardMish", "GELUTanh", "QuickGELU"),
    )
)
_LIBRARIES = ("torch", "timm")
# Normalizations that have a swept counterpart, with the attribute that counts their units.
_NORMALIZATIONS: Mapping[type[nn.Module], str] = {
    nn.BatchNorm1d: "num_features",
    nn.BatchNorm2d: "num_features",
    nn.InstanceNorm2d: "num_features",
    nn.GroupNorm: "num_channels",
}
_DROPOUTS: Mapping[type[nn.Module], type[StandardDropout]] = {
    nn.Dropout: StandardDropout,
    nn.Dropout1d: FeatureDropout,
    nn.Dropout2d: FeatureDropout,
    nn.Dropout3d: FeatureDropout,
    nn.AlphaDropout: AlphaDropout,
    nn.FeatureAlphaDropout: FeatureAlphaDropout,
}
# Classes of libraries that skip a residual branch for whole samples, by the name of their rate.
_SAMPLE_DROPOUTS = {"StochasticDepth": "p", "DropPath": "drop_prob"}

# Function from a module to what replaces it, None where it stays.
Replacing = Callable[[nn.Module], nn.Module | None]


def is_activation(module: nn.Module) -> bool:
    """Returns True for a module that `architecture.replace` counts as an activation."""
    return type(module).__name__ in _ACTIVATIONS and _is_of_a_library(module)


def replace_activations(network: nn.Module, spec: Mapping[str, Any]) -> int:
    """Replaces every activation module by the swept one, and returns how many there were."""
    swept = dict(spec["activation"])

    def made(module: nn.Module) -> nn.Module | None:
        return build_activation(swept) if is_activation(module) else None

    return _replace(network, made)


def keep_inputs(network: nn.Module) -> None:
    """Lets no activation write over its input, which probes read. No number changes."""
    for module in network.modules():
        if is_activation(module) and getattr(module, "inplace", False):
            module.inplace = False


def replace_normalizations(network: nn.Module, spec: Mapping[str, Any]) -> int:
    """Replaces every normalization by the swept one, and returns how many there were.

    Raises:
        RequestError: one of them has no counterpart, or groups do not divide its units.
    """
    declared = normalizations[spec["normalization"]["name"]]

    def swept(module: nn.Module) -> nn.Module | None:
        counted = _NORMALIZATIONS.get(type(module))
        if counted is None:
            return None
        if declared.module is None:
            return nn.Identity()
        units = getattr(module, counted)
        groups = spec["normalization"].get("groups", 1)
        if units % groups:
            raise RequestError(
                f"normalization.groups={groups} do not divide the {units} units of a "
                f"{type(module).__name__}; give a divisor"
            )
        spatial = not isinstance(module, nn.BatchNorm1d)
        return declared.module(units, spatial, **own_options(spec))

    if declared.weight_form:
        raise RequestError(
            f"normalization={spec['normalization']['name']} acts on weights; those of "
            f"{spec['architecture']['name']} are taken as they are: choose one of activations"
        )
    _refuse_other_normalizations(network)
    return _replace(network, swept)


def replace_dropouts(network: nn.Module, spec: Mapping[str, Any]) -> int:
    """Replaces every dropout by the swept one, or by its own kind with noise of the trial's.

    torch's dropouts draw from one global stream, in which a trial would depend on its companions.
    Returns how many there were; those of rate 0 do not count.
    """
    swept = dropouts[spec["dropout"]["name"]] if "dropout" in _replaced(spec) else None

    def made(module: nn.Module) -> nn.Module | None:
        keyed, rate = _own_dropout(module)
        if keyed is None:
            return None
        if rate == 0:
            return nn.Identity()
        if swept is None or keyed is SampleDropout:
            return keyed(rate)
        if swept.module is None:
            return nn.Identity()
        return swept.module(spec["dropout"]["rate"])

    return _replace(network, made)


def _replaced(spec: Mapping[str, Any]) -> list[str]:
    return spec["architecture"]["replace"]


def _own_dropout(module: nn.Module) -> tuple[type[StandardDropout] | None, float]:
    """Returns the keyed kind of a dropout and its rate; None for any other module."""
    keyed = _DROPOUTS.get(type(module))
    if keyed is not None:
        return keyed, float(module.p)
    name = type(module).__name__
    if name in _SAMPLE_DROPOUTS and getattr(module, "mode", "row") == "row":
        rate = getattr(module, _SAMPLE_DROPOUTS[name])
        if getattr(module, "scale_by_keep", True):
            return SampleDropout, float(rate or 0.0)
    return None, 0.0


def _refuse_other_normalizations(network: nn.Module) -> None:
    """Refuses a network in which there are normalizations without a swept counterpart."""
    for name, module in network.named_modules():
        if type(module) in _NORMALIZATIONS or _has_parts(module):
            continue
        if "Norm" in type(module).__name__:
            raise RequestError(
                f"normalization: {name} is a {type(module).__name__}, which has no counterpart "
                "among the swept ones; leave normalization out of architecture.replace"
            )


def _has_parts(module: nn.Module) -> bool:
    """Returns True for a container, such as a convolution with its normalization."""
    is_norm = isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm))
    return not is_norm and next(module.children(), None) is not None


def convolution_like(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Returns a convolution with the settings of another one, for other input channels."""
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    settings = {name: getattr(convolution, name) for name in names}
    bias = convolution.bias is not None
    return nn.Conv2d(channels, convolution.out_channels, bias=bias, **settings)


def _replace(network: nn.Module, replacing: Replacing) -> int:
    """Replaces modules, one that stands at several places by one; returns how many places."""
    replaced: dict[int, nn.Module] = {}
    places = list(network.named_modules(remove_duplicate=False))
    count = 0
    for name, module in places:
        if not name:
            continue
        new = replaced.get(id(module)) or replacing(module)
        if new is not None:
            replaced[id(module)] = new
            network.set_submodule(name, new)
            count += 1
    return count


def _is_of_a_library(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in _LIBRARIES
