"""The figure of accuracy over depth or another numeric axis."""

from __future__ import annotations

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reports.arms import Arms, arms
from harness.reports.axis_values import label_words, ordered, plain_value
from harness.reports.drawing import arrange_below_legend, new_figure, plain, set_panel_title
from harness.reports.evidence import Evidence
from harness.reports.figure_style import QUIET

MOST_PANELS = 9
MOST_ARMS = 8
_ARM_AXES = ("activation", "initializer", "normalization")
_TITLE_SIZE = 10


def accuracy(evidence: Evidence) -> Figure | None:
    """Draws test accuracy against depth, or against the numeric axis with most levels.

    A line is an arm, a point the mean over the seeds of a cell with its 95 % interval, a panel one
    combination of the other axes; the first nine are drawn. x: the level, evenly spaced. y: test
    accuracy as a share, with chance level dotted.
    """
    if not evidence.trained:
        return None
    cells = evidence.cells[evidence.cells["finished"] > 0].copy()
    report_arms = arms(evidence)
    cells["arm"] = report_arms.names.groupby(evidence.finished["cell_id"]).first()
    across = _numeric_axis(evidence)
    panel_axes = [axis for axis in evidence.varied if axis not in (*_ARM_AXES, across)]
    groups = _groups(cells, panel_axes)[:MOST_PANELS]
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    size = (max(3.6 * columns, 6.4), 2.6 * rows + 0.4)
    figure, grid = new_figure(rows, columns, size, sharey=True)
    for panel, (title, group) in zip(grid.flat, groups, strict=False):
        _draw(panel, group, across, report_arms)
        set_panel_title(panel, title, _TITLE_SIZE)
        panel.set_xlabel(across or "")
    for panel in grid.flat[len(groups) :]:
        panel.axis("off")
    for row in grid:
        row[0].set_ylabel("test accuracy")
    arrange_below_legend(figure, grid.flat)
    return figure


def _draw(panel: Axes, cells: pandas.DataFrame, across: str | None, report_arms: Arms) -> None:
    names = report_arms.first(MOST_ARMS, cells["arm"])
    levels = ordered([plain_value(level) for level in cells[across].unique()]) if across else [0]
    for index, name in enumerate(names):
        arm = cells[cells["arm"] == name]
        places = [levels.index(plain_value(level)) if across else 0 for level in _of(arm, across)]
        # Arms stand side by side, so that their intervals do not cover each other.
        offset = (index - (len(names) - 1) / 2) * 0.05
        style = report_arms.styles[name]
        order = pandas.Series(places, index=arm.index).sort_values(kind="stable").index
        arm = arm.loc[order]
        errors = [arm["score"] - arm["score_low"], arm["score_high"] - arm["score"]]
        panel.errorbar(
            [place + offset for place in sorted(places)],
            arm["score"],
            yerr=[error.fillna(0.0).clip(lower=0.0) for error in errors],
            fmt=style.marker,
            markersize=4,
            linestyle=style.dashes if across else "none",
            color=style.colour,
            label=plain(name),
            capsize=2,
            linewidth=1.3,
        )
    chance = cells["chance"].dropna()
    if len(chance):
        panel.axhline(chance.iloc[0], color=QUIET, linewidth=1, linestyle=":", label="chance")
    panel.set_xticks(range(len(levels)), [f"{level:g}" if across else "" for level in levels])
    panel.set_xlim(-0.5, len(levels) - 0.5)
    panel.set_ylim(0, 1.02)
    panel.grid(alpha=0.25)


def _of(cells: pandas.DataFrame, across: str | None) -> pandas.Series:
    return cells[across] if across else cells["score"]


def _groups(cells: pandas.DataFrame, axes: list[str]) -> list[tuple[str, pandas.DataFrame]]:
    """Returns titles and cells by their values of these axes, in the order of the levels."""
    if not axes:
        return [("", cells)]
    levels = cells[axes].map(plain_value)
    places = {}
    for axis in axes:
        known = ordered(list(levels[axis].unique()))
        places[axis] = {level: place for place, level in enumerate(known)}
    keys = levels.apply(lambda column: column.map(places[column.name]))
    groups = []
    for _, group in cells.groupby([keys[axis] for axis in axes], sort=True):
        words = label_words(axes, group.iloc[0].to_dict())
        groups.append((", ".join(words), group))
    return groups


def _numeric_axis(evidence: Evidence) -> str | None:
    """Returns the varied axis for the x axis: depth, or else the one with most numeric levels."""
    numeric = []
    for axis in evidence.varied:
        if all(isinstance(level, (int, float)) for level in evidence.levels(axis)):
            numeric.append(axis)
    if "depth" in numeric:
        return "depth"
    return max(numeric, key=lambda axis: len(evidence.levels(axis)), default=None)
