"""Leaky SELU and scaled SELU keep second moments as Chen et al. (2021) ask."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from harness.errors import RequestError
from harness.networks.activations import build_activation
from harness.theory.activations import unit_second_moment
from harness.theory.activations.functions import activation
from harness.theory.mean_field import maps

LARGEST_OF_LEAKY = 0.07988035817474
LEAKY = [("leaky_selu", epsilon) for epsilon in (1e-4, 0.01, 0.03, 0.0798, LARGEST_OF_LEAKY)]
SCALED = [("scaled_selu", epsilon) for epsilon in (1e-4, 0.01, 0.03, 0.125, 1.0)]
CONSTANTS = {
    "leaky_selu": unit_second_moment.leaky_constants,
    "scaled_selu": unit_second_moment.scaled_constants,
}


def mean(function):
    """Returns E[function(z)], z ~ N(0, 1), by an integration of SciPy's on either side of 0."""

    def integrand(z):
        return float(function(np.array(z))) * stats.norm.pdf(z)

    negative = integrate.quad(integrand, -13.0, 0.0, epsabs=1e-13, limit=400)[0]
    positive = integrate.quad(integrand, 0.0, 13.0, epsabs=1e-13, limit=400)[0]
    return negative + positive


def family(name, epsilon, beta):
    """Returns lambda and alpha of the function that satisfies both conditions, or None.

    The conditions are solved for lambda^2 and (lambda alpha)^2 with moments that SciPy integrates.
    """
    rate = beta if name == "scaled_selu" else 1.0
    leak = beta if name == "leaky_selu" else 0.0
    grid = np.linspace(-13.0, 0.0, 20_001)
    density = stats.norm.pdf(grid)

    def moment(values):
        return integrate.simpson(values * density, x=grid)

    square = moment(np.expm1(rate * grid) ** 2)
    slope_square = moment((rate * np.exp(rate * grid)) ** 2)
    cross = moment(grid * np.expm1(rate * grid))
    scaled_alpha_square = epsilon / (slope_square - square)
    # (1 + leak^2) / 2 lambda^2 + 2 leak cross scaled_alpha lambda = 1 - scaled_alpha^2 square
    quadratic = (1.0 + leak**2) / 2.0
    linear = 2.0 * leak * cross * math.sqrt(scaled_alpha_square)
    rest = 1.0 - scaled_alpha_square * square
    if rest <= 0:
        return None
    lam = (math.sqrt(linear**2 + 4.0 * quadratic * rest) - linear) / (2.0 * quadratic)
    return lam, math.sqrt(scaled_alpha_square) / lam


def length_slope(name, lam, alpha, beta):
    """Returns the slope of q -> E f(sqrt(q) z)^2 at q = 1."""
    rate = beta if name == "scaled_selu" else 1.0
    leak = beta if name == "leaky_selu" else 0.0
    grid = np.linspace(-13.0, 0.0, 20_001)
    value = alpha * np.expm1(rate * grid) + leak * grid
    slope = alpha * rate * np.exp(rate * grid) + leak
    negative = integrate.simpson(grid * value * slope * stats.norm.pdf(grid), x=grid)
    return lam**2 * (0.5 + negative)


@pytest.mark.parametrize("name, epsilon", LEAKY + SCALED)
def test_the_two_conditions_hold(name, epsilon):
    phi = activation(name, epsilon=epsilon)
    assert mean(lambda z: phi.value(z) ** 2) == pytest.approx(1.0, abs=1e-10)
    assert mean(lambda z: phi.slope(z) ** 2) == pytest.approx(1.0 + epsilon, abs=1e-10)


@pytest.mark.parametrize("name, epsilon", LEAKY + SCALED)
def test_theory_sees_a_fixed_length_and_the_gain(name, epsilon):
    phi = activation(name, epsilon=epsilon)
    assert maps.length_map(phi, 1.0, 1.0, 0.0) == pytest.approx(1.0, abs=1e-10)
    assert maps.gradient_gain(phi, 1.0, 1.0) == pytest.approx(1.0 + epsilon, abs=1e-10)
    constants = CONSTANTS[name](epsilon)
    expected = length_slope(name, constants.lam, constants.alpha, constants.beta)
    assert maps.length_gain(phi, 1.0, 1.0) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name, epsilon", LEAKY[1:3] + SCALED[1:4])
def test_no_other_function_with_a_lambda_of_at_least_1_has_a_smaller_slope(name, epsilon):
    constants = CONSTANTS[name](epsilon)
    smallest = length_slope(name, constants.lam, constants.alpha, constants.beta)
    compared = 0
    for beta in np.linspace(0.0, 8.0, 161):
        if name == "scaled_selu" and beta < 0.1:
            continue
        solution = family(name, epsilon, beta)
        if solution is None or solution[0] < 1.0:
            continue
        compared += 1
        assert abs(length_slope(name, *solution, beta)) > smallest
    assert compared > 5


@pytest.mark.parametrize("name", ["leaky_selu", "scaled_selu"])
def test_without_the_bound_on_lambda_the_slope_falls_with_lambda(name):
    """So that the conditions and the slope alone would leave nothing for positive inputs."""
    betas = (0.4, 1.0, 5.0, 20.0) if name == "leaky_selu" else (0.56, 0.5, 0.45, 0.4)
    solutions = [family(name, 0.03, beta) for beta in betas]
    lams = [lam for lam, _ in solutions]
    slopes = [
        length_slope(name, *solution, beta) for solution, beta in zip(solutions, betas, strict=True)
    ]
    assert lams == sorted(lams, reverse=True)
    assert slopes == sorted(slopes, reverse=True)
    assert lams[-1] < 0.5


def test_leaky_selu_without_a_leak_is_an_elu():
    constants = unit_second_moment.leaky_constants(LARGEST_OF_LEAKY)
    assert constants.beta == pytest.approx(0.0, abs=1e-10)
    x = np.linspace(-6.0, 6.0, 25)
    elu = activation("elu", alpha=constants.alpha)
    leaky = activation("leaky_selu", epsilon=LARGEST_OF_LEAKY)
    np.testing.assert_allclose(leaky.value(x), elu.value(x), atol=1e-9)
    np.testing.assert_allclose(leaky.slope(x), elu.slope(x), atol=1e-9)


@pytest.mark.parametrize("name", ["leaky_selu", "scaled_selu"])
def test_a_small_epsilon_leaves_a_nearly_linear_function(name):
    x = np.linspace(-3.0, 3.0, 25)
    distances = [
        np.abs(activation(name, epsilon=epsilon).value(x) - x).max() for epsilon in (1e-2, 1e-4)
    ]
    assert distances[1] < 0.2 * distances[0]
    assert distances[1] < 0.15


@pytest.mark.parametrize("name, epsilon", LEAKY[1:4] + SCALED[1:4])
def test_the_slope_at_zero_is_lambda_on_the_right_and_that_of_the_form_on_the_left(name, epsilon):
    constants = CONSTANTS[name](epsilon)
    if name == "leaky_selu":
        left = constants.lam * (constants.alpha + constants.beta)
    else:
        left = constants.lam * constants.alpha * constants.beta
    phi = activation(name, epsilon=epsilon)
    assert phi.value(np.array(0.0)) == 0.0
    assert phi.slope(np.array([-1e-12, 0.0, 1e-12])) == pytest.approx([left, left, constants.lam])
    leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    module = build_activation({"name": name, "epsilon": epsilon})
    module(leaf).sum().backward()
    assert leaf.grad.item() == pytest.approx(left)


@pytest.mark.parametrize("name", ["leaky_selu", "scaled_selu"])
@pytest.mark.parametrize("epsilon", [0.0, -0.01, 1e-5, 2.0])
def test_an_epsilon_out_of_reach_is_refused(name, epsilon):
    with pytest.raises(RequestError, match=f"activation.epsilon={epsilon:g}: expected a number"):
        activation(name, epsilon=epsilon)
