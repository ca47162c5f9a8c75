"""The commands that run a report's cells again, from their specifications and the files in conf."""

from __future__ import annotations

import functools
import json
import shlex
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import groupby
from math import prod
from typing import Any

import omegaconf
from omegaconf import OmegaConf

from harness.configuration.schema import CONF_DIR, Config, known_names
from harness.reports.evidence import Evidence, ordered, plain_value

# Groups whose files are bundles of values: the specification keeps the values and not the file's name.
_BUNDLES = ("budget", "probe")
# Part of what identifies a trial, but found by the run itself.
_FOUND = ("rules_version", "dataset.fingerprint", "activation.source")


@dataclass(frozen=True)
class Command:
    """A command line; `cells` counts those of the report that it runs, `grid` all that it runs."""

    text: str
    cells: int
    grid: int


def commands(evidence: Evidence) -> list[Command]:
    """As few commands as possible whose grids cover the finished cells; options that only some cells have part them."""
    cells = evidence.finished.groupby("cell_id", sort=False)
    settings = {
        cell_id: _settings(row) for cell_id, row in cells.first().filter(like="spec.").iterrows()
    }
    bundles = {group: _nearest(group, list(settings.values())) for group in _BUNDLES}
    usual = {cell_id: _usual(cell, bundles) for cell_id, cell in settings.items()}
    # A setting at its usual value in every cell needs no word; `activation=...` and the like are always said where they vary.
    told = {
        key
        for cell_id, cell in settings.items()
        for key, value in cell.items()
        if value != usual[cell_id].get(key, _NONE)
    }
    told |= {
        key
        for key in ("activation", "initializer", "normalization", "depth", "dataset")
        if len({cell.get(key) for cell in settings.values()}) > 1
    }
    words = {
        cell_id: {key: value for key, value in cell.items() if key in told}
        for cell_id, cell in settings.items()
    }
    kinds = sorted(words, key=lambda cell_id: sorted(words[cell_id]))
    made = []
    for _, kind in groupby(kinds, key=lambda cell_id: sorted(words[cell_id])):
        members = list(kind)
        seeds = sorted(
            {int(seed) for cell_id in members for seed in cells.get_group(cell_id)["seed"]}
        )
        made.append(_command([words[cell_id] for cell_id in members], seeds, bundles))
    return made


_NONE = object()


def _settings(row: Any) -> dict[str, Any]:
    """A cell's specification as overrides: `activation`, `activation.alpha`, `depth`, ..."""
    known = {
        name.removeprefix("spec."): plain_value(value)
        for name, value in row.items()
        if not _absent(value)
    }
    settings = {
        name.removesuffix(".name"): value for name, value in known.items() if name not in _FOUND
    }
    return {
        "budget.epochs": None,
        "budget.steps": None,
        "repair": "none",
    } | settings  # absent when not asked for


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _usual(cell: dict[str, Any], bundles: dict[str, str]) -> dict[str, Any]:
    """What the same names and bundles stand for when nothing else is said."""
    values = dict(_primary())
    for group in (
        field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))
    ):
        name = bundles.get(group) or str(cell.get(group, ""))
        values |= {
            f"{group}.{key}": value for key, value in _options(group, name).items() if key != "name"
        }
    return {"budget.epochs": None, "budget.steps": None} | values


@functools.cache
def _primary() -> dict[str, Any]:
    """Top-level values and the default choice of every group, from config.yaml."""
    primary = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "config.yaml"), resolve=False)
    chosen = {
        group: name
        for entry in primary["defaults"]
        if isinstance(entry, dict)
        for group, name in entry.items()
    }
    return chosen | {
        key: value for key, value in primary.items() if key not in ("defaults", "hydra")
    }


@functools.cache
def _options(group: str, name: str) -> dict[str, Any]:
    """The values of one choice: the schema's defaults, then the file's."""
    section = type(getattr(Config(), group))
    defaults = {
        field.name: field.default
        for field in fields(section)
        if field.default not in (MISSING, omegaconf.MISSING)
    }
    file = CONF_DIR / group / f"{name}.yaml"
    told = OmegaConf.to_container(OmegaConf.load(file)) if file.exists() else {}
    return {
        key: json.dumps(value) if isinstance(value, list) else value
        for key, value in (defaults | told).items()
    }


def _nearest(group: str, cells: list[dict[str, Any]]) -> str:
    """The bundle that leaves fewest values to be said; the default one where several do."""

    def differences(name: str) -> tuple[int, bool]:
        options = _options(group, name)
        keys = {key for cell in cells for key in cell if key.startswith(f"{group}.")}
        missed = {
            key
            for key in keys
            for cell in cells
            if cell.get(key) != options.get(key.partition(".")[2])
        }
        return len(missed), name != _primary()[group]

    return min(known_names(group), key=differences)


def _command(cells: list[dict[str, Any]], seeds: list[int], bundles: dict[str, str]) -> Command:
    levels = {
        key: ordered([json.loads(text) for text in {json.dumps(cell[key]) for cell in cells}])
        for key in cells[0]
    }
    parts = [f"{group}={name}" for group, name in bundles.items() if name != _primary()[group]]
    parts += [
        f"{key}={','.join(_word(level) for level in values)}" for key, values in levels.items()
    ]
    parts.append(
        f"seeds={len(seeds)}"
        if seeds == list(range(len(seeds)))
        else f"seeds=[{','.join(map(str, seeds))}]"
    )
    distinct = len({json.dumps(cell, sort_keys=True) for cell in cells})
    text = "python -m harness.train --multirun " + " ".join(shlex.quote(part) for part in parts)
    return Command(text, distinct, prod(len(values) for values in levels.values()))


def _word(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).replace(" ", "") if isinstance(value, str) else json.dumps(value)
