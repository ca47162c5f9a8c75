"""Networks that a library or the user's own code makes, and the parts of them that are swept.

A part that `architecture.replace` does not name is the network's own: its name in a trial's
specification is `own`. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from harness.configuration.layer_lists import canonical_width, default_size
from harness.configuration.options import default_choices, defaults
from harness.configuration.schema import Config
from harness.errors import RequestError

# The library of networks that the user's own code makes.
FACTORY = "factory"
# Examples of names by library.
_EXAMPLES = {
    "torchvision": "architecture=torchvision architecture.name=resnet18",
    "timm": "architecture=timm architecture.name=resnet18",
    FACTORY: "architecture=module:factory",
}
# Parts that can be the swept ones.
PARTS = ("activation", "initializer", "normalization", "dropout")
# The name of a part that is not replaced, and the width of a network that has its own.
OWN = "own"


def is_named(architecture: Any) -> bool:
    """Returns True for a section of the configuration that names such a network."""
    return architecture.library is not None


def own_parts(architecture: Any) -> list[str]:
    """Returns the parts that are the network's own."""
    return [part for part in PARTS if part not in architecture.replace]


def canonical_architecture(architecture: Any) -> dict[str, Any]:
    """Returns the part of a specification that says which network it is."""
    spec = {
        "name": architecture.name,
        "library": architecture.library,
        "replace": [part for part in PARTS if part in architecture.replace],
    }
    if architecture.image_size is not None:
        spec["image_size"] = architecture.image_size
    return spec


def check_named(config: Config) -> None:
    """Refuses a network without a name, and settings that would change nothing in it.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    _check_architecture(config.architecture)
    for part in own_parts(config.architecture):
        _check_unchanged(config, part)
    if config.normalization.position != "before":
        raise RequestError(
            f"normalization.position={config.normalization.position}: a network of "
            f"architecture={config.architecture.library} keeps the places of its normalizations"
        )
    _check_readout(config)
    _check_size(config)


def _check_architecture(architecture: Any) -> None:
    library, name = architecture.library, architecture.name
    if name == library or (library == FACTORY) != (":" in name):
        raise RequestError(
            f"architecture={library} with architecture.name={name} names no network; "
            f"expected for example {_EXAMPLES[library]}"
        )
    replace = architecture.replace
    if len(set(replace)) < len(replace) or not set(replace) <= set(PARTS):
        raise RequestError(
            f"architecture.replace={replace}: expected a list of some of {', '.join(PARTS)}, "
            "such as [activation,initializer]"
        )
    size = architecture.image_size
    if size is not None and size < 1:
        raise RequestError(f"architecture.image_size={size}: expected an integer of at least 1")


def _check_unchanged(config: Config, part: str) -> None:
    """Refuses a part that is set, and of which the network has its own."""
    section, usual = getattr(config, part), default_choices()[part]
    if section.name != usual:
        raise RequestError(
            f"{part}={section.name}: {config.architecture.name} keeps its own {part}; "
            f"add {part} to architecture.replace"
        )
    for option, default in defaults(part, usual).items():
        if getattr(section, option) != default:
            raise RequestError(
                f"{part}.{option}={getattr(section, option)}: {config.architecture.name} keeps its "
                f"own {part}; add {part} to architecture.replace"
            )


def _check_readout(config: Config) -> None:
    readout = config.readout
    if readout.bias == "none":
        raise RequestError(
            f"readout.bias=none: the head of {config.architecture.name} keeps the biases it has; "
            "expected one of same, zeros, uniform"
        )
    is_drawn = "initializer" in config.architecture.replace
    if not is_drawn and (readout.initializer, readout.bias) != ("same", "same"):
        raise RequestError(
            f"readout.initializer={readout.initializer} and readout.bias={readout.bias}: "
            f"{config.architecture.name} keeps its own weights; add initializer to "
            "architecture.replace"
        )


def _check_size(config: Config) -> None:
    """Refuses a depth or a width, unless they are those that the network was found to have."""
    if config.width == OWN:
        return
    usual = default_choices()
    for name in ("depth", "width"):
        value = canonical_width(getattr(config, name))
        if value != default_size(usual[name]):
            raise RequestError(
                f"{name}={value}: {config.architecture.name} has layers of its own; leave "
                f"{name} out"
            )
