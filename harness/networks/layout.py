"""A network's layout from its specification alone: its sizes, its checks, its description.

Imports no torch, so that thousands of cells are checked before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.configuration.named_networks import OWN
from harness.errors import RequestError
from harness.networks.architectures import architecture_of
from harness.networks.hidden_layers import standardizes_weights
from harness.networks.hidden_stack import LayerSize, Shape
from harness.networks.initializers import initializer_of
from harness.networks.normalization_kinds import normalizations
from harness.networks.readout import READOUT, readout_initializer
from harness.theory.networks.description import Network


def layer_sizes(spec: dict[str, Any], shape: Shape, classes: int) -> list[LayerSize]:
    """Returns the size of every weight layer in order, the readout last.

    Args:
        spec: `Trial.spec`.
        shape: (channels, height, width) of an input.
        classes: units of the readout.

    Raises:
        RequestError: unknown architecture.
    """
    return architecture_of(spec).layer_sizes(spec, shape, classes)


def describe(spec: dict[str, Any], shape: Shape, classes: int) -> Network:
    """Returns the network of a specification as theory sees it at initialisation.

    Repairs of weights are described too. Those of preprocessing and dropout must have been applied
    to the specification, see `harness.training.repairs.transform_spec`.

    Args:
        spec: `Trial.spec`.
        shape: (channels, height, width) of an input.
        classes: units of the readout.

    Raises:
        RequestError: unknown architecture, initializer, normalization or dropout.
    """
    return architecture_of(spec).describe(spec, shape, classes)


def check_layout(spec: dict[str, Any], shape: Shape, classes: int) -> None:
    """Refuses networks that cannot be built or drawn.

    Raises:
        RequestError: an option of the architecture or the initializer is out of range, a layer
            does not fit the map that enters it, or each unit's weights must have sum 0 in a layer
            with fan-in 1.
    """
    architecture_of(spec).check(spec)
    sizes = layer_sizes(spec, shape, classes)
    if "library" not in spec["architecture"]:
        # A named network checks its own normalizations, which not every layer has.
        _check_normalization(spec, sizes)
    if spec["initializer"]["name"] == OWN:
        return
    initializer_of(spec["initializer"]).check(spec["initializer"])
    for size in sizes:
        is_readout = size.name == READOUT
        centring = next(_centring_settings(spec, is_readout), None)
        own = readout_initializer(spec) if is_readout else spec["initializer"]
        omega = initializer_of(own).family(own).omega
        # Written so that NaN is refused, and infinity without an overflow.
        if not omega * omega < size.fan_in:
            raise RequestError(
                f"{_omega_setting(spec, is_readout)}={omega:g} with fan-in {size.fan_in} "
                f"({size.name}): squares that sum to 1 allow sums below the root of the fan-in "
                "alone"
            )
        if centring is not None and size.fan_in < 2:
            raise RequestError(
                f"{centring} with fan-in {size.fan_in} ({size.name}): a single weight cannot have "
                "sum 0; use a width of at least 2 or another choice"
            )


def _check_normalization(spec: dict[str, Any], sizes: list[LayerSize]) -> None:
    """Refuses groups that do not divide the units, and normalizations over a single position."""
    options = spec["normalization"]
    normalization = normalizations[options["name"]]
    groups = options.get("groups", 1)
    if groups < 1:
        raise RequestError(f"normalization.groups={groups}: expected an integer of at least 1")
    for size in sizes[:-1]:
        if size.units % groups:
            raise RequestError(
                f"normalization.groups={groups} do not divide the {size.units} units of "
                f"{size.name}; give a divisor"
            )
        if normalization.needs_maps and size.height * size.width == 1:
            raise RequestError(
                f"normalization={options['name']}: {size.name} has one position, over which "
                "nothing varies; it is for convolutions on larger maps"
            )


def _has_own_initializer(spec: dict[str, Any], is_readout: bool) -> bool:
    """Returns True for a readout whose initializer is not that of the hidden layers."""
    return is_readout and "initializer" in spec.get(READOUT, {})


def _omega_setting(spec: dict[str, Any], is_readout: bool) -> str:
    """Returns the setting that gives the weights of a layer the sum omega."""
    if _has_own_initializer(spec, is_readout):
        return f"readout.initializer={readout_initializer(spec)['name']}: omega"
    return "initializer.omega"


def _centring_settings(spec: dict[str, Any], is_readout: bool) -> Iterator[str]:
    """Yields the settings of a specification that give each unit's weights the sum 0."""
    initializer = readout_initializer(spec) if is_readout else spec["initializer"]
    if initializer_of(initializer).family(initializer).centred:
        key = "readout.initializer" if _has_own_initializer(spec, is_readout) else "initializer"
        yield f"{key}={initializer['name']}"
    if standardizes_weights(spec):
        yield f"normalization={spec['normalization']['name']}"
    if spec.get("repair") == "center_rows":
        yield "repair=center_rows"
