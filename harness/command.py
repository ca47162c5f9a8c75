"""The command line's manners: a user's mistake is one line and exit code 2, with nothing left behind; no torch for it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import RequestError, TrialsFailed
from harness.schema import CONF_DIR, Config, known_names

_CALLABLE_CHOICE = re.compile(r"^activation=(.+)$")


def register_schema() -> None:
    """Tell Hydra what a request may contain, so that a misspelled option fails at once."""
    ConfigStore.instance().store(name="schema", node=Config)


def to_config(composed: DictConfig) -> Config:
    """A composed configuration, without Hydra's own part, as a `Config`.

    Raises:
        RequestError: a value of the wrong type.
    """
    plain = OmegaConf.create({key: composed[key] for key in composed if key not in ("hydra", "experiment")})
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), plain))
    except OmegaConfBaseException as error:
        raise RequestError(_first_line(error)) from None
    return config


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
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return to_config(hydra_compose("config", overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error)) from None


def register_callables(arguments: list[str]) -> None:
    """Make `activation=module:function` a choice like any other, also among several: `activation=selu,module:function`."""
    for argument in arguments:
        match = _CALLABLE_CHOICE.match(argument)
        for choice in match.group(1).split(",") if match else ():
            if ":" in choice:
                ConfigStore.instance().store(group="activation", name=choice.strip("'\""), node={"name": choice.strip("'\"")})


def explain(error: Exception) -> str:
    """One line for what Hydra or OmegaConf found wrong, with the choices where a name is unknown."""
    text = str(error)
    missing = re.search(r"Could not find '([\w/]+)/([^']+)'", text) or re.search(r"Could not override '(\S+?)'", text)
    if missing and missing.lastindex == 2:
        group, name = missing.groups()
        known = known_names(group)
        if group == "hydra/launcher":
            return f"unknown hydra/launcher {name!r}; run `pip install -e .` if the packed launcher is missing"
        return f"unknown {group} {name!r}; known: {', '.join(known)}" if known else _first_line(error)
    line = _first_line(error)
    key = re.search(r"Key '(\w+)' (?:is )?not in", text)
    if key:
        full = re.search(r"full_key: (\S+)", text)
        return f"unknown option {(full.group(1) if full else key.group(1))!r}; `python -m harness.train --help` lists what there is"
    return line


def run(main: Callable[[], None]) -> int:
    """Run a Hydra app and return its exit code; an unexpected error keeps its traceback."""
    asked_for_everything = "HYDRA_FULL_ERROR" in os.environ
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing, and we speak
    register_callables(sys.argv[1:])
    try:
        main()
        return 0
    except (RequestError, HydraException, OmegaConfBaseException) as error:
        if asked_for_everything:
            raise
        cause = _request_error(error)
        print(f"error: {cause if cause is not None else explain(error)}", file=sys.stderr)
        return 2
    except TrialsFailed as error:
        print(f"error: {len(error.failures)} trial(s) failed; the others are done. Their tracebacks are in runs/trials/ID/status.json", file=sys.stderr)
        for trial_id, text in error.failures.items():
            print(f"  {trial_id}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished trials are kept, and the same command goes on from here", file=sys.stderr)
        return 130


def _request_error(error: BaseException | None) -> RequestError | None:
    while error is not None:
        if isinstance(error, RequestError):
            return error
        error = error.__cause__ or error.__context__
    return None


def remove_output(folder: Path) -> None:
    """Delete what Hydra wrote for a job that was refused, and the folders above as far as they are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        if not parent.is_dir() or any(parent.iterdir()):
            break
        parent.rmdir()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
