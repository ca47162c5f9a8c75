"""Moments over many units: pooled map, map of single units, pooling layers.

Averaged over independent weights of mean 0, g (Klambauer et al. 2017, Eq. 3) becomes the mean-field
map: a unit's omega is N(0, sigma_w2), not 0, and z pooled over units is
N(0, sigma_w2 (nu + mu^2) + sigma_b2) for each sample. This is the map for the mean and variance of
a whole layer. Its Jacobian at (0, 1) is that of g, but other fixed points differ: at sigma_w2 =
1.25 SELU's pooled q is 2.8726, where g with omega = 0 has tau nu = 2.7236.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import ActivationFunction

Array = NDArray[np.float64]

# Gauss-Hermite nodes of the part that all members of a block share.
_HERMITE_NODES = 60
# Gauss-Legendre nodes per panel, and range in standard deviations, of a member's own part.
_MAXIMUM_NODES = 96
_MAXIMUM_RANGE = 11.0
# The residual of a maximum is sorted into this many classes of equal weight ...
_RESIDUAL_NODES = 64
# ... from this many quasi-random draws.
_RESIDUAL_DRAWS = 1 << 15
# Larger blocks are not drawn but follow from the quantiles of the maximum.
_MOST_DRAWN_TOGETHER = 256
# A variance that is negative by more than this share of the largest one is no rounding.
_ROUNDING = 1e-9
# Points at which an activation is checked for rising throughout.
_RISING_POINTS = 2001


def pooled_length(
    mean: ArrayLike, variance: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike = 0.0
) -> Array:
    """Returns q = E z^2 from the pooled moments of the inputs.

    sigma_w2 (nu + mu^2) + sigma_b2 (Poole et al. 2016, Eq. 3).
    """
    mean = np.asarray(mean, dtype=float)
    return np.asarray(sigma_w2, dtype=float) * (variance + mean * mean) + sigma_b2


def pooled_map(
    phi: ActivationFunction,
    mean: ArrayLike,
    variance: ArrayLike,
    sigma_w2: ArrayLike,
    sigma_b2: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    """Returns mean and variance of phi(z) over all units; shapes broadcast.

    The average of g over omega ~ N(0, sigma_w2) at tau = sigma_w2, for wide layers and samples of
    equal norm, from mean and variance of the layer's inputs.
    """
    return quadrature.moments(phi, 0.0, pooled_length(mean, variance, sigma_w2, sigma_b2))


@dataclass(frozen=True)
class UnitMoments:
    """Moments over samples of every unit, shape (..., units).

    `pre_activation_mean` and `pre_activation_variance` are those of z, `mean` and `variance` those
    of phi(z) if z is normal.
    """

    pre_activation_mean: Array
    pre_activation_variance: Array
    mean: Array
    variance: Array


def per_unit_map(
    phi: ActivationFunction,
    weights: ArrayLike,
    input_mean: ArrayLike,
    input_covariance: ArrayLike,
    bias: ArrayLike = 0.0,
) -> UnitMoments:
    """Computes the moments of every unit from those of its inputs.

    z_i ~ N(m_i, v_i) with m_i = w_i . mean + b_i and v_i = w_i' Sigma w_i: nothing is assumed but
    that z_i is normal. g with m = mu omega_i and v = nu tau_i is the special case of equal means
    and independent inputs of equal variance.

    Args:
        phi: activation.
        weights: (..., units, inputs).
        input_mean: (..., inputs).
        input_covariance: (..., inputs, inputs), of the same samples.
        bias: (..., units) or a number.

    Raises:
        RequestError: shapes that do not fit, or a covariance that gives a unit a negative variance.
    """
    weights = np.asarray(weights, dtype=float)
    input_mean = np.asarray(input_mean, dtype=float)
    covariance = np.asarray(input_covariance, dtype=float)
    inputs = weights.shape[-1]
    if input_mean.shape[-1:] != (inputs,) or covariance.shape[-2:] != (inputs, inputs):
        raise RequestError(
            f"per-unit map: weights {weights.shape} need a mean of {inputs} and a covariance of "
            f"{inputs} x {inputs}, not {input_mean.shape} and {covariance.shape}"
        )
    mean = np.einsum("...ij,...j->...i", weights, input_mean) + bias
    variance = np.einsum("...ij,...jk,...ik->...i", weights, covariance, weights, optimize=True)
    scale = np.abs(variance).max(initial=0.0)
    if (variance < -_ROUNDING * scale).any():
        raise RequestError(
            "per-unit map: the covariance is not positive semidefinite, "
            f"a unit's variance would be {variance.min():g}"
        )
    variance = np.maximum(variance, 0.0)
    return UnitMoments(mean, variance, *quadrature.moments(phi, mean, variance))


def maximum_moments(
    phi: ActivationFunction, q: ArrayLike, correlation: ArrayLike, count: int = 4
) -> tuple[Array, Array, Array]:
    """Returns the moments of the largest of `count` activations y = phi(z).

    These are E y, E y^2 and E phi'(z)^2. The z ~ N(0, q) are exchangeable, z_k = sqrt(q)
    (sqrt(correlation) g + sqrt(1 - correlation) e_k). Given g the values are independent, and with
    their distribution function F the largest has density count F^(count - 1) dF. An activation
    that rises commutes with the maximum, so that F is that of e; for others (gelu, silu, mish) F
    is summed over the nodes in order of their values, to about 1e-3. Shapes broadcast.
    """
    clipped = np.clip(correlation, 0.0, 1.0)
    q, correlation = np.broadcast_arrays(np.asarray(q, dtype=float), clipped)
    g, g_weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    scale = np.sqrt(q).reshape(-1, 1, 1)
    rho = correlation.reshape(-1, 1, 1)
    # The inner rule is split where z crosses a kink.
    kinks = np.array(phi.kinks, dtype=float) / np.maximum(scale, 1e-150)
    edges = (kinks - np.sqrt(rho) * g[:, None]) / np.sqrt(np.maximum(1 - rho, 1e-300))
    e, weights = _split_normal(edges)
    z = scale * (np.sqrt(rho) * g[:, None] + np.sqrt(1 - rho) * e)
    value = phi.value(z)
    slope = phi.slope(z)
    below = ndtr(e) if _rises(phi, z) else _weight_below(value, weights)
    weights = weights * count * below ** (count - 1)
    weights = weights / weights.sum(-1, keepdims=True)
    weights = weights * (g_weights / g_weights.sum())[:, None]
    return tuple(
        np.einsum("nij,nij->n", part, weights).reshape(q.shape)[()]
        for part in (value, value * value, slope * slope)
    )


def average_length(second_moments: ArrayLike, correlation: ArrayLike, count: int = 4) -> Array:
    """Returns the second moment of the mean of `count` entries.

    It is the entries' second moment times (1 + (count - 1) rho) / count, where rho is their pair
    correlation about 0.
    """
    return (
        np.asarray(second_moments, dtype=float)
        * (1 + (count - 1) * np.asarray(correlation, dtype=float))
        / count
    )


def _rises(phi: ActivationFunction, z: Array) -> bool:
    values = phi.value(np.linspace(z.min(), z.max(), _RISING_POINTS))
    return bool((np.diff(values) >= 0).all())


def _weight_below(values: Array, weights: Array) -> Array:
    """Returns each node's cumulative weight: all smaller values, half of its own."""
    order = np.argsort(values, axis=-1)
    sorted_weights = np.take_along_axis(weights, order, -1)
    below = np.empty_like(values)
    np.put_along_axis(below, order, np.cumsum(sorted_weights, -1) - 0.5 * sorted_weights, -1)
    return below


def _split_normal(edges: Array) -> tuple[Array, Array]:
    """Returns nodes and weights (..., nodes) of N(0, 1), split at `edges` (..., edges)."""
    x, node_weight = np.polynomial.legendre.leggauss(_MAXIMUM_NODES)
    ends = np.broadcast_to([-_MAXIMUM_RANGE, _MAXIMUM_RANGE], (*edges.shape[:-1], 2))
    clipped = np.clip(np.concatenate([edges, ends], -1), -_MAXIMUM_RANGE, _MAXIMUM_RANGE)
    edges = np.sort(clipped, -1)
    start = edges[..., :-1, None]
    half = 0.5 * np.diff(edges, axis=-1)[..., None]
    e = (start + half * (x + 1)).reshape(*edges.shape[:-1], -1)
    weight = np.broadcast_to(half * node_weight, (*half.shape[:-1], len(x))).reshape(e.shape)
    return e, weight * np.exp(-0.5 * e * e) / np.sqrt(2 * np.pi)


@cache
def residual_maximum(count: int = 4) -> Array:
    """Returns equally likely values of max(e) - mean(e) for `count` independent standard normals.

    This is the excess of the maximum over the mean of a block. For exchangeable normals it is
    independent of the mean, so E[phi(M) | block mean] is phi averaged over these values.
    """
    if count > _MOST_DRAWN_TOGETHER:
        return _residual_of_many(count)
    # scipy.stats takes longer to load than everything else here, and few networks need it.
    from scipy.stats import qmc

    uniform = qmc.Sobol(count, scramble=False).random(_RESIDUAL_DRAWS)
    normal = ndtri(np.clip(uniform, 0.5 / _RESIDUAL_DRAWS, 1 - 0.5 / _RESIDUAL_DRAWS))
    residual = np.sort(normal.max(1) - normal.mean(1))
    return residual.reshape(_RESIDUAL_NODES, -1).mean(1)


def _residual_of_many(count: int) -> Array:
    """Returns the values of `residual_maximum` for blocks too large to be drawn.

    The maximum has the quantiles ndtri(u^(1 / count)). It is its residual plus the mean, which is
    independent of it and has variance 1 / count, so the quantiles move together by that share. At
    256 entries the values are those of the draws to 0.01 on average.
    """
    uniform = (np.arange(_RESIDUAL_DRAWS) + 0.5) / _RESIDUAL_DRAWS
    maximum = -ndtri(-np.expm1(np.log(uniform) / count))
    centre = maximum.mean()
    residual = centre + (maximum - centre) * np.sqrt(1 - 1 / (count * maximum.var()))
    return residual.reshape(_RESIDUAL_NODES, -1).mean(1)
