"""Accuracy and speed of the theory, each measurement beside its target.

Accuracy is measured against mpmath, against Hermite sums, and against quadrature on finer panels.
Times are processor seconds, the least of three, so that other work on the machine does not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import mpmath
import numpy as np
from numpy.polynomial import hermite_e
from numpy.typing import NDArray

from harness.theory.activations import derived, quadrature, unit_second_moment
from harness.theory.activations.closed_forms import ClosedForms
from harness.theory.activations.functions import (
    NAMES,
    ActivationFunction,
    activation,
    from_callable,
    specification,
)
from harness.theory.activations.tailoring import Tailoring
from harness.theory.mean_field import cards, phases
from harness.theory.mean_field import maps as mean_field
from harness.theory.selu import moment_map as selu

Array = NDArray[np.float64]

# Random points at which g is compared, besides the corners of its range.
_POINTS = 2000
# Decimal digits of the reference for g, enough for the cancellations of the printed formulas.
_MAP_DIGITS = 60
# Decimal digits of the reference for the moments of an activation.
_MOMENT_DIGITS = 25
_LENGTHS = (0.01, 1.0, 100.0)
# Degrees of the Hermite sums that the kernels are compared with, and the correlation there.
_DEGREES = 60
_CORRELATION = 0.5
_MILLION = 10**6
_DIAGRAM_POINTS = 200

# The activations as functions of an mpmath number.
EXACT: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "selu": lambda x: selu.LAMBDA * (x if x > 0 else selu.ALPHA * mpmath.expm1(x)),
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mpmath.mpf(0.01) * x,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "celu": lambda x: x if x > 0 else mpmath.expm1(x),  # with its default alpha of 1
    "squared_relu": lambda x: max(x, mpmath.mpf(0)) ** 2,
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "identity": lambda x: x,
    "erf": mpmath.erf,
}


def _tailored(
    exact: Callable[[mpmath.mpf], mpmath.mpf], constants: Tailoring
) -> Callable[[mpmath.mpf], mpmath.mpf]:
    """Returns an exact activation with a tailoring's constants."""

    def function(x: mpmath.mpf) -> mpmath.mpf:
        inner = exact(constants.input_scale * x + constants.input_shift)
        return constants.output_scale * (inner + constants.output_shift)

    return function


EXACT["selu_fixed_point"] = EXACT["selu"]  # with its default fixed point
_LEAKY = unit_second_moment.leaky_constants(**specification("leaky_selu").options)
_SCALED = unit_second_moment.scaled_constants(**specification("scaled_selu").options)
EXACT["leaky_selu"] = lambda x: (
    _LEAKY.lam * (x if x > 0 else _LEAKY.alpha * mpmath.expm1(x) + _LEAKY.beta * x)
)
EXACT["scaled_selu"] = lambda x: (
    _SCALED.lam * (x if x > 0 else _SCALED.alpha * mpmath.expm1(_SCALED.beta * x))
)
EXACT["gpn"] = _tailored(EXACT["tanh"], derived.gpn_tailoring("tanh"))
EXACT["dks"] = _tailored(EXACT["tanh"], derived.dks_tailoring(**specification("dks").options))
EXACT["tat"] = _tailored(EXACT["tanh"], derived.tat_tailoring(**specification("tat").options)[1])


@dataclass(frozen=True)
class Measurement:
    """A measured number and the largest value that is allowed."""

    name: str
    measured: float
    target: float
    unit: str

    @property
    def met(self) -> bool:
        """True if the target is met."""
        return self.measured <= self.target


def measure_all() -> list[Measurement]:
    """Measures every accuracy and every speed; takes about a minute."""
    return [*map_accuracy(), *mean_field_accuracy(), *speed()]


def exact_map(mu: float, nu: float, omega: float, tau: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Returns (mu~, nu~) by the formulas as printed.

    They are Eq. 4 and 5 of Klambauer et al. (2017). The precision is that of the surrounding
    mpmath context.
    """
    m = mpmath.mpf(mu) * mpmath.mpf(omega)
    v = mpmath.mpf(nu) * mpmath.mpf(tau)
    s = mpmath.sqrt(v)
    root_2 = mpmath.sqrt(2)
    alpha = mpmath.mpf(selu.ALPHA)
    lam = mpmath.mpf(selu.LAMBDA)

    def tail(k: int) -> mpmath.mpf:
        return mpmath.exp(k * m + k * k * v / 2) * mpmath.erfc((m + k * v) / (root_2 * s))

    e0, e1, e2 = tail(0), tail(1), tail(2)
    density = mpmath.sqrt(2 / mpmath.pi) * s * mpmath.exp(-m * m / (2 * v))
    mean = lam / 2 * (m * (2 - e0) + alpha * (e1 - e0) + density)
    negative_part = alpha**2 * (e2 - 2 * e1 + e0)
    second_moment = lam**2 / 2 * ((m * m + v) * (2 - e0) + negative_part + m * density)
    return mean, second_moment - mean**2


def map_accuracy(points: int = _POINTS) -> list[Measurement]:
    """Compares g with the printed formulas over a wide range.

    mu is in [-10, 10], nu in [1e-8, 1e4], omega in [-3, 3] and tau in [0.01, 5], with corners,
    edges and means near 0.
    """
    arguments = _map_arguments(points)
    means, variances = selu.map_moments(*arguments)
    worst_mean = 0.0
    worst_variance = 0.0
    with mpmath.workdps(_MAP_DIGITS):
        for point, mean, variance in zip(
            arguments.T.tolist(), means.tolist(), variances.tolist(), strict=True
        ):
            true_mean, true_variance = exact_map(*point)
            scale = max(abs(true_mean), mpmath.sqrt(true_variance))
            worst_mean = max(worst_mean, float(abs(mean - true_mean) / scale))
            worst_variance = max(worst_variance, float(abs(variance / true_variance - 1)))
    unit = f"relative error over {arguments.shape[1]} points"
    return [
        Measurement("g: mean (relative to the larger of mean and sd)", worst_mean, 1e-12, unit),
        Measurement("g: variance", worst_variance, 1e-12, unit),
    ]


def mean_field_accuracy(names: tuple[str, ...] = NAMES) -> list[Measurement]:
    """Compares fixed points, moments and kernels of activations with independent ways to them."""
    solution_errors = [
        _solution_error(activation(name), sigma_w2, sigma_b2)
        for name in names
        for sigma_w2, sigma_b2 in _weights(name)
    ]
    moment_errors = [_moment_error(name, q) for name in names for q in _LENGTHS]
    kernel_errors = [_kernel_error(activation(name)) for name in names]
    return [
        Measurement(
            "fixed points and gains of all activations",
            max(solution_errors),
            1e-10,
            "change without closed forms, on panels half as wide",
        ),
        Measurement(
            "E phi, E phi^2 of all activations",
            max(moment_errors),
            1e-10,
            f"error against {_MOMENT_DIGITS} digits",
        ),
        Measurement(
            "both kernels of all activations",
            max(kernel_errors),
            1e-10,
            "error against Hermite sums",
        ),
    ]


def speed() -> list[Measurement]:
    """Measures the time of g, of condition cards and of phase diagrams."""
    random = np.random.default_rng(0)
    arguments = (
        random.uniform(-10, 10, _MILLION),
        10 ** random.uniform(-8, 4, _MILLION),
        random.uniform(-3, 3, _MILLION),
        random.uniform(0.01, 5, _MILLION),
    )
    map_seconds = _seconds(lambda: selu.map_moments(*arguments))
    return [
        Measurement("a million evaluations of g", map_seconds, 1.0, "s"),
        _card_time(),
        _own_card_time(),
        *(_diagram_time(name) for name in ("selu", "tanh", "gelu")),
    ]


def _map_arguments(points: int) -> Array:
    """Returns (mu, nu, omega, tau), shape (4, points and corners)."""
    random = np.random.default_rng(0)
    mu = random.uniform(-10, 10, points) * random.choice([1, 1, 1e-3, 0], points)
    omega = random.uniform(-3, 3, points) * random.choice([1, 1, 0.1, 0], points)
    nu = 10 ** random.uniform(-8, 4, points)
    tau = random.uniform(0.01, 5, points)
    inner = np.stack([mu, nu, omega, tau])
    corners = np.array(
        np.meshgrid([-10, 0, 10], [1e-8, 6.4e-3, 1, 1e4], [-3, 0, 3], [0.01, 1, 5])
    ).reshape(4, -1)
    return np.concatenate([inner, corners], axis=1)


def _moment_error(name: str, q: float) -> float:
    """Returns the error of E phi and E phi^2 at length q against mpmath."""
    mean, variance = quadrature.moments(activation(name), 0.0, q)
    second_moment = float(variance) + float(mean) ** 2
    with mpmath.workdps(_MOMENT_DIGITS):
        s = mpmath.sqrt(mpmath.mpf(q))
        edges = {s * k for k in range(-12, 13, 3)}
        edges |= {mpmath.mpf(k) for k in (-9, -4, -1, 0, 1, 4, 9) if abs(k) < 12 * s}
        panels = sorted(edges)

        def moment(power: int) -> mpmath.mpf:
            return mpmath.quad(lambda x: EXACT[name](x) ** power * mpmath.npdf(x, 0, s), panels)

        true_mean = moment(1)
        true_second_moment = moment(2)
        scale = max(mpmath.sqrt(true_second_moment), mpmath.mpf(1e-300))
        mean_error = float(abs(float(mean) - true_mean) / scale)
        square_error = float(abs(second_moment - true_second_moment) / true_second_moment)
    return max(mean_error, square_error)


def _kernel_error(phi: ActivationFunction) -> float:
    """Returns the error of both kernels against Mehler's formula.

    E phi phi = sum a_k^2 c^k and E phi' phi' = sum k a_k^2 c^(k - 1), with a_k the Hermite
    coefficients of phi.
    """

    def coefficient(degree: int) -> float:
        series = np.eye(degree + 1)[degree] / math.sqrt(math.factorial(degree))

        def integrand(x: Array) -> Array:
            return phi.value(x) * hermite_e.hermeval(x, series)

        return float(quadrature.expectation(phi, integrand, 0.0, 1.0))

    c = _CORRELATION
    k = np.arange(_DEGREES)
    squares = np.array([coefficient(degree) ** 2 for degree in range(_DEGREES)])
    kernel = float(quadrature.kernel(phi, 1.0, 1.0, c))
    slope_kernel = float(quadrature.slope_kernel(phi, 1.0, 1.0, c))
    slope_sum = k[1:] * squares[1:] @ c ** (k[1:] - 1)
    return max(abs(squares @ c**k - kernel), abs(slope_sum - slope_kernel))


def _solution_error(phi: ActivationFunction, sigma_w2: float, sigma_b2: float) -> float:
    """Returns the change of a solution without closed forms, on finer panels."""
    points = sorted({*phi.breaks, *phi.kinks})
    middles = [0.5 * (low + high) for low, high in zip(points, points[1:], strict=False)]
    finer = replace(phi, closed=ClosedForms(), breaks=tuple(sorted({*points, *middles})))
    field = mean_field.solve(phi, sigma_w2, sigma_b2)
    again = mean_field.solve(finer, sigma_w2, sigma_b2)
    errors = [0.0]
    for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c"):
        value = getattr(field, quantity)
        if value is not None:
            errors.append(abs(value - getattr(again, quantity)) / max(1.0, abs(value)))
    return max(errors)


def _card_time() -> Measurement:
    """Measures the slowest card of a built-in activation."""

    def card_seconds(name: str, sigma_w2: float, sigma_b2: float) -> float:
        return _seconds(lambda: cards.card(activation(name), sigma_w2, sigma_b2))

    seconds, name = max(
        (card_seconds(name, sigma_w2, sigma_b2), name)
        for name in NAMES
        for sigma_w2, sigma_b2 in _weights(name)
    )
    return Measurement(f"a card (slowest: {name})", seconds, 0.3, "s")


def _own_card_time() -> Measurement:
    """Measures the slowest card of an activation that is known by its values only."""

    def card_seconds(name: str) -> float:
        return _seconds(lambda: cards.card(from_callable(activation(name).value, name)))

    seconds, name = max((card_seconds(name), name) for name in NAMES)
    return Measurement(f"a card of a user's function (slowest: {name})", seconds, 0.3, "s")


def _diagram_time(name: str) -> Measurement:
    sigma_w2 = np.linspace(0.3, 3, _DIAGRAM_POINTS)
    sigma_b2 = np.linspace(0, 0.5, _DIAGRAM_POINTS)
    seconds = _seconds(
        lambda: phases.phase_diagram(activation(name), sigma_w2, sigma_b2), repeats=1
    )
    size = f"{_DIAGRAM_POINTS} x {_DIAGRAM_POINTS}"
    return Measurement(f"a {size} phase diagram of {name}", seconds, 20.0, "s")


def _weights(name: str) -> list[tuple[float, float]]:
    """Returns the (sigma_w2, sigma_b2) at which an activation is measured.

    Just off the critical point of q* = 1 the fixed point of the correlation is hardest to find.
    """
    critical = [
        (point.sigma_w2 * 1.001, point.sigma_b2)
        for point in phases.edge_of_chaos(activation(name), q_star=1.0)
    ]
    return [(1.0, 0.0), (1.8, 0.1), *critical]


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Returns the least processor time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)
