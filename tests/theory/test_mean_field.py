"""Length and correlation maps, gains, fixed points and depth scales of every activation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.optimize import brentq

from harness.errors import RequestError
from harness.theory.activations import gaussian_panels, quadrature
from harness.theory.activations.closed_forms import ClosedForms
from harness.theory.activations.functions import NAMES, activation
from harness.theory.mean_field import maps as mean_field
from harness.theory.selu import moment_map as selu


@pytest.mark.parametrize("name", NAMES)
def test_c_of_1_is_1_and_the_map_rises(name):
    phi = activation(name)
    c = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
    for q, sigma_w2, sigma_b2 in ((1.0, 1.0, 0.0), (30.0, 2.0, 0.3)):
        mapped = mean_field.correlation_map(phi, c, q, sigma_w2, sigma_b2)
        assert mapped[-1] == pytest.approx(1.0, abs=1e-13)
        assert (np.diff(mapped) > 0).all()
        slopes = mean_field.correlation_gain(phi, c, q, sigma_w2)
        assert (np.diff(slopes) > -1e-12).all()  # convex


@pytest.mark.parametrize("name", NAMES)
def test_hermite_sums(name):
    """Sum a_k^2 c^k = E phi(u1) phi(u2), and sum k a_k^2 c^(k - 1) = E phi' phi' (Mehler's formula): an independent way to both kernels."""
    phi, c, degree = activation(name), 0.5, 60
    coefficient = lambda k: quadrature.expectation(
        phi,
        lambda x: (
            phi.value(x) * hermite_e.hermeval(x, np.eye(k + 1)[k] / math.sqrt(math.factorial(k)))
        ),
        0.0,
        1.0,
    )  # noqa: E731
    squares = np.array([float(coefficient(k)) ** 2 for k in range(degree)])
    assert squares @ c ** np.arange(degree) == pytest.approx(
        float(quadrature.kernel(phi, 1.0, 1.0, c)), abs=1e-13
    )
    assert np.arange(1, degree) * squares[1:] @ c ** np.arange(degree - 1) == pytest.approx(
        float(quadrature.slope_kernel(phi, 1.0, 1.0, c)), abs=1e-12
    )
    assert squares.sum() <= quadrature.second_moment(phi, 0.0, 1.0) + 1e-13
    assert np.arange(degree) @ squares <= quadrature.slope_square(phi, 0.0, 1.0) + 1e-13


@pytest.mark.parametrize("name", NAMES)
def test_gains_are_derivatives_of_the_maps(name):
    phi, step = activation(name), 1e-4
    for q in (0.1, 1.0, 20.0):
        numeric = (
            mean_field.length_map(phi, q * (1 + step), 1.3, 0.2)
            - mean_field.length_map(phi, q * (1 - step), 1.3, 0.2)
        ) / (2 * q * step)
        assert mean_field.length_gain(phi, q, 1.3) == pytest.approx(float(numeric), rel=1e-7)
    for c in (-0.4, 0.3, 0.9):
        numeric = (
            (
                quadrature.kernel(phi, 2.0, 2.0, c + step)
                - quadrature.kernel(phi, 2.0, 2.0, c - step)
            )
            / (2 * step)
            / 2.0
        )
        assert mean_field.correlation_gain(phi, c, 2.0, 1.0) == pytest.approx(
            float(numeric), rel=1e-6
        )
    assert mean_field.correlation_gain(phi, 1.0, 2.0, 1.3) == pytest.approx(
        float(mean_field.gradient_gain(phi, 2.0, 1.3)), rel=1e-13
    )


def test_relu_scales_every_length_alike():
    q = np.geomspace(1e-8, 1e8, 17)
    np.testing.assert_allclose(
        mean_field.length_map(activation("relu"), q, 2.0) / q, 1.0, rtol=1e-14
    )
    np.testing.assert_allclose(mean_field.length_gain(activation("relu"), q, 2.0), 1.0, rtol=1e-13)


def test_unequal_lengths_against_samples():
    random = np.random.default_rng(1)
    u1, e = random.standard_normal((2, 500_000))
    u2 = 0.3 * u1 + math.sqrt(1 - 0.09) * e
    phi = activation("selu")
    a, b = phi.value(u1 * math.sqrt(0.4)), phi.value(u2 * math.sqrt(6.0))
    q1, q2, c = mean_field.pair_map(phi, 0.4, 6.0, 0.3, 1.2, 0.1)
    assert q1 == pytest.approx(1.2 * (a * a).mean() + 0.1, rel=0.01)
    assert q2 == pytest.approx(1.2 * (b * b).mean() + 0.1, rel=0.01)
    assert c == pytest.approx((1.2 * (a * b).mean() + 0.1) / math.sqrt(q1 * q2), abs=0.005)
    same = mean_field.pair_map(phi, 2.0, 2.0, 0.3, 1.2, 0.1)
    assert same[2] == pytest.approx(
        float(mean_field.correlation_map(phi, 0.3, 2.0, 1.2, 0.1)), abs=1e-14
    )


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


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", POINTS)
def test_fixed_points_are_where_iteration_ends(name, sigma_w2, sigma_b2):
    phi = activation(name)
    field = mean_field.solve(phi, sigma_w2, sigma_b2)
    q = 1.0
    for _ in range(500):
        q = float(mean_field.length_map(phi, q, sigma_w2, sigma_b2))
    assert field.status == "converges"
    assert field.q_star == pytest.approx(q, rel=1e-9)
    assert mean_field.length_map(phi, field.q_star, sigma_w2, sigma_b2) == pytest.approx(
        field.q_star, rel=1e-13
    )
    assert mean_field.correlation_map(
        phi, field.c_star, field.q_star, sigma_w2, sigma_b2
    ) == pytest.approx(field.c_star, abs=1e-13)
    assert field.chi_c <= 1
    assert (field.c_star == 1) == (field.chi_1 <= 1)
    assert field.chi_c == pytest.approx(
        float(mean_field.correlation_gain(phi, field.c_star, field.q_star, sigma_w2)), rel=1e-12
    )
    assert field.xi_q == pytest.approx(-1 / math.log(field.chi_q))
    assert field.xi_c == pytest.approx(-1 / math.log(field.chi_c))


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", POINTS)
def test_ten_digits_against_twice_the_nodes_and_no_closed_form(
    name, sigma_w2, sigma_b2, monkeypatch
):
    """All that a card says, recomputed without closed forms, with 41 nodes per panel and other panels."""
    phi = activation(name)
    field = mean_field.solve(phi, sigma_w2, sigma_b2)
    monkeypatch.setattr(gaussian_panels, "NODES", 41)
    monkeypatch.setattr(gaussian_panels, "GAUSSIAN_BREAKS", (-13.0, -6.0, -2.0, 1.0, 5.0, 13.0))
    again = mean_field.solve(
        replace(phi, closed=ClosedForms(), breaks=(-25.0, -6.0, -1.5, 0.0, 1.0, 5.0, 30.0)),
        sigma_w2,
        sigma_b2,
    )
    for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c"):
        assert getattr(field, quantity) == pytest.approx(
            getattr(again, quantity), abs=1e-10, rel=1e-10
        ), quantity


def test_no_root_is_lost_near_criticality():
    """xi_c of 1e10 layers: iterating the map would take longer."""
    phi = activation("tanh")
    edge = 1.7609546396
    for excess in (1e-3, 1e-5, 1e-7):
        above, below = (
            mean_field.solve(phi, edge + excess, 0.05),
            mean_field.solve(phi, edge - excess, 0.05),
        )
        assert below.c_star == 1.0
        assert below.chi_1 < 1
        assert above.chi_1 > 1
        assert 0 < 1 - above.c_star < 10 * excess
        # C is convex with C(1) = 1: to first order the other root's slope lies as far below 1 as chi_1 lies above.
        assert 1 - above.chi_c == pytest.approx(above.chi_1 - 1, rel=10 * math.sqrt(excess))


def test_status_where_there_is_no_fixed_point():
    assert mean_field.solve(activation("selu"), 1 / 3).status == "vanishes"
    assert mean_field.solve(activation("selu"), 2.0).status == "diverges"
    assert mean_field.solve(activation("identity"), 1.0, 0.1).status == "diverges"
    for name, sigma_w2 in (("relu", 2.0), ("identity", 1.0), ("leaky_relu", 2 / 1.0001)):
        field = mean_field.solve(activation(name), sigma_w2)
        assert field.status == "preserved"
        assert field.q_star == 1.0
        assert field.xi_q == field.xi_c == math.inf
        assert field.chi_1 == pytest.approx(1, abs=1e-15)
    unstable = mean_field.solve(activation("gelu"), 2.2)
    assert unstable.status == "vanishes"
    assert unstable.q_star is None
    assert [point.stable for point in unstable.lengths] == [False]
    assert mean_field.length_fixed_points(activation("relu"), 1.0) == ()


def test_a_fixed_point_that_lengths_leave():
    """GELU, shifted and scaled to mean 0 and second moment 1, has V(1) = 1 with V'(1) > 1, and a stable length below."""
    phi = activation("gelu")
    mean, variance = quadrature.moments(phi, 0.0, 1.0)
    scaled = replace(
        phi,
        value=lambda x: (phi.value(x) - mean) / math.sqrt(variance),
        slope=lambda x: phi.slope(x) / math.sqrt(variance),
    )
    field = mean_field.solve(scaled, 1.0)
    assert field.status == "unstable"
    assert field.q_star == pytest.approx(1.0, abs=1e-12)
    assert field.chi_q == pytest.approx(1.0621, abs=5e-5)
    assert [point.stable for point in field.lengths] == [True, False]
    assert field.c_star < 1e-12


def test_selus_line_without_bias():
    """Always chaotic where there is a fixed point, at most by 1.1356 (at sigma_w2 = 1.53)."""
    phi = activation("selu")
    gains = {w: mean_field.solve(phi, w).chi_1 for w in (0.478, 0.6, 0.9, 1.2, 1.53, 1.7, 1.8)}
    assert all(gain > 1 for gain in gains.values())
    assert max(gains, key=gains.get) == 1.53
    assert gains[1.53] == pytest.approx(1.1356, abs=5e-5)
    # He's weights: x1.1040 a layer in the end; PyTorch's default x0.6991.
    assert mean_field.length_map(phi, 1e12, 2.0) / 1e12 == pytest.approx(1.1040, abs=5e-5)
    assert mean_field.length_map(phi, 1e-12, 1 / 3) / 1e-12 == pytest.approx(0.6991, abs=5e-5)


def test_limits_of_all_activations():
    assert {name: mean_field.vanish_limit(activation(name)) for name in NAMES} == pytest.approx(
        {
            "elu": 1,
            "erf": math.pi / 4,
            "gelu": 4,
            "identity": 1,
            "leaky_relu": 2 / 1.0001,
            "mish": 1 / 0.36,
            "relu": 2,
            "selu": 2 / (selu.LAMBDA**2 * (1 + selu.ALPHA**2)),
            "silu": 4,
            "softplus": 0,
            "tanh": 1,
        },
        rel=1e-13,
    )
    assert {name: mean_field.diverge_limit(activation(name)) for name in NAMES} == pytest.approx(
        {
            "elu": 2,
            "erf": math.inf,
            "gelu": 2,
            "identity": 1,
            "leaky_relu": 2 / 1.0001,
            "mish": 2,
            "relu": 2,
            "selu": 2 / selu.LAMBDA**2,
            "silu": 2,
            "softplus": 2,
            "tanh": math.inf,
        },
        rel=1e-9,
    )


def test_depth_scales():
    np.testing.assert_allclose(
        mean_field.depth_scale([0.0, 0.5, -0.5, 1.0, 1.2]),
        [0.0, 1 / math.log(2), 1 / math.log(2), math.inf, math.inf],
    )


def test_c_star_is_the_root_that_the_plain_map_has():
    phi = activation("elu")
    field = mean_field.solve(phi, 1.55, 0.0)
    root = brentq(
        lambda c: float(mean_field.correlation_map(phi, c, field.q_star, 1.55)) - c,
        0.0,
        0.9,
        xtol=1e-14,
    )
    assert field.c_star == pytest.approx(root, abs=1e-12)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((0.0, 0.0), "sigma_w2=0 must be"),
        ((-1.0, 0.0), "sigma_w2=-1"),
        ((1.0, -0.1), "sigma_b2=-0.1"),
        ((math.nan, 0.0), "sigma_w2=nan"),
        ((1.0, math.inf), "sigma_b2=inf"),
    ],
)
def test_wrong_variances_are_named(arguments, words):
    with pytest.raises(RequestError, match=words):
        mean_field.solve(activation("selu"), *arguments)
