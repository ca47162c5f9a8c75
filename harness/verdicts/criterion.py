"""The parts of a criterion: formulas over columns, intervals, thresholds.

A formula takes columns of the layer table by the names of its parameters:

    @formula("tau_sd / tau_mean")
    def relative_spread(tau_mean: Array, tau_sd: Array) -> Array:
        return tau_sd / tau_mean
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.float64]

# Half the width of a 99 % interval, in standard deviations of a Gaussian.
Z_99 = 2.576


@dataclass(frozen=True)
class Formula:
    """A function of columns of the layer table.

    Attributes:
        function: takes one array (rows,) for each column, by name, and returns (rows,) or a number.
        columns: the names of the columns, in alphabetical order.
        description: the formula as it is written in reasons and on pages.
    """

    function: Callable[..., Array | float]
    columns: tuple[str, ...]
    description: str

    def __call__(self, values: Mapping[str, Array]) -> Array | float:
        """Returns the value, which is NaN or infinite where the arithmetic is."""
        arguments = {name: values[name] for name in self.columns}
        with numpy.errstate(all="ignore"):
            return self.function(**arguments)


@dataclass(frozen=True)
class Interval:
    """The two ends of a 99 % interval."""

    low: Formula
    high: Formula


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A comparison of one measured column with its prediction.

    Alternatives of a formula stand in order of preference; the first that gives a number counts.

    Attributes:
        condition: name of the premise or promise that the criterion judges.
        name: the quantity in words.
        column: the measured column of the layer table.
        prediction: alternatives; empty where there is no prediction.
        by_theory: True where the prediction is theory's, so that a miss is theory's fault. False
            where it is the value that the premise or promise itself names.
        band: 99 % band of the prediction. Its formulas may take `prediction` like a column.
        measured_interval: 99 % interval of the measured column over samples and units.
        effect: alternatives; the effect decides the verdict.
        target: value of the effect at which the condition holds exactly.
        holds: interval of effects that hold, around `target`.
        strained: interval of effects that are strained, around `holds`; beyond it they fail.
        basis: `theorem` where the thresholds are those of a theorem, `consequence` where they are
            effects whose consequence can be said.
        consequence: what is true at the thresholds, in one sentence.
        decides: False for a criterion that is reported beside the verdict only.
        source: paper and equation.
    """

    condition: str
    name: str
    column: str
    by_theory: bool
    effect: tuple[Formula, ...]
    target: float
    holds: tuple[float, float]
    strained: tuple[float, float]
    basis: str
    consequence: str
    source: str
    prediction: tuple[Formula, ...] = ()
    band: Interval | None = None
    measured_interval: Interval | None = None
    decides: bool = True

    @property
    def formulas(self) -> tuple[Formula, ...]:
        """All formulas of the criterion, those of its intervals included."""
        intervals = [part for part in (self.band, self.measured_interval) if part is not None]
        ends = [end for interval in intervals for end in (interval.low, interval.high)]
        return (*self.prediction, *ends, *self.effect)


def column(name: str) -> Formula:
    """Returns the formula that is a column itself."""
    return Formula(lambda **values: values[name], (name,), name)


def constant(value: float) -> Formula:
    """Returns the formula that reads no column and always has one value."""
    return Formula(lambda: value, (), f"{value:g}")


def formula(description: str) -> Callable[[Callable[..., Array]], Formula]:
    """Returns a decorator that makes a formula of a function of columns."""

    def declare(function: Callable[..., Array]) -> Formula:
        return Formula(function, _parameters(function), description)

    return declare


def interval(function: Callable[..., tuple[Array, Array]]) -> Interval:
    """Decorates a function of columns that returns the ends (low, high) of an interval."""
    columns = _parameters(function)
    low = Formula(lambda **values: function(**values)[0], columns, "low end")
    high = Formula(lambda **values: function(**values)[1], columns, "high end")
    return Interval(low, high)


def interval_columns(name: str) -> Interval:
    """Returns the interval that the table holds in the columns `<name>_low` and `<name>_high`."""
    return Interval(column(f"{name}_low"), column(f"{name}_high"))


def _parameters(function: Callable[..., object]) -> tuple[str, ...]:
    return tuple(sorted(inspect.signature(function).parameters))
