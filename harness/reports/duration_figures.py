"""Figures of arms as lines: over training steps, and over layers.

Each function takes a table and returns one matplotlib figure, or None where there is nothing to
draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.reports.arms import Arms
from harness.reports.drawing import (
    arrange_below_legend,
    compress_large_values,
    log_axis,
    new_figure,
    plain,
    shade_domain,
    step_axis,
)
from harness.reports.figure_style import PHASE_LABELS, QUIET, SHADE, Quantity
from harness.verdicts.grading import HIGH

MOST_ARMS = 8
MOST_ROWS = 3
MOST_DEPTHS = 4
_PANEL = (3.4, 2.4)
_TITLE_SIZE = 10
# Logarithmic axes end here: what is smaller is rounding.
_SMALLEST = 1e-8


@dataclass(frozen=True)
class _Lines:
    """Lines of one panel: the columns of x and y of a table, and the arms that are drawn."""

    x: str
    y: str
    names: list[str]
    arms: Arms


def duration(table: pandas.DataFrame, arms: Arms) -> Figure | None:
    """Draws the share of layers inside Theorem 1's domain against training step.

    A line is an arm with its 95 % interval over seeds, a column of panels a depth, a row a learning
    rate (and data set where several were run). x: step, linear up to 1 and logarithmic beyond.
    y: share of layers.

    Args:
        table: as `share_tables.duration` returns it.
        arms: the arms of the report.
    """
    if not len(table) or table["step"].nunique() < 2:
        return None
    figure = _by_rate_and_depth(table, _Lines("step", "share", _names(table, arms), arms))
    for panel in figure.axes:
        panel.axhline(HIGH, color=QUIET, linewidth=0.8, linestyle=":")
        step_axis(panel)
        panel.set_ylim(-0.04, 1.04)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _label_outer(figure, "training step", "layers in the domain")
    arrange_below_legend(figure, figure.axes)
    return figure


def curves(table: pandas.DataFrame, arms: Arms) -> Figure | None:
    """Draws training loss over epochs, in panels as `duration` has them.

    x: epoch. y: training loss in nats (logarithmic), the geometric mean over trials that did not
    diverge, with a 95 % interval over seeds.

    Args:
        table: as `signal_tables.training_curves` returns it.
        arms: the arms of the report.
    """
    if not len(table):
        return None
    figure = _by_rate_and_depth(table, _Lines("epoch", "value", _names(table, arms), arms))
    _limit_to_lines(figure.axes[0], table["value"])
    for panel in figure.axes:
        log_axis(panel, "y")
    _label_outer(figure, "epoch", "training loss")
    arrange_below_legend(figure, figure.axes)
    return figure


def by_layer(table: pandas.DataFrame, quantities: list[Quantity], arms: Arms) -> Figure | None:
    """Draws quantities over the layers of the deepest networks, a row of panels for each phase.

    A line is an arm with its 95 % interval over seeds; Theorem 1's domain is grey. x: layer. y: the
    quantity; logarithmic, or symmetric-logarithmic where a linear one spans more than 2.

    Args:
        table: as `signal_tables.by_layer` returns it.
        quantities: those that are drawn, a column of panels each.
        arms: the arms of the report.
    """
    if not len(table):
        return None
    phases = [phase for phase in PHASE_LABELS if (table["phase"] == phase).any()]
    width, height = (4.2, 2.4) if len(quantities) > 1 else (6.4, 2.6)
    size = (width * len(quantities), height * len(phases) + 0.3)
    figure, grid = new_figure(len(phases), len(quantities), size, sharex=True, sharey="col")
    lines = _Lines("layer", "value", _names(table, arms), arms)
    for row, phase in zip(grid, phases, strict=True):
        for panel, quantity in zip(row, quantities, strict=True):
            here = (table["phase"] == phase) & (table["quantity"] == quantity.column)
            if quantity.domain:
                shade_domain(panel, quantity.domain, int(table["layer"].max()), SHADE)
            _draw_lines(panel, table[here], lines)
            panel.set_title(PHASE_LABELS[phase], fontsize=_TITLE_SIZE)
            panel.set_ylabel(quantity.label)
    for panel, quantity in zip(grid[0], quantities, strict=True):
        values = table["value"][table["quantity"] == quantity.column]
        _limit_to_lines(panel, values, quantity.logarithmic)
        for other in grid[:, list(grid[0]).index(panel)]:
            if quantity.logarithmic:
                log_axis(other, "y")
            else:
                compress_large_values(other)
    for panel in grid[-1]:
        panel.set_xlabel("layer")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    arrange_below_legend(figure, grid.flat)
    return figure


def _by_rate_and_depth(table: pandas.DataFrame, lines: _Lines) -> Figure:
    """Draws lines in a grid of panels: learning rates below each other, depths side by side."""
    rows = _shown_rows(table)
    depths = _spread(sorted(table["depth"].unique()), MOST_DEPTHS)
    width, height = _PANEL
    size = (max(width * len(depths), 6.4), height * len(rows) + 0.4)
    figure, grid = new_figure(len(rows), len(depths), size, sharex=True, sharey=True)
    several_data_sets = table["dataset"].nunique() > 1
    for panels, (dataset, rate) in zip(grid, rows, strict=True):
        for panel, depth in zip(panels, depths, strict=True):
            here = (table["dataset"] == dataset) & (table["rate"] == rate)
            _draw_lines(panel, table[here & (table["depth"] == depth)], lines)
            words = [str(dataset)] if several_data_sets else []
            words += [f"depth {depth}", f"rate {rate}"]
            panel.set_title(plain(", ".join(words)), fontsize=_TITLE_SIZE)
    return figure


def _label_outer(figure: Figure, x: str, y: str) -> None:
    """Labels the axes of the panels at the left and at the bottom."""
    for panel in figure.axes:
        place = panel.get_subplotspec()
        assert place is not None  # the panels come from a grid
        if place.is_first_col():
            panel.set_ylabel(y)
        if place.is_last_row():
            panel.set_xlabel(x)


def _names(table: pandas.DataFrame, arms: Arms) -> list[str]:
    return arms.first(MOST_ARMS, table["arm"])


def _shown_rows(table: pandas.DataFrame) -> list[tuple[str, str]]:
    """Returns at most three (data set, rate), spread over the rates that were run."""
    pairs = table[["dataset", "rate"]].drop_duplicates()
    pairs = pairs.assign(number=pandas.to_numeric(pairs["rate"], errors="coerce"))
    pairs = pairs.sort_values(["dataset", "number"], kind="stable")
    rows = list(zip(pairs["dataset"], pairs["rate"], strict=True))
    return _spread(rows, MOST_ROWS)


def _spread(values: list, most: int) -> list:
    """Returns at most so many values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return values
    places = numpy.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in places]


def _draw_lines(panel: Axes, table: pandas.DataFrame, lines: _Lines) -> None:
    for name in lines.names:
        line = table[table["arm"] == name].sort_values(lines.x)
        if not len(line):
            continue
        style = lines.arms.styles[name]
        panel.fill_between(
            line[lines.x], line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0
        )
        panel.plot(
            line[lines.x],
            line[lines.y],
            style.dashes,
            color=style.colour,
            marker=style.marker,
            markersize=3,
            linewidth=1.4,
            label=plain(name),
        )
    panel.grid(alpha=0.25)


def _limit_to_lines(panel: Axes, values: pandas.Series, logarithmic: bool = True) -> None:
    """Limits the y axis to the lines: intervals of few seeds can be wider by many decades."""
    values = values[numpy.isfinite(values)]
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        panel.set_ylim(max(low, _SMALLEST) / 2, max(high, _SMALLEST) * 2)
    else:
        room = 0.08 * max(high - low, 1e-6)
        panel.set_ylim(low - room, high + room)
