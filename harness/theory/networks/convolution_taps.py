"""Sums over the taps of a convolution's kernel, and their transpose for gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.theory.networks.description import Convolution

Array = NDArray[np.float64]


def sum_over_taps(maps: Array, layer: Convolution, shift: NDArray[np.int_] | None = None) -> Array:
    """Sums maps over the taps of the kernel at every output position.

    Args:
        maps: (..., height, width), one map per sample or per pair of samples.
        layer: the convolution, as if its stride were 1; zero padding leaves some of its taps
            without input.
        shift: (pairs, 2) shifts of the second sample of every pair. A tap of a pair is live only
            where the taps of both samples are.
    """
    height, width = maps.shape[-2:]
    total = np.zeros_like(maps)
    for dy, dx in _offsets(layer):
        moved = _moved(maps, dy, dx, layer.padding)
        if shift is not None and layer.padding == "zeros" and shift.any():
            rows = (np.arange(height) + shift[:, :1]) % height + dy
            columns = (np.arange(width) + shift[:, 1:]) % width + dx
            live_rows = (rows >= 0) & (rows < height)
            live_columns = (columns >= 0) & (columns < width)
            moved *= live_rows[:, :, None] & live_columns[:, None, :]
        total += moved
    if layer.padding == "none" and layer.kernel_size > 1:
        reach = layer.kernel_size // 2
        lost = layer.kernel_size - 1 - reach
        total = total[..., reach : height - lost, reach : width - lost]
    return total


def spread_over_taps(gradient: Array, layer: Convolution, height: int, width: int) -> Array:
    """Returns where each output position's squared gradient goes, the transpose of the sum.

    Args:
        gradient: (samples, height, width) after the layer, at stride 1.
        layer: the convolution.
        height: height of the map in front of the layer.
        width: width of that map.
    """
    reach = layer.kernel_size // 2 if layer.padding == "none" else 0
    rows, columns = gradient.shape[1:]
    placed = np.zeros((len(gradient), height, width))
    placed[:, reach : reach + rows, reach : reach + columns] = gradient
    total = np.zeros_like(placed)
    for dy, dx in _offsets(layer):
        total += _moved_back(placed, dy, dx, layer.padding)
    return total


def _offsets(layer: Convolution) -> list[tuple[int, int]]:
    """Returns the rows and columns from the kernel's centre to each tap."""
    reach = layer.kernel_size // 2
    along = range(-reach, layer.kernel_size - reach)
    return [(dy, dx) for dy in along for dx in along]


def _moved(maps: Array, dy: int, dx: int, padding: str) -> Array:
    """Moves the value at (y + dy, x + dx) to (y, x).

    Zeros come in from outside, or for circular and reflected padding the map itself.
    """
    if padding == "circular":
        return np.roll(maps, (-dy, -dx), (-2, -1))
    if padding == "reflect":
        rows, columns = (
            _reflected(side, by) for side, by in zip(maps.shape[-2:], (dy, dx), strict=True)
        )
        return maps[..., rows[:, None], columns[None, :]]
    height, width = maps.shape[-2:]
    moved = np.zeros_like(maps)
    to_rows = slice(max(0, -dy), min(height, height - dy))
    to_columns = slice(max(0, -dx), min(width, width - dx))
    from_rows = slice(max(0, dy), max(0, min(height, height + dy)))
    from_columns = slice(max(0, dx), max(0, min(width, width + dx)))
    moved[..., to_rows, to_columns] = maps[..., from_rows, from_columns]
    return moved


def _moved_back(maps: Array, dy: int, dx: int, padding: str) -> Array:
    """Moves the value at (y, x) to (y + dy, x + dx), the transpose of `_moved`."""
    if padding != "reflect":
        return _moved(maps, -dy, -dx, padding)
    by_rows = np.zeros_like(maps)
    for row, source in enumerate(_reflected(maps.shape[-2], dy)):
        by_rows[..., source, :] += maps[..., row, :]
    moved = np.zeros_like(maps)
    for column, source in enumerate(_reflected(maps.shape[-1], dx)):
        moved[..., source] += by_rows[..., column]
    return moved


def _reflected(side: int, by: int) -> NDArray[np.int_]:
    """Returns the indices (side,) of positions moved by `by`, reflected at both ends."""
    positions = np.abs(np.arange(side) + by)
    last = side - 1
    return last - np.abs(last - positions)
