"""All criteria: what each assumption claims, what decides, and by which thresholds.

A criterion compares one column of the layer table with a prediction, and its effect decides the
verdict: the assumption holds while the effect lies inside `holds`, is strained inside `strained`,
and fails beyond. Its verdict is that of its worst criterion that decides.

All intervals are at 99 %. Where the band of the prediction and the interval of the measurement do
not overlap (a number without an interval is a point; two points are not compared), theory is at
fault if the prediction is theory's. If it is the assumption's own value, the deviation is more
than chance.

A new criterion is one more entry in the file of its assumption.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from harness.verdicts import (
    contraction_criteria,
    dependence_criteria,
    gaussianity_criteria,
    input_criteria,
    weight_criteria,
)
from harness.verdicts.criterion import Criterion

# Goes up whenever a threshold, a formula or the list of criteria changes.
VERSION = 2

_ASSUMPTIONS = (
    input_criteria,
    weight_criteria,
    gaussianity_criteria,
    dependence_criteria,
    contraction_criteria,
)


@dataclass(frozen=True)
class Criteria:
    """A version of all criteria.

    Attributes:
        version: number of the version, which every report prints.
        claims: the sentence that each assumption claims, by its name.
        criteria: all criteria, in the order of the assumptions.
    """

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
        names = [criterion.column for criterion in self.criteria]
        for criterion in self.criteria:
            for formula in criterion.formulas:
                names += formula.columns
        return tuple(dict.fromkeys(name for name in names if name != "prediction"))


@functools.lru_cache(maxsize=1)
def load() -> Criteria:
    """Returns the criteria that ship with the package."""
    claims = {module.ASSUMPTION: module.CLAIM for module in _ASSUMPTIONS}
    criteria: list[Criterion] = []
    for module in _ASSUMPTIONS:
        criteria += module.CRITERIA
    return Criteria(VERSION, claims, tuple(criteria))
