"""The condition card of an activation: its fixed points and gains, and the published conditions on its local maps that it meets.

Local maps at unit weights: Q(q) = E phi(sqrt(q) z)^2, C(c) = E phi(u1) phi(u2) / Q(1) at q = 1. Three schools ask for
- DKS (Martens et al. 2021, arXiv:2110.01765): Q(1) = 1, Q'(1) = 1, C(0) = 0, and C'_f(1) <= 1.5 for every subnetwork f;
- TAT for smooth activations (Zhang et al. 2022, arXiv:2203.08120): Q(1) = 1, Q'(1) = 1, C'(1) = 1, C''_f(1) <= 0.3;
- bidirectional self-normalization, GPN (Lu et al. 2020, arXiv:2006.12169): E phi^2 = 1 and E phi'^2 = 1.
In a chain of depth D, C'_f(1) = C'(1)^D and, once C'(1) = 1, C''_f(1) = D C''(1): the two bounds become depths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import ActivationFunction
from harness.theory.mean_field import maps as mean_field
from harness.theory.mean_field.maps import MeanField

# Correlations at which a card shows the correlation map.
CORRELATIONS = (0.0, 0.25, 0.5, 0.9)
DKS_SLOPE = 1.5
TAT_CURVATURE = 0.3
# A condition holds when its value is this close to what is asked: 100 layers then add up to 1 %.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Condition:
    """One condition: its value, what is asked of it (`target`, an equality, or an upper bound where `bound`), whether it holds, and who asks."""

    name: str
    symbol: str
    value: float
    target: float
    bound: bool
    asked_by: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return bool(
            self.value <= self.target + TOLERANCE
            if self.bound
            else abs(self.value - self.target) <= TOLERANCE
        )


@dataclass(frozen=True)
class Numbers:
    """Expectations under z ~ N(0, 1) and what follows: `kurtosis` is E phi^4 / (E phi^2)^2, which sets the finite-width scatter of q.

    `unit_scale` (phi + `unit_shift`) has mean 0 and second moment 1.
    """

    mean: float
    second_moment: float
    slope_mean: float
    slope_square: float
    c_0: float
    c_slope_0: float
    q_slope_1: float
    kurtosis: float
    unit_scale: float
    unit_shift: float


@dataclass(frozen=True)
class Card:
    """Everything about one activation at one (sigma_w2, sigma_b2).

    `c_map` is taken at q*, or at q = 1 where there is none. `conditions` are six; `dks_depth` and `tat_depth` are the deepest chains that
    keep C'_f(1) <= 1.5 and C''_f(1) <= 0.3 (inf without limit, `tat_depth` None unless C'(1) = 1).
    """

    name: str
    field: MeanField
    c_map: dict[float, float]
    vanish_sigma_w2: float
    diverge_sigma_w2: float
    numbers: Numbers
    conditions: tuple[Condition, ...]
    dks_depth: float
    tat_depth: float | None

    def meets(self, school: str) -> bool:
        """Whether every condition that "DKS", "TAT" or "bidirectional" asks of one layer holds."""
        return all(condition.holds for condition in self.conditions if school in condition.asked_by)


def card(phi: ActivationFunction, sigma_w2: float = 1.0, sigma_b2: float = 0.0) -> Card:
    """The condition card of an activation.

    Raises:
        RequestError: sigma_w2 <= 0, sigma_b2 < 0, or an activation without a second moment.
    """
    field = mean_field.solve(phi, sigma_w2, sigma_b2)
    q = 1.0 if field.q_star is None else field.q_star
    c_map = mean_field.correlation_map(phi, CORRELATIONS, q, sigma_w2, sigma_b2)
    numbers = _numbers(phi)
    conditions = _conditions(phi, numbers)
    return Card(
        phi.name,
        field,
        dict(zip(CORRELATIONS, c_map.tolist())),
        mean_field.vanish_limit(phi),
        mean_field.diverge_limit(phi),
        numbers,
        conditions,
        *_depths(conditions),
    )


def _numbers(phi: ActivationFunction) -> Numbers:
    mean, variance = (float(value) for value in quadrature.moments(phi, 0.0, 1.0))
    second, slope = variance + mean**2, float(quadrature.slope_mean(phi, 0.0, 1.0))
    if second == 0:
        raise RequestError(f"activation {phi.name!r} is 0 everywhere: it has no card")
    fourth = float(quadrature.expectation(phi, lambda x: phi.value(x) ** 4, 0.0, 1.0, strict=False))
    return Numbers(
        mean,
        second,
        slope,
        float(quadrature.slope_square(phi, 0.0, 1.0)),
        mean**2 / second,
        slope**2 / second,
        float(mean_field.length_gain(phi, 1.0, 1.0)),
        fourth / second**2,
        1.0 / variance**0.5 if variance else np.inf,
        -mean,
    )


def _conditions(phi: ActivationFunction, numbers: Numbers) -> tuple[Condition, ...]:
    second = numbers.second_moment
    return (
        Condition("q_1", "Q(1) = E phi^2", second, 1.0, False, ("DKS", "TAT", "bidirectional")),
        Condition("q_slope_1", "Q'(1)", numbers.q_slope_1, 1.0, False, ("DKS", "TAT")),
        Condition("c_0", "C(0)", numbers.c_0, 0.0, False, ("DKS",)),
        Condition("c_slope_1", "C'(1)", numbers.slope_square / second, 1.0, False, ("TAT",)),
        Condition(
            "c_curvature_1",
            "C''(1)",
            quadrature.curvature_square(phi, 1.0) / second,
            TAT_CURVATURE,
            True,
            ("TAT",),
        ),
        Condition("slope_square", "E phi'^2", numbers.slope_square, 1.0, False, ("bidirectional",)),
    )


def _depths(conditions: tuple[Condition, ...]) -> tuple[float, float | None]:
    by_name = {condition.name: condition for condition in conditions}
    slope, curvature = by_name["c_slope_1"], by_name["c_curvature_1"].value
    dks = np.inf if slope.value <= 1 else float(np.log(DKS_SLOPE) / np.log(slope.value))
    tat = None if not slope.holds else np.inf if curvature < 1e-12 else TAT_CURVATURE / curvature
    return dks, tat
