"""SELU's map g: against 60-digit arithmetic, automatic differentiation, and the theorems."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from harness.errors import RequestError
from harness.theory import selu
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.mean_field import maps as mean_field
from harness.theory.selu import theorems


def exact(mu, nu, omega, tau, alpha=selu.ALPHA, lam=selu.LAMBDA):
    """Klambauer et al. 2017, Eq. 4 and 5, as printed, with enough digits for its cancellations."""
    with mpmath.workdps(60):
        m = mpmath.mpf(mu) * mpmath.mpf(omega)
        v = mpmath.mpf(nu) * mpmath.mpf(tau)
        alpha, lam = mpmath.mpf(alpha), mpmath.mpf(lam)
        s = mpmath.sqrt(v)
        root_2 = mpmath.sqrt(2)
        e0 = mpmath.erfc(m / (root_2 * s))
        e1 = mpmath.exp(m + v / 2) * mpmath.erfc((m + v) / (root_2 * s))
        e2 = mpmath.exp(2 * (m + v)) * mpmath.erfc((m + 2 * v) / (root_2 * s))
        g = mpmath.sqrt(2 / mpmath.pi) * s * mpmath.exp(-m * m / (2 * v))
        mean = lam / 2 * (m * (2 - e0) + alpha * (e1 - e0) + g)
        negative_part = alpha**2 * (e2 - 2 * e1 + e0)
        second_moment = lam**2 / 2 * ((m * m + v) * (2 - e0) + negative_part + m * g)
        return mean, second_moment - mean**2


def domain(count, seed):
    """Random points and corners of the domain, (4, points): mu, nu, omega and tau.

    mu in [-10, 10], nu in [1e-8, 1e4], omega in [-3, 3], tau in [0.01, 5]. Many have means near or
    at 0.
    """
    random = np.random.default_rng(seed)
    mu = random.uniform(-10, 10, count) * random.choice([1, 1, 1e-2, 1e-4, 0], count)
    omega = random.uniform(-3, 3, count) * random.choice([1, 1, 0.1, 0], count)
    nu = 10 ** random.uniform(-8, 4, count)
    tau = random.uniform(0.01, 5, count)
    inner = np.stack([mu, nu, omega, tau])
    corners = np.meshgrid(
        [-10, 0, 1e-6, 10], [1e-8, 3e-3, 6.4e-3, 1, 1e4], [-3, 0, 1e-3, 3], [0.01, 1, 5]
    )
    return np.concatenate([inner, np.array(corners).reshape(4, -1)], axis=1)


def test_alpha_and_lambda_solve_equation_14():
    with mpmath.workdps(30):
        e, pi = mpmath.e, mpmath.pi
        root_e = mpmath.sqrt(e)
        tail_1 = mpmath.erfc(1 / mpmath.sqrt(2))
        tail_2 = mpmath.erfc(mpmath.sqrt(2))
        alpha = -mpmath.sqrt(2 / pi) / (root_e * tail_1 - 1)
        denominator = 2 * e**2 * tail_2 + pi * e * tail_1**2 + pi + 2
        denominator -= 2 * (2 + pi) * root_e * tail_1
        lam = (1 - root_e * tail_1) * mpmath.sqrt(2 * pi) / mpmath.sqrt(denominator)
        assert float(alpha) == selu.ALPHA
        assert float(lam) == selu.LAMBDA
        assert float(-lam * alpha) == selu.FLOOR


@pytest.mark.parametrize(
    "alpha, lam", [(selu.ALPHA, selu.LAMBDA), (1.0, 1.0), (2.5, 0.7), (0.3, 1.4)]
)
def test_g_has_twelve_digits_over_its_whole_domain(alpha, lam):
    points = domain(600, 1)
    means, variances = selu.map_moments(*points, alpha, lam)
    assert np.isfinite(means).all()
    assert (variances > 0).all()
    for point, mean, variance in zip(points.T.tolist(), means, variances, strict=True):
        true_mean, true_variance = exact(*point, alpha, lam)
        variance_error = abs(float(true_variance - mpmath.mpf(float(variance))))
        assert variance_error <= 1e-12 * float(true_variance), point
        mean_error = abs(float(true_mean - mpmath.mpf(float(mean))))
        assert mean_error <= 1e-12 * max(abs(float(true_mean)), math.sqrt(true_variance)), point


@pytest.mark.parametrize(
    "mu, nu",
    [
        (1e200, 1.0),
        (-1e200, 1.0),
        (1e-300, 1e-300),
        (0.0, 1e300),
        (5.0, 1e-305),
        (-700.0, 1.0),
        (-1e3, 1e6),
        (1e8, 1e-8),
        (-1e8, 1e16),
    ],
)
def test_g_is_finite_over_the_whole_float_range(mu, nu):
    with np.errstate(all="raise", under="ignore"):
        mean, variance = selu.map_moments(mu, nu, 1.0, 1.0)
        assert np.isfinite(mean)
        assert np.isfinite(variance)
        assert variance >= 0
        assert np.isfinite(selu.jacobian(mu, nu, 1.0, 1.0)).all()


def test_g_of_extreme_means_is_linear_above_and_the_floor_below():
    with np.errstate(all="raise", under="ignore"):
        mean_above, _ = selu.map_moments(1e200, 1.0, 1.0, 1.0)
        mean_below, variance_below = selu.map_moments(-1e200, 1.0, 1.0, 1.0)
    assert mean_above == pytest.approx(selu.LAMBDA * 1e200, rel=1e-15)
    assert mean_below == pytest.approx(selu.FLOOR, rel=1e-15)
    assert variance_below == 0.0


def test_weights_of_zero_make_a_point():
    mean, variance = selu.map_moments(2.0, 3.0, [0.5, -0.5], 0.0)
    np.testing.assert_allclose(mean, selu.selu([1.0, -1.0]), rtol=1e-15)
    assert (variance == 0).all()
    mean_by_mu = selu.jacobian(2.0, 3.0, [0.5, -0.5], 0.0)[:, 0, 0]
    slope = selu.selu_slope([1.0, -1.0])
    np.testing.assert_allclose(mean_by_mu, np.array([0.5, -0.5]) * slope, rtol=1e-14)


def test_the_mean_of_g_agrees_with_quadrature():
    mu, nu, omega, tau = domain(300, 2)[:, :300]
    mean, _ = selu.map_moments(mu, nu, omega, tau)
    by_quadrature = quadrature.expectation(activation("selu"), selu.selu, mu * omega, nu * tau)
    np.testing.assert_allclose(mean, by_quadrature, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "point", [(0.3, 1.7, -0.8, 1.2), (-2.0, 0.05, 0.4, 0.9), (0.0, 40.0, 0.0, 2.0)]
)
def test_g_agrees_with_monte_carlo(point):
    mu, nu, omega, tau = point
    z = np.random.default_rng(0).standard_normal(1_000_000)
    sample = selu.selu(mu * omega + math.sqrt(nu * tau) * z)
    mean, variance = selu.map_moments(*point)
    assert abs(sample.mean() - mean) < 5 * sample.std() / 1000
    squares = (sample - sample.mean()) ** 2
    assert abs(sample.var() - variance) < 5 * squares.std() / 1000


def torch_g(mu, nu, omega, tau):
    """The printed formula, for automatic differentiation where it keeps its digits."""
    m, v = mu * omega, nu * tau
    s, root_2, alpha, lam = torch.sqrt(v), math.sqrt(2), selu.ALPHA, selu.LAMBDA
    e0 = torch.erfc(m / (root_2 * s))
    e1 = torch.exp(m + v / 2) * torch.erfc((m + v) / (root_2 * s))
    e2 = torch.exp(2 * (m + v)) * torch.erfc((m + 2 * v) / (root_2 * s))
    g = math.sqrt(2 / math.pi) * s * torch.exp(-m * m / (2 * v))
    mean = lam / 2 * (m * (2 - e0) + alpha * (e1 - e0) + g)
    negative_part = alpha**2 * (e2 - 2 * e1 + e0)
    second_moment = lam**2 / 2 * ((m * m + v) * (2 - e0) + negative_part + m * g)
    return mean, second_moment - mean**2


def test_the_jacobian_agrees_with_automatic_differentiation():
    random = np.random.default_rng(3)
    mu = random.uniform(-2, 2, 200)
    nu = random.uniform(0.3, 4, 200)
    omega = random.uniform(-2, 2, 200)
    tau = random.uniform(0.3, 2, 200)
    matrices = selu.jacobian(mu, nu, omega, tau)
    tensors = [torch.tensor(values, requires_grad=True) for values in (mu, nu, omega, tau)]
    for row, output in enumerate(torch_g(*tensors)):
        by_mu, by_nu = torch.autograd.grad(output.sum(), tensors[:2], retain_graph=True)
        np.testing.assert_allclose(matrices[:, row, 0], by_mu.numpy(), rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(matrices[:, row, 1], by_nu.numpy(), rtol=1e-10, atol=1e-11)


def exact_derivative(point, argument):
    """Derivatives of the exact (mean, variance) by mu (argument 0) or nu (argument 1)."""
    with mpmath.workdps(60):
        scale = mpmath.mpf(point[1]) if argument == 1 else mpmath.mpf(1)
        step = mpmath.mpf(10) ** -20 * scale
        above = [mpmath.mpf(value) for value in point]
        below = [mpmath.mpf(value) for value in point]
        above[argument] += step
        below[argument] -= step
        pairs = zip(exact(*above), exact(*below), strict=True)
        return [(high - low) / (2 * step) for high, low in pairs]


def test_the_jacobian_has_twelve_digits_over_the_whole_domain():
    for point in domain(60, 4).T.tolist():
        matrix = selu.jacobian(*point)
        for column in (0, 1):
            for row, derivative in enumerate(exact_derivative(point, column)):
                error = abs(float(mpmath.mpf(float(matrix[row, column])) - derivative))
                assert error <= 1e-12 * max(1.0, abs(float(derivative))), point


def test_the_spectral_norm_is_the_largest_singular_value():
    matrices = np.random.default_rng(5).standard_normal((50, 2, 2))
    np.testing.assert_allclose(
        selu.spectral_norm(matrices), np.linalg.norm(matrices, 2, axis=(1, 2)), rtol=1e-14
    )


def test_the_pooled_map_is_the_average_of_g_over_the_sums_of_weights():
    """Over units omega ~ N(0, sigma_w2) and tau -> sigma_w2; second moments average, not variances.

    Pooled over units, z ~ N(0, sigma_w2 (nu + mu^2)).
    """
    mu, nu, sigma_w2 = 0.7, 1.3, 1.2
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    mean, variance = selu.map_moments(mu, nu, math.sqrt(sigma_w2) * nodes, sigma_w2)
    pooled_mean, pooled_variance = quadrature.moments(
        activation("selu"), 0.0, sigma_w2 * (nu + mu**2)
    )
    assert weights @ mean == pytest.approx(pooled_mean, abs=1e-12)
    assert weights @ (variance + mean**2) == pytest.approx(
        pooled_variance + pooled_mean**2, abs=1e-12
    )


def test_the_slope_of_the_length_map_is_the_jacobians_last_entry():
    length_gain = mean_field.length_gain(activation("selu"), 1.0, 1.0)
    assert length_gain == pytest.approx(selu.jacobian(0.0, 1.0, 0.0, 1.0)[1, 1], abs=1e-14)


def test_selu_and_its_slope_equal_pytorchs():
    x = np.array([-1e4, -100.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 100.0, 1e4])
    leaf = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.selu(leaf)
    value.sum().backward()
    np.testing.assert_allclose(selu.selu(x), value.detach().numpy(), rtol=1e-15)
    np.testing.assert_allclose(selu.selu_slope(x), leaf.grad.numpy(), rtol=1e-15)


def grid(box, count):
    """Points mu, nu, omega, tau of a box on an even grid, each (count^4,)."""
    axes = [np.linspace(low, high, count) for low, high in (box.mu, box.nu, box.omega, box.tau)]
    return [values.ravel() for values in np.meshgrid(*axes)]


def test_theorem_1_maps_its_box_onto_the_published_image():
    points = grid(selu.THEOREM_1_BOX, 9)
    mean, variance = selu.map_moments(*points)
    assert [mean.min(), mean.max()] == pytest.approx(theorems.THEOREM_1_IMAGE_MEAN, abs=1e-7)
    assert [variance.min(), variance.max()] == pytest.approx(
        theorems.THEOREM_1_IMAGE_VARIANCE, abs=1e-5
    )


def test_theorem_1_contracts_in_its_box():
    """The largest norm is the one in the authors' notebook."""
    norms = selu.spectral_norm(selu.jacobian(*grid(selu.THEOREM_1_BOX, 9)))
    assert norms.max() == pytest.approx(0.897608358409, abs=1e-11)


@pytest.mark.parametrize(
    "omega, tau", [(-0.1, 0.95), (-0.1, 1.1), (0.1, 0.95), (0.1, 1.1), (0.0, 1.0)]
)
def test_theorem_1_bounds_the_fixed_point_of_weights_in_its_box(omega, tau):
    points = selu.fixed_points(omega, tau)
    (inside,) = [point for point in points if 0.8 <= point.variance <= 1.5]
    assert inside.stable
    lowest, highest = theorems.THEOREM_1_FIXED_POINT_MEAN
    assert lowest <= inside.mean <= highest
    lowest, highest = theorems.THEOREM_1_FIXED_POINT_VARIANCE
    assert lowest <= inside.variance <= highest


def test_theorem_2_decreases_the_variance_by_the_published_amount():
    mu, nu, omega, tau = grid(selu.THEOREM_2.boxes[0], 9)
    change = selu.map_moments(mu, nu, omega, tau)[1] - nu
    assert change.max() == pytest.approx(-0.119744, abs=5e-7)


@pytest.mark.parametrize("box, least", [(0, 0.0077360832), (1, 0.011029274)])
def test_theorem_3_increases_the_variance_by_the_published_amount(box, least):
    mu, nu, omega, tau = grid(selu.THEOREM_3.boxes[box], 9)
    change = selu.map_moments(mu, nu, omega, tau)[1] - nu
    assert change.min() == pytest.approx(least, abs=1e-9)


def variance_change(mu, nu, omega, tau):
    return selu.map_moments(mu, nu, omega, tau)[1] - nu


def test_theorem_3_ends_where_its_docstring_says():
    assert variance_change(0.1, 6.8e-5, 0.1, 0.8) < 0 < variance_change(0.1, 7.0e-5, 0.1, 0.8)
    assert variance_change(0.1, 1.5e-5, 0.1, 0.9) < 0 < variance_change(0.1, 1.7e-5, 0.1, 0.9)
    assert selu.THEOREM_3.boxes[0].nu[0] == 0.02


def test_theorem_2_does_not_extend_to_a_wider_range_of_omega():
    assert variance_change(-1.0, 3.0, -0.3, 1.25) == pytest.approx(0.042, abs=5e-4)


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
def test_the_theorem_that_covers_a_point_is_named(point, number):
    assert selu.theorem(*point) == number


def test_8_percent_of_lecun_normal_units_have_omega_in_the_theorems_domain():
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
