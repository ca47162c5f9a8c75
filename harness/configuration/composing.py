"""Composing requests from overrides, and how a wrong request is told. Imports no torch."""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import fields, is_dataclass

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.schema import CONF_DIR, Config, known_names
from harness.errors import RequestError

# Hydra's own part stands beside a request in a composed configuration; arms and presets set values of the request.
_KNOWN = {"hydra", *(field.name for field in fields(Config))}

_CALLABLE_CHOICE = re.compile(r"^activation=(.+)$")


@functools.cache  # Hydra 1.4 warns about a second registration
def register_schema() -> None:
    """Tell Hydra what a request may contain, so that a misspelled option fails at once."""
    ConfigStore.instance().store(name="schema", node=Config)


def to_config(composed: DictConfig) -> Config:
    """A composed configuration, without Hydra's own part, as a `Config`.

    Raises:
        RequestError: a value of the wrong type.
    """
    added = [
        key for key in composed if key not in _KNOWN
    ]  # `+name=value` makes an entry of any name
    if added:
        raise RequestError(_unknown_option(str(added[0])))
    try:
        if (
            OmegaConf.get_type(composed) is Config
        ):  # composed upon the schema, so every type is checked
            return _from_checked(composed)
        plain = OmegaConf.create({key: composed[key] for key in composed if key != "hydra"})
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), plain))
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from None


def _from_checked(composed: DictConfig) -> Config:
    """The same a good deal faster: OmegaConf would check every value once more, and a sweep has thousands of jobs."""
    values = {}
    for field in fields(Config):
        value = composed[field.name]
        if OmegaConf.is_config(value):
            plain, section = (
                OmegaConf.to_container(value, resolve=True, throw_on_missing=True),
                OmegaConf.get_type(value),
            )
            value = section(**plain) if is_dataclass(section) else plain
        values[field.name] = value
    return Config(**values)


def compose(overrides: list[str]) -> Config:
    """The request that a list of overrides stands for, as on the command line.

    Raises:
        RequestError: an override is misspelled or impossible.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    register_schema()
    register_callables(overrides)
    try:
        with initialize_config_dir(str(CONF_DIR), **VERSION_OPTIONS):
            return to_config(hydra_compose("config", overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error)) from None


def register_callables(arguments: list[str]) -> None:
    """Make `activation=module:function` a choice like any other, also among several: `activation=selu,module:function`."""
    for argument in arguments:
        match = _CALLABLE_CHOICE.match(argument)
        for choice in match.group(1).split(",") if match else ():
            if ":" in choice:
                ConfigStore.instance().store(
                    group="activation", name=choice.strip("'\""), node={"name": choice.strip("'\"")}
                )


def explain(error: Exception) -> str:
    """One line for what Hydra or OmegaConf found wrong, with the choices where a name is unknown."""
    text = str(error)
    unknown_key = re.search(r"Could not override '([^']+)'", text)
    if unknown_key:
        return _unknown_option(unknown_key.group(1))
    unexpected = re.search(r"PackedLauncher.*unexpected keyword argument '(\w+)'", text)
    if unexpected:
        return _unknown_option(f"hydra.launcher.{unexpected.group(1)}")
    cause = error.__cause__
    if "Error merging override" in text and cause is not None:
        return f"{first_line(error).removeprefix('Error merging override ')}: {first_line(cause)}"
    missing = re.search(r"Could not find '([\w/]+)/([^']+)'", text)
    if missing:
        group, name = missing.groups()
        known = known_names(group)
        if group == "hydra/launcher":
            return f"unknown hydra/launcher {name!r}; run `pip install -e .` if the packed launcher is missing"
        return (
            f"unknown {group} {name!r}; known: {', '.join(known)}" if known else first_line(error)
        )
    return first_line(error)


def _unknown_option(key: str) -> str:
    """What is near to an option that does not exist."""
    names = [field.name for field in fields(Config)]
    for group in fields(Config):
        section = getattr(Config(), group.name)
        if is_dataclass(section):
            names += [f"{group.name}.{field.name}" for field in fields(section)]
    near = difflib.get_close_matches(key, names, n=3)
    return f"unknown option {key!r}; " + (
        f"did you mean {' or '.join(near)}?"
        if near
        else "`python -m harness.train --help` lists what there is"
    )


def first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    )
