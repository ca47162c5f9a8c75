"""Hermite coefficients of an activation, from which every pair expectation follows at once.

For u = sqrt(q) z with z standard normal, f(u) = sum_k f_k He_k(z) / sqrt(k!). For two such u with
correlation c, E f(u1) g(u2) = sum_k f_k(q1) g_k(q2) c^k (Mehler's formula; Daniely, Frostig and
Singer 2016). The variances q1 and q2 may differ, so that a whole Gram matrix of samples passes
through a layer for the price of one sum.

The functions f expanded here are the activation phi, its square, its slope, and the slope's square.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations.specifications import ActivationFunction

Array = NDArray[np.float64]

# The highest degree k of an expansion.
DEGREE = 40
# Nodes on each half-line of quadrature, and its range in standard deviations.
_NODES, _RANGE = 128, 13.0
# Coefficients at more q than this are interpolated from a table over log q of this many entries.
_MOST_EXACT = 256
_TABLE = 96
# The coefficients of the two slopes that are kept there: means, responses and kurtosis need these.
_SLOPE_DEGREE_OF_MANY = 4
# Squared coefficients of a function whose slope jumps fall like k^-5/2. This gives the relative
# sizes of the degrees above DEGREE, of which so many are summed.
_TAIL_POWER, _TAIL_TERMS = 2.5, 4000
# A first-order correction for kurtosis is trusted up to this share of the corrected mean.
_KURTOSIS_LIMIT = 0.25


@dataclass(frozen=True)
class Expansion:
    """Coefficients of phi, phi^2, phi' and phi'^2 at u = sqrt(q) z.

    Attributes:
        q: variances of u, of any shape.
        value: coefficients of phi, (DEGREE + 1, *q.shape).
        square: coefficients of phi^2, of the same shape.
        slope: coefficients of phi', at many q up to a lower degree.
        slope_square: coefficients of phi'^2, likewise.
        rest: the part of E phi^2 in the degrees above DEGREE, of the shape of q.
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
        """Returns the expansion with means for a u of this excess kurtosis.

        To first order E f(u) = f_0 + excess f_4 / sqrt(24) (Gram-Charlier). The correction is
        clipped at a quarter of the mean for phi^2 and phi'^2, and at a quarter of the root mean
        square for phi and phi'.
        """
        limits = {
            "value": np.sqrt(self.square[0]),
            "square": self.square[0],
            "slope": np.sqrt(self.slope_square[0]),
            "slope_square": self.slope_square[0],
        }
        corrected = {}
        for name, limit in limits.items():
            coefficients = getattr(self, name).copy()
            correction = excess / np.sqrt(24.0) * coefficients[4]
            coefficients[0] += np.clip(
                correction, -_KURTOSIS_LIMIT * limit, _KURTOSIS_LIMIT * limit
            )
            corrected[name] = coefficients
        return Expansion(self.q, **corrected, rest=self.rest)

    def take(self, index: Any, degree: int = DEGREE) -> Expansion:
        """Returns the expansion at some of its q, up to a degree.

        `index`, any of NumPy's, selects from an array of the shape of `q`.
        """
        degrees = slice(degree + 1)
        selection = (degrees, *index) if isinstance(index, tuple) else (degrees, index)
        return Expansion(
            q=self.q[index],
            value=self.value[selection],
            square=self.square[selection],
            slope=self.slope[selection],
            slope_square=self.slope_square[selection],
            rest=self.rest[index],
        )


def expand(activation: ActivationFunction, q: Array) -> Expansion:
    """Returns the expansion at every element of `q`, of any shape and not below 0.

    The error is below 1e-6 of the moments for kinks at 0, where the nodes are split. More than 256
    elements are interpolated in log q, to about 1e-7, and have slopes up to degree 4: large maps
    have hundreds of megabytes of coefficients.
    """
    q = np.asarray(q, dtype=float)
    flat = q.reshape(-1)
    if flat.size > _MOST_EXACT and flat.max() > flat.min():
        coefficients = _interpolated(activation, flat)
    else:
        coefficients = _coefficients(activation, flat)
    value, square, slope, slope_square = (
        part.reshape(len(part), *q.shape) for part in coefficients
    )
    rest = np.maximum(square[0] - sum_of_squares(value), 0.0)
    return Expansion(q, value, square, slope, slope_square, rest)


def sum_of_squares(coefficients: Iterable[Array]) -> Array | float:
    """Returns the sum over degrees of squared coefficients, one degree after the other.

    Large maps have hundreds of megabytes of coefficients, which are not copied.
    """
    total: Array | float = 0.0
    for coefficient in coefficients:
        total = total + coefficient * coefficient
    return total


def powers(c: Array, degree: int = DEGREE) -> Array:
    """Returns c^0 ... c^degree, shape (degree + 1, *c.shape)."""
    result = np.empty((degree + 1, *np.shape(c)))
    result[0] = 1.0
    for k in range(1, degree + 1):
        np.multiply(result[k - 1], c, out=result[k])
    return result


def pair(f: Array, g: Array, c_powers: Array) -> Array:
    """Returns E f(u1) g(u2) from coefficients (degrees, ...) and powers of c."""
    return np.einsum("k...,k...,k...->...", f, g, c_powers)


def kernel(a: Expansion, b: Expansion, c: Array, c_powers: Array) -> Array:
    """Returns E phi(u1) phi(u2) for expansions at q1 and q2 and a correlation c.

    The degrees above DEGREE are estimated from the rests of the two second moments.
    """
    return pair(a.value, b.value, c_powers) + np.sqrt(a.rest * b.rest) * tail(c)


def tail(c: Array) -> Array:
    """Returns the share of the degrees above DEGREE that a correlation keeps.

    For a negative correlation it is 0: terms of even and odd degree cancel.
    """
    return np.interp(c, *_tail())


def _coefficients(activation: ActivationFunction, q: Array) -> tuple[Array, ...]:
    """Returns the coefficients (DEGREE + 1, q) of the four functions, by quadrature."""
    z, basis = _basis()
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        u = np.sqrt(q)[:, None] * z
        value = activation.value(u)
        slope = activation.slope(u)
        functions = (value, value * value, slope, slope * slope)
        return tuple((function @ basis).T for function in functions)


def _interpolated(activation: ActivationFunction, q: Array) -> tuple[Array, ...]:
    """Returns the coefficients at many q by cubic interpolation over log q (Lagrange)."""
    low = np.log(max(q.min(), q.max() * 1e-12, 1e-300))
    grid = np.linspace(low, np.log(q.max()), _TABLE)
    step = grid[1] - grid[0]
    log_q = np.log(np.maximum(q, 1e-300))
    position = np.clip((log_q - low) / step, 0.0, _TABLE - 1.0)
    cell = np.minimum(position.astype(int), _TABLE - 2)
    # The four neighbours of a cell; in the outer cells those of the nearest inner cell.
    first = np.clip(cell - 1, 0, _TABLE - 4)
    t = position - first
    weights = (
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    )
    value, square, slope, slope_square = _coefficients(activation, np.exp(grid))
    degrees = slice(_SLOPE_DEGREE_OF_MANY + 1)
    tables = (value, square, slope[degrees], slope_square[degrees])
    return tuple(_weighted_columns(table, first, weights) for table in tables)


def _weighted_columns(table: Array, first: NDArray[np.intp], weights: tuple[Array, ...]) -> Array:
    """Returns the sum of four neighbouring columns of a table, from `first` on, weighted."""
    # Degree by degree, so that large maps need no further copies of all degrees.
    total = np.empty((len(table), len(first)))
    for degree, row in enumerate(table):
        total[degree] = weights[0] * row[first]
        for offset, weight in enumerate(weights[1:], 1):
            total[degree] += weight * row[first + offset]
    return total


@cache
def _basis() -> tuple[Array, Array]:
    """Returns nodes z and, for each degree, He_k(z) / sqrt(k!) times the node's weight.

    The weights are those of N(0, 1): Gauss-Legendre on both half-lines. Shapes (nodes,) and
    (nodes, DEGREE + 1).
    """
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * _RANGE * (x + 1)
    weight = 0.5 * _RANGE * weight
    z = np.concatenate([-half[::-1], half])
    weight = np.concatenate([weight[::-1], weight]) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)

    polynomials = np.empty((len(z), DEGREE + 1))
    polynomials[:, 0] = 1.0
    polynomials[:, 1] = z
    for k in range(1, DEGREE):
        recurrence = z * polynomials[:, k] - np.sqrt(k) * polynomials[:, k - 1]
        polynomials[:, k + 1] = recurrence / np.sqrt(k + 1)
    return z, polynomials * weight[:, None]


@cache
def _tail() -> tuple[Array, Array]:
    """Returns correlations c and the share of the degrees above DEGREE that each keeps."""
    k = np.arange(DEGREE + 1, DEGREE + _TAIL_TERMS, dtype=float)
    weights = k**-_TAIL_POWER
    c = np.concatenate([[0.0], 1.0 - np.geomspace(1.0, 1e-5, 400)[1:], [1.0]])
    powers_of_c = np.exp(np.log(np.maximum(c, 1e-300))[:, None] * k)
    kept = powers_of_c @ weights / weights.sum()
    return c, kept
