"""Figures on what decides the outcome: ROC curves, the stability limit, divergence, tuning.

Each function takes a table and returns one matplotlib figure, or None where there is nothing to
draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reports.arms import Arms, ArmStyle
from harness.reports.drawing import (
    arrange_below_legend,
    log_axis,
    new_figure,
    plain,
    set_panel_title,
)
from harness.reports.figure_style import (
    ARM_COLOURS,
    BLUE,
    LINE_STYLES,
    QUIET,
    SHADE,
    VERMILION,
    activation_colour,
)
from harness.reports.signal_tables import quantity_label

_MOST_CURVES = 8
MOST_POINTS = 600
_MOST_ARMS = 8
_MOST_PANELS = 6
_MOST_RATES = 6
_TITLE_SIZE = 10


def roc_curves(curves: Mapping[str, pandas.DataFrame]) -> Figure | None:
    """Draws ROC curves of scores for the outcome "trains".

    x: share of the trials that do not train with a score above the threshold. y: share of those
    that train. The diagonal is chance.

    Args:
        curves: by name with its area, `false` and `true` rates in ascending order.
    """
    if not curves:
        return None
    figure, grid = new_figure(1, 1, (5.2, 5.1))
    panel = grid[0, 0]
    panel.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    for index, (name, curve) in enumerate(list(curves.items())[:_MOST_CURVES]):
        panel.step(
            curve["false"],
            curve["true"],
            where="post",
            color=ARM_COLOURS[index % len(ARM_COLOURS)],
            linestyle=LINE_STYLES[index // len(ARM_COLOURS)],
            linewidth=1.7,
            label=plain(name),
        )
    panel.set(xlabel="trials that do not train", ylabel="trials that train", aspect="equal")
    panel.grid(alpha=0.25)
    arrange_below_legend(figure, [panel])
    return figure


def stability(trials: pandas.DataFrame) -> Figure | None:
    """Draws training accuracy against the stability margin at initialisation.

    A point is a trial, a cross one that diverged; at most 600, evenly chosen. Right of 1 the
    learning rate is beyond the limit of gradient descent. x: margin (logarithmic). y: training
    accuracy.

    Args:
        trials: finished trials with stability_margin_init, train_accuracy, status and chance.
    """
    if not {"stability_margin_init", "train_accuracy"} <= set(trials.columns):
        return None
    accuracy = trials["train_accuracy"].where(trials["status"] != "diverged", trials["chance"])
    table = pandas.DataFrame(
        {
            "margin": trials["stability_margin_init"].astype(float),
            "accuracy": accuracy.astype(float),
            "diverged": trials["status"] == "diverged",
        }
    ).dropna()
    table = table[table["margin"] > 0].sort_values("margin", kind="stable")
    if len(table) < 2:
        return None
    every = numpy.linspace(0, len(table) - 1, min(len(table), MOST_POINTS)).round().astype(int)
    table = table.iloc[every]
    figure, grid = new_figure(1, 1, (7.2, 4.0))
    panel = grid[0, 0]
    panel.axvline(1.0, color=QUIET, linewidth=1.2, label="stability limit")
    for diverged, marker, colour, label in (
        (False, "o", BLUE, "trained to the end"),
        (True, "x", VERMILION, "diverged"),
    ):
        part = table[table["diverged"] == diverged]
        if len(part):
            panel.plot(
                part["margin"],
                part["accuracy"],
                marker,
                color=colour,
                markersize=4,
                alpha=0.6,
                label=label,
            )
    log_axis(panel, "x")
    panel.set_xlabel("stability margin at initialisation")
    panel.set_ylabel("training accuracy")
    panel.set_ylim(0, 1.02)
    panel.grid(alpha=0.25)
    arrange_below_legend(figure, [panel])
    return figure


def divergence(table: pandas.DataFrame, arms: Arms) -> Figure | None:
    """Draws the share of trials that diverged, with 95 % Wilson intervals over trials.

    A line is an arm, a panel a depth. x: learning rate, evenly spaced. y: share.

    Args:
        table: arm, depth, learning_rate, `share`, `low`, `high`.
        arms: the arms of the report.
    """
    if not len(table) or not (table["share"] > 0).any():
        return None
    names = arms.first(_MOST_ARMS, table["arm"])
    panels = _panels(table, "depth")
    size = (max(3.3 * len(panels), 6.4), 3.3)
    figure, grid = new_figure(1, len(panels), size, sharey=True)
    for panel, (depth, part) in zip(grid[0], panels, strict=True):
        rates = sorted(table["learning_rate"].unique())
        for index, name in enumerate(names):
            line = part[part["arm"] == name].sort_values("learning_rate")
            if len(line):
                # Arms stand side by side, so that their intervals do not cover each other.
                shift = 0.05 * (index - (len(names) - 1) / 2)
                places = line["learning_rate"].map(rates.index) + shift
                _draw_interval_line(panel, places, line, (name, arms.styles[name]))
        every = -(-len(rates) // _MOST_RATES)
        shown = range(0, len(rates), every)
        panel.set_xticks(list(shown), [f"{rates[place]:g}" for place in shown])
        panel.set_title(f"depth {depth}", fontsize=_TITLE_SIZE)
        panel.set_xlabel("learning rate")
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.25)
    grid[0][0].set_ylabel("share that diverged")
    arrange_below_legend(figure, grid.flat)
    return figure


def tuning(table: pandas.DataFrame) -> Figure | None:
    """Draws the validation score against the learning rate, a line for each arm.

    A star is the point that the search chose, a ring the default. x: learning rate (logarithmic).
    y: mean validation score over the tuning seeds.

    Args:
        table: `arm`, `task`, `learning_rate`, `score`, `chosen` and `default`.
    """
    if not len(table):
        return None
    tasks = _panels(table, "task")
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    size = (max(3.6 * columns, 6.4), 3.0 * rows + 0.6)
    figure, grid = new_figure(rows, columns, size, sharex=True, sharey=True)
    arms = list(dict.fromkeys(table["arm"]))[: len(ARM_COLOURS)]
    for panel, (task, part) in zip(grid.flat, tasks, strict=False):
        for colour, arm in zip(ARM_COLOURS, arms, strict=False):
            line = part[part["arm"] == arm].sort_values("learning_rate")
            _draw_tuning(panel, line, colour, arm)
        log_axis(panel, "x")
        panel.set_xlabel("learning rate")
        set_panel_title(panel, str(task), _TITLE_SIZE)
        panel.grid(alpha=0.25)
    for panel in grid.flat[len(tasks) :]:
        panel.axis("off")
    grid[0][0].set_ylabel("validation score")
    arrange_below_legend(figure, grid.flat)
    return figure


def theory(table: pandas.DataFrame) -> Figure | None:
    """Draws what was measured against what theory predicted, a panel for each quantity.

    A point is a cell, at most 600 evenly chosen; on the diagonal both agree. The grey band is a
    factor of two where axes are logarithmic. x: predicted. y: measured.

    Args:
        table: as `signal_tables.theory` returns it.
    """
    if not len(table):
        return None
    quantities = list(dict.fromkeys(table["quantity"]))
    columns = min(2, len(quantities))
    rows = -(-len(quantities) // columns)
    figure, grid = new_figure(rows, columns, (3.9 * columns + 0.4, 3.5 * rows + 0.5))
    activations = sorted(table["activation"].unique())
    for panel, quantity in zip(grid.flat, quantities, strict=False):
        part = table[table["quantity"] == quantity]
        _draw_agreement(panel, part, activations)
        panel.set_title(quantity_label(quantity), fontsize=_TITLE_SIZE)
        panel.set(xlabel="predicted", ylabel="measured")
    for panel in grid.flat[len(quantities) :]:
        panel.axis("off")
    arrange_below_legend(figure, grid.flat)
    return figure


def _draw_interval_line(
    panel: Axes, x: pandas.Series, line: pandas.DataFrame, arm: tuple[str, ArmStyle]
) -> None:
    name, style = arm
    errors = [line["share"] - line["low"], line["high"] - line["share"]]
    panel.errorbar(
        x,
        line["share"],
        yerr=[error.fillna(0.0).clip(lower=0.0) for error in errors],
        fmt=style.marker,
        linestyle=style.dashes,
        color=style.colour,
        markersize=4,
        capsize=2,
        linewidth=1.2,
        label=plain(name),
    )


def _draw_tuning(panel: Axes, line: pandas.DataFrame, colour: str, arm: str) -> None:
    if not len(line):
        return
    rates, scores = line["learning_rate"], line["score"]
    panel.plot(rates, scores, "o-", color=colour, markersize=3, linewidth=1.3, label=plain(arm))
    chosen = line[line["chosen"].astype(bool)]
    default = line[line["default"].astype(bool)]
    panel.plot(chosen["learning_rate"], chosen["score"], "*", color=colour, markersize=13)
    panel.plot(
        default["learning_rate"],
        default["score"],
        "o",
        markerfacecolor="none",
        color=colour,
        markersize=10,
    )


def _draw_agreement(panel: Axes, table: pandas.DataFrame, activations: list[str]) -> None:
    every = numpy.linspace(0, len(table) - 1, min(len(table), MOST_POINTS)).round().astype(int)
    shown = table.iloc[every]
    logarithmic = bool((table[["predicted", "measured"]] > 0).all().all())
    values = shown[["predicted", "measured"]].to_numpy()
    low, high = values.min(), values.max()
    if logarithmic:
        low, high = low / 1.5, high * 1.5
        ends = numpy.array([low, high])
        panel.fill_between(ends, ends / 2, ends * 2, color=SHADE, linewidth=0, zorder=0)
    else:
        room = 0.06 * max(high - low, 1e-6)
        low, high = low - room, high + room
    panel.plot([low, high], [low, high], color=QUIET, linewidth=1, zorder=1)
    for activation in activations:
        part = shown[shown["activation"] == activation]
        panel.plot(
            part["predicted"],
            part["measured"],
            "o",
            color=activation_colour(str(activation), [str(name) for name in activations]),
            markersize=4,
            alpha=0.7,
            label=plain(str(activation)),
        )
    panel.set(xlim=(low, high), ylim=(low, high))
    if logarithmic:
        log_axis(panel, "x")
        log_axis(panel, "y")
    panel.grid(alpha=0.25)


def _panels(table: pandas.DataFrame, column: str) -> list[tuple[Any, pandas.DataFrame]]:
    """Returns the parts of a table by a column, the last six where there are more."""
    return list(table.groupby(column, sort=True))[-_MOST_PANELS:]
