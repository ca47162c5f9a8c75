"""Hidden layers given as lists: `width=[512,256]` and `architecture.layers`.

An entry of `architecture.layers` is a dict with its units, `conv` or `dense`, and options. What it
leaves out it takes from the options of the architecture, such as `architecture.kernel`, whose
defaults are those of `conf/architecture/stack.yaml`. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.configuration.options import defaults
from harness.errors import RequestError

Entry = dict[str, Any]

KINDS = ("conv", "dense")
# Options of `conf/architecture/stack.yaml` that say something of the whole network.
_OF_NETWORK = ("layers", "head")
_CHOICES = {
    "padding": ("zeros", "circular", "reflect", "valid"),
    "pool": ("none", "max", "average"),
    "pool_position": ("after", "before"),
}
_COUNTS = ("kernel", "stride", "groups", "pool_size", "pool_stride")
_DEFAULT_SIZE = re.compile(r"^\$\{\w+:(\w+)\}$")


def register_resolvers() -> None:
    """Tells OmegaConf how `depth` and `width` follow from lists of layers.

    `${listed_depth:8}` is the length of `architecture.layers` or of `width`, else 8;
    `${listed_width:64}` is the list of the layers' units, else 64.
    """
    OmegaConf.register_new_resolver("listed_depth", _listed_depth, replace=True)
    OmegaConf.register_new_resolver("listed_width", _listed_width, replace=True)


def _listed_depth(default: int, *, _root_: DictConfig) -> int:
    for key in ("architecture.layers", "width"):
        listed = OmegaConf.select(_root_, key)
        if OmegaConf.is_list(listed):
            return len(listed)
    return default


def _listed_width(default: int, *, _root_: DictConfig) -> Any:
    listed = OmegaConf.select(_root_, "architecture.layers")
    layers = OmegaConf.to_container(listed) if OmegaConf.is_list(listed) else None
    return listed_widths(layers) or default


def default_size(text: Any) -> Any:
    """Returns the default in a size of `conf/config.yaml`: 8 for `${listed_depth:8}`.

    Anything else is returned as it is.
    """
    match = _DEFAULT_SIZE.match(text) if isinstance(text, str) else None
    if match is None:
        return text
    return int(match[1]) if match[1].isdigit() else match[1]


def listed_widths(layers: Any) -> list[int] | None:
    """Returns the units of each layer of `architecture.layers`; None where it is no proper list."""
    if not isinstance(layers, list) or not all(isinstance(entry, dict) for entry in layers):
        return None
    return [entry.get("conv", entry.get("dense")) for entry in layers]


def canonical_width(width: Any) -> Any:
    """Returns a width in its one form: a list of equal numbers is that number."""
    if isinstance(width, (list, tuple)):
        return width[0] if len(set(width)) == 1 else list(width)
    return width


def width_text(width: Any) -> Any:
    """Returns a width as an axis shows it: `512-256` for a list, else the width itself."""
    return "-".join(map(str, width)) if isinstance(width, list) else width


def layers_text(layers: Sequence[Entry]) -> str:
    """Returns layers in words: `conv 8 kernel 5 pool max, dense 64`."""
    words = []
    for entry in layers:
        kind = _kind(entry)
        rest = [name for name in entry if name != kind]
        words.append(" ".join(f"{name} {entry[name]}" for name in (kind, *rest)))
    return ", ".join(words)


def check_layers(architecture: Any, dropout: str) -> None:
    """Refuses an `architecture.layers` that is no list of proper entries.

    Args:
        architecture: the section of the request.
        dropout: the name of the dropout.

    Raises:
        RequestError: one line with the layer, what is wrong and what is allowed.
    """
    layers = architecture.layers
    if not isinstance(layers, list) or not layers:
        raise RequestError(
            f"architecture.layers={layers}: expected a list of layers, "
            "such as [{conv: 8, pool: max}, {dense: 64}]"
        )
    for number, entry in enumerate(layers, 1):
        place = f"architecture.layers, layer {number}"
        _check_keys(entry, place)
        follows_dense = number > 1 and "dense" in layers[number - 2]
        if "conv" in entry and follows_dense:
            raise RequestError(f"{place}: a convolution cannot follow a dense layer")
        if "dropout" in entry and dropout == "none":
            raise RequestError(
                f"{place}: a rate of dropout with dropout=none; give dropout=alpha or standard"
            )
        _check_values(_filled(entry, _own_defaults(architecture)), place)


def canonical_layers(architecture: Any) -> list[Entry]:
    """Returns the layers of a checked request in their one form.

    An entry keeps what differs from `conf/architecture/stack.yaml`, so that new options leave the
    ids of earlier trials alone.
    """
    usual = _entry_defaults()
    layers = []
    for entry in architecture.layers:
        filled = _filled(entry, _own_defaults(architecture))
        idle = _idle_options(filled)
        canonical = {
            name: value
            for name, value in filled.items()
            if name not in idle and (name not in usual or value != usual[name])
        }
        layers.append(canonical)
    return layers


def _idle_options(entry: Entry) -> tuple[str, ...]:
    """Returns the options of a pooling that change nothing."""
    if entry.get("pool") == "none":
        return "pool_size", "pool_stride", "pool_position"
    return ("pool_stride",) if entry.get("pool_stride") == entry.get("pool_size") else ()


def complete_layers(layers: Sequence[Entry]) -> list[Entry]:
    """Returns canonical layers with all their options."""
    return [_filled(entry, _entry_defaults()) for entry in layers]


def _filled(entry: Entry, usual: Mapping[str, Any]) -> Entry:
    """Returns an entry with what it leaves out; a dense layer has none of a convolution's."""
    return {**usual, **entry} if "conv" in entry else dict(entry)


def _entry_defaults() -> Entry:
    """Returns the options that an entry may leave out, with their defaults."""
    declared = defaults("architecture", "stack")
    return {name: value for name, value in declared.items() if name not in _OF_NETWORK}


def _own_defaults(architecture: Any) -> Entry:
    """Returns what an entry of this request leaves out."""
    return {name: getattr(architecture, name) for name in _entry_defaults()}


def _kind(entry: Entry) -> str:
    return "conv" if "conv" in entry else "dense"


def _check_keys(entry: Any, place: str) -> None:
    if not isinstance(entry, dict) or len([kind for kind in KINDS if kind in entry]) != 1:
        raise RequestError(f"{place}: {entry}: expected a dict with either conv or dense in it")
    kind = _kind(entry)
    allowed = [kind, "dropout", *(_entry_defaults() if kind == "conv" else [])]
    for name in entry:
        if name not in allowed:
            raise RequestError(
                f"{place}: a {kind} layer takes no {name}; it takes {', '.join(allowed)}"
            )


def _check_values(entry: Entry, place: str) -> None:
    kind = _kind(entry)
    for name in (kind, *_COUNTS):
        value = entry.get(name)
        may_be_null = name == "pool_stride" or name not in entry
        if not (value is None and may_be_null) and not _is_count(value):
            raise RequestError(f"{place}: {name}={value}: expected an integer of at least 1")
    for name, choices in _CHOICES.items():
        if name in entry and entry[name] not in choices:
            raise RequestError(
                f"{place}: {name}={entry[name]}: expected one of {', '.join(choices)}"
            )
    if kind == "conv" and entry["padding"] != "valid" and entry["kernel"] % 2 == 0:
        raise RequestError(
            f"{place}: kernel={entry['kernel']}: expected an odd integer, "
            "as an even kernel keeps no map's size; or padding: valid"
        )
    rate = entry.get("dropout", 0.0)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise RequestError(f"{place}: dropout={rate}: expected a number in [0, 1)")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
