"""Signal propagation of several models in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.diagnosis.comparison import Earlier
from harness.reports.drawing import arrange_below_legend, new_figure

# (title, column of the layer table, logarithmic axis)
_PANELS = (
    ("variance of the activations", "activation_variance", True),
    ("mean of the activations", "activation_mean", False),
    ("squared gradient, last layer = 1", "gradient_product", True),
)
_COLOURS = ("black", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
_MARKERS = ("o", "s", "^", "v", "D", "x")


def propagation(models: Sequence[Earlier]) -> Figure:
    """Draws mean, variance and squared gradients over the layers, a line for each model.

    x: layer. y: the statistic, a pure number.
    """
    figure, grid = new_figure(1, len(_PANELS), (4.4 * len(_PANELS), 3.4))
    panels: list[Any] = list(grid.flat)
    for panel, (title, column, logarithmic) in zip(panels, _PANELS, strict=True):
        for index, model in enumerate(models):
            _draw(panel, model, column, index)
        if logarithmic:
            panel.set_yscale("log")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("layer")
        panel.grid(alpha=0.25)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    arrange_below_legend(figure, panels)
    return figure


def _draw(panel: Axes, model: Earlier, column: str, index: int) -> None:
    rows = pandas.DataFrame(model.layers)
    if column not in rows:
        return
    panel.plot(
        rows["layer"],
        rows[column],
        linestyle="-",
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=4,
        color=_COLOURS[index % len(_COLOURS)],
        label=model.label,
    )
