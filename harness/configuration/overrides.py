"""Overrides as a user types them, made ready for Hydra's grammar.

Hydra reads `2024_01` as a number, and refuses a path with `~`, `=` or an umlaut that is not quoted.
Folders, addresses and names of experiments are free text here: they mean what was typed. Imports no
torch.
"""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, Sweep
from hydra.errors import HydraException

from harness.configuration.options import known_names
from harness.errors import RequestError
from harness.registry import unknown

FREE_TEXT = (
    "runs",
    "dataset.root",
    "tracking.uri",
    "tracking.artifacts",
    "tracking.experiment",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
)
# Flags of Hydra that are followed by a value.
_FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--info", "-i", "--experimental-rerun"),
)
_MOST_CELLS = 1_000_000
_OVERRIDE = re.compile(r"(\+{0,2})([^=]+)=(.*)", re.DOTALL)


def ready(arguments: Iterable[str]) -> list[str]:
    """Returns the arguments with free text quoted where Hydra would read it otherwise.

    Flags come first: Hydra reads no override behind one that stands behind another override.

    Raises:
        RequestError: Hydra cannot read a value; the message shows how to quote it.
    """
    listed = list(arguments)
    places = list(_places_of_overrides(listed))
    flags = [argument for index, argument in enumerate(listed) if index not in places]
    return flags + [_ready(listed[index]) for index in places]


def parsed(arguments: Iterable[str]) -> list[Override]:
    """Returns the overrides among arguments that are ready, parsed by Hydra."""
    listed = list(arguments)
    places = _places_of_overrides(listed)
    return [_parser().parse_override(listed[index]) for index in places]


def is_multirun(arguments: Iterable[str]) -> bool:
    """Returns whether the arguments ask for a sweep."""
    return any(argument in ("-m", "--multirun", "hydra.mode=MULTIRUN") for argument in arguments)


def check_cells(arguments: Iterable[str]) -> None:
    """Refuses what makes no sweep, or one of no cells or of more than can be held.

    Raises:
        RequestError: something else than a name for an axis of names, several values without
            `--multirun`, several folders for results, a range that holds nothing, or too many
            cells.
    """
    listed = list(arguments)
    cells = 1
    for override in parsed(listed):
        _check_names(override)
        if not override.is_sweep_override():
            continue
        line, key = override.input_line, override.key_or_group
        if not is_multirun(listed):
            raise RequestError(
                f"{line}: several values are a sweep; add --multirun, or write a list as "
                f"{key}=[...]"
            )
        if key == "runs":
            raise RequestError(f"{line}: a sweep has one folder for results; run it once for each")
        is_listed = override.is_choice_sweep() and not isinstance(override.value(), Glob)
        if is_listed or override.is_range_sweep():
            values = itertools.islice(override.sweep_iterator(), _MOST_CELLS + 1)
            cells *= sum(1 for _ in values)
        if cells == 0:
            raise RequestError(f"{line}: the range holds no value, so there is nothing to train")
        if cells > _MOST_CELLS:
            raise RequestError(
                f"{line}: a sweep of more than {_MOST_CELLS:,} cells; give fewer values"
            )


def _check_names(override: Override) -> None:
    """Refuses a number, a list or nothing where a file of conf is chosen by its name.

    Hydra has tracebacks for some of them, and of a list of names it takes the last one alone.

    Raises:
        RequestError: a value that is no name.
    """
    group = override.key_or_group
    known = known_names(group) if re.fullmatch(r"\w+", group) else []
    if not known and "/" not in group and group not in ("", "hydra"):
        return
    value = override.value()
    for name in value.list if isinstance(value, ChoiceSweep) else [value]:
        if isinstance(name, (str, QuotedString, Glob, dict)) or override.is_delete():
            continue
        if isinstance(name, list):
            raise RequestError(
                f"{override.input_line}: expected one name; several are a sweep: add --multirun "
                f"and write {group}=NAME,NAME"
            )
        if not known or isinstance(name, Sweep):
            raise RequestError(f"{override.input_line}: expected a name")
        raise unknown(group, "null" if name is None else name, known)


def value_of(arguments: Iterable[str], key: str, default: Any) -> Any:
    """Returns the last value that ready arguments give an option, or the default."""
    values = [override.value() for override in parsed(arguments) if override.key_or_group == key]
    return values[-1] if values else default


def unreadable(line: str, reason: str) -> RequestError:
    """Returns the error for an override that Hydra cannot read, with the quoting that helps.

    `reason` is the text of Hydra's error.
    """
    reason = reason.splitlines()[0]
    if reason.startswith("LexerNoViableAlt"):
        reason = "unexpected character"
    match = _OVERRIDE.fullmatch(line)
    hint = ""
    if match is not None:
        prefix, key, value = match.groups()
        quoted = f"{prefix}{key}={_quoted(value)}"
        hint = f"; text with special characters needs quotes: {_for_shell(quoted)}"
    return RequestError(f"{line}: the value cannot be read ({reason}){hint}")


def _places_of_overrides(arguments: list[str]) -> Iterator[int]:
    for index, argument in enumerate(arguments):
        follows_flag = index > 0 and arguments[index - 1] in _FLAGS_WITH_VALUE
        if not argument.startswith("-") and not follows_flag:
            yield index


def _ready(argument: str) -> str:
    match = _OVERRIDE.fullmatch(argument)
    prefix, key, raw = match.groups() if match else ("", "", "")
    quoted = f"{prefix}{key}={_quoted(raw)}"
    try:
        override = _parser().parse_override(argument)
    except HydraException as error:
        if key in FREE_TEXT:
            return quoted
        raise unreadable(argument, str(error)) from None
    if key not in FREE_TEXT or override.is_sweep_override():
        return argument
    value = override.value()
    written_for_hydra = raw.lstrip()[:1] in ("'", '"') or "\\" in raw
    if written_for_hydra or value is None or isinstance(value, (list, dict)):
        return argument
    return argument if str(value) == raw else quoted


def _quoted(text: str) -> str:
    """Returns the text in single quotes, as Hydra's grammar escapes it."""
    escaped = re.sub(r"(\\*)('|$)", _escape_match, text)
    return f"'{escaped}'"


def _escape_match(match: re.Match[str]) -> str:
    backslashes, quote = match.groups()
    return 2 * backslashes + ("\\'" if quote else "")


def _for_shell(text: str) -> str:
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
