"""Normalizations of a hidden layer, one declaration each.

A declaration says how the module is made and what theory calls it. Torch is imported only to make
modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.networks.initializers import Distribution
from harness.registry import Registry
from harness.theory.networks import description as theory

if TYPE_CHECKING:
    from torch import nn

normalizations: Registry = Registry("normalization")


@dataclass(frozen=True)
class Normalization:
    """A normalization of a hidden layer.

    Attributes:
        module: `module(units, spatial)` makes the module for activations (samples, units), or
            (samples, units, height, width) where `spatial`; None where nothing acts on activations.
            It takes the normalization's own options by keyword.
        described: the same for theory.
        needs_maps: it acts on the positions of a map, of which a dense layer has one.
        weight_form: the name of a form in `harness.networks.weight_forms` for normalizations that
            act on weights, or "".
        described_weights: `described_weights(law, distribution, area)` returns what theory says of
            the weights in this form, from what it says of the drawn ones.
    """

    module: Callable[..., nn.Module] | None = None
    described: theory.Normalization | theory.Opaque | None = None
    needs_maps: bool = False
    weight_form: str = ""
    described_weights: Callable[[dict[str, Any], Distribution, int], dict[str, Any]] | None = None


def _batch_norm(units: int, spatial: bool) -> nn.Module:
    from torch import nn

    from harness.networks.normalizations import EPSILON

    return nn.BatchNorm2d(units, eps=EPSILON) if spatial else nn.BatchNorm1d(units, eps=EPSILON)


def _layer_norm(units: int, spatial: bool) -> nn.Module:
    from torch import nn

    from harness.networks.normalizations import EPSILON

    return nn.GroupNorm(1, units, eps=EPSILON) if spatial else nn.LayerNorm(units, eps=EPSILON)


def _group_norm(units: int, spatial: bool, groups: int) -> nn.Module:
    from torch import nn

    from harness.networks.normalizations import EPSILON

    return nn.GroupNorm(groups, units, eps=EPSILON)


def _instance_norm(units: int, spatial: bool) -> nn.Module:
    return _group_norm(units, spatial, units)


def _rms_norm(units: int, spatial: bool) -> nn.Module:
    from harness.networks.normalizations import RMSNorm

    return RMSNorm(units, spatial)


UNKNOWN_EDGE = "the largest singular value of weights with heavy tails is not known"


def _standardized_law(law: dict[str, Any], distribution: Distribution, area: int) -> dict[str, Any]:
    return law | {"sigma_w2": 1.0, "exact": True, "centred": True, "omega": 0.0}


def _spectral_law(law: dict[str, Any], distribution: Distribution, area: int) -> dict[str, Any]:
    inputs = law["fan_in"] // area if distribution.at_centre else law["fan_in"]
    if distribution.largest_square is None:
        return law
    largest = distribution.largest_square(law["units"], inputs)
    return law | {"sigma_w2": 1.0 / largest if law["sigma_w2"] > 0 else 0.0}


normalizations.register("none")(Normalization())
# Ioffe and Szegedy 2015.
normalizations.register("batch")(Normalization(_batch_norm, theory.Normalization("batch")))
# Ba, Kiros and Hinton 2016.
normalizations.register("layer")(Normalization(_layer_norm, theory.Normalization("layer")))
# Zhang and Sennrich 2019.
normalizations.register("rms")(Normalization(_rms_norm, theory.Normalization("rms")))
# Wu and He 2018.
_FEW_UNITS = "it divides by the deviation of few units, whose scatter theory does not follow"
normalizations.register("group")(
    Normalization(_group_norm, theory.Opaque("group normalization", _FEW_UNITS))
)
# Ulyanov et al. 2016.
_ONE_UNIT = "it divides each map by its own deviation, whose scatter theory does not follow"
normalizations.register("instance")(
    Normalization(
        _instance_norm, theory.Opaque("instance normalization", _ONE_UNIT), needs_maps=True
    )
)
# Qiao et al. 2019, scaled as by Brock et al. 2021.
normalizations.register("weight_standardization")(
    Normalization(weight_form="STANDARDIZED", described_weights=_standardized_law)
)
# Salimans and Kingma 2016. It changes how weights are trained, not what they are at first.
normalizations.register("weight_norm")(Normalization(weight_form="WEIGHT_NORM"))
# Miyato et al. 2018.
normalizations.register("spectral_norm")(
    Normalization(weight_form="SPECTRAL_NORM", described_weights=_spectral_law)
)
