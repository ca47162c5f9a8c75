"""Mean-field maps of wide networks: lengths, correlations, gains, fixed points and depth scales.

q = E z^2 is the second moment of a pre-activation over the weights, c the correlation of two
samples' pre-activations, sigma_w2 is fan_in times the variance of a weight, and sigma_b2 the
variance of a bias (Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232).
Fixed points are bracketed roots, because iterating the maps takes 1e5 steps near criticality.
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

# Fixed points of the length map are searched for between these two lengths.
WINDOW = (1e-10, 1e10)
# Points of log q at which the sign of log V(q) - log q is read: an odd number, to include q = 1.
_SCAN_POINTS = 401
# A length map whose logarithm stays this close to that of q keeps every length.
_NEUTRAL = 1e-12
# A root whose logarithm is this close to 0 is the starting point q = 1 itself.
_AT_1 = 1e-9
# Up to this chi_1 - 1, which is rounding, c* is 1.
_ORDERED = 1e-14
# C(0) of an activation whose mean is 0 but for rounding.
_CENTRED = 1e-28
_TOLERANCES = {"xatol": 1e-16, "xrtol": 4e-16, "fatol": 0.0, "frtol": 0.0}
# Powers of 2 at which the slope of an activation far out is read; the first finite one counts.
_FAR = (40, 20, 8)
# From one such power to half of it a slope that grows or falls by more than this has no limit.
_GROWS = 1.5
_FALLS = 0.67


def length_map(
    phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike = 0.0
) -> Array:
    """Returns the length map V(q); shapes broadcast.

    V(q) = sigma_w2 E phi(sqrt(q) z)^2 + sigma_b2, the length map of Poole et al. (2016), section
    2.1.
    """
    return np.add(np.multiply(sigma_w2, quadrature.second_moment(phi, 0.0, q)), sigma_b2)


def length_gain(phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike) -> Array:
    """Returns the slope chi_q = V'(q) of the length map.

    V'(q) = sigma_w2 E[u phi(u) phi'(u)] / q with u ~ N(0, q), for q above 0: the chi_{q*} of
    Schoenholz et al. (2017), section 3, integrated by parts. For SELU at q = 1 and sigma_w2 = 1 it
    is the entry d nu~ / d nu of the Jacobian of g.
    """
    q = np.asarray(q, dtype=float)
    expectation = quadrature.expectation(phi, lambda x: x * phi.value(x) * phi.slope(x), 0.0, q)
    return np.multiply(sigma_w2, expectation) / q


def gradient_gain(phi: ActivationFunction, q: ArrayLike, sigma_w2: ArrayLike) -> Array:
    """Returns the gain chi_1 of the squared gradient per layer.

    chi_1 = sigma_w2 E phi'(sqrt(q) z)^2. Above 1 gradients grow and c = 1 is unstable (chaotic
    phase); below 1 they vanish (ordered phase); see Schoenholz et al. (2017), sections 2 and 5.
    SELU with LeCun's weights has 1.0716: Klambauer et al. (2017) conclude from the bounded
    variance that gradients cannot explode, which does not follow.
    """
    return np.multiply(sigma_w2, quadrature.slope_square(phi, 0.0, q))


def correlation_map(
    phi: ActivationFunction, c: ArrayLike, q: ArrayLike, sigma_w2: float, sigma_b2: float = 0.0
) -> Array:
    """Returns the correlation map C(c) of two samples of length q.

    C(c) = (sigma_w2 E phi(u1) phi(u2) + sigma_b2) / V(q), the correlation map of Poole et al.
    (2016), section 2.2.
    """
    return pair_map(phi, q, q, c, sigma_w2, sigma_b2)[2]


def pair_map(
    phi: ActivationFunction,
    q1: ArrayLike,
    q2: ArrayLike,
    c: ArrayLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Takes the lengths and the correlation of two samples through one layer.

    Returns:
        The new q1, q2 and c; shapes broadcast.

    Raises:
        RequestError: a length below 0 or c outside [-1, 1].
    """
    next_1 = length_map(phi, q1, sigma_w2, sigma_b2)
    next_2 = length_map(phi, q2, sigma_w2, sigma_b2)
    covariance = sigma_w2 * quadrature.kernel(phi, q1, q2, c) + sigma_b2
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / (np.sqrt(next_1) * np.sqrt(next_2))
    return next_1, next_2, np.clip(correlation, -1.0, 1.0)


def correlation_gain(phi: ActivationFunction, c: ArrayLike, q: ArrayLike, sigma_w2: float) -> Array:
    """Returns the slope chi_c = dC/dc at a fixed length q.

    chi_c = sigma_w2 E phi'(u1) phi'(u2) is the chi_{c*} of Schoenholz et al. (2017), section 3, by
    Price's theorem.
    """
    return np.multiply(sigma_w2, quadrature.slope_kernel(phi, q, q, c))


def depth_scale(gain: ArrayLike) -> Array:
    """Returns the layers after which a deviation has shrunk by e.

    xi = -1 / ln |gain| is inf from gain 1 on and 0 for gain 0 (Schoenholz et al. 2017, section 3).
    """
    size = np.abs(np.asarray(gain, dtype=float))
    with np.errstate(divide="ignore"):
        return np.where(size >= 1.0, np.inf, -1.0 / np.log(np.minimum(size, 1.0)))[()]


@dataclass(frozen=True)
class LengthFixedPoint:
    """A length q = V(q), and chi_q = V'(q) there."""

    q: float
    chi_q: float

    @property
    def stable(self) -> bool:
        """True if lengths nearby approach q."""
        return abs(self.chi_q) < 1.0


@dataclass(frozen=True)
class MeanField:
    """Fixed points, gains and depth scales of one activation at (sigma_w2, sigma_b2).

    Attributes:
        sigma_w2: fan_in times the variance of a weight.
        sigma_b2: variance of a bias.
        status: "converges": lengths from q = 1 on approach `q_star`. "preserved": every length is a
            fixed point, and `q_star` is 1. "unstable": `q_star` is 1, and lengths leave it.
            "vanishes" or "diverges": no fixed point lies in that direction, so that `q_star` and
            all that depends on it are None.
        lengths: all fixed points of the length map in `WINDOW`, ascending.
        q_star: the length approached from q = 1.
        chi_q: V'(q*).
        chi_1: gain of the squared gradient.
        c_star: stable fixed point of the correlation map.
        chi_c: C'(c*).
        xi_q: depth scale of lengths, may be inf.
        xi_c: depth scale of correlations, may be inf.
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
    """Finds fixed points, gains and depth scales; having no fixed point is an answer.

    Raises:
        RequestError: sigma_w2 <= 0, sigma_b2 < 0, a value that is not finite, or an activation
            without a second moment.
    """
    require_variances(sigma_w2, sigma_b2)
    quadrature.second_moment(phi, 0.0, 1.0)
    status, lengths, q = _solve_lengths(phi, float(sigma_w2), float(sigma_b2))
    if q is None:
        return MeanField(float(sigma_w2), float(sigma_b2), status, lengths)
    chi_q = float(length_gain(phi, q, sigma_w2))
    chi_1 = float(gradient_gain(phi, q, sigma_w2))
    c = correlation_fixed_point(phi, q, sigma_w2, sigma_b2)
    chi_c = chi_1 if c == 1.0 else float(correlation_gain(phi, c, q, sigma_w2))
    return MeanField(
        sigma_w2=float(sigma_w2),
        sigma_b2=float(sigma_b2),
        status=status,
        lengths=lengths,
        q_star=q,
        chi_q=chi_q,
        chi_1=chi_1,
        c_star=c,
        chi_c=chi_c,
        xi_q=np.inf if status == "preserved" else float(depth_scale(chi_q)),
        xi_c=float(depth_scale(chi_c)),
    )


def length_fixed_points(
    phi: ActivationFunction, sigma_w2: float, sigma_b2: float = 0.0
) -> tuple[LengthFixedPoint, ...]:
    """Returns all q = V(q) in `WINDOW` where V crosses the diagonal, ascending.

    The tuple is empty where there is no crossing, or where every length is a fixed point.
    """
    require_variances(sigma_w2, sigma_b2)
    return _solve_lengths(phi, float(sigma_w2), float(sigma_b2))[1]


def correlation_fixed_point(
    phi: ActivationFunction, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """Returns the stable fixed point c* = C(c*) in [0, 1].

    The length q is a fixed point of the length map. C is convex on [0, 1] with C(1) = 1. So c* = 1
    while chi_1 <= 1, and where chi_1 > 1 it is the only other root. That root is found as a root
    of (1 - C(c)) / (1 - c) - 1, which grows from -C(0) to chi_1 - 1 and needs no difference of
    nearly equal numbers.
    """
    at_0 = float(sigma_b2 + sigma_w2 * quadrature.moments(phi, 0.0, q)[0] ** 2) / q
    at_1 = float(gradient_gain(phi, q, sigma_w2)) - 1.0
    if at_1 <= _ORDERED:
        return 1.0
    if at_0 <= _CENTRED:
        return 0.0

    def residual(c: Array) -> Array:
        inside = np.clip(c, 1e-15, 1.0 - 1e-15)
        ratio = sigma_w2 / q * quadrature.kernel_gap(phi, q, inside) / (1.0 - inside) - 1.0
        ratio = np.where(c == 1.0, at_1, ratio)
        return np.where(c == 0.0, -at_0, ratio)

    return float(elementwise.find_root(residual, (0.0, 1.0), tolerances=_TOLERANCES).x)


def vanish_limit(phi: ActivationFunction) -> float:
    """Returns the sigma_w2 below which short vectors shrink without bias.

    It is 1 / lim E phi^2 / q as q -> 0: 0 when phi(0) is not 0, inf when phi is flat there. For
    SELU it is 2 / (lambda^2 (1 + alpha^2)) = 0.476771; PyTorch's default weights (sigma_w2 = 1/3)
    lie below.
    """
    zero = np.array([0.0])
    if phi.value(zero)[0] != 0:
        return 0.0
    near = float((phi.slope(np.array([-1e-300, 1e-300])) ** 2).mean())
    # A slope that is known by its polynomial alone is 0 only up to rounding.
    if near <= 1e-20 * float(quadrature.slope_square(phi, 0.0, 1.0)):
        near = 0.0
    return _inverse(near)


def diverge_limit(phi: ActivationFunction) -> float:
    """Returns the sigma_w2 from which on long vectors grow; inf for a bounded activation.

    It is 1 / lim E phi^2 / q as q -> inf, from the slopes far out. For SELU it is
    2 / lambda^2 = 1.811639; He's weights (sigma_w2 = 2) lie above.
    """
    return _inverse(sum(_far_slope(phi, sign) ** 2 for sign in (-1.0, 1.0)) / 2)


def require_variances(sigma_w2: float, sigma_b2: float) -> None:
    """Refuses variances that no weights or biases have.

    Raises:
        RequestError: sigma_w2 <= 0, sigma_b2 < 0, or a value that is not finite.
    """
    if not (np.isfinite(sigma_w2) and sigma_w2 > 0):
        raise RequestError(
            f"sigma_w2={sigma_w2:g} must be a finite number above 0: "
            "it is fan_in times the variance of a weight"
        )
    if not (np.isfinite(sigma_b2) and sigma_b2 >= 0):
        raise RequestError(
            f"sigma_b2={sigma_b2:g} must be a finite number, 0 or above: "
            "it is the variance of a bias"
        )


def _solve_lengths(
    phi: ActivationFunction, sigma_w2: float, sigma_b2: float
) -> tuple[str, tuple[LengthFixedPoint, ...], float | None]:
    """Returns the status, all fixed points, and the one approached from q = 1.

    Roots lie where log V(q) - log q changes its sign along a scan of log q.
    """

    def residual(log_q: Array) -> Array:
        second_moment = quadrature.second_moment(phi, 0.0, np.exp(log_q), strict=False)
        with np.errstate(divide="ignore"):
            return np.log(sigma_w2 * second_moment + sigma_b2) - log_q

    log_q = np.linspace(np.log(WINDOW[0]), np.log(WINDOW[1]), _SCAN_POINTS)
    values = residual(log_q)
    # Where lengths are kept up to rounding (a short z sees a straight line) the sign means nothing.
    clear = np.isfinite(values) & (np.abs(values) > _NEUTRAL)
    if not clear.any():
        return "preserved", (), 1.0
    log_q = log_q[clear]
    values = values[clear]
    change = np.flatnonzero(np.signbit(values[:-1]) != np.signbit(values[1:]))
    roots = np.empty(0)
    if len(change):
        brackets = (log_q[change], log_q[change + 1])
        roots = np.exp(elementwise.find_root(residual, brackets, tolerances=_TOLERANCES).x)
    gains = length_gain(phi, roots, sigma_w2)
    points = tuple(
        LengthFixedPoint(float(q), float(gain)) for q, gain in zip(roots, gains, strict=True)
    )
    grows = float(residual(np.zeros(1))[0]) > 0
    status, q = _approached(points, grows)
    return status, points, q


def _approached(points: tuple[LengthFixedPoint, ...], grows: bool) -> tuple[str, float | None]:
    """Returns the status and the fixed point that lengths approach from q = 1.

    Lengths move from q = 1 up where `grows` is set, else down, until they meet a fixed point.
    """
    for point in points:
        if abs(np.log(point.q)) < _AT_1:
            unstable = abs(point.chi_q) > 1
            return ("unstable" if unstable else "converges"), point.q
    if grows:
        above = [point.q for point in points if point.q > 1]
        return ("converges", above[0]) if above else ("diverges", None)
    below = [point.q for point in points if point.q < 1]
    return ("converges", below[-1]) if below else ("vanishes", None)


def _far_slope(phi: ActivationFunction, sign: float) -> float:
    """Returns phi's slope far out on one side.

    It is inf where the slope keeps growing, and 0 where it keeps falling.
    """

    def chord(power: float) -> float:
        x = sign * 2.0**power
        with np.errstate(all="ignore"):
            near, far = phi.value(np.array([x, 2 * x]))
            return float((far - near) / x)

    for power in _FAR:
        outer = chord(power)
        inner = chord(power / 2)
        if not np.isfinite(outer):
            continue
        ratio = abs(outer) / abs(inner) if inner else 1.0
        if ratio > _GROWS:
            return np.inf
        return 0.0 if ratio < _FALLS else outer
    return np.inf


def _inverse(value: float) -> float:
    if value == 0:
        return np.inf
    return 0.0 if np.isinf(value) else 1.0 / value
