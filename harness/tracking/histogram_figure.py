"""The histograms of a run as SVG: how pre-activations are spread, layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from harness.probes.histogram_bins import BINS, BINS_PER_DECADE, BINS_PER_SIGN, HIGHEST_EXPONENT
from harness.reports.figure_style import PHASE_COLOURS, PHASE_LABELS
from harness.reports.rendering import render

COLUMNS = ("phase", "layer", "histogram")

_TEMPLATES = Path(__file__).with_name("templates")
# In units of the SVG, which are pixels.
_BIN = 6
_MARGIN = 42
_HIGHEST = 320
_ROW = 12
# Shades of a panel, from the lightest to that of a layer's fullest bin.
_SHADES = 6


def histograms(layers: Mapping[str, NDArray], title: str) -> str:
    """Draws z over its standard deviation by layer, at initialisation and at the end.

    x: z / sd on a logarithmic scale of either sign. y: layer, the first on top. Shade: count of a
    bin relative to the fullest one of its layer.

    Args:
        layers: the `COLUMNS` of a layer table, as far as it has them.
        title: the heading.

    Returns:
        The text of an SVG file; empty where the table has no histograms.
    """
    panels = []
    for index, phase in enumerate(PHASE_COLOURS):
        left = _MARGIN + index * (BINS * _BIN + _MARGIN)
        panel = _panel(layers, phase, left)
        if panel is not None:
            panels.append(panel)
    if not panels:
        return ""
    return render(
        "histograms.svg.j2",
        _TEMPLATES,
        title=title,
        width=2 * (BINS * _BIN + _MARGIN) + _MARGIN,
        height=max(panel["height"] for panel in panels) + 2 * _MARGIN + 10,
        margin=_MARGIN,
        panel_width=BINS * _BIN,
        panels=panels,
    )


def _panel(layers: Mapping[str, NDArray], phase: str, left: int) -> dict[str, Any] | None:
    counted = []
    for row, counts in enumerate(layers.get("histogram", ())):
        if layers["phase"][row] == phase and counts is not None and numpy.sum(counts) > 0:
            counted.append((int(layers["layer"][row]), numpy.asarray(counts, float)))
    if not counted:
        return None
    counted.sort(key=lambda pair: pair[0])
    row_height = max(1, min(_ROW, _HIGHEST // len(counted)))
    paths: list[list[str]] = [[] for _ in range(_SHADES)]
    for place, (_, counts) in enumerate(counted):
        shades = numpy.ceil(_SHADES * counts / counts.max()).astype(int)
        for shade, first, width in _runs(shades.tolist()):
            x, y = left + first * _BIN, _MARGIN + place * row_height
            paths[shade - 1].append(f"M{x} {y}h{width * _BIN}v{row_height}h-{width * _BIN}z")
    ends = [counted[0][0], counted[-1][0]]
    heights = [_MARGIN + row_height, _MARGIN + len(counted) * row_height]
    return {
        "left": left,
        "height": len(counted) * row_height,
        "title": PHASE_LABELS[phase],
        "colour": PHASE_COLOURS[phase],
        "paths": [(round((index + 1) / _SHADES, 2), "".join(p)) for index, p in enumerate(paths)],
        "layers": list(zip(heights, ends, strict=True)),
        "ticks": _ticks(left),
    }


def _runs(shades: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Gives the shade, the first bin and the number of bins of every run of one shade."""
    first = 0
    for shade, group in itertools.groupby(shades):
        width = len(list(group))
        if shade > 0:
            yield shade, first, width
        first += width


def _ticks(left: int) -> list[tuple[int, str]]:
    """Returns the places of -10, -1, -0.1, 0.1, 1 and 10 standard deviations."""
    ticks = []
    for exponent in (-1, 0, 1):
        bins = (HIGHEST_EXPONENT - exponent) * BINS_PER_DECADE
        number = f"{10.0**exponent:g}"
        ticks.append((left + bins * _BIN, f"-{number}"))
        ticks.append((left + (2 * BINS_PER_SIGN - bins) * _BIN, number))
    return ticks
