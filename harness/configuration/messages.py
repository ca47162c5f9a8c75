"""One-line messages for what Hydra and OmegaConf find wrong with a request."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, is_dataclass

from hydra.errors import OverrideParseException
from yaml import YAMLError

from harness.configuration.options import known_names
from harness.configuration.overrides import unreadable
from harness.configuration.schema import Config

_MERGING = "Error merging override"


def explain(error: Exception) -> str:
    """Returns one line for an error of Hydra or OmegaConf, with the choices for an unknown name."""
    text = str(error)
    if isinstance(error, YAMLError):
        return _broken_file(error)
    if isinstance(error, OverrideParseException):
        return str(unreadable(error.override, text))
    in_file = re.match(r"In '([^']+)': \w+ raised while composing config:\n(.+)", text)
    if in_file:
        key = re.search(r"full_key: (\S+)", text)
        return _wrong_file(in_file.group(1), in_file.group(2), key)
    unknown_key = re.search(r"Could not override '([^']+)'", text)
    if unknown_key:
        return unknown_option(unknown_key.group(1))
    launcher_option = re.search(r"PackedLauncher.*unexpected keyword argument '(\w+)'", text)
    if launcher_option:
        return unknown_option(f"hydra.launcher.{launcher_option.group(1)}")
    if _MERGING in text and error.__cause__ is not None:
        override = first_line(error).removeprefix(f"{_MERGING} ")
        return f"{override}: {first_line(error.__cause__)}"
    missing_file = re.search(r"Could not find '([\w/]+)/([^']+)'", text)
    if missing_file:
        return _unknown_name(*missing_file.groups()) or first_line(error)
    return first_line(error)


def _broken_file(error: YAMLError) -> str:
    """Returns the message for a file that is no YAML, with its place."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"a configuration file is no YAML: {first_line(error)}"
    problem = getattr(error, "problem", None) or first_line(error)
    return f"{mark.name}, line {mark.line + 1}: {problem}"


def _wrong_file(file: str, reason: str, key: re.Match[str] | None) -> str:
    """Returns the message for a file that sets an unknown option or an impossible value."""
    name = f"{file.replace('/', '=', 1)}"
    if key is None:
        return f"{name}: {reason}"
    if reason.startswith("Key "):
        return f"{name}: {unknown_option(key.group(1))}"
    return f"{name}: {key.group(1)}: {reason}"


def unknown_option(key: str) -> str:
    """Returns the message for an option that does not exist, with the nearest that do."""
    nearest = difflib.get_close_matches(key, _option_names(), n=3)
    if nearest:
        return f"unknown option {key!r}; did you mean {' or '.join(nearest)}?"
    return (
        f"unknown option {key!r}; conf/README.md lists those of a cell, harness/sweeps/README.md "
        "those of hydra.launcher"
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text that is not blank, or else the error's type."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()
    return type(error).__name__


def _unknown_name(group: str, name: str) -> str | None:
    """Returns the message for a choice without a file; None for a group that is not ours."""
    if group == "hydra/launcher":
        return (
            f"unknown hydra/launcher {name!r}; "
            "run `pip install -e .` if the packed launcher is missing"
        )
    names = known_names(group)
    if not names:
        return None
    return f"unknown {group} {name!r}; known: {', '.join(names)}"


def _option_names() -> list[str]:
    """Returns every key that a request may set: `depth`, `activation`, `activation.alpha`, ..."""
    request = Config()
    names = [entry.name for entry in fields(request)]
    for group in fields(request):
        section = getattr(request, group.name)
        if is_dataclass(section):
            names += [f"{group.name}.{option.name}" for option in fields(section)]
    return names
