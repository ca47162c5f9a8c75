"""Requests composed from overrides, as on the command line. Imports no torch."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.layer_lists import register_resolvers
from harness.configuration.messages import explain, first_line, unknown_option
from harness.configuration.named_networks import FACTORY
from harness.configuration.options import defaults
from harness.configuration.overrides import check_cells, ready
from harness.configuration.result_folder import expanded
from harness.configuration.schema import CONF_DIR, Config
from harness.errors import RequestError

# A composed configuration is a request with Hydra's own part beside it.
_ALLOWED_KEYS = {"hydra", *(entry.name for entry in fields(Config))}

# Groups that take a user's own code, `module:function`; of an architecture it has options.
_CALLABLE_GROUPS = {"activation": None, "architecture": FACTORY}
_CALLABLE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


@functools.cache  # Hydra 1.4 warns about a second registration
def register_schema() -> None:
    """Tells Hydra what a request may contain, so that a misspelled option fails at once.

    `conf/config.yaml` names the folders of sweeps by `process_id`, so that no two share one, below
    the folder for results with its `~` replaced.
    """
    register_resolvers()
    OmegaConf.register_new_resolver("process_id", os.getpid, replace=True)
    OmegaConf.register_new_resolver("home_expanded", _home_expanded, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)


def _home_expanded(runs: str) -> str:
    return str(expanded(runs, "runs"))


def register_callables(arguments: list[str]) -> None:
    """Makes every `activation=module:function` among the arguments a choice like any other.

    So is every `architecture=module:factory`. It may stand among several, as in
    `activation=selu,module:function` or `choice(...)`, and in the file of an experiment that the
    arguments name.
    """
    lines = []
    for file in experiment_files(arguments):
        lines += file.read_text(encoding="utf-8").splitlines()
    for group, options_of in _CALLABLE_GROUPS.items():
        override = re.compile(rf"\+{{0,2}}{group}=")
        texts = [text for text in arguments if override.match(text)]
        texts += [line for line in lines if group in line]
        taken = dict(defaults(group, options_of)) if options_of else {}
        for name in _CALLABLE.findall("\n".join(texts)):
            ConfigStore.instance().store(group=group, name=name, node={"name": name, **taken})


def experiment_files(arguments: Sequence[str]) -> Iterator[Path]:
    """Yields the files of the experiments that arguments name, also of those beside the harness."""
    folders = [CONF_DIR]
    names: list[str] = []
    for index, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if argument in ("--config-dir", "-cd"):
            folders += [Path(folder) for folder in arguments[index + 1 : index + 2]]
        elif option == "--config-dir":
            folders.append(Path(value))
        elif option.lstrip("+") == "experiment":
            names += re.findall(r"[\w./-]+", value)
    for folder in folders:
        files = [folder / "experiment" / f"{name}.yaml" for name in names]
        yield from (file for file in files if file.is_file())


def compose(overrides: list[str]) -> Config:
    """Returns the request that a list of overrides stands for, as on the command line.

    Raises:
        RequestError: an override is misspelled or impossible.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    register_schema()
    overrides = ready(overrides)
    check_cells(overrides)
    register_callables(overrides)
    try:
        with initialize_config_dir(str(CONF_DIR), **VERSION_OPTIONS):
            composed = hydra_compose("config", overrides)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise RequestError(explain(error)) from None
    return to_config(composed)


def to_config(composed: DictConfig | Config) -> Config:
    """Returns a composed configuration, without Hydra's own part, as a `Config`.

    A `Config` is returned as it is.

    Raises:
        RequestError: a key that no request has, or a value of the wrong type.
    """
    if isinstance(composed, Config):
        return composed
    for key in composed:
        if key not in _ALLOWED_KEYS:  # `+name=value` makes an entry of any name
            raise RequestError(unknown_option(str(key)))
    try:
        if OmegaConf.get_type(composed) is Config:
            return _from_checked(composed)
        request = OmegaConf.create({key: composed[key] for key in composed if key != "hydra"})
        checked = OmegaConf.merge(OmegaConf.structured(Config), request)
        return cast(Config, OmegaConf.to_object(checked))
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from None


def _from_checked(composed: DictConfig) -> Config:
    """Converts a configuration that was composed upon the schema, whose types are checked already.

    OmegaConf's own conversion checks every value again, and a sweep has thousands of jobs.
    """
    values = {entry.name: _plain(entry.name, composed[entry.name]) for entry in fields(Config)}
    return Config(**values)


def _plain(name: str, value: Any) -> Any:
    """Returns a section as its dataclass, a list as a list, and any other value as it is.

    Raises:
        RequestError: an option that the section does not have, as `+dataset.name=value` makes one.
    """
    if not OmegaConf.is_config(value):
        return value
    content: Any = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    section = OmegaConf.get_type(value)
    if not is_dataclass(section):
        return content
    known = {entry.name for entry in fields(section)}
    for option in content:
        if option not in known:
            raise RequestError(unknown_option(f"{name}.{option}"))
    return section(**content)
