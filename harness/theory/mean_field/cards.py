"""Condition cards: the fixed points of one activation and the published conditions it meets.

The conditions concern the local maps at unit weights, Q(q) = E phi(sqrt(q) z)^2 and
C(c) = E phi(u1) phi(u2) / Q(1) at q = 1. Three schools ask for

- DKS (Martens et al. 2021, arXiv:2110.01765): Q(1) = 1, Q'(1) = 1, C(0) = 0, and
  C'_f(1) <= 1.5 for every subnetwork f;
- TAT for smooth activations (Zhang et al. 2022, arXiv:2203.08120): Q(1) = 1, Q'(1) = 1,
  C'(1) = 1, and C''_f(1) <= 0.3;
- bidirectional self-normalization, GPN (Lu et al. 2020, arXiv:2006.12169): E phi^2 = 1 and
  E phi'^2 = 1.

In a chain of depth D, C'_f(1) = C'(1)^D and, once C'(1) = 1, C''_f(1) = D C''(1). The two bounds
therefore become largest depths.
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
# A condition holds when its value is this close to its target: over 100 layers that adds up to 1 %.
TOLERANCE = 1e-4
# A curvature below this is 0 but for rounding, and limits no depth.
_FLAT = 1e-12


@dataclass(frozen=True)
class Condition:
    """One published condition on an activation.

    Attributes:
        name: identifier, for tables.
        symbol: formula, for readers.
        value: the activation's own value.
        target: the value asked for, or the largest value allowed where `bound` is set.
        bound: `target` is an upper bound and not an equality.
        asked_by: the schools that ask for it: "DKS", "TAT", "bidirectional".
    """

    name: str
    symbol: str
    value: float
    target: float
    bound: bool
    asked_by: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True if the value meets the target within `TOLERANCE`."""
        if self.bound:
            return bool(self.value <= self.target + TOLERANCE)
        return bool(abs(self.value - self.target) <= TOLERANCE)


@dataclass(frozen=True)
class Numbers:
    """Expectations of an activation under z ~ N(0, 1).

    Attributes:
        mean: E phi.
        second_moment: E phi^2.
        slope_mean: E phi'.
        slope_square: E phi'^2.
        c_0: C(0) = (E phi)^2 / E phi^2.
        c_slope_0: C'(0) = (E phi')^2 / E phi^2.
        q_slope_1: Q'(1).
        kurtosis: E phi^4 / (E phi^2)^2, which sets the scatter of q at finite width.
        unit_scale: `unit_scale` (phi + `unit_shift`) has mean 0 and second moment 1.
        unit_shift: see `unit_scale`.
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
    """All that mean-field theory says about one activation at one (sigma_w2, sigma_b2).

    Attributes:
        name: name of the activation.
        field: fixed points, gains and depth scales.
        c_map: correlation map at `CORRELATIONS`, at length q*, or at q = 1 where there is no q*.
        vanish_sigma_w2: see `maps.vanish_limit`.
        diverge_sigma_w2: see `maps.diverge_limit`.
        numbers: expectations under N(0, 1).
        conditions: the six conditions of the three schools.
        dks_depth: depth of the deepest chain with C'_f(1) <= 1.5; inf without limit.
        tat_depth: depth of the deepest chain with C''_f(1) <= 0.3; inf without limit, None unless
            C'(1) = 1.
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
        """Returns True if every condition that the school asks of one layer holds.

        Args:
            school: "DKS", "TAT" or "bidirectional".
        """
        return all(condition.holds for condition in self.conditions if school in condition.asked_by)


def card(phi: ActivationFunction, sigma_w2: float = 1.0, sigma_b2: float = 0.0) -> Card:
    """Computes the condition card of an activation.

    Raises:
        RequestError: sigma_w2 <= 0, sigma_b2 < 0, an activation that is 0 everywhere, or one
            without a second moment.
    """
    field = mean_field.solve(phi, sigma_w2, sigma_b2)
    q = 1.0 if field.q_star is None else field.q_star
    correlations = mean_field.correlation_map(phi, CORRELATIONS, q, sigma_w2, sigma_b2)
    numbers = _numbers(phi)
    conditions = _conditions(phi, numbers)
    by_name = {condition.name: condition for condition in conditions}
    return Card(
        name=phi.name,
        field=field,
        c_map=dict(zip(CORRELATIONS, correlations.tolist(), strict=True)),
        vanish_sigma_w2=mean_field.vanish_limit(phi),
        diverge_sigma_w2=mean_field.diverge_limit(phi),
        numbers=numbers,
        conditions=conditions,
        dks_depth=_dks_depth(by_name["c_slope_1"].value),
        tat_depth=_tat_depth(by_name["c_slope_1"], by_name["c_curvature_1"].value),
    )


def _numbers(phi: ActivationFunction) -> Numbers:
    mean, variance = (float(value) for value in quadrature.moments(phi, 0.0, 1.0))
    second_moment = variance + mean**2
    if second_moment == 0:
        raise RequestError(f"activation {phi.name!r} is 0 everywhere: it has no card")
    slope_mean = float(quadrature.slope_mean(phi, 0.0, 1.0))
    fourth_moment = float(
        quadrature.expectation(phi, lambda x: phi.value(x) ** 4, 0.0, 1.0, strict=False)
    )
    return Numbers(
        mean=mean,
        second_moment=second_moment,
        slope_mean=slope_mean,
        slope_square=float(quadrature.slope_square(phi, 0.0, 1.0)),
        c_0=mean**2 / second_moment,
        c_slope_0=slope_mean**2 / second_moment,
        q_slope_1=float(mean_field.length_gain(phi, 1.0, 1.0)),
        kurtosis=fourth_moment / second_moment**2,
        unit_scale=1.0 / variance**0.5 if variance else np.inf,
        unit_shift=-mean,
    )


def _conditions(phi: ActivationFunction, numbers: Numbers) -> tuple[Condition, ...]:
    second_moment = numbers.second_moment
    c_slope_1 = numbers.slope_square / second_moment
    c_curvature_1 = quadrature.curvature_square(phi, 1.0) / second_moment
    every_school = ("DKS", "TAT", "bidirectional")
    return (
        Condition("q_1", "Q(1) = E phi^2", second_moment, 1.0, False, every_school),
        Condition("q_slope_1", "Q'(1)", numbers.q_slope_1, 1.0, False, ("DKS", "TAT")),
        Condition("c_0", "C(0)", numbers.c_0, 0.0, False, ("DKS",)),
        Condition("c_slope_1", "C'(1)", c_slope_1, 1.0, False, ("TAT",)),
        Condition("c_curvature_1", "C''(1)", c_curvature_1, TAT_CURVATURE, True, ("TAT",)),
        Condition("slope_square", "E phi'^2", numbers.slope_square, 1.0, False, ("bidirectional",)),
    )


def _dks_depth(c_slope_1: float) -> float:
    if c_slope_1 <= 1:
        return np.inf
    return float(np.log(DKS_SLOPE) / np.log(c_slope_1))


def _tat_depth(c_slope_1: Condition, c_curvature_1: float) -> float | None:
    if not c_slope_1.holds:
        return None
    if c_curvature_1 < _FLAT:
        return np.inf
    return TAT_CURVATURE / c_curvature_1
