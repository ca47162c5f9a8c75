"""One small figure for every run: the layer profile as SVG, written directly, as a plotting library would take longer than the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy
from numpy.typing import NDArray

from harness.theory.selu import THEOREM_1_BOX

_WIDTH, _HEIGHT, _MARGIN = 300, 180, 42
_COLOURS = {"init": "#0072b2", "end": "#d55e00"}
# Theorem 1 of Klambauer et al. 2017: the domain of mean and variance that the map does not leave.
_PANELS = (
    ("activation_mean", "mean of activations", THEOREM_1_BOX.mu, False),
    ("activation_variance", "variance of activations", THEOREM_1_BOX.nu, True),
    ("gradient_product", "squared gradient / last layer", None, True),
)


COLUMNS = ("phase", "layer", *(column for column, *_ in _PANELS))


def layer_profile(layers: Mapping[str, NDArray], title: str) -> str:
    """From the `COLUMNS` of a layer table: mean, variance and gradient over the layers at initialisation and at the end, Theorem 1's box in grey."""
    panels = "".join(_panel(layers, index, *panel) for index, panel in enumerate(_PANELS))
    width, height = len(_PANELS) * (_WIDTH + _MARGIN) + _MARGIN, _HEIGHT + 2 * _MARGIN + 10
    legend = "".join(
        f'<text x="{_MARGIN + 200 + 110 * index}" y="18" fill="{colour}">{"initialisation" if phase == "init" else "end of training"}</text>'
        for index, (phase, colour) in enumerate(_COLOURS.items())
    )
    head = f'<text x="{_MARGIN}" y="18" font-weight="bold">{escape(title)}</text>{legend}'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{head}{panels}</svg>'


def _panel(
    layers: Mapping[str, NDArray],
    index: int,
    column: str,
    title: str,
    box: tuple[float, float] | None,
    logarithmic: bool,
) -> str:
    scale = (lambda value: math.log10(value)) if logarithmic else (lambda value: value)
    values = layers.get(column, numpy.array([]))
    drawn = numpy.isfinite(values) & (values > 0 if logarithmic else True)
    series = {}
    for phase in _COLOURS if len(values) else ():
        chosen = drawn & (layers["phase"] == phase)
        series[phase] = [
            (int(layer), scale(value))
            for layer, value in zip(layers["layer"][chosen], values[chosen].tolist())
        ]
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    bounds = [scale(value) for value in box] if box else []
    low, high = (
        min([value for _, value in points] + bounds),
        max([value for _, value in points] + bounds),
    )
    pad = 0.05 * (high - low) or 0.1
    low, high, last = low - pad, high + pad, max(layer for layer, _ in points)
    left, top = _MARGIN + index * (_WIDTH + _MARGIN), _MARGIN

    def place(layer: float, value: float) -> tuple[float, float]:
        return left + _WIDTH * (layer - 1) / max(last - 1, 1), top + _HEIGHT * (high - value) / (
            high - low
        )

    parts = [f'<text x="{left}" y="{top - 6}">{title}</text>']
    if box:
        (_, upper), (_, lower) = place(1, bounds[1]), place(1, bounds[0])
        parts.append(
            f'<rect x="{left}" y="{upper:.1f}" width="{_WIDTH}" height="{lower - upper:.1f}" fill="#000" fill-opacity="0.08"/>'
        )
    parts.append(
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>'
    )
    for value in (low + pad, (low + high) / 2, high - pad):
        shown = f"{10**value:.3g}" if logarithmic else f"{value:.3g}"
        parts.append(
            f'<text x="{left - 3}" y="{place(1, value)[1] + 4:.1f}" text-anchor="end" font-size="9">{shown}</text>'
        )
    parts += [
        f'<text x="{place(layer, low)[0]:.1f}" y="{top + _HEIGHT + 13}" text-anchor="middle" font-size="9">{layer}</text>'
        for layer in sorted({1, (1 + last) // 2, last})
    ]
    parts.append(
        f'<text x="{left + _WIDTH / 2}" y="{top + _HEIGHT + 27}" text-anchor="middle">layer</text>'
    )
    for phase, line in series.items():
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(
            f'<polyline points="{places}" fill="none" stroke="{_COLOURS[phase]}" stroke-width="1.8"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{_COLOURS[phase]}"/>'
            for x, y in (place(*point) for point in line)
        ]
    return "".join(parts)
