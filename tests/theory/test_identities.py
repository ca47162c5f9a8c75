"""Identities at initialisation: reference values, and draws of weights that they must describe."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.networks import identities

SIZE = 40
UNITS = 400_000
# Kurtosis of each law, and the fan-in where its sum of squares is exact.
LAWS = {
    "normal": (identities.KURTOSIS_NORMAL, None),
    "uniform": (identities.KURTOSIS_UNIFORM, None),
    "truncated": (identities.KURTOSIS_TRUNCATED, None),
    "student": (3.0 + 6.0 / 6.0, None),
    "exact": (3.0, SIZE),
}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(5))


def correlated_inputs(
    random: np.random.Generator, samples: int, size: int, decay: float
) -> np.ndarray:
    """Draws correlated inputs with means that are not 0."""
    basis, _ = np.linalg.qr(random.standard_normal((size, size)))
    scales = np.arange(1, size + 1) ** -decay
    mean = 0.1 * random.standard_normal(size)
    return (random.standard_normal((samples, size)) * scales) @ basis.T + mean


def draw_weights(random: np.random.Generator, law: str) -> np.ndarray:
    """Draws weights (units, size) of mean 0 and variance 1."""
    shape = (UNITS, SIZE)
    if law == "uniform":
        return random.uniform(-np.sqrt(3), np.sqrt(3), shape)
    if law == "student":
        return random.standard_t(10, shape) / np.sqrt(10 / 8)
    weights = random.standard_normal(shape)
    if law == "truncated":
        outside = np.abs(weights) > 2
        while outside.any():
            weights[outside] = random.standard_normal(outside.sum())
            outside = np.abs(weights) > 2
        return weights / np.sqrt(identities.TRUNCATED_VARIANCE)
    if law == "exact":
        return weights * np.sqrt(SIZE) / np.linalg.norm(weights, axis=1, keepdims=True)
    return weights


def test_the_participation_ratio_counts_directions():
    assert identities.participation_ratio(np.eye(7)) == pytest.approx(7)
    assert identities.participation_ratio(np.diag([1.0, 1.0, 0.0, 0.0])) == pytest.approx(2)
    stacked = np.stack([np.eye(3), np.diag([1.0, 0, 0])])
    assert identities.participation_ratio(stacked) == pytest.approx([3, 1])


def test_the_participation_ratio_of_no_square_matrix_is_refused():
    with pytest.raises(RequestError, match="square"):
        identities.participation_ratio(np.ones((2, 3)))


def test_published_cases_of_the_unit_variance():
    # MNIST has PR = 31 and CIFAR-10 has 10; independent pixels would give sqrt(2 / 784).
    assert identities.unit_variance_cv(31.0) == pytest.approx(0.254, abs=1e-3)
    assert identities.unit_variance_cv(10.0) == pytest.approx(0.447, abs=1e-3)
    assert identities.unit_variance_cv(784.0) == pytest.approx(0.0505, abs=1e-4)


@pytest.mark.parametrize("law", list(LAWS))
def test_weights_of_any_law_scatter_the_variance_of_units_as_predicted(law, random):
    x = correlated_inputs(random, 200, SIZE, 0.8)
    # One pixel dominates, so that the kurtosis of the weights matters.
    x[:, 0] *= 4.0
    covariance = np.cov(x.T, bias=True)
    diagonal_share = np.square(np.diag(covariance)).sum() / np.trace(covariance) ** 2
    weights = draw_weights(random, law)
    variances = np.einsum("ui,ij,uj->u", weights, covariance, weights, optimize=True) / SIZE
    mean = identities.mean_unit_variance(covariance, 1.0)
    assert variances.mean() == pytest.approx(mean, rel=0.01)
    measured = variances.std() / variances.mean()
    kurtosis, exact_fan_in = LAWS[law]
    ratio = identities.participation_ratio(covariance)
    predicted = identities.unit_variance_cv(ratio, kurtosis, diagonal_share, exact_fan_in)
    assert measured == pytest.approx(predicted, rel=0.03 if law != "exact" else 0.06)
    # The formula for normal weights alone would be told apart where the law matters.
    if law in ("uniform", "student"):
        assert abs(measured / identities.unit_variance_cv(ratio) - 1) > 0.05


def test_unit_means_and_the_between_unit_share(random):
    x = correlated_inputs(random, 300, 50, 0.5)
    # Equal norms.
    x *= np.sqrt(50) / np.linalg.norm(x, axis=1, keepdims=True)
    weights = random.standard_normal((200_000, 50)) / np.sqrt(50)
    unit_means = weights @ x.mean(0)
    predicted = identities.mean_square_unit_mean(x.mean(0), 1.0)
    assert np.square(unit_means).mean() == pytest.approx(predicted, rel=0.01)
    cosines = x @ x.T / 50
    mean_cosine = (cosines.sum() - 300) / (300 * 299)
    z = weights[:20_000] @ x.T
    share = np.square(z.mean(1)).mean() / np.square(z).mean()
    assert share == pytest.approx(identities.between_unit_share(mean_cosine, 300), rel=0.03)


def test_pooling_different_norms_makes_tails(random):
    q = random.lognormal(0, 0.5, 400)
    z = random.standard_normal((4000, 400)) * np.sqrt(q)
    excess = (z**4).mean() / (z**2).mean() ** 2 - 3
    assert excess == pytest.approx(identities.pooled_excess_kurtosis(q.std() / q.mean()), rel=0.05)


@pytest.mark.parametrize("width, expected", [(256, 0.123), (1024, 0.0616)])
def test_stationary_scatter_of_lengths_of_selu(width, expected):
    """SELU at q = 1 has kurtosis 2.503140 and chi_q 0.782648."""
    cv = identities.stationary_length_cv(2.503140451, width, 0.782647883)
    assert cv == pytest.approx(expected, abs=5e-4)


def test_lengths_of_relu_scatter_without_limit():
    assert np.isinf(identities.stationary_length_cv(6.0, 256, 1.0))
    assert 32 * identities.length_noise(6.0, 256) == pytest.approx(0.79**2, abs=0.01)


def test_the_variance_and_kurtosis_of_truncated_weights(random):
    variance = identities.TRUNCATED_VARIANCE
    assert variance == pytest.approx(0.7737413035, abs=1e-10)
    assert variance**0.5 == pytest.approx(0.8796256610, abs=1e-10)
    x = random.standard_normal(4_000_000)
    x = x[np.abs(x) < 2]
    kurtosis = (x**4).mean() / (x**2).mean() ** 2
    assert kurtosis == pytest.approx(identities.KURTOSIS_TRUNCATED, rel=2e-3)


def test_live_taps_of_zero_padding():
    taps = identities.live_taps(4, 5, 3)
    assert taps.shape == (4, 5)
    assert taps[0, 0] == 4
    assert taps[0, 2] == 6
    assert taps[1, 1] == 9
    assert identities.live_taps(1, 1, 5).tolist() == [[1]]


@pytest.mark.parametrize("size, share", [(32, 0.959), (8, 0.840), (4, 0.694)])
def test_the_mean_share_of_live_taps(size, share):
    computed = identities.mean_live_share(size, size, 3)
    assert computed == pytest.approx(((3 * size - 2) / (3 * size)) ** 2, rel=1e-12)
    assert computed == pytest.approx(share, abs=5e-4)


def test_a_log_band_holds_a_log_normal(random):
    variance = 0.4
    draws = np.exp(random.normal(-variance / 2, variance**0.5, 200_000))
    low, high = identities.log_band(variance, 2.5758293)
    assert ((draws > low) & (draws < high)).mean() == pytest.approx(0.99, abs=1e-3)
    assert draws.mean() == pytest.approx(1.0, rel=0.01)
