"""Figures of signals in training: how long layers stay in the domain, and how signals propagate.

Each function takes a table and returns one matplotlib figure, or None where there is nothing to
draw.
"""

from __future__ import annotations

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.reports.arms import Arms
from harness.reports.drawing import arrange_below_legend, new_figure, plain, step_axis
from harness.reports.figure_style import PHASE_LABELS, QUIET
from harness.verdicts.grading import HIGH

MOST_ARMS = 8
_MOST_ROWS = 3
_MOST_DEPTHS = 4
_PANEL = (3.3, 2.5)
_TITLE_SIZE = 10


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
    rows = _shown_rows(table)
    depths = _spread(sorted(table["depth"].unique()), _MOST_DEPTHS)
    width, height = _PANEL
    size = (max(width * len(depths), 6.4), height * len(rows) + 0.9)
    figure, grid = new_figure(len(rows), len(depths), size, sharex=True, sharey=True)
    names = arms.first(MOST_ARMS, table["arm"])
    several_data_sets = table["dataset"].nunique() > 1
    for panels, (dataset, rate) in zip(grid, rows, strict=True):
        for panel, depth in zip(panels, depths, strict=True):
            here = (table["dataset"] == dataset) & (table["rate"] == rate)
            part = table[here & (table["depth"] == depth)]
            _draw_lines(panel, part, names, arms)
            words = [f"depth {depth}", f"rate {rate}"]
            panel.set_title(
                ", ".join([str(dataset), *words] if several_data_sets else words),
                fontsize=_TITLE_SIZE,
            )
        panels[0].set_ylabel("layers in the domain")
    for panel in grid[-1]:
        panel.set_xlabel("training step")
    grid[0][0].yaxis.set_major_formatter(FuncFormatter(_percent))
    arrange_below_legend(figure, grid.flat)
    return figure


def propagation(table: pandas.DataFrame, arms: Arms) -> Figure | None:
    """Draws the signal propagation plot of Brock et al. 2021 at initialisation and at the end.

    A line is an arm: the geometric mean over its trials with a 95 % interval over seeds. Left: the
    squared channel mean, averaged over channels. Right: the channel variance, averaged over
    channels. x: layer. y: a pure number (logarithmic).

    Args:
        table: as `signal_tables.propagation` returns it.
        arms: the arms of the report.
    """
    if not len(table):
        return None
    phases = [phase for phase in PHASE_LABELS if (table["phase"] == phase).any()]
    quantities = {
        "squared_channel_mean": "squared channel mean",
        "channel_variance": "channel variance",
    }
    size = (8.4, 2.7 * len(phases) + 0.9)
    figure, grid = new_figure(len(phases), 2, size, sharex=True, sharey="col")
    names = arms.first(MOST_ARMS, table["arm"])
    for panels, phase in zip(grid, phases, strict=True):
        for panel, (quantity, label) in zip(panels, quantities.items(), strict=True):
            part = table[(table["phase"] == phase) & (table["quantity"] == quantity)]
            _draw_signals(panel, part, names, arms)
            panel.set_title(PHASE_LABELS[phase], fontsize=_TITLE_SIZE)
            panel.set_ylabel(label)
    for panel in grid[-1]:
        panel.set_xlabel("layer")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    arrange_below_legend(figure, grid.flat)
    return figure


def _shown_rows(table: pandas.DataFrame) -> list[tuple[str, str]]:
    """Returns at most three (data set, rate), spread over the rates that were run."""
    pairs = table[["dataset", "rate"]].drop_duplicates()
    pairs = pairs.assign(number=pandas.to_numeric(pairs["rate"], errors="coerce"))
    pairs = pairs.sort_values(["dataset", "number"], kind="stable")
    rows = list(zip(pairs["dataset"], pairs["rate"], strict=True))
    return _spread(rows, _MOST_ROWS)


def _spread(values: list, most: int) -> list:
    """Returns at most so many values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return values
    places = numpy.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in places]


def _draw_lines(panel: Axes, table: pandas.DataFrame, names: list[str], arms: Arms) -> None:
    panel.axhline(HIGH, color=QUIET, linewidth=0.8, linestyle=":")
    for name in names:
        line = table[table["arm"] == name].sort_values("step")
        if not len(line):
            continue
        style = arms.styles[name]
        panel.fill_between(
            line["step"], line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0
        )
        panel.plot(
            line["step"],
            line["share"],
            style.dashes,
            color=style.colour,
            marker=style.marker,
            markersize=3.5,
            linewidth=1.5,
            label=plain(name),
        )
    step_axis(panel)
    panel.set_ylim(-0.04, 1.04)
    panel.grid(alpha=0.25)


def _draw_signals(panel: Axes, table: pandas.DataFrame, names: list[str], arms: Arms) -> None:
    for name in names:
        line = table[table["arm"] == name].sort_values("layer")
        if not len(line):
            continue
        style = arms.styles[name]
        panel.fill_between(
            line["layer"], line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0
        )
        panel.plot(
            line["layer"],
            line["value"],
            style.dashes,
            color=style.colour,
            marker=style.marker,
            markersize=3,
            linewidth=1.4,
            label=plain(name),
        )
    panel.set_yscale("log")
    panel.grid(alpha=0.25)


def _percent(value: float, _: object) -> str:
    return f"{value:.0%}"
