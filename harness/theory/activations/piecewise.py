"""Kinks and slope of a function that is known by its values only, from polynomials on panels.

The line is bisected until, on every panel, the Chebyshev series of the values ends in rounding
errors. Around a kink that happens at no width, which is how kinks are found; the panels are then
made anew with the kinks as edges.
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
Interval = tuple[float, float]

# Edges of the panels that bisection starts with.
_EDGES = (-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0)
# The function must be finite within +-13. Further out the panels end where it is not finite.
_ESSENTIAL = 13.0
# Chebyshev points per panel, and the size of coefficients that count as rounding errors.
_POINTS = 16
_RELATIVE, _ABSOLUTE = 1e-13, 1e-14
# Panels narrower than the first number, relative to their position, mark a kink. No panel is made
# narrower than the second.
_NARROW, _LEAST = 1e-6, 1e-13
_MOST_PANELS = 2000
# Jumps of value, slope and curvature that count, relative to the largest value, slope and curvature
# near 0.
_JUMPS = (1e-9, 1e-7, 1e-3)


@dataclass(frozen=True)
class Panels:
    """A function's polynomials on adjoining panels.

    Attributes:
        edges: the panels' edges, ascending, (panels + 1,).
        series: Chebyshev coefficients on each panel, (panels, degrees).
        kinks: those edges at which the slope or the curvature jumps.
    """

    edges: Array
    series: Array
    kinks: tuple[float, ...]

    def slope(self, function: Function, x: Array) -> Array:
        """Returns the function's derivative at x.

        Inside the panels it is the derivative of the series, outside a difference quotient of
        order 4 of the function itself.
        """
        inside = (x >= self.edges[0]) & (x <= self.edges[-1])
        result = np.empty(x.shape)
        result[inside] = self._slope_of_series(x[inside])
        result[~inside] = _difference_quotient(function, x[~inside])
        return result

    def _slope_of_series(self, x: Array) -> Array:
        last = len(self.series) - 1
        panel = np.clip(np.searchsorted(self.edges, x, side="left") - 1, 0, last)
        start = self.edges[panel]
        width = np.diff(self.edges)[panel]
        derivative = chebyshev.chebder(self.series, axis=1)[panel]
        position = 2 * (x - start) / width - 1
        return chebyshev.chebval(position, derivative.T, tensor=False) * 2 / width


@dataclass(frozen=True)
class _Refinement:
    """Panels after bisection, ascending, with their series.

    `rough` lists the panels on which the series does not end in rounding errors at any width.
    """

    panels: list[Interval]
    series: Array
    rough: list[Interval]

    @property
    def edges(self) -> Array:
        starts = [start for start, _ in self.panels]
        last_end = self.panels[-1][1]
        return np.array([*starts, last_end])


def analyse(function: Function, name: str, kinks: tuple[float, ...] | None = None) -> Panels:
    """Returns panels of a function of float64 arrays.

    Args:
        function: the function; it acts elementwise.
        name: its name in messages.
        kinks: its kinks; None to find those within +-40.

    Raises:
        RequestError: the function is not finite within +-13, jumps, or is so rough that no panels
            fit.
    """
    edges = _finite_edges(function, name)
    candidates = _search(function, name, edges) if kinks is None else np.array(kinks, dtype=float)
    refinement = _refine(function, name, np.union1d(edges, candidates))
    if refinement.rough:
        raise RequestError(
            f"activation {name!r} is too rough near x = {refinement.rough[0][0]:.6g}: its slope is "
            "unbounded there, or it is not a fixed function of x"
        )
    edges, series = refinement.edges, refinement.series
    jumps = _jumps(edges, series, 0)
    if len(jumps):
        raise RequestError(
            f"activation {name!r} jumps at x = {jumps[0]:.6g}: its gradient has no mean square "
            "there, and theory has no gain for it"
        )
    if kinks is None:
        candidates = np.union1d(_jumps(edges, series, 1), _jumps(edges, series, 2))
    return Panels(edges, series, tuple(candidates.tolist()))


def _difference_quotient(function: Function, x: Array) -> Array:
    step = 1e-3 * np.sqrt(np.abs(x))
    values = [function(x + k * step) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


def _finite_edges(function: Function, name: str) -> Array:
    """Returns the starting edges between which the function is finite."""
    x = np.concatenate([np.linspace(-_ESSENTIAL, _ESSENTIAL, 1041), (0.0,)])
    values = function(x)
    infinite = ~np.isfinite(values)
    if infinite.any():
        at = x[infinite]
        nearest = at[np.argmin(np.abs(at))]
        raise RequestError(
            f"activation {name!r} is {values[infinite][0]} at x = {nearest:g}; "
            f"expected a finite number everywhere within +-{_ESSENTIAL:g}"
        )
    edges = np.array(_EDGES)
    finite = np.abs(edges) <= _ESSENTIAL
    # An outer edge counts only if the function is finite all the way to it.
    for side in (edges < -_ESSENTIAL, edges > _ESSENTIAL):
        for edge in sorted(edges[side], key=abs):
            inner = np.sign(edge) * _ESSENTIAL
            if not np.isfinite(function(np.linspace(inner, edge, 200))).all():
                break
            finite |= edges == edge
    return np.union1d(edges[finite], (-_ESSENTIAL, _ESSENTIAL))


def _search(function: Function, name: str, edges: Array) -> Array:
    """Returns points that may be kinks: where bisection ends in narrow panels."""
    narrow = []
    for start, end in _refine(function, name, edges).panels:
        if end - start < _NARROW * max(1.0, abs(start)):
            narrow.append((start, end))
    points = _clusters(narrow)
    return _sharpened(points, _refine(function, name, np.union1d(edges, points)))


def _refine(function: Function, name: str, edges: Array) -> _Refinement:
    """Returns the panels on which bisection of the intervals between `edges` ends."""
    points = chebyshev.chebpts1(_POINTS)
    to_series = np.linalg.inv(chebyshev.chebvander(points, _POINTS - 1)).T
    scale = np.abs(function(np.linspace(-3.0, 3.0, 61))).max()
    todo = np.stack([edges[:-1], edges[1:]], axis=1)
    panels: list[Interval] = []
    rows: list[Array] = []
    rough: list[Interval] = []
    while len(todo):
        if len(panels) + len(todo) > _MOST_PANELS:
            raise RequestError(
                f"activation {name!r} varies too fast near x = {todo[0, 0]:g}, "
                "or is not computed to float64's precision"
            )
        middle = todo.mean(1, keepdims=True)
        half = np.diff(todo, axis=1) / 2
        values = function(middle + half * points)
        series = values @ to_series
        tolerance = _RELATIVE * np.abs(values).max(1) + _ABSOLUTE * scale
        smooth = np.abs(series[:, -3:]).max(1) <= tolerance
        least = 2 * half[:, 0] <= _LEAST * np.maximum(1.0, np.abs(middle[:, 0]))
        done = smooth | least
        rough += [tuple(panel) for panel in todo[least & ~smooth]]
        panels += [tuple(panel) for panel in todo[done]]
        rows += list(series[done])
        todo = _halves(todo[~done])
    order = np.argsort([start for start, _ in panels])
    return _Refinement([panels[i] for i in order], np.array(rows)[order], rough)


def _halves(intervals: Array) -> Array:
    """Returns the two halves of each interval, all left halves first, (2 intervals, 2)."""
    middle = intervals.mean(1)
    left = np.stack([intervals[:, 0], middle], 1)
    right = np.stack([middle, intervals[:, 1]], 1)
    return np.concatenate([left, right])


def _clusters(narrow: list[Interval]) -> Array:
    """Returns the middle of the narrowest panel in each group of adjoining narrow panels."""
    groups: list[list[Interval]] = []
    for panel in narrow:
        if groups and panel[0] <= groups[-1][-1][1]:
            groups[-1].append(panel)
        else:
            groups.append([panel])
    middles = []
    for group in groups:
        start, end = min(group, key=lambda panel: panel[1] - panel[0])
        middles.append(0.5 * (start + end))
    return np.array(middles)


def _sharpened(kinks: Array, refinement: _Refinement) -> Array:
    """Returns each kink moved to where the series on either side of it meet."""
    edges, series = refinement.edges, refinement.series
    value_left, value_right = _sides(edges, series, 0)
    slope_left, slope_right = _sides(edges, series, 1)
    at = np.searchsorted(edges[1:-1], kinks)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = ((value_left - value_right) / (slope_right - slope_left))[at]
    small = np.abs(shift) < _NARROW * np.maximum(1.0, np.abs(kinks))
    return kinks + np.where(small, shift, 0.0)


def _sides(edges: Array, series: Array, order: int) -> tuple[Array, Array]:
    """Returns a derivative of the series at the inner edges, from the left and from the right."""
    derivative = chebyshev.chebder(series, order, axis=1) if order else series
    derivative = derivative * (2 / np.diff(edges)[:, None]) ** order
    # A series is the sum of its coefficients at the right end, with alternating signs at the left.
    signs = (-1.0) ** np.arange(derivative.shape[1])
    at_right_end = derivative.sum(1)
    at_left_end = (derivative * signs).sum(1)
    return at_right_end[:-1], at_left_end[1:]


def _jumps(edges: Array, series: Array, order: int) -> Array:
    """Returns the inner edges at which a derivative jumps by more than its numerical error."""
    left, right = _sides(edges, series, order)
    near = np.abs(edges[1:-1]) <= 3
    scale = max(np.abs(left[near]).max(), np.abs(right[near]).max())

    size = np.abs(series).max(1)
    size_near = size.max(where=np.abs(edges[1:]) <= 3, initial=0.0)
    amplification = (_POINTS**2 / np.diff(edges)) ** order
    error = (_RELATIVE * size + _ABSOLUTE * size_near) * amplification
    tolerance = _JUMPS[order] * scale + error[:-1] + error[1:]
    return edges[1:-1][np.abs(left - right) > tolerance]
