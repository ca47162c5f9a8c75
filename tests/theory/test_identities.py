"""Identities at initialisation: reference values, and draws of weights that they must describe."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.networks import identities

RNG = np.random.Generator(np.random.PCG64(5))


def inputs(samples: int, size: int, decay: float) -> np.ndarray:
    """Correlated inputs with means that are not 0."""
    basis, _ = np.linalg.qr(RNG.standard_normal((size, size)))
    scales = np.arange(1, size + 1) ** -decay
    return (RNG.standard_normal((samples, size)) * scales) @ basis.T + 0.1 * RNG.standard_normal(
        size
    )


def test_the_participation_ratio_counts_directions():
    assert identities.participation_ratio(np.eye(7)) == pytest.approx(7)
    assert identities.participation_ratio(np.diag([1.0, 1.0, 0.0, 0.0])) == pytest.approx(2)
    assert identities.participation_ratio(
        np.stack([np.eye(3), np.diag([1.0, 0, 0])])
    ) == pytest.approx([3, 1])
    with pytest.raises(RequestError, match="square"):
        identities.participation_ratio(np.ones((2, 3)))


def test_published_cases_of_the_unit_variance():
    # Measured on MNIST and CIFAR-10: PR = 31 and 10; independent pixels would give sqrt(2 / 784).
    assert identities.unit_variance_cv(31.0) == pytest.approx(0.254, abs=1e-3)
    assert identities.unit_variance_cv(10.0) == pytest.approx(0.447, abs=1e-3)
    assert identities.unit_variance_cv(784.0) == pytest.approx(0.0505, abs=1e-4)


@pytest.mark.parametrize("law", ["normal", "uniform", "truncated", "exact", "student"])
def test_weights_of_any_law_scatter_the_variance_of_units_as_predicted(law):
    size, units = 40, 400_000
    x = inputs(200, size, 0.8)
    x[:, 0] *= 4.0  # one pixel dominates: kurtosis matters
    covariance = np.cov(x.T, bias=True)
    share = np.square(np.diag(covariance)).sum() / np.trace(covariance) ** 2
    kurtosis, exact = {
        "normal": (identities.KURTOSIS_NORMAL, None),
        "uniform": (identities.KURTOSIS_UNIFORM, None),
        "truncated": (identities.KURTOSIS_TRUNCATED, None),
        "student": (3.0 + 6.0 / 6.0, None),
        "exact": (3.0, size),
    }[law]
    weights = RNG.standard_normal((units, size))
    if law == "uniform":
        weights = RNG.uniform(-np.sqrt(3), np.sqrt(3), (units, size))
    elif law == "truncated":
        while (outside := np.abs(weights) > 2).any():
            weights[outside] = RNG.standard_normal(outside.sum())
        weights /= np.sqrt(identities.TRUNCATED_VARIANCE)
    elif law == "student":
        weights = RNG.standard_t(10, (units, size)) / np.sqrt(10 / 8)
    elif law == "exact":
        weights *= np.sqrt(size) / np.linalg.norm(weights, axis=1, keepdims=True)
    variances = np.einsum("ui,ij,uj->u", weights, covariance, weights, optimize=True) / size
    assert variances.mean() == pytest.approx(
        identities.mean_unit_variance(covariance, 1.0), rel=0.01
    )
    measured = variances.std() / variances.mean()
    predicted = identities.unit_variance_cv(
        identities.participation_ratio(covariance), kurtosis, share, exact
    )
    assert measured == pytest.approx(predicted, rel=0.03 if law != "exact" else 0.06)
    # The normal formula alone is told apart where the law matters.
    if law in ("uniform", "student"):
        assert (
            abs(
                measured / identities.unit_variance_cv(identities.participation_ratio(covariance))
                - 1
            )
            > 0.05
        )


def test_unit_means_and_the_between_unit_share():
    x = inputs(300, 50, 0.5)
    x *= np.sqrt(50) / np.linalg.norm(x, axis=1, keepdims=True)  # equal norms
    weights = RNG.standard_normal((200_000, 50)) / np.sqrt(50)
    mu = weights @ x.mean(0)
    assert np.square(mu).mean() == pytest.approx(
        identities.mean_square_unit_mean(x.mean(0), 1.0), rel=0.01
    )
    cosines = x @ x.T / 50
    off = (cosines.sum() - 300) / (300 * 299)
    z = weights[:20_000] @ x.T
    assert np.square(z.mean(1)).mean() / np.square(z).mean() == pytest.approx(
        identities.between_unit_share(off, 300), rel=0.03
    )


def test_pooling_different_norms_makes_tails():
    q = RNG.lognormal(0, 0.5, 400)
    z = RNG.standard_normal((4000, 400)) * np.sqrt(q)
    excess = (z**4).mean() / (z**2).mean() ** 2 - 3
    assert excess == pytest.approx(identities.pooled_excess_kurtosis(q.std() / q.mean()), rel=0.05)


def test_stationary_scatter_of_lengths():
    # SELU at q = 1: kurtosis 2.503140, chi_q 0.782648: 0.123 at width 256 and 0.062 at 1024.
    assert identities.stationary_length_cv(2.503140451, 256, 0.782647883) == pytest.approx(
        0.123, abs=5e-4
    )
    assert identities.stationary_length_cv(2.503140451, 1024, 0.782647883) == pytest.approx(
        0.0616, abs=5e-4
    )
    assert np.isinf(identities.stationary_length_cv(6.0, 256, 1.0))
    assert 32 * identities.length_noise(6.0, 256) == pytest.approx(0.79**2, abs=0.01)


def test_truncation():
    assert pytest.approx(0.7737413035, abs=1e-10) == identities.TRUNCATED_VARIANCE
    assert pytest.approx(0.8796256610, abs=1e-10) == identities.TRUNCATED_VARIANCE**0.5
    x = RNG.standard_normal(4_000_000)
    x = x[np.abs(x) < 2]
    assert (x**4).mean() / (x**2).mean() ** 2 == pytest.approx(
        identities.KURTOSIS_TRUNCATED, rel=2e-3
    )


def test_live_taps_of_zero_padding():
    taps = identities.live_taps(4, 5, 3)
    assert taps.shape == (4, 5)
    assert taps[0, 0] == 4
    assert taps[0, 2] == 6
    assert taps[1, 1] == 9
    for size, share in ((32, 0.959), (8, 0.840), (4, 0.694)):
        assert identities.mean_live_share(size, size, 3) == pytest.approx(
            ((3 * size - 2) / (3 * size)) ** 2, rel=1e-12
        )
        assert identities.mean_live_share(size, size, 3) == pytest.approx(share, abs=5e-4)
    assert identities.live_taps(1, 1, 5).tolist() == [[1]]


def test_a_log_band_holds_a_log_normal():
    variance = 0.4
    draws = np.exp(RNG.normal(-variance / 2, variance**0.5, 200_000))
    low, high = identities.log_band(variance, 2.5758293)
    assert ((draws > low) & (draws < high)).mean() == pytest.approx(0.99, abs=1e-3)
    assert draws.mean() == pytest.approx(1.0, rel=0.01)
