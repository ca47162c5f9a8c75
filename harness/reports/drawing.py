"""Parts that several figures share: panels, domains and legends.

Figures are made without pyplot, so that drawing one changes no backend and no list of open figures.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    NullLocator,
    StrMethodFormatter,
    SymmetricalLogLocator,
)
from numpy.typing import NDArray

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Inches between panels, which hold the labels and title of the next one, and of a legend's row.
_PANEL_GAP = 0.78
_LEGEND_ROW = 0.19
# Characters of a legend's text to an inch, about, at its size.
_LEGEND_CHARACTERS = 14
# Characters that the line beside a text and the gap to the next one take, about.
_LEGEND_HANDLE = 6

# Characters that fit above a panel, at the size of titles and at a smaller one.
_TITLE_CHARACTERS = 36
_SMALL_TITLE_CHARACTERS = 48

# matplotlib's layout engines.
Layout = Literal["constrained", "compressed", "tight"]


def new_figure(
    rows: int, columns: int, size: tuple[float, float], layout: Layout | None = None, **sharing: Any
) -> tuple[Figure, NDArray[Any]]:
    """Returns a figure and its panels, an array of matplotlib axes (rows, columns).

    Args:
        rows: rows of panels.
        columns: columns of panels.
        size: width and height in inches.
        layout: matplotlib's layout engine.
        sharing: `sharex` and `sharey` of `Figure.subplots`.
    """
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def shade_domain(panel: Axes, domain: tuple[float, float], last: int, colour: str) -> None:
    """Shades an interval of Theorem 1 over the layers 1 to `last`."""
    low, high = domain
    panel.add_patch(
        Rectangle((0.5, low), last, high - low, color=colour, zorder=0, label="Theorem 1")
    )


def legend_entries(panels: Iterable[Axes]) -> dict[str, Artist]:
    """Returns the labelled artists of several panels by label."""
    entries: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    return entries


def arrange(figure: Figure, above: float) -> None:
    """Fits the panels to their labels and leaves `above` inches over them for a legend.

    A `rect` given to `tight_layout` would measure every text twice.
    """
    figure.tight_layout()
    figure.subplots_adjust(top=figure.subplotpars.top - above / figure.get_figheight())


def legend_above(figure: Figure, panels: Iterable[Axes], columns: int | None = None) -> None:
    """Draws one legend of these panels above all panels.

    Args:
        figure: the figure, whose panels have been arranged.
        panels: the panels whose labels the legend holds.
        columns: columns of the legend; one for each label when None.
    """
    entries = legend_entries(panels)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="upper center",
        ncols=columns or len(entries),
        fontsize=9,
        frameon=False,
    )


def arrange_below_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Draws one legend of these panels above all panels, and makes the figure higher for it.

    A label that several panels share stands once. Margins are given in inches, because measuring
    every text, as `tight_layout` does, takes longer than drawing the figure.
    """
    entries = legend_entries(panels)
    longest = max((len(label) for label in entries), default=1) + _LEGEND_HANDLE
    fitting = int(figure.get_figwidth() * _LEGEND_CHARACTERS / longest)
    columns = max(1, min(4, len(entries), fitting))
    rows = -(-len(entries) // columns)
    legend = _LEGEND_ROW * rows + 0.1 if entries else 0.0
    panels_height = figure.get_figheight()
    figure.set_figheight(panels_height + legend)
    set_margins(figure, above=legend)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="upper center",
            ncols=columns,
            fontsize=8,
            frameon=False,
            borderaxespad=0.2,
        )


def set_margins(figure: Figure, *, left: float = 0.8, above: float = 0.0) -> None:
    """Places the panels with margins in inches for their labels and titles."""
    width, height = figure.get_size_inches()
    grid = figure.axes[0].get_gridspec()
    assert grid is not None  # every figure here is a grid of panels
    top = above + 0.32
    panel_width = (width - left - 0.2 - (grid.ncols - 1) * _PANEL_GAP) / grid.ncols
    panel_height = (height - top - 0.55 - (grid.nrows - 1) * _PANEL_GAP) / grid.nrows
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.2 / width,
        bottom=0.55 / height,
        top=1 - top / height,
        wspace=_PANEL_GAP / panel_width,
        hspace=_PANEL_GAP / panel_height,
    )


def step_axis(panel: Axes) -> None:
    """Scales the x axis for training steps: linear from 0 to 1, logarithmic beyond."""
    panel.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    panel.xaxis.set_major_locator(SymmetricalLogLocator(base=10.0, linthresh=1.0))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.set_xlim(left=-0.4)


def set_panel_title(panel: Axes, text: str, size: float) -> None:
    """Sets a panel's title; a long one is smaller, and has two lines at most."""
    if len(text) > _TITLE_CHARACTERS:
        size -= 2.5
        lines = textwrap.wrap(text, _SMALL_TITLE_CHARACTERS)
        text = "\n".join(lines[:2]) + ("..." if len(lines) > 2 else "")
    panel.set_title(plain(text), fontsize=size)


def plain(text: str) -> str:
    """Returns a text in which matplotlib takes no dollar sign for mathematics."""
    return text.replace("$", r"\$")


def log_axis(panel: Axes, axis: str) -> None:
    """Scales an axis logarithmically, with few ticks that need no typesetting of mathematics.

    Ticks are powers of ten, or 1, 2 and 5 times them where the axis spans less than two decades.
    """
    scaled: Any
    if axis == "x":
        panel.set_xscale("log")
        scaled, limits = panel.xaxis, panel.get_xlim()
    else:
        panel.set_yscale("log")
        scaled, limits = panel.yaxis, panel.get_ylim()
    wide = limits[0] > 0 and math.log10(limits[1] / limits[0]) >= 2
    scaled.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=6))
    scaled.set_minor_locator(NullLocator())
    scaled.set_major_formatter(FuncFormatter(_power_text))


def compress_large_values(panel: Axes) -> None:
    """Keeps a linear y axis readable: symmetric-logarithmic where it spans more than 2."""
    low, high = panel.get_ylim()
    low = min(low, -0.15)
    high = max(high, 0.15)
    if high - low > 2.0:
        panel.set_yscale("symlog", linthresh=0.3)
        panel.yaxis.set_major_locator(SymmetricalLogLocator(base=10.0, linthresh=0.1))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(_power_text))
    panel.set_ylim(low, high)


def _power_text(value: float, _: object) -> str:
    """Returns a number of a logarithmic axis as text, such as 0.01, 20 or 10⁻⁶."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    factor = round(abs(value) / 10.0**exponent)
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    sign = "-" if value < 0 else ""
    return f"{sign}{power}" if factor == 1 else f"{sign}{factor}·{power}"
