"""The criteria of `criteria.json`: what each assumption claims, what decides, and by which thresholds."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.verdicts.formulas import Formula, parse

PATH = Path(__file__).with_name("criteria.json")


@dataclass(frozen=True)
class Criterion:
    """One comparison. Alternatives of a formula stand in order of preference; an empty tuple says that there is none.

    Attributes:
        column: the measured column.
        by_theory: whether the prediction is theory's, so that a miss is theory's fault, or the value that the assumption names.
        prediction, low, high: what theory says, and its 99 % band; the latter two may use the name `prediction`.
        measured_low, measured_high: the 99 % interval of the measured column over samples and units.
        effect: what decides, compared with the intervals `holds` and `strained` around `target`.
        decides: False for what is reported beside the verdict.
    """

    assumption: str
    name: str
    column: str
    by_theory: bool
    prediction: tuple[Formula, ...]
    low: tuple[Formula, ...]
    high: tuple[Formula, ...]
    measured_low: tuple[Formula, ...]
    measured_high: tuple[Formula, ...]
    effect: tuple[Formula, ...]
    target: float
    holds: tuple[float, float]
    strained: tuple[float, float]
    decides: bool
    source: str


@dataclass(frozen=True)
class Criteria:
    """`claims` maps each assumption to what it says; `criteria` are in the order of the file."""

    version: int
    claims: dict[str, str]
    criteria: tuple[Criterion, ...]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The names of the assumptions in their order."""
        return tuple(self.claims)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the layer table that any criterion reads."""
        formulas = (
            formula
            for one in self.criteria
            for formula in (
                *one.prediction,
                *one.low,
                *one.high,
                *one.measured_low,
                *one.measured_high,
                *one.effect,
            )
        )
        return tuple(
            dict.fromkeys(
                [
                    *(one.column for one in self.criteria),
                    *(
                        name
                        for formula in formulas
                        for name in formula.columns
                        if name != "prediction"
                    ),
                ]
            )
        )


@functools.lru_cache(maxsize=1)
def load() -> Criteria:
    """The criteria that ship with the package."""
    data = json.loads(PATH.read_text(encoding="utf-8"))
    claims = {name: entry["claim"] for name, entry in data["assumptions"].items()}
    criteria = [
        _criterion(name, record)
        for name, entry in data["assumptions"].items()
        for record in entry["criteria"]
    ]
    return Criteria(data["version"], claims, tuple(criteria))


def _criterion(assumption: str, record: dict[str, Any]) -> Criterion:
    def formulas(key: str) -> tuple[Formula, ...]:
        texts = record.get(key, [])
        return tuple(parse(text) for text in ([texts] if isinstance(texts, str) else texts))

    return Criterion(
        assumption,
        record["name"],
        record["column"],
        record["predicted_by"] == "theory",
        formulas("prediction"),
        formulas("band_low"),
        formulas("band_high"),
        formulas("measured_low"),
        formulas("measured_high"),
        formulas("effect"),
        record["target"],
        tuple(record["holds"]),
        tuple(record["strained"]),
        record["decides"],
        record["source"],
    )
