"""The options that each name of a configuration group takes, read from `conf/GROUP/NAME.yaml`.

These files are the only place where options and their defaults are declared. Every key besides
`name` is an option, and its value is the default. Needs neither Hydra nor torch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# An installed harness has its configuration files inside the package, a checkout beside it.
_PACKAGED_CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
INSTALLED = _PACKAGED_CONF_DIR.is_dir()
CONF_DIR = _PACKAGED_CONF_DIR if INSTALLED else PROJECT_ROOT / "conf"

# The parser written in C, where PyYAML was built with it, is about ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def known_names(group: str) -> list[str]:
    """Returns the names that a configuration group offers, sorted."""
    return list(_values(group))


def options(group: str, name: str) -> tuple[str, ...]:
    """Returns the options that `name` of a configuration group takes, besides its name.

    A name without a file, such as a user's own activation, takes none.
    """
    return tuple(defaults(group, name))


def defaults(group: str, name: str) -> Mapping[str, Any]:
    """Returns the options of `name` with their default values, in the order of its file."""
    return _values(group).get(name, _NOTHING)


def options_file(section: Any) -> str:
    """Returns the name in its group from which a section's options come.

    It is the section's name, unless that is one of a library's, such as `resnet18`.
    """
    return getattr(section, "library", None) or section.name


@functools.cache
def default_choices() -> Mapping[str, Any]:
    """Returns the default choice of each group in `conf/config.yaml`, and its single values."""
    content = yaml.load((CONF_DIR / "config.yaml").read_text(encoding="utf-8"), Loader=_LOADER)
    choices: dict[str, Any] = {}
    for entry in content.pop("defaults"):
        if isinstance(entry, dict):
            choices |= entry
    return MappingProxyType(choices | content)


def all_defaults(group: str) -> dict[str, list[Any]]:
    """Returns the defaults of each option of a group, one for every name that takes it."""
    collected: dict[str, list[Any]] = {}
    for values in _values(group).values():
        for option, default in values.items():
            collected.setdefault(option, []).append(default)
    return collected


@functools.cache  # Thousands of cells ask for the same few folders.
def _values(group: str) -> Mapping[str, Mapping[str, Any]]:
    """Reads the files of one group: options with their defaults by name.

    A file in a folder of the group has the folder in its name, such as `reference/training`.
    """
    values = {}
    folder = CONF_DIR / group
    for path in sorted(folder.rglob("*.yaml")):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) or {}
        content.pop("name", None)
        name = path.relative_to(folder).with_suffix("").as_posix()
        values[name] = MappingProxyType(content)
    return MappingProxyType(values)
