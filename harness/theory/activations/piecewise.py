"""A function that is only known by its values: where it has kinks, and its slope, from polynomials on panels.

The line is bisected until on every panel the Chebyshev series of the values ends in rounding. Around a kink that never happens
at any width, which is how kinks are found; the panels are then made anew with the kinks as edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from harness.errors import RequestError

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_EDGES = (-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0)
# Within these the function must be finite; further out its panels end where it is not.
_ESSENTIAL = 13.0
_POINTS = 16
_RELATIVE, _ABSOLUTE = 1e-13, 1e-14
# Panels narrower than this, relative to where they are, mark a kink; none is made narrower than the second number.
_NARROW, _LEAST = 1e-6, 1e-13
_MOST_PANELS = 2000
# Jumps of value, slope and curvature that count, relative to the largest near 0.
_JUMPS = (1e-9, 1e-7, 1e-3)


@dataclass(frozen=True)
class Panels:
    """Ascending `edges`, the Chebyshev series (panels, degree) of the function on each, and which edges are `kinks`."""

    edges: Array
    series: Array
    kinks: tuple[float, ...]

    def slope(self, function: Function, x: Array) -> Array:
        """The derivative at x: of the series inside the panels, a difference quotient of the function outside."""
        inside = (x >= self.edges[0]) & (x <= self.edges[-1])
        result = np.empty(x.shape)
        panel = np.clip(
            np.searchsorted(self.edges, x[inside], side="left") - 1, 0, len(self.series) - 1
        )
        start, width = self.edges[panel], np.diff(self.edges)[panel]
        derivative = chebyshev.chebder(self.series, axis=1)[panel]
        result[inside] = (
            chebyshev.chebval(2 * (x[inside] - start) / width - 1, derivative.T, tensor=False)
            * 2
            / width
        )
        far = x[~inside]
        step = 1e-3 * np.sqrt(np.abs(far))
        values = [function(far + k * step) for k in (-2, -1, 1, 2)]
        result[~inside] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        return result


def analyse(function: Function, name: str, kinks: tuple[float, ...] | None = None) -> Panels:
    """Panels of a function of float64 arrays. Kinks within +-40 are found unless they are told.

    Raises:
        RequestError: not finite within +-13, a value that jumps, or so rough that no panels fit.
    """
    edges = _finite_edges(function, name)
    if kinks is None:
        narrow = [
            panel
            for panel in _refine(function, name, edges)[0]
            if panel[1] - panel[0] < _NARROW * max(1.0, abs(panel[0]))
        ]
        found = _clusters(narrow)
        found = _sharpened(found, *_refine(function, name, np.union1d(edges, found))[:2])
    else:
        found = np.array(kinks, dtype=float)
    panels, series, rough = _refine(function, name, np.union1d(edges, found))
    if rough:
        raise RequestError(
            f"activation {name!r} is too rough near x = {rough[0][0]:.6g}: its slope is unbounded there, or it is not a fixed function of x"
        )
    edges = np.array([start for start, _ in panels] + [panels[-1][1]])
    jumps = _jumps(edges, series, 0)
    if len(jumps):
        raise RequestError(
            f"activation {name!r} jumps at x = {jumps[0]:.6g}: its gradient has no mean square there, and theory has no gain for it"
        )
    if kinks is None:
        found = np.union1d(_jumps(edges, series, 1), _jumps(edges, series, 2))
    return Panels(edges, series, tuple(found.tolist()))


def _finite_edges(function: Function, name: str) -> Array:
    x = np.concatenate([np.linspace(-_ESSENTIAL, _ESSENTIAL, 1041), (0.0,)])
    values = function(x)
    if not np.isfinite(values).all():
        bad = x[~np.isfinite(values)]
        raise RequestError(
            f"activation {name!r} is {values[~np.isfinite(values)][0]} at x = {bad[np.argmin(np.abs(bad))]:g}; expected a finite number everywhere within +-{_ESSENTIAL:g}"
        )
    edges = np.array(_EDGES)
    far = np.abs(edges) > _ESSENTIAL
    finite = ~far
    # The panel that ends at a far edge must be finite throughout, and so must those nearer.
    for side in (edges < -_ESSENTIAL, edges > _ESSENTIAL):
        for edge in sorted(edges[side], key=abs):
            nearer = np.sign(edge) * _ESSENTIAL
            if not np.isfinite(function(np.linspace(nearer, edge, 200))).all():
                break
            finite |= edges == edge
    return np.union1d(edges[finite], (-_ESSENTIAL, _ESSENTIAL))


def _refine(
    function: Function, name: str, edges: Array
) -> tuple[list[tuple[float, float]], Array, list[tuple[float, float]]]:
    """Panels with their series, ascending, and those on which no series ends in rounding at any width."""
    points = chebyshev.chebpts1(_POINTS)
    to_series = np.linalg.inv(chebyshev.chebvander(points, _POINTS - 1)).T
    scale = np.abs(function(np.linspace(-3.0, 3.0, 61))).max()
    todo = np.stack([edges[:-1], edges[1:]], axis=1)
    panels, rows, rough = [], [], []
    while len(todo):
        if len(panels) + len(todo) > _MOST_PANELS:
            raise RequestError(
                f"activation {name!r} varies too fast near x = {todo[0, 0]:g}, or is not computed to float64's precision"
            )
        middle, half = todo.mean(1, keepdims=True), np.diff(todo, axis=1) / 2
        values = function(middle + half * points)
        series = values @ to_series
        tolerance = _RELATIVE * np.abs(values).max(1) + _ABSOLUTE * scale
        smooth = np.abs(series[:, -3:]).max(1) <= tolerance
        least = 2 * half[:, 0] <= _LEAST * np.maximum(1.0, np.abs(middle[:, 0]))
        rough += [tuple(panel) for panel in todo[least & ~smooth]]
        done = smooth | least
        panels += [tuple(panel) for panel in todo[done]]
        rows += list(series[done])
        split = todo[~done]
        middle = split.mean(1)
        todo = np.concatenate(
            [np.stack([split[:, 0], middle], 1), np.stack([middle, split[:, 1]], 1)]
        )
    order = np.argsort([start for start, _ in panels])
    return [panels[i] for i in order], np.array(rows)[order], rough


def _clusters(narrow: list[tuple[float, float]]) -> Array:
    """One point for each group of adjoining narrow panels: the middle of its narrowest."""
    kinks, group = [], []
    for panel in narrow + [(np.inf, np.inf)]:
        if group and panel[0] > group[-1][1]:
            start, end = min(group, key=lambda p: p[1] - p[0])
            kinks.append(0.5 * (start + end))
            group = []
        group.append(panel)
    return np.array(kinks)


def _sharpened(kinks: Array, panels: list[tuple[float, float]], series: Array) -> Array:
    """Each kink where the series on either side of it meet."""
    edges = np.array([start for start, _ in panels] + [panels[-1][1]])
    value, slope = _sides(edges, series, 0), _sides(edges, series, 1)
    at = np.searchsorted(edges[1:-1], kinks)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = ((value[0] - value[1]) / (slope[1] - slope[0]))[at]
    return kinks + np.where(np.abs(shift) < _NARROW * np.maximum(1.0, np.abs(kinks)), shift, 0.0)


def _sides(edges: Array, series: Array, order: int) -> tuple[Array, Array]:
    """A derivative of the series at the inner edges, from the left and from the right."""
    derivative = (chebyshev.chebder(series, order, axis=1) if order else series) * (
        2 / np.diff(edges)[:, None]
    ) ** order
    return derivative.sum(1)[:-1], (derivative * (-1.0) ** np.arange(derivative.shape[1])).sum(1)[
        1:
    ]


def _jumps(edges: Array, series: Array, order: int) -> Array:
    """The inner edges at which a derivative jumps by more than the error of the series and its differentiation."""
    left, right = _sides(edges, series, order)
    size, near = np.abs(series).max(1), np.abs(edges[1:-1]) <= 3
    scale = max(np.abs(left[near]).max(), np.abs(right[near]).max())
    error = (_RELATIVE * size + _ABSOLUTE * size.max(where=np.abs(edges[1:]) <= 3, initial=0.0)) * (
        _POINTS**2 / np.diff(edges)
    ) ** order
    return edges[1:-1][np.abs(left - right) > _JUMPS[order] * scale + error[:-1] + error[1:]]
