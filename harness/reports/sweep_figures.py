"""Figures of a sweep: accuracy, layer profiles, gradients and training curves.

Each function returns one matplotlib figure, or None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reports.axis_values import value_label
from harness.reports.drawing import arrange_below_legend, new_figure, plain, shade_domain
from harness.reports.evidence import Evidence
from harness.reports.figure_style import (
    LINE_STYLES,
    QUANTITIES,
    QUIET,
    SHADE,
    Quantity,
    activation_colour,
)

_MOST_PANELS = 12
_MOST_LINES = 16
_MOST_NORMALIZATIONS = 4
_MOST_DEPTHS = 4
_TITLE_SIZE = 10


def accuracy(evidence: Evidence) -> Figure | None:
    """Draws test accuracy against depth, or against the numeric axis with most levels.

    A line is an arm (activation and initializer), a point the mean over the seeds of a cell with
    its 95 % Student-t interval, a panel one combination of the other axes. x: the level, evenly
    spaced. y: test accuracy as a share, with chance level dotted.
    """
    if not evidence.trained:
        return None
    cells = evidence.cells[evidence.cells["finished"] > 0]
    across = _numeric_axis(evidence)
    arm_axes = [
        axis for axis in ("activation", "initializer") if axis in evidence.varied and axis != across
    ]
    panel_axes = [axis for axis in evidence.varied if axis not in (*arm_axes, across)]
    groups = _grouped(cells, panel_axes, dropna=False)[:_MOST_PANELS]
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure, grid = new_figure(rows, columns, (4.6 * columns, 3.5 * rows), sharey=True)
    for panel, (key, group) in zip(grid.flat, groups, strict=False):
        _draw_accuracy(panel, evidence, group, across, arm_axes)
        words = [value_label(axis, value) for axis, value in zip(panel_axes, key, strict=True)]
        panel.set_title(plain(", ".join(words)) or "all trials", fontsize=_TITLE_SIZE)
        panel.set_xlabel(across or "arm")
    for panel in grid.flat[len(groups) :]:
        panel.axis("off")
    for row in grid:
        row[0].set_ylabel("test accuracy")
    arrange_below_legend(figure, [grid.flat[0]])
    return figure


def profiles(evidence: Evidence, phase: str) -> Figure | None:
    """Draws mean and variance of activations over the layers.

    A line is the mean over the seeds of one of the deepest cells, a row of panels a normalization;
    Theorem 1's domain is grey. Moments are pooled over samples and units. x: layer. y: mean
    (linear, or symmetric-logarithmic where it spans more than 2) and variance (logarithmic).

    Args:
        evidence: the trials.
        phase: `init` or `end`, the probe that is drawn.
    """
    groups = _deepest_by_normalization(evidence, phase)
    if not groups:
        return None
    quantities = (QUANTITIES["activation_mean"], QUANTITIES["activation_variance"])
    rows = len(groups)
    size = (max(5.0 * len(quantities), 7.0), 3.0 * rows + 0.6)
    figure, grid = new_figure(rows, len(quantities), size, sharex=True)
    for row, (normalization, layers) in zip(grid, groups, strict=True):
        for panel, quantity in zip(row, quantities, strict=True):
            _draw_profile(panel, evidence, layers, quantity)
            panel.set_title(_profile_title(normalization, layers), fontsize=_TITLE_SIZE)
    for panel in grid[-1]:
        panel.set_xlabel("layer")
    arrange_below_legend(figure, [grid[0][0]])
    return figure


def gradients(evidence: Evidence, phase: str = "init") -> Figure | None:
    """Draws the mean squared gradient at each layer relative to the last layer's.

    A line is the mean over the seeds of one of the deepest cells, a panel a normalization. x:
    layer. y: ratio of mean squared gradients (logarithmic).
    """
    groups = _deepest_by_normalization(evidence, phase)
    if not groups:
        return None
    columns = len(groups)
    figure, grid = new_figure(1, columns, (max(5.0 * columns, 7.0), 3.6), sharex=True)
    for panel, (normalization, layers) in zip(grid[0], groups, strict=True):
        _draw_profile(panel, evidence, layers, QUANTITIES["gradient_product"])
        panel.set_title(_profile_title(normalization, layers), fontsize=_TITLE_SIZE)
        panel.set_xlabel("layer")
    arrange_below_legend(figure, [grid[0][0]])
    return figure


def curves(evidence: Evidence) -> Figure | None:
    """Draws training loss over epochs, a panel for each depth.

    The four largest depths are drawn. A line is the mean over the seeds of a cell that did not
    diverge; it is thin for a cell with a
    normalization. x: epoch. y: training loss in nats (logarithmic).
    """
    if not evidence.trained or not len(evidence.curves):
        return None
    rows = evidence.of_cells(evidence.curves, ["activation", "initializer", "depth", "status"])
    rows = rows[(rows["status"] == "done") & (rows["train_loss"] > 0)]
    if not len(rows):
        return None
    depths = sorted(rows["depth"].unique())[-_MOST_DEPTHS:]
    size = (max(3.6 * len(depths), 7.0), 3.9)
    figure, grid = new_figure(1, len(depths), size, sharey=True)
    for panel, depth in zip(grid[0], depths, strict=True):
        _draw_curves(panel, evidence, rows[rows["depth"] == depth])
        panel.set_title(f"depth {depth}", fontsize=_TITLE_SIZE)
        panel.set_xlabel("epoch")
    grid[0][0].set_ylabel("training loss")
    arrange_below_legend(figure, grid[0])
    return figure


def _draw_accuracy(
    panel: Axes,
    evidence: Evidence,
    cells: pandas.DataFrame,
    across: str | None,
    arm_axes: list[str],
) -> None:
    arms = _grouped(cells, arm_axes)
    places = sorted(cells[across].unique()) if across else []
    for index, (key, arm) in enumerate(arms[:_MOST_LINES]):
        if across:
            arm = arm.sort_values(across)
            # Arms stand side by side, so that their intervals do not cover each other.
            offset = (index - (len(arms) - 1) / 2) * 0.04
            x = numpy.array([places.index(value) for value in arm[across]]) + offset
        else:
            x = numpy.full(len(arm), index)
        half = arm["score_high"] - arm["score"]
        panel.errorbar(
            x,
            arm["score"],
            yerr=half.fillna(0.0),
            fmt="o",
            markersize=4,
            linestyle=_line_style(evidence, arm) if across else "none",
            color=_colour(evidence, arm),
            label=plain(", ".join(str(value) for value in key)) or "all",
            capsize=2,
            linewidth=1.4,
        )
    chance = cells["chance"].dropna()
    if len(chance):
        panel.axhline(chance.iloc[0], color=QUIET, linewidth=1, linestyle=":", label="chance")
    panel.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    panel.set_ylim(0, 1.02)
    panel.grid(alpha=0.25)


def _deepest_by_normalization(evidence: Evidence, phase: str) -> list[tuple[str, pandas.DataFrame]]:
    """Returns the layer rows of the deepest cells, by normalization.

    At most four normalizations. The deepest cells show most; shallower ones with the same weights
    are their beginnings.
    """
    layers = evidence.of_cells(evidence.layers, ["activation", "initializer", "normalization"])
    if not len(layers):
        return []
    layers = layers[layers["phase"] == phase]
    depth = layers.groupby("cell_id")["layer"].max()
    deepest = depth[depth == depth.max()].index
    rows = layers[layers["cell_id"].isin(deepest)]
    return list(rows.groupby("normalization", sort=False))[:_MOST_NORMALIZATIONS]


def _profile_title(normalization: str, layers: pandas.DataFrame) -> str:
    depth = int(layers["layer"].max())
    return f"{value_label('normalization', normalization)}, depth {depth}"


def _draw_profile(
    panel: Axes, evidence: Evidence, layers: pandas.DataFrame, quantity: Quantity
) -> None:
    last = layers["layer"].max()
    if quantity.domain:
        shade_domain(panel, quantity.domain, last, SHADE)
    label_axes = [axis for axis in evidence.varied if axis not in ("depth", "normalization")]
    for cell_id, cell in list(layers.groupby("cell_id", sort=False))[:_MOST_LINES]:
        means = cell.groupby("layer")[quantity.column].mean()
        if quantity.logarithmic:
            means = means[means > 0]
        if len(means):
            panel.plot(
                means.index,
                means,
                _line_style(evidence, cell),
                color=_colour(evidence, cell),
                linewidth=1.5,
                label=plain(evidence.label(cell_id, label_axes)),
            )
    if quantity.logarithmic:
        panel.set_yscale("log")
    else:
        _compress_large_values(panel)
    panel.set_xlim(0.5, last + 0.5)
    panel.set_ylabel(quantity.label)
    panel.grid(alpha=0.25)


def _compress_large_values(panel: Axes) -> None:
    """Keeps a linear y axis readable: symmetric-logarithmic where it spans more than 2."""
    low, high = panel.get_ylim()
    low = min(low, -0.15)
    high = max(high, 0.15)
    if high - low > 2.0:
        panel.set_yscale("symlog", linthresh=0.3)
    panel.set_ylim(low, high)


def _draw_curves(panel: Axes, evidence: Evidence, rows: pandas.DataFrame) -> None:
    label_axes = [axis for axis in evidence.varied if axis != "depth"]
    for cell_id, cell in list(rows.groupby("cell_id", sort=False))[:_MOST_LINES]:
        means = cell.groupby("epoch")["train_loss"].mean()
        normalization = evidence.cells.loc[cell_id, "normalization"]
        thin = "normalization" in label_axes and normalization != "none"
        panel.plot(
            means.index,
            means,
            _line_style(evidence, cell),
            color=_colour(evidence, cell),
            linewidth=0.8 if thin else 1.6,
            alpha=0.55 if thin else 1.0,
            label=plain(evidence.label(cell_id, label_axes)),
        )
    panel.set_yscale("log")
    panel.grid(alpha=0.25)


def _grouped(
    cells: pandas.DataFrame, axes: list[str], dropna: bool = True
) -> list[tuple[Iterable[Any], pandas.DataFrame]]:
    """Returns the cells by their values of these axes, in order of appearance."""
    if not axes:
        return [((), cells)]
    return list(cells.groupby(axes, sort=False, dropna=dropna))


def _colour(evidence: Evidence, cell: pandas.DataFrame) -> str:
    activations = [str(level) for level in evidence.levels("activation")]
    return activation_colour(str(cell["activation"].iloc[0]), activations)


def _line_style(evidence: Evidence, cell: pandas.DataFrame) -> str:
    """Returns the dashes of a cell's initializer, the same in every figure."""
    initializers = [str(level) for level in evidence.levels("initializer")]
    place = initializers.index(str(cell["initializer"].iloc[0]))
    return LINE_STYLES[place % len(LINE_STYLES)]


def _numeric_axis(evidence: Evidence) -> str | None:
    """Returns the varied axis for the x axis: depth, or else the one with most numeric levels."""
    numeric = []
    for axis in evidence.varied:
        if all(isinstance(level, (int, float)) for level in evidence.levels(axis)):
            numeric.append(axis)
    if "depth" in numeric:
        return "depth"
    return max(numeric, key=lambda axis: len(evidence.levels(axis)), default=None)
