"""All fixed points of g: the table of reference values, and attractors that iteration finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.theory.selu import moment_map as selu

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
def test_the_table_at_omega_0(tau):
    (point,) = selu.fixed_points(0.0, tau)
    mean, variance = TABLE[tau]
    assert point.stable
    assert point.variance == pytest.approx(variance, abs=6e-7 if tau != 0.5 else 5e-7)
    assert mean is None or point.mean == pytest.approx(mean, abs=6e-7)


def test_no_fixed_point_from_2_658_on():
    """The limit slope lambda^2 tau (1/2 - 1/(2 pi)) reaches 1 there."""
    limit = 1 / (selu.LAMBDA**2 * (0.5 - 0.5 / math.pi))
    assert limit == pytest.approx(2.658, abs=5e-4)
    assert selu.fixed_points(0.0, 2.6)
    assert not selu.fixed_points(0.0, limit + 0.001)
    assert not selu.fixed_points(0.0, 0.4)


def test_where_0_1_stops_being_stable():
    for omega, stable in ((0.901, True), (0.903, False), (-1.030, True), (-1.032, False)):
        (point,) = [
            point for point in selu.fixed_points(omega, 1.0) if abs(point.variance - 1) < 1e-9
        ]
        assert point.stable is stable
        assert abs(point.mean) < 1e-9
    share = 0.5 * math.erfc(0.9017 / math.sqrt(2)) + 0.5 * math.erfc(1.0308 / math.sqrt(2))
    assert share == pytest.approx(0.335, abs=5e-4)


def test_iteration_ends_nowhere_else():
    random = np.random.default_rng(0)
    for _ in range(6):
        omega, tau = (
            float(random.choice([random.uniform(-3, 3), random.uniform(-0.3, 0.3)])),
            float(random.uniform(0.3, 3)),
        )
        points = selu.fixed_points(omega, tau)
        for point in points:
            mean, variance = selu.map_moments(point.mean, point.variance, omega, tau)
            assert abs(mean - point.mean) < 1e-10 * max(abs(point.mean), math.sqrt(point.variance))
            assert variance == pytest.approx(point.variance, rel=1e-10)
        mu, nu = (
            random.uniform(-5, 5, 40) * random.choice([0.01, 1, 10], 40),
            10 ** random.uniform(-8, 6, 40),
        )
        for _ in range(600):
            mu, nu = selu.map_moments(
                np.clip(mu, -1e14, 1e14), np.clip(nu, 1e-300, 1e28), omega, tau
            )
        after = selu.map_moments(mu, np.maximum(nu, 1e-300), omega, tau)
        settled = (
            (nu > 1e-11)
            & (nu < 1e11)
            & (np.abs(after[1] / np.maximum(nu, 1e-300) - 1) < 1e-9)
            & (np.abs(after[0] - mu) < 1e-8 * np.sqrt(nu))
        )
        for mean, variance in zip(mu[settled], nu[settled]):
            assert any(
                point.variance == pytest.approx(variance, rel=1e-4)
                and abs(point.mean - mean) < 1e-4 * max(abs(mean), math.sqrt(variance))
                for point in points
            ), (omega, tau)


def test_stable_points_attract_and_unstable_ones_repel():
    for omega, tau in ((0.0, 1.25), (0.5, 1.2), (0.95, 1.0), (-1.2, 1.0)):
        for point in selu.fixed_points(omega, tau):
            mu, nu = point.mean + 1e-6, point.variance * (1 + 1e-6)
            for _ in range(400):
                mu, nu = selu.map_moments(mu, max(nu, 1e-300), omega, tau)
            near = abs(mu - point.mean) < 1e-6 and abs(nu / point.variance - 1) < 1e-6
            assert bool(near) == point.stable
