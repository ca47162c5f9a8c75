"""The declaration of a statistic: the columns that it fills, what they mean, and its cost.

The README of this folder, the sets of statistics that a probe measures and the tests all derive
from these declarations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.probes.columns import Columns
from harness.probes.readings import LayerReading
from harness.registry import Registry

Statistic = Callable[[LayerReading], Columns]

# The costs that a statistic can have, and the probes that measure it.
COSTS: dict[str, str] = {
    "quick": "Measured at every probe",
    "slow": "Measured at the first and the last probe, with `probe=full` at every probe",
    "intervals": "Measured with `probe=full` only, at every probe",
}


@dataclass(frozen=True)
class StatisticSpec:
    """A declared statistic.

    Attributes:
        function: maps a reading to its columns, each of shape (trials,).
        cost: a key of `COSTS`.
        columns: meanings by column name or pattern, see `expand`.
    """

    function: Statistic
    cost: str
    columns: Mapping[str, str]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """The first paragraph of the function's docstring, on one line."""
        paragraph = inspect.getdoc(self.function).split("\n\n")[0]
        return " ".join(paragraph.split())

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns that the statistic can fill."""
        return expand_all(self.columns)


specs: Registry = Registry("statistic")


def statistic(cost: str, columns: Mapping[str, str]) -> Callable[[Statistic], Statistic]:
    """Declares the decorated function as a statistic; the function itself stays as it is.

    Args:
        cost: a key of `COSTS`, which decides at which probes it is measured.
        columns: what each column means, by name or by a pattern such as `tau_{mean,sd}`.

    Raises:
        ValueError: unknown cost, or a column or statistic that is declared twice.
    """
    if cost not in COSTS:
        raise ValueError(f"cost {cost!r} of a statistic: expected one of {', '.join(COSTS)}")

    def declare(function: Statistic) -> Statistic:
        spec = StatisticSpec(function, cost, columns)
        for name in specs:
            shared = set(specs[name].column_names) & set(spec.column_names)
            if shared:
                raise ValueError(
                    f"column {min(shared)!r} is declared by both {name!r} and {spec.name!r}"
                )
        specs.register(spec.name)(spec)
        return function

    return declare


def expand(pattern: str) -> tuple[str, ...]:
    """Returns the names that a pattern stands for: `a{,_x}_{y,z}` is a_y, a_z, a_x_y and a_x_z."""
    head, brace, rest = pattern.partition("{")
    if not brace:
        return (pattern,)
    choices, _, tail = rest.partition("}")
    endings = expand(tail)
    return tuple(head + choice + ending for choice in choices.split(",") for ending in endings)


def expand_all(columns: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names that all patterns stand for, in order."""
    names: list[str] = []
    for pattern in columns:
        names.extend(expand(pattern))
    return tuple(names)
