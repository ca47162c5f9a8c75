"""Gauss-Legendre rules of the standard Gaussian on panels split at given points."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations.specifications import ActivationFunction

Array = NDArray[np.float64]

# Nodes per panel.
NODES = 20
# Panel edges of the standard Gaussian; beyond 13 standard deviations its density is 8e-38.
GAUSSIAN_BREAKS = (-13.0, -7.0, -3.0, 0.0, 3.0, 7.0, 13.0)


def differentiation_matrix() -> Array:
    """Returns the differentiation matrix of the nodes on [0, 1], in barycentric form.

    It takes values at the nodes to the slopes there of the polynomial through them.
    """
    nodes = _rule(NODES)[0]
    gaps = nodes[:, None] - nodes + np.eye(len(nodes))
    barycentric = 1.0 / np.prod(gaps, axis=1)
    matrix = barycentric / barycentric[:, None] / gaps
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(1))
    return matrix


def split_points(phi: ActivationFunction) -> Array:
    """Returns the kinks and breaks of an activation, ascending."""
    return np.unique(np.array(phi.kinks + phi.breaks, dtype=float))


def nodes_and_weights(edges: Array, count: int | None = None) -> tuple[Array, Array]:
    """Returns nodes and weights of the standard Gaussian measure, (points, nodes).

    `edges` (points, edges) are the panels' edges, ascending; `count` is the number of nodes per
    panel.
    """
    nodes, weights = _rule(count or NODES)
    start = edges[:, :-1, None]
    width = np.diff(edges, axis=1)[:, :, None]
    y = (start + width * nodes).reshape(len(edges), width.shape[1] * len(nodes))
    lengths = (width * weights).reshape(y.shape)
    return y, lengths * np.exp(-0.5 * y * y) / np.sqrt(2 * np.pi)


def panel_edges(positions: Array) -> Array:
    """Returns ascending panel edges (points, edges).

    They are the Gaussian's own and `positions` (points, k), clipped to the Gaussian's range.
    """
    own = np.broadcast_to(GAUSSIAN_BREAKS, (len(positions), len(GAUSSIAN_BREAKS)))
    edges = np.concatenate([own, positions], axis=1)
    return np.sort(np.clip(edges, GAUSSIAN_BREAKS[0], GAUSSIAN_BREAKS[-1]), axis=1)


@cache
def _rule(count: int) -> tuple[Array, Array]:
    """Returns Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1.0), 0.5 * weights
