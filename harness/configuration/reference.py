"""The reference of all axes and options, `conf/README.md`, generated from the files in conf."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.configuration.layer_lists import default_size
from harness.configuration.options import CONF_DIR, known_names, options
from harness.configuration.schema import Config

_INTRODUCTION = """\
# Axes and options

This file is generated from the files in this folder by `scripts/document.py`; edit those.

A request is `axis=value` and `axis.option=value`, several values with `--multirun`:

```bash
python -m harness.train --multirun activation=selu,relu depth=4,8 optimizer.learning_rate=0.01
```

A value is a file `AXIS/VALUE.yaml`. An option that the chosen value does not take is refused, but
for `normalization.position`, `dataset.root` and `dataset.download`, which are ignored where they
mean nothing. Results go to `runs=FOLDER`.
"""

_ENTRY = re.compile(r"^(?P<key>\w+): *(?P<value>.*?)(?: +# (?P<comment>.*))?$")
_AXIS = re.compile(r"^  - (?P<key>\w+): *(?P<value>\S+)(?: +# (?P<comment>.*))?$")
# Leading comments that say something else than what a value is.
_HEADER = "@package"
_END_OF_DESCRIPTION = ("Source:", "Command:")


@dataclass(frozen=True)
class Entry:
    """A line `key: value  # comment` of a file in conf."""

    key: str
    value: str
    comment: str


def reference() -> str:
    """Returns the reference as Markdown."""
    lines = (CONF_DIR / "config.yaml").read_text(encoding="utf-8").splitlines()
    parts = [_INTRODUCTION]
    for axis in _entries(lines, _AXIS):
        parts.append(_axis_chapter(axis))
    top_level = list(_entries(lines, _ENTRY, known={entry.name for entry in fields(Config)}))
    rows = [
        [f"`{entry.key}`", f"`{default_size(entry.value)}`", entry.comment] for entry in top_level
    ]
    table = _table(["value", "default", "meaning"], rows)
    parts.append(f"## Single values\n\n{table}")
    return "\n".join(parts)


def description(path: Path) -> str:
    """Returns what a file in conf is: its leading comment up to the source or the command."""
    text = ""
    for comment in _leading_comments(path):
        if comment.startswith(_END_OF_DESCRIPTION):
            break
        if not comment.startswith(_HEADER):
            text = f"{text} {comment}".strip()
    return text


def _axis_chapter(axis: Entry) -> str:
    """Returns the chapter of one axis: its values, then the options of each."""
    names = known_names(axis.key)
    rows = []
    for name in names:
        meaning = description(CONF_DIR / axis.key / f"{name}.yaml").removeprefix("Question: ")
        taken = ", ".join(f"`{option}`" for option in _listed_options(axis.key, name))
        rows.append([f"`{name}`", meaning, taken])
    header = ["value", "meaning", "options"]
    if not any(taken for _, _, taken in rows):
        header = header[:2]
        rows = [row[:2] for row in rows]
    default = "none" if axis.value == "null" else f"`{axis.value}`"
    chapter = f"## `{axis.key}`\n\n{_sentence(axis.comment)} Default: {default}.\n\n"
    chapter += _table(header, rows)
    option_rows = _option_rows(axis.key, names)
    if option_rows:
        header = ["option", "default", "of", "meaning"]
        chapter += f"\n{_table(header, option_rows)}"
    return chapter


def _option_rows(group: str, names: list[str]) -> list[list[str]]:
    """Returns a row for every option of a group; names with one comment share a row."""
    takers: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        listed = _listed_options(group, name)
        path = CONF_DIR / group / f"{name}.yaml"
        for entry in _entries(path.read_text(encoding="utf-8").splitlines(), _ENTRY):
            if entry.key in listed:
                takers.setdefault((entry.key, entry.comment), {})[name] = entry.value
    rows = []
    for (key, comment), values in sorted(takers.items()):
        whose = "all" if len(values) == len(names) else ", ".join(f"`{name}`" for name in values)
        rows.append([f"`{group}.{key}`", _defaults_cell(values), whose, comment])
    in_files = {key for key, _ in takers}
    for option in _section_options(group):
        if option.key not in in_files:
            rows.append([f"`{group}.{option.key}`", f"`{option.value}`", "all", option.comment])
    return rows


def _defaults_cell(values: dict[str, str]) -> str:
    """Returns one default, or where they differ each with the names that have it."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    if len(names) == 1:
        return f"`{next(iter(names))}`"
    return ", ".join(f"`{value}` ({', '.join(whose)})" for value, whose in names.items())


def _listed_options(group: str, name: str) -> tuple[str, ...]:
    """Returns the options in a file; arms and experiments set values of other axes instead."""
    has_section = is_dataclass(getattr(Config(), group, None))
    return options(group, name) if has_section else ()


def _section_options(group: str) -> list[Entry]:
    """Returns the options that a group's section declares by hand; none without a section."""
    section = getattr(Config(), group, None)
    if not is_dataclass(section):
        return []
    return [
        Entry(entry.name, _yaml(entry.default), entry.metadata["comment"])
        for entry in fields(section)
        if "comment" in entry.metadata
    ]


def _yaml(value: Any) -> str:
    """Returns a default as it stands in a YAML file."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _entries(
    lines: list[str], pattern: re.Pattern[str], known: set[str] | None = None
) -> Iterator[Entry]:
    """Yields the lines that match a pattern; `known` restricts their keys."""
    for line in lines:
        match = pattern.match(line)
        if match and (known is None or match["key"] in known):
            yield Entry(match["key"], match["value"], match["comment"] or "")


def _leading_comments(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").strip()


def _sentence(comment: str) -> str:
    return f"{comment[:1].upper()}{comment[1:]}."


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
