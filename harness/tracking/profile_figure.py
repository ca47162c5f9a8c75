"""The figure of every run: its layer profile as SVG.

A template draws it from numbers, because a plotting library would take longer than the training of
a small network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from harness.reports.figure_style import PHASE_COLOURS, PHASE_LABELS, QUANTITIES, Quantity
from harness.reports.rendering import render

_TEMPLATES = Path(__file__).with_name("templates")
# In units of the SVG, which are pixels: the inside of a panel, and the space around it.
_WIDTH = 300
_HEIGHT = 180
_MARGIN = 42
_SHOWN = (
    QUANTITIES["activation_mean"],
    QUANTITIES["activation_variance"],
    QUANTITIES["gradient_product"],
)
# Space above the highest and below the lowest value, as a share of their distance.
_PADDING = 0.05

COLUMNS = ("phase", "layer", *(quantity.column for quantity in _SHOWN))

_Line = list[tuple[int, float]]


def layer_profile(layers: Mapping[str, NDArray], title: str) -> str:
    """Draws mean, variance and gradient over the layers, at initialisation and at the end.

    Panels: pooled mean and variance of activations, and the mean squared gradient relative to the
    last layer's. x: layer. y: a pure number; logarithmic but for the mean. Grey: Theorem 1's
    domain.

    Args:
        layers: the `COLUMNS` of a layer table, as far as it has them.
        title: the heading.

    Returns:
        The text of an SVG file.
    """
    panels = []
    for index, quantity in enumerate(_SHOWN):
        left = _MARGIN + index * (_WIDTH + _MARGIN)
        panel = _panel(layers, quantity, left)
        if panel is not None:
            panels.append(panel)
    keys = []
    for index, (phase, colour) in enumerate(PHASE_COLOURS.items()):
        keys.append((_MARGIN + 200 + 110 * index, colour, PHASE_LABELS[phase]))
    return render(
        "layer_profile.svg.j2",
        _TEMPLATES,
        title=title,
        width=len(_SHOWN) * (_WIDTH + _MARGIN) + _MARGIN,
        height=_HEIGHT + 2 * _MARGIN + 10,
        margin=_MARGIN,
        panel_width=_WIDTH,
        panel_height=_HEIGHT,
        keys=keys,
        panels=panels,
    )


@dataclass(frozen=True)
class _Frame:
    """The axes of a panel: which layer and which value stand where.

    `low` and `high` are the values at the lower and the upper edge, `last` is the last layer.
    """

    left: float
    low: float
    high: float
    last: int

    def x(self, layer: float) -> float:
        """Returns the place of a layer."""
        return self.left + _WIDTH * (layer - 1) / max(self.last - 1, 1)

    def y(self, value: float) -> float:
        """Returns the place of a value."""
        return _MARGIN + _HEIGHT * (self.high - value) / (self.high - self.low)


def _panel(layers: Mapping[str, NDArray], quantity: Quantity, left: float) -> dict[str, Any] | None:
    """Returns the places and texts of a panel, or None where there is nothing to draw.

    Parts that occur many times are tuples, which a template reads faster than names.
    """
    scale = math.log10 if quantity.logarithmic else float
    lines = _lines(layers, quantity, scale)
    values = [value for line in lines.values() for _, value in line]
    if not values:
        return None
    domain = [scale(bound) for bound in quantity.domain or ()]
    lowest = min(values + domain)
    highest = max(values + domain)
    padding = _PADDING * (highest - lowest) or 0.1
    last = max(layer for line in lines.values() for layer, _ in line)
    frame = _Frame(left, lowest - padding, highest + padding, last)
    middle = (frame.low + frame.high) / 2
    ticks = []
    for value in (frame.low + padding, middle, frame.high - padding):
        shown = 10**value if quantity.logarithmic else value
        ticks.append((f"{frame.y(value) + 4:.1f}", f"{shown:.3g}"))
    return {
        "left": left,
        "top": _MARGIN,
        "bottom": _MARGIN + _HEIGHT,
        "title": quantity.label,
        "domain": _band(frame, *domain) if domain else None,
        "ticks": ticks,
        "layers": [
            (f"{frame.x(layer):.1f}", layer) for layer in sorted({1, (1 + last) // 2, last})
        ],
        "lines": [_drawn(frame, phase, line) for phase, line in lines.items()],
    }


def _lines(
    layers: Mapping[str, NDArray], quantity: Quantity, scale: Callable[[float], float]
) -> dict[str, _Line]:
    """Returns (layer, scaled value) of every number that can be drawn, by phase."""
    if quantity.column not in layers:
        return {}
    values = layers[quantity.column]
    drawn = numpy.isfinite(values)
    if quantity.logarithmic:
        drawn = drawn & (values > 0)
    lines = {}
    for phase in PHASE_COLOURS:
        rows = drawn & (layers["phase"] == phase)
        numbers = layers["layer"][rows].tolist()
        scaled = [scale(value) for value in values[rows].tolist()]
        lines[phase] = list(zip(numbers, scaled, strict=True))
    return lines


def _band(frame: _Frame, low: float, high: float) -> dict[str, str]:
    """Returns the upper edge and the height of an interval of values."""
    top, bottom = frame.y(high), frame.y(low)
    return {"y": f"{top:.1f}", "height": f"{bottom - top:.1f}"}


def _drawn(frame: _Frame, phase: str, line: _Line) -> dict[str, Any]:
    """Returns the colour of a line, its points (x, y), and the path through them."""
    points = [(f"{frame.x(layer):.1f}", f"{frame.y(value):.1f}") for layer, value in line]
    path = " ".join(f"{x},{y}" for x, y in points)
    return {"colour": PHASE_COLOURS[phase], "path": path, "points": points}
