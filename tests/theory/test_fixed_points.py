"""Fixed points of g: a table of reference values, and the attractors that iteration finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.theory import selu

# tau: (mean, variance) at omega = 0, to the digits given (computed with mpmath).
TABLE = {
    0.5: (None, 1.31e-4),
    0.7737: (-0.054178, 0.350993),
    0.8: (-0.051879, 0.410710),
    0.9: (-0.033415, 0.674250),
    0.95: (-0.018566, 0.828795),
    1.0: (0.0, 1.0),
    1.1: (0.048518, 1.399308),
    1.21: (0.120517, 1.945749),
    1.25: (0.151967, 2.178856),
    1.5: (0.426752, 4.259474),
    2.0: (1.780421, 18.459901),
}


@pytest.mark.parametrize("tau", TABLE)
def test_fixed_points_at_omega_0_equal_the_reference_table(tau):
    (point,) = selu.fixed_points(0.0, tau)
    mean, variance = TABLE[tau]
    assert point.stable
    assert point.variance == pytest.approx(variance, abs=6e-7 if tau != 0.5 else 5e-7)
    assert mean is None or point.mean == pytest.approx(mean, abs=6e-7)


def test_no_fixed_point_exists_from_tau_2_658_on():
    """The limit slope lambda^2 tau (1/2 - 1/(2 pi)) reaches 1 there."""
    limit = 1 / (selu.LAMBDA**2 * (0.5 - 0.5 / math.pi))
    assert limit == pytest.approx(2.658, abs=5e-4)
    assert selu.fixed_points(0.0, 2.6)
    assert not selu.fixed_points(0.0, limit + 0.001)
    assert not selu.fixed_points(0.0, 0.4)


@pytest.mark.parametrize(
    "omega, stable", [(0.901, True), (0.903, False), (-1.030, True), (-1.032, False)]
)
def test_0_1_is_stable_between_two_omega(omega, stable):
    points = selu.fixed_points(omega, 1.0)
    (point,) = [point for point in points if abs(point.variance - 1) < 1e-9]
    assert point.stable is stable
    assert abs(point.mean) < 1e-9


def test_a_third_of_lecun_normal_units_lie_where_0_1_is_unstable():
    """Omega ~ N(0, 1) lies outside (-1.0308, 0.9017)."""
    share = 0.5 * math.erfc(0.9017 / math.sqrt(2)) + 0.5 * math.erfc(1.0308 / math.sqrt(2))
    assert share == pytest.approx(0.335, abs=5e-4)


def settled_by_iteration(random, omega, tau):
    """Points (mean, variance) at which 600 steps of g from random starts have come to rest."""
    mu = random.uniform(-5, 5, 40) * random.choice([0.01, 1, 10], 40)
    nu = 10 ** random.uniform(-8, 6, 40)
    for _ in range(600):
        mu = np.clip(mu, -1e14, 1e14)
        nu = np.clip(nu, 1e-300, 1e28)
        mu, nu = selu.map_moments(mu, nu, omega, tau)
    mu_after, nu_after = selu.map_moments(mu, np.maximum(nu, 1e-300), omega, tau)
    in_range = (nu > 1e-11) & (nu < 1e11)
    nu_rests = np.abs(nu_after / np.maximum(nu, 1e-300) - 1) < 1e-9
    mu_rests = np.abs(mu_after - mu) < 1e-8 * np.sqrt(nu)
    settled = in_range & nu_rests & mu_rests
    return list(zip(mu[settled], nu[settled], strict=True))


def is_near(point, mean, variance):
    same_variance = point.variance == pytest.approx(variance, rel=1e-4)
    same_mean = abs(point.mean - mean) < 1e-4 * max(abs(mean), math.sqrt(variance))
    return same_variance and same_mean


def test_iteration_comes_to_rest_at_fixed_points_only():
    random = np.random.default_rng(0)
    rests = 0
    for _ in range(6):
        omega = float(random.choice([random.uniform(-3, 3), random.uniform(-0.3, 0.3)]))
        tau = float(random.uniform(0.3, 3))
        points = selu.fixed_points(omega, tau)
        for point in points:
            mean, variance = selu.map_moments(point.mean, point.variance, omega, tau)
            assert abs(mean - point.mean) < 1e-10 * max(abs(point.mean), math.sqrt(point.variance))
            assert variance == pytest.approx(point.variance, rel=1e-10)
        for mean, variance in settled_by_iteration(random, omega, tau):
            rests += 1
            assert any(is_near(point, mean, variance) for point in points), (omega, tau)
    assert rests > 0


@pytest.mark.parametrize("omega, tau", [(0.0, 1.25), (0.5, 1.2), (0.95, 1.0), (-1.2, 1.0)])
def test_stable_points_attract_and_unstable_ones_repel(omega, tau):
    points = selu.fixed_points(omega, tau)
    assert points
    for point in points:
        mu = point.mean + 1e-6
        nu = point.variance * (1 + 1e-6)
        for _ in range(400):
            mu, nu = selu.map_moments(mu, max(nu, 1e-300), omega, tau)
        near = abs(mu - point.mean) < 1e-6 and abs(nu / point.variance - 1) < 1e-6
        assert bool(near) == point.stable
