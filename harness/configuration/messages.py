"""One-line messages for what Hydra and OmegaConf find wrong with a request."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, is_dataclass

from harness.configuration.options import known_names
from harness.configuration.schema import Config

_MERGING = "Error merging override"


def explain(error: Exception) -> str:
    """Returns one line for an error of Hydra or OmegaConf, with the choices for an unknown name."""
    text = str(error)
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


def unknown_option(key: str) -> str:
    """Returns the message for an option that does not exist, with the nearest that do."""
    nearest = difflib.get_close_matches(key, _option_names(), n=3)
    if nearest:
        return f"unknown option {key!r}; did you mean {' or '.join(nearest)}?"
    return f"unknown option {key!r}; `python -m harness.train --help` lists what there is"


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
