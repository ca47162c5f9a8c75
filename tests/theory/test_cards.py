"""Condition cards of activations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import NAMES, activation, from_callable
from harness.theory.mean_field import cards

SCHOOLS = ("DKS", "TAT", "bidirectional")


def condition_values(card: cards.Card) -> dict[str, float]:
    return {condition.name: condition.value for condition in card.conditions}


def test_selu_meets_q_1_and_c_0_and_misses_the_others():
    card = cards.card(activation("selu"))
    assert {condition.name for condition in card.conditions if condition.holds} == {"q_1", "c_0"}
    assert card.dks_depth == pytest.approx(math.log(1.5) / math.log(1.0715749925), rel=1e-8)
    assert card.dks_depth == pytest.approx(5.87, abs=0.005)
    assert not any(card.meets(school) for school in SCHOOLS)
    assert condition_values(card)["c_curvature_1"] == math.inf


def test_the_identity_meets_everything():
    card = cards.card(activation("identity"))
    assert all(condition.holds for condition in card.conditions)
    assert card.dks_depth == math.inf
    assert card.tat_depth == math.inf
    assert all(card.meets(school) for school in SCHOOLS)


def test_an_activation_made_for_gpn_meets_it():
    """Takes sin x + cos x, for which phi^2 = 1 + sin 2x and phi'^2 = 1 - sin 2x.

    Both are 1 on average, which is the bidirectional condition of Lu et al. (2020).
    """
    card = cards.card(from_callable(lambda x: np.sin(x) + np.cos(x), "sine"))
    values = condition_values(card)
    assert values["q_1"] == pytest.approx(1, abs=1e-13)
    assert values["slope_square"] == pytest.approx(1, abs=1e-13)
    assert card.meets("bidirectional")
    assert not card.meets("DKS")


@pytest.mark.parametrize("name", NAMES)
def test_local_maps_of_a_card_are_those_of_quadrature(name):
    phi = activation(name)
    card = cards.card(phi)
    numbers = card.numbers
    values = condition_values(card)

    def of_kernel(kernel, c):
        return float(kernel(phi, 1.0, 1.0, c)) / numbers.second_moment

    assert set(card.c_map) == {0.0, 0.25, 0.5, 0.9}
    assert values["c_0"] == pytest.approx(of_kernel(quadrature.kernel, 0.0), abs=1e-13)
    slope_at_0 = of_kernel(quadrature.slope_kernel, 0.0)
    slope_at_1 = of_kernel(quadrature.slope_kernel, 1.0)
    assert numbers.c_slope_0 == pytest.approx(slope_at_0, abs=1e-13)
    assert values["c_slope_1"] == pytest.approx(slope_at_1, rel=1e-13)
    assert numbers.kurtosis >= 1


@pytest.mark.parametrize("name", NAMES)
def test_unit_scale_and_shift_give_mean_0_and_second_moment_1(name):
    phi = activation(name)
    numbers = cards.card(phi).numbers

    def unit(x):
        return numbers.unit_scale * (phi.value(x) + numbers.unit_shift)

    scaled = cards.card(from_callable(unit, "scaled")).numbers
    assert scaled.mean == pytest.approx(0, abs=1e-13)
    assert scaled.second_moment == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "mish", "softplus", "erf", "elu"])
def test_curvature_is_the_derivative_of_the_slope_kernel(name):
    """Compares C''(1) with difference quotients of the slope kernel at correlations near 1.

    They agree to first order in 1 - c, and to its square root for ELU, whose slope has a kink.
    """
    phi = activation(name)
    steps = np.array([1e-3, 1e-4, 1e-5])
    at_1 = quadrature.slope_kernel(phi, 1.0, 1.0, 1.0)
    quotients = (at_1 - quadrature.slope_kernel(phi, 1.0, 1.0, 1 - steps)) / steps
    errors = np.abs(quotients / quadrature.curvature_square(phi, 1.0) - 1)
    order = 0.5 if name == "elu" else 1.0
    assert (errors < 10 * steps**order).all()


def test_a_card_without_a_fixed_point_is_an_answer():
    card = cards.card(activation("relu"))
    assert card.field.q_star is None
    assert card.field.status == "vanishes"
    assert card.c_map[0.0] == pytest.approx(1 / math.pi)


def test_an_activation_that_is_0_everywhere_has_no_card():
    with pytest.raises(RequestError, match="0 everywhere"):
        cards.card(from_callable(np.zeros_like, "nothing"))
