#!/usr/bin/env python
"""How exact and how fast the theory is, against its targets: `python scripts/benchmark_theory.py [--json]`.

Times are processor seconds, the least of three: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import mpmath
import numpy as np
from numpy.polynomial import hermite_e

from harness.theory.activations import quadrature
from harness.theory.activations.closed_forms import ClosedForms
from harness.theory.activations.functions import NAMES, activation, from_callable
from harness.theory.mean_field import cards, phases
from harness.theory.mean_field import maps as mean_field
from harness.theory.selu import moment_map as selu

_POINTS = 2000
_DIGITS = 60

EXACT = {
    "selu": lambda x: selu.LAMBDA * (x if x > 0 else selu.ALPHA * mpmath.expm1(x)),
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mpmath.mpf(0.01) * x,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "identity": lambda x: x,
    "erf": mpmath.erf,
}


@dataclass(frozen=True)
class Line:
    """One measurement and what was asked of it."""

    name: str
    measured: float
    target: float
    unit: str

    @property
    def met(self) -> bool:
        return self.measured <= self.target


def exact_map(mu: float, nu: float, omega: float, tau: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Klambauer et al. 2017, Eq. 4 and 5, as printed, with digits enough for their cancellations."""
    m, v = mpmath.mpf(mu) * mpmath.mpf(omega), mpmath.mpf(nu) * mpmath.mpf(tau)
    s, r, alpha, lam = (
        mpmath.sqrt(v),
        mpmath.sqrt(2),
        mpmath.mpf(selu.ALPHA),
        mpmath.mpf(selu.LAMBDA),
    )
    e0 = mpmath.erfc(m / (r * s))
    e1, e2 = (
        mpmath.exp(k * m + k * k * v / 2) * mpmath.erfc((m + k * v) / (r * s)) for k in (1, 2)
    )
    g = mpmath.sqrt(2 / mpmath.pi) * s * mpmath.exp(-m * m / (2 * v))
    mean = lam / 2 * (m * (2 - e0) + alpha * (e1 - e0) + g)
    return mean, lam**2 / 2 * (
        (m * m + v) * (2 - e0) + alpha**2 * (e2 - 2 * e1 + e0) + m * g
    ) - mean**2


def map_accuracy() -> list[Line]:
    """G over mu in [-10, 10], nu in [1e-8, 1e4], omega in [-3, 3], tau in [0.01, 5], edges and means near 0 included."""
    random = np.random.default_rng(0)
    mu, omega = (
        random.uniform(-10, 10, _POINTS) * random.choice([1, 1, 1e-3, 0], _POINTS),
        random.uniform(-3, 3, _POINTS) * random.choice([1, 1, 0.1, 0], _POINTS),
    )
    inner = np.stack(
        [mu, 10 ** random.uniform(-8, 4, _POINTS), omega, random.uniform(0.01, 5, _POINTS)]
    )
    corners = np.array(
        np.meshgrid([-10, 0, 10], [1e-8, 6.4e-3, 1, 1e4], [-3, 0, 3], [0.01, 1, 5])
    ).reshape(4, -1)
    points = np.concatenate([inner, corners], axis=1)
    mean, variance = selu.map_moments(*points)
    worst_mean = worst_variance = 0.0
    with mpmath.workdps(_DIGITS):
        for point, got_mean, got_variance in zip(
            points.T.tolist(), mean.tolist(), variance.tolist()
        ):
            true_mean, true_variance = exact_map(*point)
            worst_mean = max(
                worst_mean,
                float(abs(got_mean - true_mean) / max(abs(true_mean), mpmath.sqrt(true_variance))),
            )
            worst_variance = max(worst_variance, float(abs(got_variance / true_variance - 1)))
    unit = f"relative error over {points.shape[1]} points"
    return [
        Line("g: mean (relative to the larger of mean and sd)", worst_mean, 1e-12, unit),
        Line("g: variance", worst_variance, 1e-12, unit),
    ]


def mean_field_accuracy() -> list[Line]:
    """Every built-in activation: moments against 25 digits, kernels against sums of Hermite coefficients."""
    moments = max(_moment_error(name, q) for name in NAMES for q in (0.01, 1.0, 100.0))
    kernels = max(_kernel_error(name) for name in NAMES)
    solutions = max(_solution_error(name, *weights) for name in NAMES for weights in _weights(name))
    again = Line(
        "fixed points and gains of all activations",
        solutions,
        1e-10,
        "change without closed forms, on panels half as wide",
    )
    return [
        again,
        Line("E phi, E phi^2 of all activations", moments, 1e-10, "error against 25 digits"),
        Line("both kernels of all activations", kernels, 1e-10, "error against Hermite sums"),
    ]


def _moment_error(name: str, q: float) -> float:
    mean, variance = quadrature.moments(activation(name), 0.0, q)
    with mpmath.workdps(25):
        s = mpmath.sqrt(mpmath.mpf(q))
        edges = sorted(
            {s * k for k in range(-12, 13, 3)}
            | {mpmath.mpf(k) for k in (-9, -4, -1, 0, 1, 4, 9) if abs(k) < 12 * s}
        )
        first, second = (
            mpmath.quad(lambda x: EXACT[name](x) ** power * mpmath.npdf(x, 0, s), edges)
            for power in (1, 2)
        )
        scale = max(mpmath.sqrt(second), mpmath.mpf(1e-300))
        return max(
            float(abs(float(mean) - first) / scale),
            float(abs(float(variance) + float(mean) ** 2 - second) / second),
        )


def _kernel_error(name: str) -> float:
    """Mehler's formula at c = 0.5: sum a_k^2 c^k and sum k a_k^2 c^(k - 1)."""
    phi, c, degree = activation(name), 0.5, 60

    def coefficient(k: int) -> float:
        series = np.eye(k + 1)[k] / math.sqrt(math.factorial(k))
        return float(
            quadrature.expectation(
                phi, lambda x: phi.value(x) * hermite_e.hermeval(x, series), 0.0, 1.0
            )
        )

    squares, k = np.array([coefficient(k) ** 2 for k in range(degree)]), np.arange(degree)
    value = abs(squares @ c**k - float(quadrature.kernel(phi, 1.0, 1.0, c)))
    return max(
        value,
        abs(
            k[1:] * squares[1:] @ c ** (k[1:] - 1)
            - float(quadrature.slope_kernel(phi, 1.0, 1.0, c))
        ),
    )


def _solution_error(name: str, sigma_w2: float, sigma_b2: float) -> float:
    phi = activation(name)
    points = sorted({*phi.breaks, *phi.kinks})
    halves = tuple(sorted({*points, *(0.5 * (a + b) for a, b in zip(points, points[1:]))}))
    fields = [
        mean_field.solve(one, sigma_w2, sigma_b2)
        for one in (phi, replace(phi, closed=ClosedForms(), breaks=halves))
    ]
    pairs = [
        [getattr(field, quantity) for field in fields]
        for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c")
    ]
    return max((abs(a - b) / max(1.0, abs(a)) for a, b in pairs if a is not None), default=0.0)


def speed() -> list[Line]:
    random = np.random.default_rng(0)
    million = (
        random.uniform(-10, 10, 10**6),
        10 ** random.uniform(-8, 4, 10**6),
        random.uniform(-3, 3, 10**6),
        random.uniform(0.01, 5, 10**6),
    )
    lines = [
        Line("a million evaluations of g", _seconds(lambda: selu.map_moments(*million)), 1.0, "s")
    ]
    # At the critical weights of q* = 1 the correlation's fixed point is hardest to find.
    slowest = max(
        (_seconds(lambda: cards.card(activation(name), sigma_w2, sigma_b2)), name)
        for name in NAMES
        for sigma_w2, sigma_b2 in _weights(name)
    )
    lines.append(Line(f"a card (slowest: {slowest[1]})", slowest[0], 0.3, "s"))
    own = max(
        (_seconds(lambda: cards.card(from_callable(activation(name).value, name))), name)
        for name in NAMES
    )
    lines.append(Line(f"a card of a user's function (slowest: {own[1]})", own[0], 0.3, "s"))
    for name in ("selu", "tanh", "gelu"):
        lines.append(
            Line(
                f"a 200 x 200 phase diagram of {name}",
                _seconds(
                    lambda: phases.phase_diagram(
                        activation(name), np.linspace(0.3, 3, 200), np.linspace(0, 0.5, 200)
                    ),
                    1,
                ),
                20.0,
                "s",
            )
        )
    return lines


def _weights(name: str) -> list[tuple[float, float]]:
    critical = [
        (point.sigma_w2 * 1.001, point.sigma_b2)
        for point in phases.edge_of_chaos(activation(name), q_star=1.0)
    ]
    return [(1.0, 0.0), (1.8, 0.1), *critical]


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(repeats))


def main(arguments: list[str] | None = None) -> int:
    """Print every measurement beside its target; exit code 1 when one is missed."""
    parser = argparse.ArgumentParser(
        description="Accuracy and speed of the theory against their targets (about a minute)."
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args(arguments)
    lines = [*map_accuracy(), *mean_field_accuracy(), *speed()]
    if options.json:
        print(json.dumps([asdict(line) | {"met": line.met} for line in lines], indent=1))
    else:
        print(
            "\n".join(
                f"{line.name:<50}{line.measured:>10.2e}  target {line.target:<8.0e}{'met' if line.met else 'MISSED':<8}{line.unit}"
                for line in lines
            )
        )
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
