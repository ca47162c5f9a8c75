"""Arms as lines of a figure: their names, and one style for each in every figure.

An arm is a combination of the varied ones of activation, initializer and normalization.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas

from harness.reports.axis_values import ordered, value_label
from harness.reports.evidence import CONFIRMATION, Evidence
from harness.reports.figure_style import ARM_COLOURS, LINE_STYLES, activation_colour

# In the order in which arms are sorted: unnormalized ones stand first.
ARM_AXES = ("normalization", "activation", "initializer")
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class ArmStyle:
    """The colour, dashes and marker of an arm's line."""

    colour: str
    dashes: str
    marker: str


@dataclass(frozen=True)
class Arms:
    """The arms of a report.

    Attributes:
        names: (trials,), the arm of each finished trial, with the index of `Evidence.finished`.
        styles: by arm its style, in the order of legends.
    """

    names: pandas.Series
    styles: dict[str, ArmStyle]

    def first(self, count: int, present: pandas.Series) -> list[str]:
        """Returns at most `count` arms of those that are present, in the order of legends."""
        there = set(present)
        return [name for name in self.styles if name in there][:count]


def arms(evidence: Evidence) -> Arms:
    """Returns the arms of the finished trials."""
    trials = evidence.finished
    axes = [axis for axis in ARM_AXES if axis in evidence.varied]
    if not axes:
        name = value_label("activation", trials["activation"].iloc[0])
        return Arms(
            pandas.Series(name, index=trials.index),
            {name: ArmStyle(ARM_COLOURS[0], LINE_STYLES[0], _MARKERS[0])},
        )
    levels = evidence.plain.loc[trials.index, axes]
    places = {axis: _places(levels[axis]) for axis in axes}
    combinations = levels.drop_duplicates().sort_values(
        axes, key=lambda values: values.map(places[str(values.name)])
    )
    known = {axis: evidence.levels(axis) for axis in (*axes, "activation")}
    styles = {}
    by_levels = {}
    for record in combinations.to_dict("records"):
        row = {str(axis): value for axis, value in record.items()}
        name = _name(row)
        styles[name] = _style(known, row)
        by_levels[tuple(row[axis] for axis in axes)] = name
    rows = zip(*(levels[axis] for axis in axes), strict=True)
    names = pandas.Series([by_levels[row] for row in rows], index=trials.index)
    return Arms(names, styles)


def rates(evidence: Evidence) -> pandas.Series:
    """Returns the learning rate of each finished trial as text, `tuned` where a search chose it."""
    trials = evidence.finished
    texts = trials["learning_rate"].map("{:g}".format)
    return texts.where(evidence.role[trials.index] != CONFIRMATION, "tuned")


def _places(values: pandas.Series) -> dict[object, int]:
    return {value: place for place, value in enumerate(ordered(list(values.unique())))}


def _name(row: dict[str, object]) -> str:
    """Returns an arm in words: activation and initializer, then a normalization."""
    words = []
    for axis in ("activation", "initializer", "normalization"):
        if axis in row:
            words.append(value_label(axis, row[axis]))
    return " + ".join(word for word in words if word != "no normalization") or words[0]


def _style(known: dict[str, list], row: dict[str, object]) -> ArmStyle:
    """Returns colour by activation, dashes by initializer and marker by normalization.

    Where a single activation was run, colours tell the initializers apart; where a single
    normalization was run, markers do, because points have no dashes.
    """
    places = {}
    for axis in ("initializer", "normalization"):
        places[axis] = known[axis].index(row[axis]) if axis in row else 0
    dashes = LINE_STYLES[places["initializer"] % len(LINE_STYLES)]
    if "activation" in row:
        activations = [str(level) for level in known["activation"]]
        colour = activation_colour(str(row["activation"]), activations)
    else:
        colour = ARM_COLOURS[places["initializer"] % len(ARM_COLOURS)]
        dashes = LINE_STYLES[places["normalization"] % len(LINE_STYLES)]
    marked = "normalization" if "normalization" in row else "initializer"
    return ArmStyle(colour, dashes, _MARKERS[places[marked] % len(_MARKERS)])
