"""Mean-field maps of wide networks of any activation: lengths, correlations, gains, fixed points and depth scales.

q = E z^2 is the second moment of a pre-activation over the weights, c the correlation of two samples' pre-activations, sigma_w2
fan_in times the variance of a weight, sigma_b2 the variance of a bias (Poole et al. 2016, arXiv:1606.05340; Schoenholz et al.
2017, arXiv:1611.01232). Fixed points are bracketed roots: iterating the maps takes 1e5 steps near criticality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import ActivationFunction

Array = NDArray[np.float64]

# Fixed points of the length map are looked for here.
WINDOW = (1e-10, 1e10)
_SCAN_POINTS = 401
# A length map whose logarithm stays this close to q's keeps every length.
_NEUTRAL = 1e-12
# C(0) of an activation whose mean is 0 but for rounding.
_CENTRED = 1e-28
_TOLERANCES = {"xatol": 1e-16, "xrtol": 4e-16, "fatol": 0.0, "frtol": 0.0}
# Powers of 2 at which the slope of an activation far out is read; the first at which it is finite counts.
_FAR = (40, 20, 8)


def length_map(
    phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike = 0.0
) -> Array:
    """V(q) = sigma_w2 E phi(sqrt(q) z)^2 + sigma_b2 (Poole et al. 2016, section 2.1: the length map); shapes broadcast."""
    return np.multiply(sigma_w2, quadrature.second_moment(phi, 0.0, q)) + sigma_b2


def length_gain(phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike) -> Array:
    """chi_q = V'(q) = sigma_w2 E[u phi(u) phi'(u)] / q with u ~ N(0, q) (Schoenholz et al. 2017, section 3, their chi_{q*} by parts); q above 0.

    For SELU at q = 1 and sigma_w2 = 1 it is the entry d nu~ / d nu of the Jacobian of g.
    """
    q = np.asarray(q, dtype=float)
    return (
        np.multiply(
            sigma_w2, quadrature.expectation(phi, lambda x: x * phi.value(x) * phi.slope(x), 0.0, q)
        )
        / q
    )


def gradient_gain(phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike) -> Array:
    """chi_1 = sigma_w2 E phi'(sqrt(q) z)^2 (Schoenholz et al. 2017, sections 2 and 5): the factor of the mean squared gradient per layer.

    Above 1 gradients grow and c = 1 is unstable (chaotic), below 1 they vanish (ordered). SELU with LeCun weights has 1.0716: the
    statement of Klambauer et al. (2017) that exploding gradients are impossible does not follow from their bound on the variance.
    """
    return np.multiply(sigma_w2, quadrature.slope_square(phi, 0.0, q))


def correlation_map(
    phi: ActivationFunction, c: ArrayLike, q: ArrayLike, sigma_w2: float, sigma_b2: float = 0.0
) -> Array:
    """C(c) = (sigma_w2 E phi(u1) phi(u2) + sigma_b2) / V(q) for two samples of equal length q (Poole et al. 2016, section 2.2: the correlation map)."""
    return pair_map(phi, q, q, c, sigma_w2, sigma_b2)[2]


def pair_map(
    phi: ActivationFunction,
    q1: ArrayLike,
    q2: ArrayLike,
    c: ArrayLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> tuple[Array, Array, Array]:
    """One layer's step of the lengths q1, q2 of two samples and of their correlation c; shapes broadcast.

    Raises:
        RequestError: a length below 0 or c outside [-1, 1].
    """
    next_1, next_2 = (
        length_map(phi, q1, sigma_w2, sigma_b2),
        length_map(phi, q2, sigma_w2, sigma_b2),
    )
    covariance = sigma_w2 * quadrature.kernel(phi, q1, q2, c) + sigma_b2
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / (np.sqrt(next_1) * np.sqrt(next_2))
    return next_1, next_2, np.clip(correlation, -1.0, 1.0)


def correlation_gain(phi: ActivationFunction, c: ArrayLike, q: ArrayLike, sigma_w2: float) -> Array:
    """chi_c = sigma_w2 E phi'(u1) phi'(u2): dC/dc at a fixed length q (Schoenholz et al. 2017, section 3, their chi_{c*}; Price's theorem)."""
    return np.multiply(sigma_w2, quadrature.slope_kernel(phi, q, q, c))


def depth_scale(gain: ArrayLike) -> Array:
    """Xi = -1 / ln |gain|: layers after which a deviation has shrunk by e; inf from gain 1 on, 0 for gain 0 (Schoenholz et al. 2017, section 3)."""
    gain = np.abs(np.asarray(gain, dtype=float))
    with np.errstate(divide="ignore"):
        return np.where(gain >= 1.0, np.inf, -1.0 / np.log(np.minimum(gain, 1.0)))[()]


@dataclass(frozen=True)
class LengthFixedPoint:
    """A length q = V(q), and chi_q = V'(q) there."""

    q: float
    chi_q: float

    @property
    def stable(self) -> bool:
        return abs(self.chi_q) < 1.0


@dataclass(frozen=True)
class MeanField:
    """What the maps of one activation do at (sigma_w2, sigma_b2).

    `status`: "converges" (lengths from q = 1 on approach `q_star`), "preserved" (every length is a fixed point; `q_star` is 1),
    "unstable" (`q_star` is 1, and lengths leave it), "vanishes" or "diverges" (no fixed point in that direction: `q_star` and all
    that depends on it are None). `lengths`: all
    fixed points of the length map in `WINDOW`. `xi_q`, `xi_c` may be inf.
    """

    sigma_w2: float
    sigma_b2: float
    status: str
    lengths: tuple[LengthFixedPoint, ...]
    q_star: float | None = None
    chi_q: float | None = None
    chi_1: float | None = None
    c_star: float | None = None
    chi_c: float | None = None
    xi_q: float | None = None
    xi_c: float | None = None


def solve(phi: ActivationFunction, sigma_w2: float, sigma_b2: float = 0.0) -> MeanField:
    """Fixed points, gains and depth scales; having no fixed point is an answer.

    Raises:
        RequestError: sigma_w2 <= 0, sigma_b2 < 0, not finite, or an activation without a second moment.
    """
    require_variances(sigma_w2, sigma_b2)
    quadrature.second_moment(phi, 0.0, 1.0)
    status, lengths, q = _lengths(phi, float(sigma_w2), float(sigma_b2))
    field = MeanField(float(sigma_w2), float(sigma_b2), status, lengths)
    if q is None:
        return field
    chi_q, chi_1 = float(length_gain(phi, q, sigma_w2)), float(gradient_gain(phi, q, sigma_w2))
    c = correlation_fixed_point(phi, q, sigma_w2, sigma_b2)
    chi_c = chi_1 if c == 1.0 else float(correlation_gain(phi, c, q, sigma_w2))
    xi_q = np.inf if status == "preserved" else float(depth_scale(chi_q))
    return MeanField(
        field.sigma_w2,
        field.sigma_b2,
        status,
        lengths,
        q,
        chi_q,
        chi_1,
        c,
        chi_c,
        xi_q,
        float(depth_scale(chi_c)),
    )


def length_fixed_points(
    phi: ActivationFunction, sigma_w2: float, sigma_b2: float = 0.0
) -> tuple[LengthFixedPoint, ...]:
    """All q = V(q) in `WINDOW` where V crosses the diagonal, ascending; empty where there is none, or where every length is one."""
    require_variances(sigma_w2, sigma_b2)
    return _lengths(phi, float(sigma_w2), float(sigma_b2))[1]


def correlation_fixed_point(
    phi: ActivationFunction, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """The stable c* = C(c*) in [0, 1] at a fixed point q of the length map.

    C is convex on [0, 1] with C(1) = 1, so c* = 1 while chi_1 <= 1, and the one other root where chi_1 > 1. That root is
    one of (1 - C(c)) / (1 - c) - 1, which grows from -C(0) to chi_1 - 1 and needs no difference of nearly equal numbers.
    """
    at_0 = float(sigma_b2 + sigma_w2 * quadrature.moments(phi, 0.0, q)[0] ** 2) / q
    at_1 = float(gradient_gain(phi, q, sigma_w2)) - 1.0
    if at_1 <= 1e-14:
        return 1.0
    if at_0 <= _CENTRED:
        return 0.0

    def residual(c: Array) -> Array:
        inside = np.clip(c, 1e-15, 1.0 - 1e-15)
        ratio = sigma_w2 / q * quadrature.kernel_gap(phi, q, inside) / (1.0 - inside) - 1.0
        return np.where(c == 0.0, -at_0, np.where(c == 1.0, at_1, ratio))

    return float(elementwise.find_root(residual, (0.0, 1.0), tolerances=_TOLERANCES).x)


def vanish_limit(phi: ActivationFunction) -> float:
    """The sigma_w2 below which short vectors shrink without bias: 1 / lim E phi^2 / q as q -> 0. 0 when phi(0) is not 0, inf when phi is flat there.

    For SELU 2 / (lambda^2 (1 + alpha^2)) = 0.476771: PyTorch's default weights (sigma_w2 = 1/3) lie below.
    """
    zero = np.array([0.0])
    if phi.value(zero)[0] != 0:
        return 0.0
    near = float((phi.slope(np.array([-1e-300, 1e-300])) ** 2).mean())
    # A slope that is known by its polynomial alone is 0 but for rounding.
    return _inverse(near if near > 1e-20 * float(quadrature.slope_square(phi, 0.0, 1.0)) else 0.0)


def diverge_limit(phi: ActivationFunction) -> float:
    """The sigma_w2 from which on long vectors grow: 1 / lim E phi^2 / q as q -> inf, from the slopes far out; inf for a bounded activation.

    For SELU 2 / lambda^2 = 1.811639: He's weights (sigma_w2 = 2) lie above.
    """
    return _inverse(sum(_far_slope(phi, sign) ** 2 for sign in (-1.0, 1.0)) / 2)


def require_variances(sigma_w2: float, sigma_b2: float) -> None:
    """Refuse variances that no weights or biases have."""
    if not (np.isfinite(sigma_w2) and sigma_w2 > 0):
        raise RequestError(
            f"sigma_w2={sigma_w2:g} must be a finite number above 0: it is fan_in times the variance of a weight"
        )
    if not (np.isfinite(sigma_b2) and sigma_b2 >= 0):
        raise RequestError(
            f"sigma_b2={sigma_b2:g} must be a finite number, 0 or above: it is the variance of a bias"
        )


def _lengths(
    phi: ActivationFunction, sigma_w2: float, sigma_b2: float
) -> tuple[str, tuple[LengthFixedPoint, ...], float | None]:
    """Status, fixed points and the one approached from q = 1, from a scan of log V(q) - log q for changes of sign."""

    def residual(log_q: Array) -> Array:
        with np.errstate(divide="ignore"):
            return (
                np.log(
                    sigma_w2 * quadrature.second_moment(phi, 0.0, np.exp(log_q), strict=False)
                    + sigma_b2
                )
                - log_q
            )

    log_q = np.linspace(*np.log(WINDOW), _SCAN_POINTS)  # holds q = 1
    values = residual(log_q)
    # Where lengths are kept to rounding (a short z that sees a straight activation) the sign says nothing.
    clear = np.isfinite(values) & (np.abs(values) > _NEUTRAL)
    if not clear.any():
        return "preserved", (), 1.0
    log_q, values = log_q[clear], values[clear]
    change = np.flatnonzero(np.signbit(values[:-1]) != np.signbit(values[1:]))
    roots = (
        np.exp(
            elementwise.find_root(
                residual, (log_q[change], log_q[change + 1]), tolerances=_TOLERANCES
            ).x
        )
        if len(change)
        else np.empty(0)
    )
    points = tuple(
        LengthFixedPoint(float(q), float(gain))
        for q, gain in zip(roots, length_gain(phi, roots, sigma_w2))
    )
    # Lengths move from q = 1 in the direction of the residual there, up to the first root.
    at_1 = float(residual(np.zeros(1))[0])
    here = [q for q in roots if abs(np.log(q)) < 1e-9]
    if here:
        unstable = abs(float(length_gain(phi, here[0], sigma_w2))) > 1
        return "unstable" if unstable else "converges", points, float(here[0])
    ahead = [q for q in roots if q > 1] if at_1 > 0 else [q for q in roots[::-1] if q < 1]
    return (
        "converges" if ahead else "diverges" if at_1 > 0 else "vanishes",
        points,
        float(ahead[0]) if ahead else None,
    )


def _far_slope(phi: ActivationFunction, sign: float) -> float:
    """Phi's slope far out on one side: inf where it keeps growing, 0 where it keeps falling."""

    def chord(power: float) -> float:
        x = sign * 2.0**power
        with np.errstate(all="ignore"):
            near, far = phi.value(np.array([x, 2 * x]))
            return float((far - near) / x)

    for power in _FAR:
        outer, inner = chord(power), chord(power / 2)
        if np.isfinite(outer):
            ratio = abs(outer) / abs(inner) if inner else 1.0
            return np.inf if ratio > 1.5 else 0.0 if ratio < 0.67 else outer
    return np.inf


def _inverse(value: float) -> float:
    return np.inf if value == 0 else 0.0 if np.isinf(value) else 1.0 / value
