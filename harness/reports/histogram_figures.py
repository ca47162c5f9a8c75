"""Figures of the distribution of pre-activations over layers and over training."""

from __future__ import annotations

import math

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy import stats

from harness.probes.histogram_bins import (
    BINS_PER_DECADE,
    BINS_PER_SIGN,
    COUNT_COLUMNS,
    EDGES,
    HIGHEST_EXPONENT,
    LOWEST_EXPONENT,
)
from harness.reports.arms import Arms
from harness.reports.drawing import new_figure
from harness.reports.figure_style import PHASE_LABELS

MOST_ARMS = 4
# The colour scale ends at this share of the values in a bin.
_SMALLEST_SHARE = 1e-5
_MOST_NUMBERED = 8
_TITLE_SIZE = 9


def colourful_dimension(table: pandas.DataFrame, arms: Arms) -> Figure | None:
    """Draws histograms of pre-activations as columns of colour, a row of panels for each arm.

    Left: by layer at initialisation, middle: by layer at the end, right: the last layer by probe.
    The first column of a row's left panel, `N`, is a Gaussian's. x: layer or step. y: z over its
    standard deviation, logarithmic for each sign. Colour: share of the values in a bin, in bins of
    equal width on the drawn scale (logarithmic).

    Args:
        table: as `signal_tables.histograms` returns it.
        arms: the arms of the report.
    """
    if not len(table):
        return None
    names = arms.first(MOST_ARMS, table["arm"])
    size = (8.4, 2.3 * len(names) + 0.7)
    figure, grid = new_figure(len(names), 3, size, layout="constrained", sharey=True)
    image = None
    for panels, name in zip(grid, names, strict=True):
        rows = table[table["arm"] == name]
        for panel, phase in zip(panels, PHASE_LABELS, strict=False):
            part = rows[rows["phase"] == phase].sort_values("layer")
            image = _draw(panel, part, "layer", gaussian=phase == "init") or image
            panel.set_title(f"{name}\n{PHASE_LABELS[phase]}", fontsize=_TITLE_SIZE)
            panel.set_xlabel("layer")
        last = rows[rows["layer"] == rows["layer"].max()].sort_values("step")
        image = _draw(panels[2], last, "step") or image
        panels[2].set_title(f"{name}\nlast layer in training", fontsize=_TITLE_SIZE)
        panels[2].set_xlabel("step")
        panels[0].set_ylabel("z / sd(z)")
    if image is None:
        return None
    label = "log10 of the share in a bin"
    figure.colorbar(image, ax=list(grid.flat), label=label, pad=0.01, fraction=0.03, aspect=40)
    return figure


def gaussian_shares() -> NDArray[numpy.float64]:
    """Returns the share of a standard normal variable in each bin."""
    negative = list(EDGES[: BINS_PER_SIGN + 1])
    positive = list(EDGES[BINS_PER_SIGN + 1 :])
    # Values beyond the edges of a sign fall into its first or last bin.
    negative[0], negative[-1], positive[0], positive[-1] = -math.inf, 0.0, 0.0, math.inf
    below = numpy.diff(stats.norm.cdf(negative))
    return numpy.concatenate([below, numpy.diff(stats.norm.cdf(positive))])


def _draw(
    panel: Axes, rows: pandas.DataFrame, across: str, *, gaussian: bool = False
) -> AxesImage | None:
    """Draws one column of colour a row, and returns the image."""
    _scale_values(panel)
    if not len(rows):
        panel.text(0.5, 0.5, "no probe", ha="center", va="center", transform=panel.transAxes)
        panel.set_xticks([])
        return None
    counts = rows[list(COUNT_COLUMNS)].to_numpy(float)
    columns = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    labels = [f"{value:g}" for value in rows[across]]
    if gaussian:
        columns = numpy.vstack([gaussian_shares(), columns])
        labels = ["N", *labels]
    image = panel.imshow(
        numpy.log10(numpy.maximum(columns, _SMALLEST_SHARE)).T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="magma",
        vmin=math.log10(_SMALLEST_SHARE),
        vmax=-1.0,
    )
    if gaussian:
        panel.axvline(0.5, color="white", linewidth=2)
    every = -(-len(labels) // _MOST_NUMBERED)
    places = range(0, len(labels), every)
    panel.set_xticks(list(places), [labels[place] for place in places], fontsize=8)
    return image


def _scale_values(panel: Axes) -> None:
    """Labels the bins' decades on the y axis."""
    places = []
    labels = []
    for exponent in range(LOWEST_EXPONENT, HIGHEST_EXPONENT + 1):
        offset = (exponent - LOWEST_EXPONENT) * BINS_PER_DECADE
        label = f"{10.0**exponent:g}"
        if offset == 0:
            places.append(BINS_PER_SIGN - 0.5)
            labels.append(f"±{label}")
            continue
        places += [BINS_PER_SIGN - offset - 0.5, BINS_PER_SIGN + offset - 0.5]
        labels += [f"-{label}", label]
    panel.set_yticks(places, labels, fontsize=8)
    panel.set_ylim(-0.5, 2 * BINS_PER_SIGN - 0.5)
