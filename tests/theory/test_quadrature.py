"""Gaussian expectations: closed forms, quadrature, mpmath and Monte Carlo agree."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import gaussian_panels, quadrature
from harness.theory.activations.closed_forms import ClosedForms
from harness.theory.activations.functions import NAMES, ActivationFunction, activation

MEAN = np.array([0.0, 0.0, 0.0, 0.3, -2.0, 5.0, -0.7])
VARIANCE = np.array([1.0, 100.0, 1e-4, 1e6, 0.5, 1e-8, 3.0])
CORRELATION = np.array([-1.0, -0.5, 0.0, 0.25, 0.9, 0.999, 1.0])
SELU_CHI_1 = 1.07157499245579926


def without_closed_forms(phi: ActivationFunction) -> ActivationFunction:
    return replace(phi, closed=ClosedForms())


WITH_CLOSED_FORMS = (
    "selu",
    "elu",
    "relu",
    "leaky_relu",
    "identity",
    "erf",
    "gelu",
    "leaky_selu",
    "scaled_selu",
)


@pytest.mark.parametrize("name", WITH_CLOSED_FORMS)
def test_closed_forms_agree_with_quadrature(name):
    phi = activation(name)
    assert phi.closed != ClosedForms()
    plain = without_closed_forms(phi)
    expected_mean, expected_variance = quadrature.moments(plain, MEAN, VARIANCE)
    mean, variance = quadrature.moments(phi, MEAN, VARIANCE)
    np.testing.assert_allclose(mean, expected_mean, rtol=2e-11, atol=1e-15)
    np.testing.assert_allclose(variance, expected_variance, rtol=2e-11, atol=1e-15)
    for function in (quadrature.slope_mean, quadrature.slope_square):
        np.testing.assert_allclose(
            function(phi, MEAN, VARIANCE), function(plain, MEAN, VARIANCE), rtol=1e-13, atol=1e-15
        )
    for q2 in (1.0, 30.0):
        np.testing.assert_allclose(
            quadrature.kernel(phi, 2.0, q2, CORRELATION),
            quadrature.kernel(plain, 2.0, q2, CORRELATION),
            rtol=1e-13,
            atol=1e-14,
        )
        np.testing.assert_allclose(
            quadrature.slope_kernel(phi, 2.0, q2, CORRELATION[1:-1]),
            quadrature.slope_kernel(plain, 2.0, q2, CORRELATION[1:-1]),
            rtol=1e-13,
            atol=1e-14,
        )


def all_expectations(phi):
    return [
        *quadrature.moments(phi, MEAN, VARIANCE),
        quadrature.slope_square(phi, MEAN, VARIANCE),
        quadrature.slope_mean(phi, MEAN, VARIANCE),
        quadrature.kernel(phi, 1.0, 30.0, CORRELATION),
        quadrature.slope_kernel(phi, 1.0, 300.0, CORRELATION),
        quadrature.kernel_gap(phi, 5.0, CORRELATION),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_nodes_change_nothing(name, monkeypatch):
    phi = without_closed_forms(activation(name))
    coarse = all_expectations(phi)
    monkeypatch.setattr(gaussian_panels, "NODES", 40)
    fine = all_expectations(phi)
    for coarse_values, fine_values in zip(coarse, fine, strict=True):
        np.testing.assert_allclose(coarse_values, fine_values, rtol=1e-11, atol=3e-14)


def test_the_number_of_nodes_changes_the_last_digits(monkeypatch):
    """Otherwise the comparison with twice the nodes could not fail."""
    phi = without_closed_forms(activation("mish"))
    accurate = quadrature.slope_square(phi, 0.0, 3.0)
    monkeypatch.setattr(gaussian_panels, "NODES", 4)
    assert quadrature.slope_square(phi, 0.0, 3.0) != pytest.approx(accurate, rel=1e-11)


MPMATH_FUNCTIONS = {
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "erf": mpmath.erf,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
}


@pytest.mark.parametrize("name", sorted(MPMATH_FUNCTIONS))
@pytest.mark.parametrize("mean, variance", [(0.0, 1.0), (-1.5, 0.3), (0.4, 60.0)])
def test_moments_agree_with_mpmath(name, mean, variance):
    exact = MPMATH_FUNCTIONS[name]
    with mpmath.workdps(25):
        m, s = mpmath.mpf(mean), mpmath.sqrt(mpmath.mpf(variance))
        around_the_mean = {m + s * k for k in range(-12, 13, 3)}
        around_zero = {mpmath.mpf(k) for k in (-6, -3, 0, 3, 6) if abs(k - m) < 12 * s}
        edges = sorted(around_the_mean | around_zero)
        first = mpmath.quad(lambda x: exact(x) * mpmath.npdf(x, m, s), edges)
        second = mpmath.quad(lambda x: exact(x) ** 2 * mpmath.npdf(x, m, s), edges)
        exact_variance = second - first**2
    computed_mean, computed_variance = quadrature.moments(activation(name), mean, variance)
    assert abs(float(computed_mean - first)) < 1e-13 * max(1, abs(float(first)))
    assert abs(float(computed_variance / exact_variance - 1)) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_is_the_derivative_of_the_value(name):
    phi = activation(name)
    x = np.array([-30.0, -6.0, -2.0, -0.7, -1e-3, 1e-3, 0.4, 1.3, 5.0, 25.0])
    step = 1e-5 * np.maximum(np.abs(x), 0.1)
    quotient = (phi.value(x + step) - phi.value(x - step)) / (2 * step)
    np.testing.assert_allclose(quotient, phi.slope(x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_slope_are_finite_far_from_0(name):
    phi = activation(name)
    assert np.isfinite(phi.value(np.array([-1e8, 1e8]))).all()
    assert np.isfinite(phi.slope(np.array([-1e8, 1e8]))).all()


@pytest.mark.parametrize("name", ["erf", "gelu"])
@pytest.mark.parametrize("q", [1e-8, 1e2, 1e4, 1e6, 1e8])
def test_kernels_of_smooth_activations_are_exact_for_wide_inputs(name, q):
    """A wide z sees a smooth activation as one with a kink."""
    phi, c = activation(name), np.array([0.3, 0.9, 0.99, 0.9999])
    plain = without_closed_forms(phi)
    np.testing.assert_allclose(
        quadrature.kernel(plain, q, q, c), quadrature.kernel(phi, q, q, c), rtol=1e-13
    )
    np.testing.assert_allclose(
        quadrature.slope_kernel(plain, q, q, c),
        quadrature.slope_kernel(phi, q, q, c),
        rtol=2e-14 if q < 1e7 else 1e-13,
    )


@pytest.mark.parametrize("nodes, error", [(32, -3.1e-2), (128, -7.9e-3), (25, 0.33)])
def test_gauss_hermite_errs_on_a_kink_as_the_docstring_says(nodes, error):
    phi = activation("selu")
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    chi_1 = weights @ phi.slope(points) ** 2 / weights.sum()
    assert chi_1 - SELU_CHI_1 == pytest.approx(error, rel=0.05)


def test_quadrature_is_exact_on_a_kink():
    phi = without_closed_forms(activation("selu"))
    assert quadrature.slope_square(phi, 0.0, 1.0) == pytest.approx(SELU_CHI_1, abs=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_expectations_agree_with_monte_carlo(name):
    u1, noise = np.random.default_rng(0).standard_normal((2, 400_000))
    u2 = 0.6 * u1 + 0.8 * noise
    phi = activation(name)
    z = u1 * 1.5 + 0.2
    pairs = (
        (phi.value(z), quadrature.moments(phi, 0.2, 2.25)[0]),
        (phi.slope(z) ** 2, quadrature.slope_square(phi, 0.2, 2.25)),
        (phi.value(u1) * phi.value(2 * u2), quadrature.kernel(phi, 1.0, 4.0, 0.6)),
        (phi.slope(u1) * phi.slope(2 * u2), quadrature.slope_kernel(phi, 1.0, 4.0, 0.6)),
    )
    for sample, exact in pairs:
        error = abs(sample.mean() - exact)
        assert error <= 5 * sample.std() / np.sqrt(sample.size) + 1e-12


def test_shapes_broadcast():
    phi = activation("tanh")
    mean, variance = quadrature.moments(phi, np.zeros((3, 1)) + 0.5, np.array([0.0, 1.0]))
    assert mean.shape == (3, 2)
    assert variance.shape == (3, 2)
    assert mean[0, 0] == np.tanh(0.5)
    assert variance[0, 0] == 0
    assert quadrature.moments(phi, np.empty(0), 1.0)[0].shape == (0,)


def test_many_points_have_the_moments_of_each_alone():
    phi = activation("tanh")
    points = np.linspace(-3, 3, 20_001)
    mean, variance = quadrature.moments(phi, points, 1.0)
    assert mean[10_000] == pytest.approx(0, abs=1e-15)
    assert variance[123] == quadrature.moments(phi, points[123], 1.0)[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("x", [-2.0, 0.0, 1.5])
def test_a_variance_of_0_is_a_point(name, x):
    phi = activation(name)
    value, slope = float(phi.value(np.array(x))), float(phi.slope(np.array(x)))
    mean, variance = quadrature.moments(phi, x, 0.0)
    assert mean == pytest.approx(value, abs=1e-15)
    assert variance == 0.0
    assert quadrature.slope_mean(phi, x, 0.0) == pytest.approx(slope)
    assert quadrature.slope_square(phi, x, 0.0) == pytest.approx(slope**2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: quadrature.moments(activation("gelu"), 0.0, -1.0), "variance -1 is below 0"),
        (lambda: quadrature.moments(activation("gelu"), np.nan, 1.0), "finite"),
        (lambda: quadrature.kernel(activation("gelu"), 1.0, 1.0, 1.5), r"\[-1, 1\]"),
        (lambda: quadrature.kernel(activation("gelu"), -1.0, 1.0, 0.5), "q1"),
        (lambda: activation("sellu"), "known: celu, "),
        (lambda: activation("elu", beta=1.0), "it has alpha"),
        (lambda: activation("leaky_relu", negative_slope=np.inf), "finite"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(RequestError, match=words):
        call()


def test_an_activation_that_grows_too_fast_has_no_second_moment():
    fast = ActivationFunction("fast", lambda x: np.exp(x * x), lambda x: 2 * x * np.exp(x * x))
    with pytest.raises(RequestError, match="grows too fast"):
        quadrature.moments(fast, 0.0, 1.0)
    assert np.isfinite(quadrature.moments(fast, 0.0, 0.1)[1])
