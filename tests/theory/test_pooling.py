"""The pooled map, the map of single units, and maxima and averages over blocks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import hermite, quadrature
from harness.theory.activations.functions import activation
from harness.theory.networks import pooled_signals, pooling
from harness.theory.networks.description import Activation, Convolution, Dense, Flatten, Pool
from harness.theory.networks.predictions import Inputs, predict
from harness.theory.selu import moment_map


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(11))


def test_the_pooled_map_has_selus_fixed_point():
    mean, variance = pooling.pooled_map(activation("selu"), 0.0, 1.0, 1.0)
    assert mean == pytest.approx(0, abs=1e-12)
    assert variance == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("mu, nu, sigma_w2", [(0.4, 1.3, 1.0), (-0.7, 0.5, 1.5), (1.8, 18.0, 2.0)])
def test_the_pooled_map_is_g_averaged_over_omega(mu, nu, sigma_w2):
    """Averages the moments of g over omega ~ N(0, sigma_w2) at tau = sigma_w2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    means, variances = moment_map.map_moments(mu, nu, np.sqrt(sigma_w2) * nodes, sigma_w2)
    mean, variance = pooling.pooled_map(activation("selu"), mu, nu, sigma_w2)
    assert mean == pytest.approx(weights @ means, abs=1e-9)
    assert variance + mean**2 == pytest.approx(weights @ (variances + means**2), rel=1e-9)


@pytest.mark.parametrize(
    "sigma_w2, q",
    [(0.9, 0.6116351179), (1.1, 1.5513024109), (1.25, 2.8725808697), (1.5, 8.5776379587)],
)
def test_the_pooled_fixed_points_of_selu(sigma_w2, q):
    mean, variance = quadrature.moments(activation("selu"), 0.0, q)
    assert pooling.pooled_length(mean, variance, sigma_w2) == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize("name", ["selu", "gelu", "tanh"])
def test_units_follow_their_own_mean_and_variance(name, random):
    size, units = 30, 50
    mixing = random.standard_normal((size, size)) / np.sqrt(size)
    mean = 0.3 * random.standard_normal(size)
    weights = random.standard_normal((units, size)) / np.sqrt(size)
    bias = 0.1 * random.standard_normal(units)
    x = mean + random.standard_normal((200_000, size)) @ mixing.T
    z = x @ weights.T + bias
    y = activation(name).value(z)
    moments = pooling.per_unit_map(activation(name), weights, mean, mixing @ mixing.T, bias)
    np.testing.assert_allclose(moments.pre_activation_mean, z.mean(0), atol=0.015)
    np.testing.assert_allclose(moments.pre_activation_variance, z.var(0), rtol=0.02)
    np.testing.assert_allclose(moments.mean, y.mean(0), atol=0.015)
    np.testing.assert_allclose(moments.variance, y.var(0), rtol=0.03)


def test_the_map_of_units_takes_batches_of_weights(random):
    weights = random.standard_normal((2, 50, 30))
    moments = pooling.per_unit_map(activation("selu"), weights, np.zeros(30), np.eye(30))
    assert moments.mean.shape == (2, 50)


def test_g_is_the_unit_map_for_equal_means_and_independence(random):
    weights = random.standard_normal((8, 20)) / np.sqrt(20)
    moments = pooling.per_unit_map(activation("selu"), weights, np.full(20, 0.2), 1.3 * np.eye(20))
    omega = weights.sum(1)
    tau = np.square(weights).sum(1)
    mean, variance = moment_map.map_moments(0.2, 1.3, omega, tau)
    np.testing.assert_allclose(moments.mean, mean, atol=1e-12)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-12)


@pytest.mark.parametrize(
    "mean, covariance, message",
    [
        (np.zeros(2), np.eye(3), "need a mean of 3"),
        (np.zeros(3), -np.eye(3), "covariance is not positive semidefinite"),
    ],
)
def test_moments_that_fit_no_unit_are_refused(mean, covariance, message):
    with pytest.raises(RequestError, match=message):
        pooling.per_unit_map(activation("selu"), np.ones((2, 3)), mean, covariance)


@pytest.mark.parametrize(
    "name, expected_mean, expected_variance",
    [("identity", 1.0293753730, 0.4917152369), ("selu", 1.0754539912, 0.5611231161)],
)
def test_the_maximum_of_four_independent_normals(name, expected_mean, expected_variance):
    mean, second_moment, _ = pooling.maximum_moments(activation(name), 1.0, 0.0)
    assert mean == pytest.approx(expected_mean, abs=1e-9)
    assert second_moment - mean**2 == pytest.approx(expected_variance, abs=1e-9)


def test_the_gain_of_the_maximum_of_the_identity_is_1():
    _, _, gain = pooling.maximum_moments(activation("identity"), 1.0, 0.0)
    assert gain == pytest.approx(1)


@pytest.mark.parametrize(
    "name, q, rho",
    [("selu", 1.0, 0.8), ("relu", 3.0, 0.4), ("tanh", 0.5, 0.95), ("gelu", 2.0, 0.6)],
)
def test_the_maximum_of_correlated_normals_against_draws(name, q, rho, random):
    phi = activation(name)
    common = np.sqrt(rho) * random.standard_normal((400_000, 1))
    z = np.sqrt(q) * (common + np.sqrt(1 - rho) * random.standard_normal((400_000, 4)))
    values = phi.value(z)
    # GELU dips below 0, so that the largest value is not always that of the largest argument.
    place = values.argmax(1)[:, None]
    slope = np.take_along_axis(phi.slope(z), place, 1)
    mean, second_moment, gain = pooling.maximum_moments(phi, q, rho)
    assert mean == pytest.approx(values.max(1).mean(), abs=0.006)
    assert second_moment - mean**2 == pytest.approx(values.max(1).var(), rel=0.02)
    assert gain == pytest.approx(np.square(slope).mean(), rel=0.01)
    # The maximum of exchangeable normals exceeds their mean by something independent of it.
    excess = z.max(1) - z.mean(1)
    residual = np.sqrt(q * (1 - rho)) * pooling.residual_maximum()
    assert residual.mean() == pytest.approx(excess.mean(), rel=0.01)
    assert np.corrcoef(excess, z.mean(1))[0, 1] == pytest.approx(0, abs=0.01)


def test_the_average_of_correlated_entries(random):
    common = np.sqrt(0.6) * random.standard_normal((200_000, 1))
    z = common + np.sqrt(0.4) * random.standard_normal((200_000, 4))
    average = np.square(z.mean(1)).mean()
    assert average == pytest.approx(pooling.average_length(1.0, 0.6), rel=0.02)
    assert pooling.average_length(1.0, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["selu", "relu", "gelu", "tanh", "leaky_relu", "softplus"])
def test_expansions_agree_with_quadrature(name):
    phi = activation(name)
    q = np.array([1e-3, 0.3, 1.0, 6.0, 200.0])
    expansion = hermite.expand(phi, q)
    mean, _ = quadrature.moments(phi, 0.0, q)
    second_moment = quadrature.second_moment(phi, 0.0, q)
    np.testing.assert_allclose(expansion.mean, mean, atol=1e-10 * np.sqrt(q.max()))
    np.testing.assert_allclose(expansion.second_moment, second_moment, rtol=1e-10)
    np.testing.assert_allclose(expansion.gain, quadrature.slope_square(phi, 0.0, q), rtol=1e-9)


@pytest.mark.parametrize(
    "c, tolerance",
    [(-0.6, 1e-8), (0.0, 1e-8), (0.5, 1e-8), (0.9, 1e-6), (0.99, 2e-4), (0.999, 2e-4)],
)
@pytest.mark.parametrize("name", ["selu", "relu", "gelu", "tanh", "leaky_relu", "softplus"])
def test_kernels_of_expansions_agree_with_quadrature(name, c, tolerance):
    phi = activation(name)
    q = np.array([1e-3, 0.3, 1.0, 6.0, 200.0])
    expansion = hermite.expand(phi, q)
    reverse = expansion.take(np.arange(5)[::-1])
    cosines = np.full(5, c)
    kernel = hermite.kernel(expansion, reverse, cosines, hermite.powers(cosines))
    expected = quadrature.kernel(phi, q, q[::-1], c)
    np.testing.assert_allclose(kernel, expected, rtol=tolerance, atol=tolerance)


def test_expansions_of_many_lengths_are_interpolated(random):
    q = random.lognormal(0, 2, 5000)
    table = hermite.expand(activation("selu"), q)
    exact = hermite.expand(activation("selu"), q[:50])
    np.testing.assert_allclose(table.value[:, :50], exact.value, atol=2e-5 * np.sqrt(q.max()))
    np.testing.assert_allclose(table.second_moment[:50], exact.second_moment, rtol=1e-4)


@pytest.mark.parametrize("side", [(3, 5), (8, 8)])
@pytest.mark.parametrize("apart", [(0, 0), (0, 1), (1, 1), (1, -1)])
def test_the_correlation_of_blocks_is_the_mean_over_all_pairs(monkeypatch, side, apart):
    blocks = pooled_signals._Blocks(1, 1, *side)
    monkeypatch.setattr(pooled_signals, "_correlation_at", lambda signal: lambda d: 0.1 + 0.9**d)
    y, x = np.divmod(np.arange(blocks.count), blocks.size_x)
    rows = y[:, None] - y[None, :] + apart[0] * blocks.size_y
    columns = x[:, None] - x[None, :] + apart[1] * blocks.size_x
    values = 0.1 + 0.9 ** np.hypot(rows, columns)
    count = blocks.count
    expected = values.mean()
    if apart == (0, 0):
        expected = (values.sum() - count) / (count * (count - 1))
    found = pooled_signals._block_correlation(None, blocks, apart)
    assert found == pytest.approx(expected, rel=1e-12)


def test_pooling_a_large_map_takes_little_memory(monkeypatch):
    monkeypatch.setattr(pooled_signals, "_correlation_at", lambda signal: lambda d: 0.9**d)
    blocks = pooled_signals._Blocks(1, 1, 224, 224)
    tracemalloc.start()
    pooled_signals._block_correlation(None, blocks, (0, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All pairs of positions would be 20 GB.
    assert peak < 20e6


def test_the_residual_of_a_large_block_is_that_of_simulated_normals(random):
    normal = random.standard_normal((20_000, 400))
    residual = normal.max(1) - normal.mean(1)
    values = pooling.residual_maximum(400)
    assert values.mean() == pytest.approx(residual.mean(), abs=0.01)
    assert values.std() == pytest.approx(residual.std(), abs=0.02)
    assert np.isfinite(pooling.residual_maximum(224 * 224)).all()


def test_an_expansion_at_many_positions_needs_no_second_copy():
    q = np.geomspace(0.5, 2.0, 60_000)
    tracemalloc.start()
    expansion = hermite.expand(activation("selu"), q)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    tables = (expansion.value, expansion.square, expansion.slope, expansion.slope_square)
    assert peak < 1.3 * sum(table.nbytes for table in tables)


def test_bands_of_a_large_map_are_those_of_a_small_one(monkeypatch):
    """A large map keeps few degrees of the slopes, and makes them anew where bands need them."""
    network = [Convolution(9, 72, 8, 1.0, height=12, width=12), Activation("gelu")]
    images = np.random.default_rng(0).standard_normal((16, 1, 12, 12))
    monkeypatch.setattr(hermite, "_MOST_EXACT", 10**6)
    exact = predict(tuple(network), Inputs(images))[0].values
    monkeypatch.undo()
    interpolated = predict(tuple(network), Inputs(images))[0].values
    for column, value in exact.items():
        assert interpolated[column].value == pytest.approx(
            value.value, rel=1e-4, abs=1e-6, nan_ok=True
        )
        assert interpolated[column].low == pytest.approx(value.low, rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_a_global_pool_of_large_images_takes_less_than_a_gigabyte():
    side = 224
    images = np.random.default_rng(0).standard_normal((8, 3, side, side))
    convolution = Convolution(27, 144, 16, 1.0, height=side, width=side)
    network = (convolution, Activation("selu"), Pool("average", 0), Flatten(), Dense(16, 4, 4, 1.0))
    tracemalloc.start()
    predict(network, Inputs(images))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.8e9
