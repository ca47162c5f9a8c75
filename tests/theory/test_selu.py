"""g against 60-digit arithmetic over its whole domain, its Jacobian against automatic differentiation, the theorems on grids."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.mean_field import maps as mean_field
from harness.theory.selu import moment_map as selu
from harness.theory.selu import theorems


def exact(mu, nu, omega, tau, alpha=selu.ALPHA, lam=selu.LAMBDA):
    """Klambauer et al. 2017, Eq. 4 and 5, as printed, with enough digits for its cancellations."""
    with mpmath.workdps(60):
        m, v, alpha, lam = (
            mpmath.mpf(mu) * mpmath.mpf(omega),
            mpmath.mpf(nu) * mpmath.mpf(tau),
            mpmath.mpf(alpha),
            mpmath.mpf(lam),
        )
        s, r = mpmath.sqrt(v), mpmath.sqrt(2)
        e0 = mpmath.erfc(m / (r * s))
        e1 = mpmath.exp(m + v / 2) * mpmath.erfc((m + v) / (r * s))
        e2 = mpmath.exp(2 * (m + v)) * mpmath.erfc((m + 2 * v) / (r * s))
        g = mpmath.sqrt(2 / mpmath.pi) * s * mpmath.exp(-m * m / (2 * v))
        mean = lam / 2 * (m * (2 - e0) + alpha * (e1 - e0) + g)
        return mean, lam**2 / 2 * (
            (m * m + v) * (2 - e0) + alpha**2 * (e2 - 2 * e1 + e0) + m * g
        ) - mean**2


def domain(count, seed):
    """Points of mu in [-10, 10], nu in [1e-8, 1e4], omega in [-3, 3], tau in [0.01, 5], many with means near or at 0; and the corners."""
    random = np.random.default_rng(seed)
    mu = random.uniform(-10, 10, count) * random.choice([1, 1, 1e-2, 1e-4, 0], count)
    omega = random.uniform(-3, 3, count) * random.choice([1, 1, 0.1, 0], count)
    inner = np.stack(
        [mu, 10 ** random.uniform(-8, 4, count), omega, random.uniform(0.01, 5, count)]
    )
    corners = np.array(
        np.meshgrid(
            [-10, 0, 1e-6, 10], [1e-8, 3e-3, 6.4e-3, 1, 1e4], [-3, 0, 1e-3, 3], [0.01, 1, 5]
        )
    ).reshape(4, -1)
    return np.concatenate([inner, corners], axis=1)


@pytest.mark.parametrize(
    "alpha, lam", [(selu.ALPHA, selu.LAMBDA), (1.0, 1.0), (2.5, 0.7), (0.3, 1.4)]
)
def test_g_has_twelve_digits_over_the_whole_domain(alpha, lam):
    points = domain(600, 1)
    mean, variance = selu.map_moments(*points, alpha, lam)
    assert np.isfinite(mean).all()
    assert (variance > 0).all()
    for point, got_mean, got_variance in zip(points.T.tolist(), mean, variance):
        true_mean, true_variance = exact(*point, alpha, lam)
        assert abs(float(true_variance - mpmath.mpf(float(got_variance)))) <= 1e-12 * float(
            true_variance
        ), point
        assert abs(float(true_mean - mpmath.mpf(float(got_mean)))) <= 1e-12 * max(
            abs(float(true_mean)), math.sqrt(true_variance)
        ), point


def test_g_over_the_whole_float_range():
    with np.errstate(all="raise", under="ignore"):
        for mu, nu in (
            (1e200, 1.0),
            (-1e200, 1.0),
            (1e-300, 1e-300),
            (0.0, 1e300),
            (5.0, 1e-305),
            (-700.0, 1.0),
            (-1e3, 1e6),
            (1e8, 1e-8),
            (-1e8, 1e16),
        ):
            mean, variance = selu.map_moments(mu, nu, 1.0, 1.0)
            assert np.isfinite(mean)
            assert np.isfinite(variance)
            assert variance >= 0
            assert np.isfinite(selu.jacobian(mu, nu, 1.0, 1.0)).all()
    assert selu.map_moments(1e200, 1.0, 1.0, 1.0)[0] == pytest.approx(
        selu.LAMBDA * 1e200, rel=1e-15
    )
    assert selu.map_moments(-1e200, 1.0, 1.0, 1.0) == (pytest.approx(selu.FLOOR, rel=1e-15), 0.0)


def test_weights_of_zero_make_a_point():
    mean, variance = selu.map_moments(2.0, 3.0, [0.5, -0.5], 0.0)
    np.testing.assert_allclose(mean, selu.selu([1.0, -1.0]), rtol=1e-15)
    assert (variance == 0).all()
    np.testing.assert_allclose(
        selu.jacobian(2.0, 3.0, [0.5, -0.5], 0.0)[:, 0, 0],
        np.array([0.5, -0.5]) * selu.selu_slope([1.0, -1.0]),
        rtol=1e-14,
    )


def test_g_against_quadrature_and_monte_carlo():
    mu, nu, omega, tau = domain(300, 2)[:, :300]
    mean, variance = selu.map_moments(mu, nu, omega, tau)
    from_slope = quadrature.expectation(activation("selu"), selu.selu, mu * omega, nu * tau)
    np.testing.assert_allclose(mean, from_slope, rtol=1e-12, atol=1e-13)
    z = np.random.default_rng(0).standard_normal(1_000_000)
    for point in ((0.3, 1.7, -0.8, 1.2), (-2.0, 0.05, 0.4, 0.9), (0.0, 40.0, 0.0, 2.0)):
        sample = selu.selu(point[0] * point[2] + math.sqrt(point[1] * point[3]) * z)
        mean, variance = selu.map_moments(*point)
        assert abs(sample.mean() - mean) < 5 * sample.std() / 1000
        assert abs(sample.var() - variance) < 5 * ((sample - sample.mean()) ** 2).std() / 1000


def torch_g(mu, nu, omega, tau):
    """The printed formula, for automatic differentiation where it keeps its digits."""
    m, v = mu * omega, nu * tau
    s, r, alpha = torch.sqrt(v), math.sqrt(2), selu.ALPHA
    e0, e1, e2 = (
        torch.erfc(m / (r * s)),
        torch.exp(m + v / 2) * torch.erfc((m + v) / (r * s)),
        torch.exp(2 * (m + v)) * torch.erfc((m + 2 * v) / (r * s)),
    )
    g = math.sqrt(2 / math.pi) * s * torch.exp(-m * m / (2 * v))
    mean = selu.LAMBDA / 2 * (m * (2 - e0) + alpha * (e1 - e0) + g)
    return mean, selu.LAMBDA**2 / 2 * (
        (m * m + v) * (2 - e0) + alpha**2 * (e2 - 2 * e1 + e0) + m * g
    ) - mean**2


def test_the_jacobian_is_the_derivative():
    random = np.random.default_rng(3)
    points = np.stack(
        [
            random.uniform(-2, 2, 200),
            random.uniform(0.3, 4, 200),
            random.uniform(-2, 2, 200),
            random.uniform(0.3, 2, 200),
        ]
    )
    got = selu.jacobian(*points)
    mu, nu, omega, tau = (torch.tensor(row, requires_grad=True) for row in points)
    for row, value in enumerate(torch_g(mu, nu, omega, tau)):
        by_mu, by_nu = torch.autograd.grad(value.sum(), (mu, nu), retain_graph=True)
        np.testing.assert_allclose(got[:, row, 0], by_mu.numpy(), rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(got[:, row, 1], by_nu.numpy(), rtol=1e-10, atol=1e-11)


def test_the_jacobian_over_the_whole_domain():
    for point in domain(60, 4).T.tolist():
        mu, nu, omega, tau = point
        matrix = selu.jacobian(*point)
        with mpmath.workdps(60):
            step = mpmath.mpf(10) ** -20
            columns = [
                [
                    (a - b) / (2 * step * scale)
                    for a, b in zip(
                        exact(*(mpmath.mpf(x) + step * scale * d for x, d in zip(point, delta))),
                        exact(*(mpmath.mpf(x) - step * scale * d for x, d in zip(point, delta))),
                    )
                ]
                for delta, scale in (((1, 0, 0, 0), mpmath.mpf(1)), ((0, 1, 0, 0), mpmath.mpf(nu)))
            ]
        for column, derivatives in enumerate(columns):
            for row, derivative in enumerate(derivatives):
                assert abs(
                    float(mpmath.mpf(float(matrix[row, column])) - derivative)
                ) <= 1e-12 * max(1.0, abs(float(derivative))), point


def test_the_spectral_norm_is_the_largest_singular_value():
    matrices = np.random.default_rng(5).standard_normal((50, 2, 2))
    np.testing.assert_allclose(
        selu.spectral_norm(matrices), np.linalg.norm(matrices, 2, axis=(1, 2)), rtol=1e-14
    )


def test_the_pooled_map_is_the_average_of_g_over_the_sums_of_weights():
    """Over units omega ~ N(0, sigma_w2) and tau -> sigma_w2: pooled, z ~ N(0, sigma_w2 (nu + mu^2)); the second moments average, not the variances."""
    mu, nu, sigma_w2 = 0.7, 1.3, 1.2
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    mean, variance = selu.map_moments(mu, nu, math.sqrt(sigma_w2) * nodes, sigma_w2)
    pooled = quadrature.moments(activation("selu"), 0.0, sigma_w2 * (nu + mu**2))
    assert weights @ mean == pytest.approx(pooled[0], abs=1e-12)
    assert weights @ (variance + mean**2) == pytest.approx(pooled[1] + pooled[0] ** 2, abs=1e-12)


def test_the_slope_of_the_length_map_is_the_jacobians_last_entry():
    assert mean_field.length_gain(activation("selu"), 1.0, 1.0) == pytest.approx(
        selu.jacobian(0.0, 1.0, 0.0, 1.0)[1, 1], abs=1e-14
    )


def test_selu_is_torchs_at_any_argument():
    x = np.array([-1e4, -100.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 100.0, 1e4])
    leaf = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.selu(leaf)
    value.sum().backward()
    np.testing.assert_allclose(selu.selu(x), value.detach().numpy(), rtol=1e-15)
    np.testing.assert_allclose(selu.selu_slope(x), leaf.grad.numpy(), rtol=1e-15)


def grid(box, count):
    return (
        axis.ravel()
        for axis in np.meshgrid(
            *(np.linspace(*interval, count) for interval in (box.mu, box.nu, box.omega, box.tau))
        )
    )


def test_theorem_1_on_a_grid():
    mu, nu, omega, tau = grid(theorems.THEOREM_1.boxes[0], 9)
    mean, variance = selu.map_moments(mu, nu, omega, tau)
    assert (
        pytest.approx(mean.min(), abs=1e-7),
        pytest.approx(mean.max(), abs=1e-7),
    ) == theorems.THEOREM_1_IMAGE_MEAN
    assert (
        pytest.approx(variance.min(), abs=1e-5),
        pytest.approx(variance.max(), abs=1e-5),
    ) == theorems.THEOREM_1_IMAGE_VARIANCE
    norms = selu.spectral_norm(selu.jacobian(mu, nu, omega, tau))
    assert norms.max() == pytest.approx(0.897608358409, abs=1e-11)
    # Every fixed point for weights of the box lies where the theorem says.
    for weights in ((-0.1, 0.95), (-0.1, 1.1), (0.1, 0.95), (0.1, 1.1), (0.0, 1.0)):
        inside = [point for point in selu.fixed_points(*weights) if 0.8 <= point.variance <= 1.5]
        assert len(inside) == 1
        assert inside[0].stable
        assert (
            theorems.THEOREM_1_FIXED_POINT_MEAN[0]
            <= inside[0].mean
            <= theorems.THEOREM_1_FIXED_POINT_MEAN[1]
        )
        assert (
            theorems.THEOREM_1_FIXED_POINT_VARIANCE[0]
            <= inside[0].variance
            <= theorems.THEOREM_1_FIXED_POINT_VARIANCE[1]
        )


def test_theorems_2_and_3_on_grids():
    mu, nu, omega, tau = grid(theorems.THEOREM_2.boxes[0], 9)
    assert (selu.map_moments(mu, nu, omega, tau)[1] - nu).max() == pytest.approx(
        -0.119744, abs=5e-7
    )
    for box, least in zip(theorems.THEOREM_3.boxes, (0.0077360832, 0.011029274)):
        mu, nu, omega, tau = grid(box, 9)
        assert (selu.map_moments(mu, nu, omega, tau)[1] - nu).min() == pytest.approx(
            least, abs=1e-9
        )


def test_where_the_theorems_end():
    """The limits that the module's docstring states."""
    change = lambda *point: selu.map_moments(*point)[1] - point[1]  # noqa: E731
    assert change(0.1, 6.8e-5, 0.1, 0.8) < 0 < change(0.1, 7.0e-5, 0.1, 0.8)
    assert change(0.1, 1.5e-5, 0.1, 0.9) < 0 < change(0.1, 1.7e-5, 0.1, 0.9)
    assert change(-1.0, 3.0, -0.3, 1.25) == pytest.approx(0.042, abs=5e-4)
    assert theorems.THEOREM_3.boxes[0].nu[0] == 0.02


@pytest.mark.parametrize(
    "point, number",
    [
        ((0.0, 1.0, 0.0, 1.0), 1),
        ((0.1, 1.5, -0.1, 1.1), 1),
        ((0.11, 1.0, 0.0, 1.0), None),
        ((0.0, 1.0, 0.0, 2.0), None),
        ((1.0, 16.0, 0.1, 1.25), 2),
        ((0.0, 0.05, 0.0, 0.8), 3),
        ((0.0, 0.2, 0.0, 0.9), 3),
        ((0.0, 0.2, 0.0, 0.85), None),
        ((0.0, 2.0, 0.0, 1.0), None),
        ((0.0, 0.5, 0.0, 1.0), None),
    ],
)
def test_which_theorem_covers_a_point(point, number):
    assert selu.theorem(*point) == number


def test_the_unit_shares_that_the_docstring_states():
    """|omega| <= 0.1 at LeCun-normal weights."""
    assert math.erf(0.1 / math.sqrt(2)) == pytest.approx(0.0797, abs=5e-5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: selu.map_moments(0, 0, 0, 1), "nu=0 must be above 0"),
        (lambda: selu.map_moments(0, [1, -2], 0, 1), "nu=-2 must be above 0"),
        (lambda: selu.map_moments(0, 1, 0, -1), "tau=-1 must not be below 0"),
        (lambda: selu.map_moments(math.nan, 1, 0, 1), "mu must be a finite number"),
        (lambda: selu.map_moments(0, math.inf, 0, 1), "nu must be a finite number"),
        (lambda: selu.jacobian(0, 1, 0, -1), "tau=-1"),
        (lambda: selu.gaussian_moments(0, -1), "variance -1 is below 0"),
        (lambda: selu.fixed_points(0, 0), "tau=0 must be above 0"),
        (lambda: selu.fixed_points(math.nan, 1), "finite"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(RequestError, match=words):
        call()
