"""Hermite coefficients of an activation, its square, its slope and the slope's square: every pair expectation at once.

For u = sqrt(q) z with z standard normal, f(u) = sum_k f_k He_k(z) / sqrt(k!), and for two such u with correlation c
E f(u1) g(u2) = sum_k f_k(q1) g_k(q2) c^k (Mehler; Daniely, Frostig and Singer 2016). Norms may differ, so a whole Gram matrix of
samples goes through a layer for the price of one sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations.functions import ActivationFunction

Array = NDArray[np.float64]

DEGREE = 40
_NODES, _RANGE = 128, 13.0
# More distinct q than this are read off a table over log q.
_MOST_EXACT = 256
_TABLE = 96
# Squared coefficients of a function whose slope jumps fall like k^-5/2: the shape of the tail behind DEGREE.
_TAIL_POWER, _TAIL_TERMS = 2.5, 4000


@dataclass(frozen=True)
class Expansion:
    """Coefficients (DEGREE + 1, ...) at an array of q: of phi, phi^2, phi' and phi'^2 at u = sqrt(q) z.

    `rest` is the part of E phi^2 that lies in the degrees left out.
    """

    q: Array
    value: Array
    square: Array
    slope: Array
    slope_square: Array
    rest: Array

    @property
    def mean(self) -> Array:
        """E phi(u)."""
        return self.value[0]

    @property
    def second_moment(self) -> Array:
        """E phi(u)^2."""
        return self.square[0]

    @property
    def gain(self) -> Array:
        """E phi'(u)^2."""
        return self.slope_square[0]

    def with_kurtosis(self, excess: float) -> Expansion:
        """With means as for a u of this excess kurtosis, to first order: E f(u) = f_0 + excess f_4 / sqrt(24) (Gram-Charlier).

        The first order is trusted up to a quarter of a mean (of the root mean square, for phi and phi' themselves).
        """
        limits = {
            "value": np.sqrt(self.square[0]),
            "square": self.square[0],
            "slope": np.sqrt(self.slope_square[0]),
            "slope_square": self.slope_square[0],
        }
        moved = {}
        for name, limit in limits.items():
            moved[name] = getattr(self, name).copy()
            moved[name][0] += np.clip(
                excess / np.sqrt(24.0) * moved[name][4], -0.25 * limit, 0.25 * limit
            )
        return Expansion(self.q, **moved, rest=self.rest)

    def take(self, index: Array | tuple[Array, ...], degree: int = DEGREE) -> Expansion:
        """The expansion at some of its q, up to a degree; `index` as for an array of the shape of `q`."""
        every = (
            (slice(degree + 1), *index) if isinstance(index, tuple) else (slice(degree + 1), index)
        )
        return Expansion(
            self.q[index],
            *(getattr(self, name)[every] for name in ("value", "square", "slope", "slope_square")),
            self.rest[index],
        )


def expand(activation: ActivationFunction, q: Array) -> Expansion:
    """The expansion at every element of `q` (any shape, not below 0); coefficients come first.

    Error below 1e-6 of the moments for kinks at 0, where the nodes are split; many q are interpolated in log q, to about 1e-7.
    """
    q = np.asarray(q, dtype=float)
    flat = q.reshape(-1)
    if flat.size > _MOST_EXACT and flat.max() > flat.min():
        coefficients = _interpolated(activation, flat)
    else:
        coefficients = _coefficients(activation, flat)
    value, square, slope, slope_square = (
        part.reshape(DEGREE + 1, *q.shape) for part in coefficients
    )
    return Expansion(
        q, value, square, slope, slope_square, np.maximum(square[0] - (value * value).sum(0), 0.0)
    )


def powers(c: Array, degree: int = DEGREE) -> Array:
    """c^0 ... c^degree, shape (degree + 1, ...)."""
    result = np.empty((degree + 1, *np.shape(c)))
    result[0] = 1.0
    for k in range(1, degree + 1):
        np.multiply(result[k - 1], c, out=result[k])
    return result


def pair(f: Array, g: Array, c_powers: Array) -> Array:
    """E f(u1) g(u2) from coefficients (degrees, ...) at q1 and q2 and the powers of their correlation."""
    return np.einsum("k...,k...,k...->...", f, g, c_powers)


def kernel(a: Expansion, b: Expansion, c: Array, c_powers: Array) -> Array:
    """E phi(u1) phi(u2), with the degrees behind DEGREE estimated from what is left of the two second moments."""
    return pair(a.value, b.value, c_powers) + np.sqrt(a.rest * b.rest) * tail(c)


def tail(c: Array) -> Array:
    """The share of the degrees behind DEGREE that a correlation keeps; those of a negative one cancel in pairs."""
    return np.interp(c, *_tail())


def _coefficients(activation: ActivationFunction, q: Array) -> tuple[Array, ...]:
    z, basis = _basis()
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        u = np.sqrt(q)[:, None] * z
        value, slope = activation.value(u), activation.slope(u)
        return tuple(
            (function @ basis).T for function in (value, value * value, slope, slope * slope)
        )


def _interpolated(activation: ActivationFunction, q: Array) -> tuple[Array, ...]:
    low = np.log(max(q.min(), q.max() * 1e-12, 1e-300))
    grid = np.linspace(low, np.log(q.max()), _TABLE)
    position = np.clip(
        (np.log(np.maximum(q, 1e-300)) - low) / (grid[1] - grid[0]), 0.0, _TABLE - 1.0
    )
    cell = np.minimum(position.astype(int), _TABLE - 2)
    # Cubic through four neighbours (Lagrange); at the ends the cubic of the nearest inner cell.
    first = np.clip(cell - 1, 0, _TABLE - 4)
    t = position - first
    weights = (
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    )
    tables = _coefficients(activation, np.exp(grid))
    return tuple(
        sum(weight * table[:, first + offset] for offset, weight in enumerate(weights))
        for table in tables
    )


@cache
def _basis() -> tuple[Array, Array]:
    """Nodes z and, for each degree, He_k(z) / sqrt(k!) times the weight of N(0, 1): half-line Gauss-Legendre, split at 0."""
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    half, weight = 0.5 * _RANGE * (x + 1), 0.5 * _RANGE * weight
    z = np.concatenate([-half[::-1], half])
    weight = np.concatenate([weight[::-1], weight]) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    polynomials = np.empty((len(z), DEGREE + 1))
    polynomials[:, 0], polynomials[:, 1] = 1.0, z
    for k in range(1, DEGREE):
        polynomials[:, k + 1] = (
            z * polynomials[:, k] - np.sqrt(k) * polynomials[:, k - 1]
        ) / np.sqrt(k + 1)
    return z, polynomials * weight[:, None]


@cache
def _tail() -> tuple[Array, Array]:
    """The share of the left-out degrees that a correlation c keeps, tabulated over c."""
    k = np.arange(DEGREE + 1, DEGREE + _TAIL_TERMS, dtype=float)
    weights = k**-_TAIL_POWER
    c = np.concatenate([[0.0], 1.0 - np.geomspace(1.0, 1e-5, 400)[1:], [1.0]])
    kept = np.exp(np.log(np.maximum(c, 1e-300))[:, None] * k) @ weights / weights.sum()
    return c, kept
