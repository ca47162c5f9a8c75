"""The commands that run a report's cells again.

A specification is turned back into overrides such as `activation=selu optimizer.learning_rate=0.1`.
A setting that has its default in every cell needs no override.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import prod
from pathlib import Path
from typing import Any

import omegaconf
from omegaconf import OmegaConf

from harness.configuration.layer_lists import default_size
from harness.configuration.named_networks import FACTORY, OWN
from harness.configuration.schema import CONF_DIR, Config, known_names
from harness.reports.axis_values import ordered, plain_value
from harness.reports.evidence import Evidence

# A cell's specification as overrides: `activation`, `activation.alpha`, `depth`, ...
Settings = Mapping[str, Any]

# Groups whose files are bundles of values: a specification keeps the values, not the file's name.
_BUNDLES = ("budget", "probe")
# Parts of a specification that a run finds out by itself.
_DERIVED = (
    *("rules_version", "dataset.fingerprint"),
    *("activation.source", "architecture.source"),
)
# Settings that are always given where they vary, because the question is about them.
_ALWAYS_GIVEN = ("activation", "initializer", "normalization", "depth", "dataset")
# Settings that a specification leaves out when they were not asked for.
_ABSENT = {"budget.epochs": None, "budget.steps": None, "repair": "none"}
_NO_DEFAULT = object()


@dataclass(frozen=True)
class Command:
    """A command line: `cells` counts the cells of the report that it runs, `grid` all it runs."""

    text: str
    cells: int
    grid: int


def commands(evidence: Evidence) -> list[Command]:
    """Returns as few commands as possible whose grids cover the finished cells.

    Cells that need the same overrides share a command; an option that only some cells have makes a
    second one.
    """
    trials = evidence.finished
    rows = trials.groupby("cell_id", sort=False).first().filter(like="spec.")
    settings = {str(cell_id): _settings(row) for cell_id, row in rows.iterrows()}
    bundles = {group: _nearest_bundle(group, settings.values()) for group in _BUNDLES}
    given = _given_keys(settings.values(), bundles)
    overrides: dict[str, Settings] = {}
    for cell_id, cell in settings.items():
        overrides[cell_id] = {key: value for key, value in cell.items() if key in given}
    result = []
    for cell_ids in _cells_by_keys(overrides):
        cells = [overrides[cell_id] for cell_id in cell_ids]
        seeds = {int(seed) for seed in trials["seed"][trials["cell_id"].isin(cell_ids)]}
        result.append(_command(cells, sorted(seeds), bundles))
    return result


def _settings(row: Any) -> Settings:
    """Returns the settings of a cell from the `spec.` columns of one of its trials."""
    settings = dict(_ABSENT)
    for column, value in row.items():
        name = column.removeprefix("spec.").removesuffix(".name")
        if name not in _DERIVED and not _is_absent(value):
            settings[name] = plain_value(value)
    derived = ("initializer.sigma_w2", "initializer.sigma_b2")
    is_critical = settings.get("initializer") == "edge_of_chaos"
    for name in (*_sizes_of_lists(settings), *(derived if is_critical else ())):
        settings.pop(name, None)
    return _with_named_network(settings)


def _with_named_network(settings: dict[str, Any]) -> Settings:
    """Returns the settings with a network of a library or a factory as a user asks for it.

    Its size and the parts that are its own are not asked for.
    """
    library = settings.pop("architecture.library", None)
    if library is None:
        return settings
    if library != FACTORY:
        settings["architecture.name"] = settings["architecture"]
        settings["architecture"] = library
    if settings["architecture.replace"] == _options("architecture", library)["replace"]:
        del settings["architecture.replace"]
    own = [name for name, value in settings.items() if value == OWN]
    for name in ("depth", *own):
        settings.pop(name, None)
    return settings


def _sizes_of_lists(settings: Settings) -> tuple[str, ...]:
    """Returns the sizes that follow from a list of layers or of widths."""
    if "architecture.layers" in settings:
        return "depth", "width"
    return ("depth",) if str(settings.get("width")).startswith("[") else ()


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _nearest_bundle(group: str, cells: Iterable[Settings]) -> str:
    """Returns the bundle that needs fewest overrides; the default one where several do."""
    cells = list(cells)
    default = _primary()[group]
    names = known_names(group)
    return min(names, key=lambda name: (_overrides_beside(group, name, cells), name != default))


def _overrides_beside(group: str, name: str, cells: list[Settings]) -> int:
    """Returns how many settings of a group differ from those of a bundle in any cell."""
    options = _options(group, name)
    keys: set[str] = set()
    for cell in cells:
        keys.update(key for key in cell if key.startswith(f"{group}."))
    count = 0
    for key in keys:
        usual = options.get(key.partition(".")[2])
        count += any(cell.get(key) != usual for cell in cells)
    return count


def _given_keys(cells: Iterable[Settings], bundles: Mapping[str, str]) -> set[str]:
    """Returns the settings that a command must name."""
    cells = list(cells)
    given: set[str] = set()
    for cell in cells:
        defaults = _defaults(cell, bundles)
        given.update(key for key, value in cell.items() if value != defaults.get(key, _NO_DEFAULT))
    for key in _ALWAYS_GIVEN:
        if len({cell.get(key) for cell in cells}) > 1:
            given.add(key)
    return given


def _defaults(cell: Settings, bundles: Mapping[str, str]) -> Settings:
    """Returns the settings of a cell without its overrides."""
    defaults = {"budget.epochs": None, "budget.steps": None, **_primary()}
    for group in _groups():
        name = bundles.get(group) or str(cell.get(group, ""))
        for key, value in _options(group, name).items():
            if key != "name":
                defaults[f"{group}.{key}"] = value
    return defaults


@functools.cache
def _groups() -> tuple[str, ...]:
    """Returns the groups of the configuration, which are folders of choices."""
    config = Config()
    return tuple(
        field.name for field in fields(Config) if is_dataclass(getattr(config, field.name))
    )


@functools.cache
def _primary() -> Settings:
    """Returns top-level values and the default choice of every group, from config.yaml."""
    primary = _file(CONF_DIR / "config.yaml")
    settings: dict[str, Any] = {}
    for entry in primary["defaults"]:
        if isinstance(entry, dict):
            settings.update(entry)
    for key, value in primary.items():
        if key not in ("defaults", "hydra"):
            settings[key] = default_size(value)
    return settings


def _file(path: Path) -> dict[str, Any]:
    """Returns the values of a configuration file, with references as they stand."""
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@functools.cache
def _options(group: str, name: str) -> Settings:
    """Returns the values of one choice: schema, then file."""
    section = type(getattr(Config(), group))
    options: dict[str, Any] = {}
    for field in fields(section):
        if field.default not in (MISSING, omegaconf.MISSING):
            options[field.name] = field.default
    file = CONF_DIR / group / f"{name}.yaml"
    if file.exists():
        options.update(_file(file))
    for key, value in options.items():
        if isinstance(value, list):
            options[key] = json.dumps(value)
    return options


def _cells_by_keys(overrides: Mapping[str, Settings]) -> list[list[str]]:
    """Returns the cells in groups that need the same overrides."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for cell_id, cell in overrides.items():
        groups.setdefault(tuple(sorted(cell)), []).append(cell_id)
    return [groups[keys] for keys in sorted(groups)]


def _command(cells: list[Settings], seeds: list[int], bundles: Mapping[str, str]) -> Command:
    """Returns the command whose grid covers cells with the same keys."""
    words = [f"{group}={name}" for group, name in bundles.items() if name != _primary()[group]]
    sizes = []
    for key in cells[0]:
        # As JSON, because a list cannot be a member of a set.
        texts = {json.dumps(cell[key]) for cell in cells}
        levels = ordered([json.loads(text) for text in texts])
        sizes.append(len(levels))
        words.append(f"{key}={','.join(_word(level) for level in levels)}")
    words.append(_seeds_word(seeds))
    distinct = len({json.dumps(cell, sort_keys=True) for cell in cells})
    text = "python -m harness.train --multirun " + " ".join(shlex.quote(word) for word in words)
    return Command(text, distinct, prod(sizes))


def _seeds_word(seeds: list[int]) -> str:
    if seeds == list(range(len(seeds))):
        return f"seeds={len(seeds)}"
    return f"seeds=[{','.join(map(str, seeds))}]"


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        # Hydra takes no quotation marks about the keys of a dict in a list.
        listed = value.replace('"', "") if value.startswith("[") else value
        return listed.replace(" ", "")
    return json.dumps(value)
