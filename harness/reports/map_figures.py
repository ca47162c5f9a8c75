"""Heat maps over initializer, depth, normalization and preprocessing."""

from __future__ import annotations

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from harness.reports.axis_values import value_label
from harness.reports.cross_tables import MAP_AXES, map_levels
from harness.reports.drawing import new_figure, plain
from harness.reports.figure_style import ON_DARK, ON_LIGHT

_MOST_ROWS = 4
_MOST_COLUMNS = 6
_LARGEST_CELL_NUMBERS = 8
_TITLE_SIZE = 9


def domain_map(table: pandas.DataFrame, column: str, label: str) -> Figure | None:
    """Draws a share as colour over four axes, in small multiples.

    A panel is one normalization (row) and preprocessing (column). In it x: depth, y: initializer;
    colour and number: the share in percent. A cell that was not run is left blank.

    Args:
        table: as `cross_tables.map_cells` returns it.
        column: `start`, `end` or `accuracy`.
        label: the label of the colour scale.
    """
    if not len(table) or not table[column].notna().any():
        return None
    down, across, rows_axis, columns_axis = MAP_AXES
    initializers = map_levels(table, down)
    depths = map_levels(table, across)
    rows = map_levels(table, rows_axis)[:_MOST_ROWS]
    columns = map_levels(table, columns_axis)[:_MOST_COLUMNS]
    if len(initializers) * len(depths) * len(rows) * len(columns) < 2:
        return None
    size = (
        2.0 + len(columns) * max(1.7, 0.5 * len(depths)),
        max(2.4, 0.6 + len(rows) * max(1.25, 0.5 + 0.3 * len(initializers))),
    )
    figure, grid = new_figure(
        len(rows), len(columns), size, layout="constrained", sharex=True, sharey=True
    )
    image = None
    for panels, row in zip(grid, rows, strict=True):
        for panel, level in zip(panels, columns, strict=True):
            part = table[(table[rows_axis] == row) & (table[columns_axis] == level)]
            values = part.pivot(index=down, columns=across, values=column)
            values = values.reindex(index=initializers, columns=depths)
            image = _draw(panel, values)
            titles = (value_label(columns_axis, level), value_label(rows_axis, row))
            panel.set_title(plain("\n".join(titles)), fontsize=_TITLE_SIZE)
    for panel in grid[-1]:
        panel.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        panel.set_xlabel("depth")
    grid[0][0].set_yticks(range(len(initializers)), [plain(str(name)) for name in initializers])
    if image is not None:
        figure.colorbar(image, ax=list(grid.flat), label=label.replace(", ", "\n"), pad=0.02)
    return figure


def _draw(panel: Axes, values: pandas.DataFrame) -> AxesImage:
    shares = values.to_numpy(float)
    image = panel.imshow(
        shares, aspect="auto", interpolation="none", cmap="cividis", vmin=0.0, vmax=1.0
    )
    if max(shares.shape) > _LARGEST_CELL_NUMBERS * 2:
        return image
    size = 8 if shares.shape[1] <= _LARGEST_CELL_NUMBERS else 6
    for (row, column), share in numpy.ndenumerate(shares):
        if not numpy.isnan(share):
            panel.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=size,
                color=ON_LIGHT if share > 0.5 else ON_DARK,
            )
    return image
