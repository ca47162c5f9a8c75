"""Length and correlation maps, gains, fixed points and depth scales of every activation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.optimize import brentq

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.closed_forms import ClosedForms
from harness.theory.activations.functions import NAMES, activation
from harness.theory.mean_field import maps
from harness.theory.selu import moment_map

DEGREES = 60
# Activation, sigma_w2 and sigma_b2, each with a stable length.
POINTS = [
    ("selu", 1.0, 0.0),
    ("selu", 1.25, 0.0),
    ("selu", 0.9, 0.1),
    ("tanh", 2.5, 0.05),
    ("tanh", 1.2, 0.3),
    ("gelu", 1.9, 0.2),
    ("erf", 1.5, 0.05),
    ("elu", 1.5, 0.0),
    ("softplus", 1.0, 0.0),
    ("mish", 1.6, 0.1),
    ("silu", 1.7, 0.1),
    ("relu", 1.5, 0.2),
    ("leaky_relu", 1.2, 0.1),
]


@pytest.mark.parametrize("q, sigma_w2, sigma_b2", [(1.0, 1.0, 0.0), (30.0, 2.0, 0.3)])
@pytest.mark.parametrize("name", NAMES)
def test_the_correlation_map_rises_to_1_and_is_convex(name, q, sigma_w2, sigma_b2):
    phi = activation(name)
    c = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
    mapped = maps.correlation_map(phi, c, q, sigma_w2, sigma_b2)
    assert mapped[-1] == pytest.approx(1.0, abs=1e-13)
    assert (np.diff(mapped) > 0).all()
    slopes = maps.correlation_gain(phi, c, q, sigma_w2)
    assert (np.diff(slopes) > -1e-12).all()


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_sums_of_hermite_coefficients(name):
    """Uses Mehler's formula, an independent way to both kernels.

    sum a_k^2 c^k = E phi(u1) phi(u2), and sum k a_k^2 c^(k - 1) = E phi'(u1) phi'(u2).
    """
    phi = activation(name)
    c = 0.5

    def coefficient(degree):
        series = np.eye(degree + 1)[degree] / math.sqrt(math.factorial(degree))

        def integrand(x):
            return phi.value(x) * hermite_e.hermeval(x, series)

        return float(quadrature.expectation(phi, integrand, 0.0, 1.0))

    k = np.arange(DEGREES)
    squares = np.array([coefficient(degree) ** 2 for degree in range(DEGREES)])
    kernel = float(quadrature.kernel(phi, 1.0, 1.0, c))
    slope_kernel = float(quadrature.slope_kernel(phi, 1.0, 1.0, c))
    assert squares @ c**k == pytest.approx(kernel, abs=1e-13)
    assert k[1:] * squares[1:] @ c ** k[:-1] == pytest.approx(slope_kernel, abs=1e-12)
    assert squares.sum() <= quadrature.second_moment(phi, 0.0, 1.0) + 1e-13
    assert k @ squares <= quadrature.slope_square(phi, 0.0, 1.0) + 1e-13


@pytest.mark.parametrize("q", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_length_gain_is_the_derivative_of_the_length_map(name, q):
    phi = activation(name)
    step = 1e-4
    above = maps.length_map(phi, q * (1 + step), 1.3, 0.2)
    below = maps.length_map(phi, q * (1 - step), 1.3, 0.2)
    numeric = float(above - below) / (2 * q * step)
    assert maps.length_gain(phi, q, 1.3) == pytest.approx(numeric, rel=1e-7)


@pytest.mark.parametrize("c", [-0.4, 0.3, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_the_correlation_gain_is_the_derivative_of_the_kernel(name, c):
    phi = activation(name)
    step = 1e-4
    above = quadrature.kernel(phi, 2.0, 2.0, c + step)
    below = quadrature.kernel(phi, 2.0, 2.0, c - step)
    numeric = float(above - below) / (2 * step) / 2.0
    assert maps.correlation_gain(phi, c, 2.0, 1.0) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_correlation_gain_at_1_is_the_gradient_gain(name):
    phi = activation(name)
    gain = float(maps.gradient_gain(phi, 2.0, 1.3))
    assert maps.correlation_gain(phi, 1.0, 2.0, 1.3) == pytest.approx(gain, rel=1e-13)


def test_relu_scales_every_length_by_the_same_factor():
    phi = activation("relu")
    q = np.geomspace(1e-8, 1e8, 17)
    np.testing.assert_allclose(maps.length_map(phi, q, 2.0) / q, 1.0, rtol=1e-14)
    np.testing.assert_allclose(maps.length_gain(phi, q, 2.0), 1.0, rtol=1e-13)


def test_the_pair_map_of_unequal_lengths_against_samples():
    random = np.random.default_rng(1)
    u1, e = random.standard_normal((2, 500_000))
    u2 = 0.3 * u1 + math.sqrt(1 - 0.09) * e
    phi = activation("selu")
    first = phi.value(u1 * math.sqrt(0.4))
    second = phi.value(u2 * math.sqrt(6.0))
    q1, q2, c = maps.pair_map(phi, 0.4, 6.0, 0.3, 1.2, 0.1)
    covariance = 1.2 * (first * second).mean() + 0.1
    assert q1 == pytest.approx(1.2 * (first * first).mean() + 0.1, rel=0.01)
    assert q2 == pytest.approx(1.2 * (second * second).mean() + 0.1, rel=0.01)
    assert c == pytest.approx(covariance / math.sqrt(q1 * q2), abs=0.005)


def test_the_pair_map_of_equal_lengths_is_the_correlation_map():
    phi = activation("selu")
    _, _, c = maps.pair_map(phi, 2.0, 2.0, 0.3, 1.2, 0.1)
    expected = float(maps.correlation_map(phi, 0.3, 2.0, 1.2, 0.1))
    assert c == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", POINTS)
def test_the_length_converges_to_the_fixed_point(name, sigma_w2, sigma_b2):
    phi = activation(name)
    field = maps.solve(phi, sigma_w2, sigma_b2)
    q = 1.0
    for _ in range(500):
        q = float(maps.length_map(phi, q, sigma_w2, sigma_b2))
    assert field.status == "converges"
    assert field.q_star == pytest.approx(q, rel=1e-9)
    mapped = maps.length_map(phi, field.q_star, sigma_w2, sigma_b2)
    assert mapped == pytest.approx(field.q_star, rel=1e-13)
    assert field.xi_q == pytest.approx(-1 / math.log(field.chi_q))


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", POINTS)
def test_the_correlation_fixed_point_is_fixed_and_stable(name, sigma_w2, sigma_b2):
    phi = activation(name)
    field = maps.solve(phi, sigma_w2, sigma_b2)
    mapped = maps.correlation_map(phi, field.c_star, field.q_star, sigma_w2, sigma_b2)
    gain = float(maps.correlation_gain(phi, field.c_star, field.q_star, sigma_w2))
    assert mapped == pytest.approx(field.c_star, abs=1e-13)
    assert field.chi_c <= 1
    assert (field.c_star == 1) == (field.chi_1 <= 1)
    assert field.chi_c == pytest.approx(gain, rel=1e-12)
    assert field.xi_c == pytest.approx(-1 / math.log(field.chi_c))


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", POINTS)
def test_fixed_points_have_ten_digits(name, sigma_w2, sigma_b2):
    """Solves again without closed forms, on other panels and with more than twice the nodes."""
    phi = activation(name)
    field = maps.solve(phi, sigma_w2, sigma_b2)
    breaks = (-40.0, -25.0, -10.0, -6.0, -4.0, -2.5, -1.5, -0.5)
    mirrored = tuple(-point for point in reversed(breaks))
    finer = replace(phi, closed=ClosedForms(), breaks=(*breaks, 0.0, *mirrored))
    again = maps.solve(finer, sigma_w2, sigma_b2)
    for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c"):
        expected = pytest.approx(getattr(again, quantity), abs=1e-10, rel=1e-10)
        assert getattr(field, quantity) == expected, quantity


@pytest.mark.parametrize("excess", [1e-3, 1e-5, 1e-7])
def test_no_root_is_lost_near_criticality(excess):
    """Depth scales reach 1e10 layers here, so that iterating the map would take too long."""
    phi = activation("tanh")
    edge = 1.7609546396
    above = maps.solve(phi, edge + excess, 0.05)
    below = maps.solve(phi, edge - excess, 0.05)
    assert below.c_star == 1.0
    assert below.chi_1 < 1
    assert above.chi_1 > 1
    assert 0 < 1 - above.c_star < 10 * excess
    # C is convex with C(1) = 1, so that to first order the slope at the other root lies as far
    # below 1 as chi_1 lies above.
    assert 1 - above.chi_c == pytest.approx(above.chi_1 - 1, rel=10 * math.sqrt(excess))


@pytest.mark.parametrize(
    "name, sigma_w2, sigma_b2, status",
    [
        ("selu", 1 / 3, 0.0, "vanishes"),
        ("selu", 2.0, 0.0, "diverges"),
        ("identity", 1.0, 0.1, "diverges"),
        ("gelu", 2.2, 0.0, "vanishes"),
    ],
)
def test_lengths_without_a_fixed_point_vanish_or_diverge(name, sigma_w2, sigma_b2, status):
    field = maps.solve(activation(name), sigma_w2, sigma_b2)
    assert field.status == status
    assert field.q_star is None
    assert field.c_star is None


@pytest.mark.parametrize(
    "name, sigma_w2", [("relu", 2.0), ("identity", 1.0), ("leaky_relu", 2 / 1.0001)]
)
def test_an_activation_that_keeps_every_length_preserves_it(name, sigma_w2):
    field = maps.solve(activation(name), sigma_w2)
    assert field.status == "preserved"
    assert field.q_star == 1.0
    assert field.xi_q == math.inf
    assert field.xi_c == math.inf
    assert field.chi_1 == pytest.approx(1, abs=1e-15)


def test_all_length_fixed_points_are_listed():
    field = maps.solve(activation("gelu"), 2.2)
    assert [point.stable for point in field.lengths] == [False]
    assert maps.length_fixed_points(activation("relu"), 1.0) == ()


def test_a_fixed_point_that_lengths_leave_is_unstable():
    """GELU scaled to mean 0 and second moment 1 has V(1) = 1 with V'(1) > 1."""
    phi = activation("gelu")
    mean, variance = quadrature.moments(phi, 0.0, 1.0)
    scaled = replace(
        phi,
        value=lambda x: (phi.value(x) - mean) / math.sqrt(variance),
        slope=lambda x: phi.slope(x) / math.sqrt(variance),
    )
    field = maps.solve(scaled, 1.0)
    assert field.status == "unstable"
    assert field.q_star == pytest.approx(1.0, abs=1e-12)
    assert field.chi_q == pytest.approx(1.0621, abs=5e-5)
    assert [point.stable for point in field.lengths] == [True, False]
    assert field.c_star < 1e-12


def test_selu_without_bias_is_chaotic_wherever_it_has_a_fixed_point():
    phi = activation("selu")
    gains = {w: maps.solve(phi, w).chi_1 for w in (0.478, 0.6, 0.9, 1.2, 1.53, 1.7, 1.8)}
    assert all(gain > 1 for gain in gains.values())
    assert max(gains, key=gains.get) == 1.53
    assert gains[1.53] == pytest.approx(1.1356, abs=5e-5)


def test_lengths_of_selu_far_out_grow_with_he_and_fall_with_pytorchs_default():
    phi = activation("selu")
    assert maps.length_map(phi, 1e12, 2.0) / 1e12 == pytest.approx(1.1040, abs=5e-5)
    assert maps.length_map(phi, 1e-12, 1 / 3) / 1e-12 == pytest.approx(0.6991, abs=5e-5)


@pytest.mark.parametrize(
    "name, limit",
    [
        ("elu", 1),
        ("erf", math.pi / 4),
        ("gelu", 4),
        ("identity", 1),
        ("leaky_relu", 2 / 1.0001),
        ("mish", 1 / 0.36),
        ("relu", 2),
        ("selu", 2 / (moment_map.LAMBDA**2 * (1 + moment_map.ALPHA**2))),
        ("silu", 4),
        ("softplus", 0),
        ("tanh", 1),
    ],
)
def test_the_limit_below_which_lengths_vanish(name, limit):
    assert maps.vanish_limit(activation(name)) == pytest.approx(limit, rel=1e-13)


@pytest.mark.parametrize(
    "name, limit",
    [
        ("elu", 2),
        ("erf", math.inf),
        ("gelu", 2),
        ("identity", 1),
        ("leaky_relu", 2 / 1.0001),
        ("mish", 2),
        ("relu", 2),
        ("selu", 2 / moment_map.LAMBDA**2),
        ("silu", 2),
        ("softplus", 2),
        ("tanh", math.inf),
    ],
)
def test_the_limit_from_which_on_lengths_diverge(name, limit):
    assert maps.diverge_limit(activation(name)) == pytest.approx(limit, rel=1e-9)


def test_depth_scales_of_gains():
    scales = maps.depth_scale([0.0, 0.5, -0.5, 1.0, 1.2])
    of_half = 1 / math.log(2)
    np.testing.assert_allclose(scales, [0.0, of_half, of_half, math.inf, math.inf])


def test_c_star_is_the_root_of_the_plain_map():
    phi = activation("elu")
    field = maps.solve(phi, 1.55, 0.0)

    def excess(c):
        return float(maps.correlation_map(phi, c, field.q_star, 1.55)) - c

    assert field.c_star == pytest.approx(brentq(excess, 0.0, 0.9, xtol=1e-14), abs=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.0, 0.0), "sigma_w2=0 must be"),
        ((-1.0, 0.0), "sigma_w2=-1"),
        ((1.0, -0.1), "sigma_b2=-0.1"),
        ((math.nan, 0.0), "sigma_w2=nan"),
        ((1.0, math.inf), "sigma_b2=inf"),
    ],
)
def test_impossible_variances_are_refused(arguments, message):
    with pytest.raises(RequestError, match=message):
        maps.solve(activation("selu"), *arguments)
