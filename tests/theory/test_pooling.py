"""The pooled map, the map of single units, and pooling layers: reference values, g averaged, and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import hermite, quadrature
from harness.theory.activations.functions import activation
from harness.theory.networks import pooling
from harness.theory.selu import moment_map as selu

RNG = np.random.Generator(np.random.PCG64(11))


def test_the_pooled_map_has_selus_fixed_point_and_g_averaged_over_omega():
    phi = activation("selu")
    mean, variance = pooling.pooled_map(phi, 0.0, 1.0, 1.0)
    assert mean == pytest.approx(0, abs=1e-12)
    assert variance == pytest.approx(1, abs=1e-12)
    # E over omega ~ N(0, sigma_w2) of g's first two moments, tau = sigma_w2.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    for mu, nu, sigma_w2 in ((0.4, 1.3, 1.0), (-0.7, 0.5, 1.5), (1.8, 18.0, 2.0)):
        means, variances = selu.map_moments(mu, nu, np.sqrt(sigma_w2) * nodes, sigma_w2)
        mean, variance = pooling.pooled_map(phi, mu, nu, sigma_w2)
        assert mean == pytest.approx(weights @ means, abs=1e-9)
        assert variance + mean**2 == pytest.approx(weights @ (variances + means**2), rel=1e-9)


@pytest.mark.parametrize(
    "sigma_w2, q",
    [(0.9, 0.6116351179), (1.1, 1.5513024109), (1.25, 2.8725808697), (1.5, 8.5776379587)],
)
def test_the_pooled_fixed_points_of_selu(sigma_w2, q):
    mean, variance = quadrature.moments(activation("selu"), 0.0, q)
    assert pooling.pooled_length(mean, variance, sigma_w2) == pytest.approx(q, rel=1e-9)


def test_units_follow_their_own_mean_and_variance():
    size, units = 30, 50
    mixing = RNG.standard_normal((size, size)) / np.sqrt(size)
    mean, covariance = 0.3 * RNG.standard_normal(size), mixing @ mixing.T
    weights, bias = (
        RNG.standard_normal((units, size)) / np.sqrt(size),
        0.1 * RNG.standard_normal(units),
    )
    x = mean + RNG.standard_normal((200_000, size)) @ mixing.T
    z = x @ weights.T + bias
    for name in ("selu", "gelu", "tanh"):
        found = pooling.per_unit_map(activation(name), weights, mean, covariance, bias)
        y = activation(name).value(z)
        np.testing.assert_allclose(found.pre_activation_mean, z.mean(0), atol=0.015)
        np.testing.assert_allclose(found.pre_activation_variance, z.var(0), rtol=0.02)
        np.testing.assert_allclose(found.mean, y.mean(0), atol=0.015)
        np.testing.assert_allclose(found.variance, y.var(0), rtol=0.03)
    batched = pooling.per_unit_map(
        activation("selu"), np.stack([weights, -weights]), mean, covariance
    )
    assert batched.mean.shape == (2, units)


def test_g_is_the_unit_map_for_equal_means_and_independence():
    weights = RNG.standard_normal((8, 20)) / np.sqrt(20)
    found = pooling.per_unit_map(activation("selu"), weights, np.full(20, 0.2), 1.3 * np.eye(20))
    mean, variance = selu.map_moments(0.2, 1.3, weights.sum(1), np.square(weights).sum(1))
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-12)


def test_what_is_no_covariance_is_refused():
    with pytest.raises(RequestError, match="need a mean of 3"):
        pooling.per_unit_map(activation("selu"), np.ones((2, 3)), np.zeros(2), np.eye(3))
    with pytest.raises(RequestError, match="covariance is not one"):
        pooling.per_unit_map(activation("selu"), np.ones((2, 3)), np.zeros(3), -np.eye(3))


def test_the_maximum_of_four_normals():
    mean, second, gain = pooling.maximum_moments(activation("identity"), 1.0, 0.0)
    assert mean == pytest.approx(1.0293753730, abs=1e-9)
    assert second - mean**2 == pytest.approx(0.4917152369, abs=1e-9)
    assert gain == pytest.approx(1)
    mean, second, _ = pooling.maximum_moments(activation("selu"), 1.0, 0.0)
    assert mean == pytest.approx(1.0754539912, abs=1e-9)
    assert second - mean**2 == pytest.approx(0.5611231161, abs=1e-9)


@pytest.mark.parametrize(
    "name, q, rho",
    [("selu", 1.0, 0.8), ("relu", 3.0, 0.4), ("tanh", 0.5, 0.95), ("gelu", 2.0, 0.6)],
)
def test_the_maximum_of_alike_normals_against_draws(name, q, rho):
    phi = activation(name)
    z = np.sqrt(q) * (
        np.sqrt(rho) * RNG.standard_normal((400_000, 1))
        + np.sqrt(1 - rho) * RNG.standard_normal((400_000, 4))
    )
    largest = phi.value(z).max(1)
    mean, second, gain = pooling.maximum_moments(phi, q, rho)
    slope = np.take_along_axis(
        phi.slope(z), phi.value(z).argmax(1)[:, None], 1
    )  # gelu dips: not always the largest argument's
    assert mean == pytest.approx(largest.mean(), abs=0.006)
    assert second - mean**2 == pytest.approx(largest.var(), rel=0.02)
    assert gain == pytest.approx(np.square(slope).mean(), rel=0.01)
    # Exchangeable normals: the maximum exceeds the mean by something independent of it.
    residual = np.sqrt(q * (1 - rho)) * pooling.residual_maximum()
    assert residual.mean() == pytest.approx((z.max(1) - z.mean(1)).mean(), rel=0.01)
    assert np.corrcoef(z.max(1) - z.mean(1), z.mean(1))[0, 1] == pytest.approx(0, abs=0.01)


def test_the_average_of_alike_entries():
    z = np.sqrt(0.6) * RNG.standard_normal((200_000, 1)) + np.sqrt(0.4) * RNG.standard_normal(
        (200_000, 4)
    )
    assert np.square(z.mean(1)).mean() == pytest.approx(pooling.average_length(1.0, 0.6), rel=0.02)
    assert pooling.average_length(1.0, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["selu", "relu", "gelu", "tanh", "leaky_relu", "softplus"])
def test_expansions_agree_with_quadrature(name):
    phi = activation(name)
    q = np.array([1e-3, 0.3, 1.0, 6.0, 200.0])
    expansion = hermite.expand(phi, q)
    np.testing.assert_allclose(
        expansion.mean, quadrature.moments(phi, 0.0, q)[0], atol=1e-10 * np.sqrt(q.max())
    )
    np.testing.assert_allclose(
        expansion.second_moment, quadrature.second_moment(phi, 0.0, q), rtol=1e-10
    )
    np.testing.assert_allclose(expansion.gain, quadrature.slope_square(phi, 0.0, q), rtol=1e-9)
    reverse = expansion.take(np.arange(5)[::-1])
    for c, tolerance in (
        (-0.6, 1e-8),
        (0.0, 1e-8),
        (0.5, 1e-8),
        (0.9, 1e-6),
        (0.99, 2e-4),
        (0.999, 2e-4),
    ):
        kernel = hermite.kernel(expansion, reverse, np.full(5, c), hermite.powers(np.full(5, c)))
        np.testing.assert_allclose(
            kernel, quadrature.kernel(phi, q, q[::-1], c), rtol=tolerance, atol=tolerance
        )


def test_many_lengths_are_interpolated():
    q = RNG.lognormal(0, 2, 5000)
    table, exact = hermite.expand(activation("selu"), q), hermite.expand(activation("selu"), q[:50])
    np.testing.assert_allclose(table.value[:, :50], exact.value, atol=2e-5 * np.sqrt(q.max()))
    np.testing.assert_allclose(table.second_moment[:50], exact.second_moment, rtol=1e-4)
