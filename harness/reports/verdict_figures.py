"""The figure of a network's verdicts, by layer and probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.reports.drawing import arrange, new_figure
from harness.reports.figure_style import VERDICT_COLOURS
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS

_WORDS = (*VERDICTS, "unknown")
# At most about this many layers carry their number.
_MOST_NUMBERED = 16


def verdict_map(judged: pandas.DataFrame) -> Figure | None:
    """Draws the verdicts of one network as coloured cells.

    With several probes there is a panel for each condition: step (x) by layer (y, downwards).
    With a single probe there is one panel: layer (x) by condition (y). A dot marks where theory
    missed: its 99 % band and the measurement's have nothing in common.

    Args:
        judged: rows of `harness.verdicts.evaluation.verdicts`.
    """
    if not len(judged):
        return None
    steps = sorted(judged["step"].unique())
    figure = _map_of_one_probe(judged) if len(steps) == 1 else _map_of_probes(judged, steps)
    arrange(figure, 0.34)
    keys = [Patch(color=colour, label=word) for word, colour in VERDICT_COLOURS.items()]
    keys.append(Line2D([], [], color="k", marker=".", linestyle="none", label="theory missed"))
    figure.legend(
        handles=keys,
        loc="upper center",
        ncols=len(keys),
        fontsize=8.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
    )
    return figure


def _map_of_one_probe(judged: pandas.DataFrame) -> Figure:
    names = load().names
    layers = sorted(judged["layer"].unique())
    figure, grid = new_figure(1, 1, (max(5.5, 2.2 + 0.32 * len(layers)), 3.0))
    panel = grid[0, 0]
    _draw_cells(
        panel,
        _table(judged, _codes(judged), "condition").reindex(index=names, columns=layers),
        _table(judged, judged["theory_missed"], "condition").reindex(index=names, columns=layers),
    )
    panel.set_yticks([index + 0.5 for index in range(len(names))], names)
    places, labels = _layer_ticks(layers)
    panel.set_xticks(places, labels, fontsize=8)
    panel.set_xlabel("layer")
    panel.invert_yaxis()
    return figure


def _map_of_probes(judged: pandas.DataFrame, steps: Sequence[int]) -> Figure:
    names = load().names
    layers = sorted(judged["layer"].unique())
    size = (2.1 * len(names) + 0.8, max(2.6, 1.4 + 0.16 * len(layers)))
    figure, grid = new_figure(1, len(names), size, sharey=True)
    for panel, name in zip(grid[0], names, strict=True):
        rows = judged[judged["condition"] == name]
        _draw_cells(
            panel,
            _table(rows, _codes(rows), "step").reindex(index=steps, columns=layers).T,
            _table(rows, rows["theory_missed"], "step").reindex(index=steps, columns=layers).T,
        )
        places, labels = _layer_ticks(layers)
        panel.set_yticks(places, labels, fontsize=8)
        panel.invert_yaxis()
        panel.set_title(name, fontsize=10)
        panel.set_xticks(
            [index + 0.5 for index in range(len(steps))],
            [str(int(step)) for step in steps],
            rotation=60,
            fontsize=8,
        )
        panel.set_xlabel("step")
    grid[0][0].set_ylabel("layer")
    return figure


def _codes(judged: pandas.DataFrame) -> pandas.Series:
    """Returns the place of each verdict in `_WORDS`."""
    return judged["verdict"].map(_WORDS.index)


def _table(judged: pandas.DataFrame, values: pandas.Series, index: str) -> pandas.DataFrame:
    """Returns values by `index` (rows) and layer (columns)."""
    return judged.assign(value=values.astype(float)).pivot(
        index=index, columns="layer", values="value"
    )


def _draw_cells(panel: Axes, codes: pandas.DataFrame, missed: pandas.DataFrame) -> None:
    colours = ListedColormap([VERDICT_COLOURS[word] for word in _WORDS])
    panel.pcolormesh(
        codes.fillna(_WORDS.index("unknown")).to_numpy(),
        cmap=colours,
        norm=BoundaryNorm(numpy.arange(len(_WORDS) + 1) - 0.5, len(_WORDS)),
        edgecolors="white",
        linewidth=0.6,
    )
    panel.set_xlim(0, codes.shape[1])
    rows, columns = numpy.nonzero(missed.fillna(0).to_numpy())
    panel.plot(columns + 0.5, rows + 0.5, "k.", markersize=3)


def _layer_ticks(layers: Sequence[int]) -> tuple[list[float], list[str]]:
    """Returns the places and labels of the layers' numbers, of every layer or every n-th."""
    every = max(1, len(layers) // _MOST_NUMBERED)
    indices = range(0, len(layers), every)
    return [index + 0.5 for index in indices], [str(int(layers[index])) for index in indices]
