"""Figures over the layers of one network: profiles and ladder.

Each function takes a layer table and returns one matplotlib figure, or None where the table has
nothing to draw.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter

from harness.reports.drawing import (
    arrange,
    compress_large_values,
    legend_above,
    legend_entries,
    new_figure,
    shade_domain,
)
from harness.reports.figure_style import (
    MEASURED,
    MEASURED_LATER,
    PREDICTED,
    QUANTITIES,
    RUNGS,
    SHADE,
    THEOREM_1_DOMAIN,
    Quantity,
)

# Below this the error of an exact rung is rounding, which is no error to draw.
_SMALLEST_ERROR = 1e-4
# An axis that spans less than this factor gets ticks with three digits instead of powers of ten.
_NARROW_SPAN = 4


class _Probe(NamedTuple):
    """A probe of a network, and how its line is drawn."""

    step: int
    colour: str
    label: str


def profiles(layers: pandas.DataFrame) -> Figure | None:
    """Draws measured statistics over the layers against theory, a panel for each statistic.

    Solid lines: the first and the last probe, with 99 % intervals over samples and units where the
    table has them. Dashed: theory at initialisation with its 99 % band. Grey: Theorem 1's domain.
    x: layer. y: the statistic, a pure number; logarithmic for variance and gradient.
    """
    quantities = [
        quantity
        for quantity in QUANTITIES.values()
        if quantity.column in layers and layers[quantity.column].notna().any()
    ]
    if not quantities:
        return None
    columns = min(3, len(quantities))
    rows = -(-len(quantities) // columns)
    figure, grid = new_figure(rows, columns, (4.4 * columns, 3.1 * rows))
    for panel, quantity in zip(grid.flat, quantities, strict=False):
        _draw_profile(panel, layers, quantity)
    for panel in grid.flat[len(quantities) :]:
        panel.axis("off")
    arrange(figure, 0.32)
    legend_above(figure, grid.flat, len(legend_entries(grid.flat)))
    return figure


def ladder(layers: pandas.DataFrame) -> Figure | None:
    """Draws the attribution ladder at the last probe that has it.

    A line is the root-mean-square error over units of the predicted mean and variance of a unit's
    activation; each line makes one premise less than the one before. x: layer. y: error, a pure
    number (logarithmic).
    """
    rungs = [rung for rung in RUNGS if rung.column in layers and layers[rung.column].notna().any()]
    if not rungs:
        return None
    measured = layers[[rung.column for rung in rungs]].notna().any(axis=1)
    rows = layers[measured]
    step = rows["step"].max()
    rows = rows[rows["step"] == step].sort_values("layer")
    figure, grid = new_figure(1, 1, (7.6, 4.2))
    panel = grid[0, 0]
    for rung in rungs:
        panel.plot(
            rows["layer"],
            rows[rung.column].clip(lower=_SMALLEST_ERROR),
            "o-",
            markersize=4,
            color=rung.colour,
            label=rung.label,
        )
    panel.set(yscale="log", xlabel="layer", ylabel="error of a unit's (mean, variance)")
    panel.set_ylim(bottom=_SMALLEST_ERROR * 0.8)
    title = "the drop from one line to the next is the price of one premise"
    if layers["step"].nunique() > 1:
        title += f", step {int(step)}"
    panel.set_title(title, fontsize=10)
    panel.grid(alpha=0.25, which="both")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    arrange(figure, 0.5)
    legend_above(figure, [panel], columns=2)
    return figure


def _draw_profile(panel: Axes, layers: pandas.DataFrame, quantity: Quantity) -> None:
    last = int(layers["layer"].max())
    if quantity.domain:
        shade_domain(panel, quantity.domain, last, SHADE)
    steps = sorted(layers["step"].unique())
    _draw_prediction(panel, _rows_at(layers, steps[0]), quantity.column)
    for probe in _shown_probes(steps):
        _draw_measurement(panel, _rows_at(layers, probe.step), quantity.column, probe)
    values = layers[quantity.column]
    if quantity.logarithmic and (values.dropna() > 0).all():
        _scale_logarithmically(panel, values)
    elif quantity.column in THEOREM_1_DOMAIN:
        compress_large_values(panel)
    if last <= 20:
        panel.set_xticks(range(1, last + 1, max(1, last // 10)))
    panel.set_xlim(0.5, last + 0.5)
    panel.grid(alpha=0.25)
    panel.set_title(quantity.label, fontsize=10)
    panel.set_xlabel("layer")


def _rows_at(layers: pandas.DataFrame, step: int) -> pandas.DataFrame:
    return layers[layers["step"] == step].sort_values("layer")


def _draw_prediction(panel: Axes, rows: pandas.DataFrame, column: str) -> None:
    predicted = f"predicted_{column}"
    if predicted not in rows:
        return
    if f"{predicted}_low" in rows:
        panel.fill_between(
            rows["layer"],
            rows[f"{predicted}_low"],
            rows[f"{predicted}_high"],
            color=PREDICTED,
            alpha=0.18,
            linewidth=0,
            label="theory, 99 % band",
        )
    panel.plot(
        rows["layer"],
        rows[predicted],
        color=PREDICTED,
        linestyle="--",
        linewidth=1.3,
        label="theory",
    )


def _draw_measurement(panel: Axes, rows: pandas.DataFrame, column: str, probe: _Probe) -> None:
    panel.plot(
        rows["layer"],
        rows[column],
        "o-",
        markersize=3.5,
        color=probe.colour,
        linewidth=1.5,
        label=probe.label,
    )
    low, high = f"{column}_low", f"{column}_high"
    if low in rows and rows[low].notna().any():
        panel.fill_between(
            rows["layer"],
            rows[low],
            rows[high],
            color=probe.colour,
            alpha=0.22,
            linewidth=0,
            label=f"{probe.label}, 99 % interval",
        )


def _scale_logarithmically(panel: Axes, values: pandas.Series) -> None:
    panel.set_yscale("log")
    if values.max() < _NARROW_SPAN * values.min():
        panel.yaxis.set_major_formatter(FormatStrFormatter("%.3g"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        low = max(min(values.min(), 0.8), 1e-12)
        high = max(values.max(), 1.5)
        ticks = numpy.round(numpy.geomspace(low, high, 4), 2)
        panel.set_yticks(numpy.unique(ticks))


def _shown_probes(steps: list[int]) -> list[_Probe]:
    """Returns the first and the last probe, or the only one."""
    first, last = steps[0], steps[-1]
    if first == last:
        return [_Probe(first, MEASURED, "measured")]
    first_label = "initialisation" if first == 0 else f"step {first}"
    return [
        _Probe(first, MEASURED, first_label),
        _Probe(last, MEASURED_LATER, f"step {last}"),
    ]
