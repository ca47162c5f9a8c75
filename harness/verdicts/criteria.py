"""All criteria: what each premise and promise claims, what decides, and by which thresholds.

A premise is what the theory of SELU assumes of a layer, a promise is what it concludes; both are
conditions, which hold or not. A criterion compares one column of the layer table with a prediction,
and its effect decides the verdict: the condition holds while the effect lies inside `holds`, is
strained inside `strained`, and fails beyond. The verdict on a condition is that of its worst
criterion that decides. Every threshold is a theorem's own or an effect whose consequence is said.

All intervals are at 99 %. Where the band of the prediction and the interval of the measurement do
not overlap (a number without an interval is a point; two points are not compared), theory is at
fault if the prediction is theory's. If it is the condition's own value, the deviation is more than
chance.

A new criterion is one more entry in the file of its condition.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from harness.verdicts import (
    contraction_criteria,
    dependence_criteria,
    gaussianity_criteria,
    gradients_criteria,
    input_criteria,
    moments_criteria,
    units_criteria,
    weight_criteria,
)
from harness.verdicts.criterion import Criterion

# Goes up whenever a threshold, a formula or the list of criteria changes.
VERSION = 3

_PREMISES = (input_criteria, weight_criteria, gaussianity_criteria, dependence_criteria)
_PROMISES = (moments_criteria, units_criteria, contraction_criteria, gradients_criteria)


@dataclass(frozen=True)
class Criteria:
    """A version of all criteria.

    Attributes:
        version: number of the version, which every report prints.
        premises: names of what the theory assumes of a layer.
        promises: names of what the theory concludes about a layer.
        claims: the sentence that each premise or promise claims, by its name.
        criteria: all criteria, premises first.
    """

    version: int
    premises: tuple[str, ...]
    promises: tuple[str, ...]
    claims: dict[str, str]
    criteria: tuple[Criterion, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all conditions, premises first."""
        return self.premises + self.promises

    def deciding(self, name: str) -> tuple[Criterion, ...]:
        """Returns the criteria that decide on a premise or promise."""
        return tuple(
            criterion
            for criterion in self.criteria
            if criterion.condition == name and criterion.decides
        )

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
    modules = _PREMISES + _PROMISES
    criteria: list[Criterion] = []
    for module in modules:
        criteria += module.CRITERIA
    return Criteria(
        VERSION,
        tuple(module.NAME for module in _PREMISES),
        tuple(module.NAME for module in _PROMISES),
        {module.NAME: module.CLAIM for module in modules},
        tuple(criteria),
    )
