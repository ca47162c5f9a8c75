"""Parts that several figures share: panels, domains and legends.

Figures are made without pyplot, so that drawing one changes no backend and no list of open figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

# Characters of a legend's text to an inch, about, at its size.
_LEGEND_CHARACTERS = 14
# Characters that the line beside a text and the gap to the next one take, about.
_LEGEND_HANDLE = 6

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
    """Draws one legend of these panels, as high as its labels need, and fits all panels below it.

    A label that several panels share stands once.
    """
    entries = legend_entries(panels)
    longest = max((len(label) for label in entries), default=1) + _LEGEND_HANDLE
    fitting = int(figure.get_figwidth() * _LEGEND_CHARACTERS / longest)
    columns = max(1, min(4, len(entries), fitting))
    rows = -(-len(entries) // columns)
    figure.tight_layout()
    # Room in inches for the legend and for the panels' titles, whatever the figure's height.
    legend_share = (0.25 * rows + 0.1) / figure.get_figheight()
    title_share = 0.3 / figure.get_figheight()
    figure.subplots_adjust(top=max(0.5, 1 - legend_share - title_share))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="upper center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
