"""Names of runs: short, and with what differs first, as lists show about fifteen characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.store.records import Record

# Axes that every name has, because figures of several sweeps show them together.
_ALWAYS = ("activation", "depth", "initializer")
# Axes whose value says nothing by itself, by the letters that stand before it.
_LETTERS = {"learning_rate": "lr", "width": "w", "dataset.samples": "n"}
# Values that are left out, as they stand for the absence of something, or for what a named network
# has of its own.
_NOTHING = ("none", "own", None)
_FIRST = ("activation", "learning_rate", "depth", "width", "initializer", "normalization")


def differing(cells: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the axes that have more than one value among cells; the most telling come first."""
    cells = list(cells)
    names = dict.fromkeys(name for axes in cells for name in axes)
    several = []
    for name in names:
        values = {str(axes.get(name)) for axes in cells}
        if len(values) > 1:
            several.append(name)
    places = {name: place for place, name in enumerate(_FIRST)}
    return tuple(sorted(several, key=lambda name: places.get(name, len(places))))


def of_trial(record: Record, first: Sequence[str] = ()) -> str:
    """Returns the name of a trial's run: its cell and its seed.

    Args:
        record: the trial.
        first: the axes that the name begins with, from `differing`.
    """
    return f"{of_cell(record.axes, first)} s{record.seed}"


def of_cell(axes: Mapping[str, Any], first: Sequence[str] = ()) -> str:
    """Returns the name of a cell: the axes in `first`, then those that every name has.

    A network of a library or of the user's own is named as well.
    """
    network = ["architecture"] if "architecture.library" in axes else []
    names = [*first, *_ALWAYS, *network, "normalization"]
    shown = [name for name in dict.fromkeys(names) if axes.get(name) not in _NOTHING]
    return " ".join(_word(name, axes[name]) for name in shown)


def _word(name: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name in ("activation", "architecture"):
        return text.rpartition(":")[2]
    if name == "initializer":
        return text.removesuffix("_normal")
    if name in _ALWAYS or (isinstance(value, str) and "." not in name):
        return text
    return f"{_LETTERS.get(name, name.rpartition('.')[2] + '=')}{text}"
