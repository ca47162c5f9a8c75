"""Condition cards, SELU's parameters and alpha dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import parameters, quadrature
from harness.theory.activations.functions import NAMES, activation, from_callable
from harness.theory.mean_field import cards
from harness.theory.mean_field import maps as mean_field
from harness.theory.networks import dropout
from harness.theory.selu import moment_map as selu


def conditions(card):
    return {condition.name: condition for condition in card.conditions}


def test_selu_meets_q_1_and_c_0_and_misses_the_others():
    card = cards.card(activation("selu"))
    assert {name for name, condition in conditions(card).items() if condition.holds} == {
        "q_1",
        "c_0",
    }
    assert card.dks_depth == pytest.approx(math.log(1.5) / math.log(1.0715749925), rel=1e-8)
    assert card.dks_depth == pytest.approx(5.87, abs=0.005)
    assert not any(card.meets(school) for school in ("DKS", "TAT", "bidirectional"))
    assert conditions(card)["c_curvature_1"].value == math.inf


def test_the_identity_meets_everything():
    card = cards.card(activation("identity"))
    assert all(condition.holds for condition in card.conditions)
    assert card.dks_depth == card.tat_depth == math.inf
    assert all(card.meets(school) for school in ("DKS", "TAT", "bidirectional"))


def test_an_activation_made_for_gpn_meets_it():
    """Sin x + cos x: phi^2 = 1 + sin 2x and phi'^2 = 1 - sin 2x are both 1 on average, the bidirectional condition of Lu et al. (2020)."""
    card = cards.card(from_callable(lambda x: np.sin(x) + np.cos(x), "sine"))
    values = {name: condition.value for name, condition in conditions(card).items()}
    assert values["q_1"] == pytest.approx(1, abs=1e-13)
    assert values["slope_square"] == pytest.approx(1, abs=1e-13)
    assert card.meets("bidirectional")
    assert not card.meets("DKS")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_consistent(name):
    card, phi = cards.card(activation(name)), activation(name)
    numbers, values = (
        card.numbers,
        {key: condition.value for key, condition in conditions(card).items()},
    )
    assert set(card.c_map) == {0.0, 0.25, 0.5, 0.9}
    # C'(0) and C'(1) of the normalised kernel at q = 1.
    assert numbers.c_slope_0 == pytest.approx(
        float(quadrature.slope_kernel(phi, 1.0, 1.0, 0.0)) / numbers.second_moment, abs=1e-13
    )
    assert values["c_slope_1"] == pytest.approx(
        float(quadrature.slope_kernel(phi, 1.0, 1.0, 1.0)) / numbers.second_moment, rel=1e-13
    )
    assert values["c_0"] == pytest.approx(
        float(quadrature.kernel(phi, 1.0, 1.0, 0.0)) / numbers.second_moment, abs=1e-13
    )
    assert numbers.kurtosis >= 1
    scaled = cards.card(
        from_callable(lambda x: numbers.unit_scale * (phi.value(x) + numbers.unit_shift), "scaled")
    ).numbers
    assert scaled.mean == pytest.approx(0, abs=1e-13)
    assert scaled.second_moment == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "mish", "softplus", "erf", "elu"])
def test_curvature_is_the_derivative_of_the_slope_kernel(name):
    """C''(1), from the slope kernel at correlations near 1, to the first order in 1 - c (the square root of it for ELU, whose slope has a kink)."""
    phi = activation(name)
    steps = np.array([1e-3, 1e-4, 1e-5])
    quotients = (
        quadrature.slope_kernel(phi, 1.0, 1.0, 1.0)
        - quadrature.slope_kernel(phi, 1.0, 1.0, 1 - steps)
    ) / steps
    exact = quadrature.curvature_square(phi, 1.0)
    errors = np.abs(quotients / exact - 1)
    order = 0.5 if name == "elu" else 1.0
    assert errors[-1] < 10 * steps[-1] ** order
    assert (errors < 10 * steps**order).all()


def test_a_card_without_a_fixed_point_is_an_answer():
    card = cards.card(activation("relu"))
    assert card.field.q_star is None
    assert card.field.status == "vanishes"
    assert card.c_map[0.0] == pytest.approx(1 / math.pi)
    with pytest.raises(RequestError, match="0 everywhere"):
        cards.card(from_callable(np.zeros_like, "nothing"))


@pytest.mark.parametrize(
    "mean, variance, omega, tau",
    [
        (0.0, 1.0, 0.0, 1.0),
        (0.0, 2.0, 0.0, 1.0),
        (-0.1, 2.0, 1.0, 1.0),
        (0.3, 1.2, -0.5, 1.4),
        (0.0, 1e-3, 0.0, 1.0),
        (0.2, 0.5, 2.0, 0.3),
        (-0.4, 3.0, 0.0, 2.0),
    ],
)
def test_parameters_have_the_fixed_point_that_was_asked(mean, variance, omega, tau):
    found = parameters.for_fixed_point(mean, variance, omega, tau)
    assert found.alpha > 0
    assert found.lam > 0
    got = selu.map_moments(mean, variance, omega, tau, found.alpha, found.lam)
    assert got == (pytest.approx(mean, abs=1e-13), pytest.approx(variance, rel=1e-13))


def test_published_parameters_of_another_fixed_point_take_omega_1():
    """The trap: the authors' notebook solves for the mean of z at the target mean."""
    assert parameters.for_fixed_point(-0.1, 2.0, omega=1.0).alpha == pytest.approx(
        1.9769021954, abs=1e-10
    )
    assert parameters.for_fixed_point(-0.1, 2.0).alpha == pytest.approx(2.3269908, abs=1e-7)


@pytest.mark.parametrize(
    "target, words",
    [
        ((0.0, 0.0), "variance=0 must be above 0"),
        ((0.0, -1.0), "variance=-1"),
        ((math.nan, 1.0), "mean must be a finite"),
        ((0.0, 1.0, 0.0, 0.0), "tau=0"),
        ((-2.0, 1.0), "must lie between"),
        ((2.0, 0.1), "must lie between"),
        ((-5.0, 1.0, 20.0), "one side of 0"),
    ],
)
def test_parameters_that_do_not_exist(target, words):
    with pytest.raises(RequestError, match=words):
        parameters.for_fixed_point(*target)


@pytest.mark.parametrize("mean, variance", [(0.0, 1.0), (0.3, 2.0), (-0.5, 0.4)])
def test_alpha_dropout_keeps_its_target_alone(mean, variance):
    found = dropout.alpha_dropout(0.1, mean, variance)
    assert found.moments(mean, variance) == (
        pytest.approx(mean, abs=1e-14),
        pytest.approx(variance, rel=1e-14),
    )
    other = dropout.alpha_dropout(0.1).moments(0.1, 1.5)
    assert other == (pytest.approx(0.0829156, abs=5e-8), pytest.approx(1.4095681, abs=5e-8))


def test_alpha_dropout_against_samples():
    random = np.random.default_rng(0)
    x = 0.4 + 1.3 * random.standard_normal(1_000_000)
    partner = 0.4 + 0.6 * (x - 0.4) + 0.8 * 1.3 * random.standard_normal(x.size)
    found = dropout.alpha_dropout(0.2, 0.1, 0.9)
    out, other = (
        found.a * np.where(random.random(x.size) < found.rate, found.floor, value) + found.b
        for value in (x, partner)
    )
    mean, variance = found.moments(0.4, 1.69)
    assert out.mean() == pytest.approx(mean, abs=0.006)
    assert out.var() == pytest.approx(variance, rel=0.006)
    # Covariance of two inputs under independent masks, and the gradient through one.
    assert np.cov(out, other)[0, 1] / np.cov(x, partner)[0, 1] == pytest.approx(
        found.forward_factor, rel=0.01
    )
    assert found.backward_factor == pytest.approx(found.a**2 * (1 - found.rate))


def test_the_neutral_rate_makes_chi_1_one():
    rate = dropout.neutral_rate()
    assert mean_field.gradient_gain(activation("selu"), 1.0, 1.0) * dropout.alpha_dropout(
        rate
    ).backward_factor == pytest.approx(1.0, abs=1e-14)
    assert dropout.alpha_dropout(0.05).backward_factor == pytest.approx(
        1 / (1 + selu.FLOOR**2 * 0.05), abs=1e-14
    )
    assert dropout.neutral_rate(alpha=1.0, lam=1.0) is None  # ELU: chi_1 < 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((1.0,), "rate=1"),
        ((-0.1,), "rate=-0.1"),
        ((math.nan,), "rate=nan"),
        ((0.1, 0.0, 0.0), "variance=0"),
        ((0.1, math.inf), "finite"),
    ],
)
def test_wrong_dropout_is_named(arguments, words):
    with pytest.raises(RequestError, match=words):
        dropout.alpha_dropout(*arguments)
