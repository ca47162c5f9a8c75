"""A user's own callable as an activation: its kinks and slope, and callables that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.functions import NAMES, activation, from_callable
from harness.theory.mean_field import cards
from harness.theory.mean_field import maps as mean_field

WITH_A_KINK_AT_0 = (
    "selu",
    "relu",
    "leaky_relu",
    "elu",
    "celu",
    "squared_relu",
    "selu_fixed_point",
    "leaky_selu",
    "scaled_selu",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_activation_given_as_a_callable_has_the_same_theory(name):
    built_in = activation(name)
    own = from_callable(built_in.value, "own")
    assert own.kinks == ((0.0,) if name in WITH_A_KINK_AT_0 else ())
    for quantity in (quadrature.slope_square, quadrature.slope_mean, quadrature.second_moment):
        np.testing.assert_allclose(
            quantity(own, 0.0, [0.01, 1.0, 40.0]),
            quantity(built_in, 0.0, [0.01, 1.0, 40.0]),
            rtol=1e-12,
        )
    np.testing.assert_allclose(
        mean_field.length_gain(own, [0.1, 1.0], 1.0),
        mean_field.length_gain(built_in, [0.1, 1.0], 1.0),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        quadrature.kernel(own, 1.0, 2.0, [0.0, 0.5, 0.95]),
        quadrature.kernel(built_in, 1.0, 2.0, [0.0, 0.5, 0.95]),
        rtol=1e-12,
        atol=1e-13,
    )
    np.testing.assert_allclose(
        quadrature.slope_kernel(own, 1.0, 2.0, [0.0, 0.5, 0.95]),
        quadrature.slope_kernel(built_in, 1.0, 2.0, [0.0, 0.5, 0.95]),
        rtol=1e-11,
        atol=1e-13,
    )
    own_card, built_in_card = cards.card(own), cards.card(built_in)
    assert own_card.vanish_sigma_w2 == pytest.approx(built_in_card.vanish_sigma_w2, rel=1e-11)
    assert own_card.diverge_sigma_w2 == pytest.approx(built_in_card.diverge_sigma_w2, rel=1e-11)


@pytest.mark.parametrize(
    "function, kinks",
    [
        (lambda x: np.clip(x, 0, 6), (0.0, 6.0)),
        (lambda x: x * np.clip(x + 3, 0, 6) / 6, (-3.0, 3.0)),
        (lambda x: np.maximum(x - 0.1, 0), (0.1,)),
        (lambda x: np.abs(x - math.pi) + np.abs(x + 1 / 3), (-1 / 3, math.pi)),
        (lambda x: np.where(x > 0.7, np.sin(x), np.sin(0.7) + 2 * (x - 0.7)), (0.7,)),
        (lambda x: x * np.abs(x), (0.0,)),  # a kink of the slope
        (np.sin, ()),
        (np.square, ()),
        (lambda x: np.log(1 + np.exp(x)), ()),
        (lambda x: x + np.sin(3 * x) ** 2, ()),
        (np.ones_like, ()),
    ],
)
def test_kinks_and_slope_are_found_from_values(function, kinks):
    own = from_callable(function, "own")
    assert own.kinks == pytest.approx(kinks, abs=1e-12)
    x = np.array([-39.0, -7.3, -2.0, -0.21, 0.05, 0.4, 2.2, 8.0, 90.0])
    step = 1e-5
    quotient = (function(x + step) - function(x - step)) / (2 * step)
    np.testing.assert_allclose(own.slope(x), quotient, atol=1e-6, rtol=1e-6)


def test_given_kinks_are_used():
    own = from_callable(lambda x: np.clip(x, 0, 6), "own", kinks=(6.0, 0.0))
    assert sorted(own.kinks) == [0.0, 6.0]
    expected = 0.5 * math.erf(3 / math.sqrt(2))
    assert quadrature.slope_square(own, 0.0, 4.0) == pytest.approx(expected, abs=1e-13)


def test_given_kinks_may_lie_outside_the_range_of_the_search():
    far = from_callable(lambda x: np.clip(x, -100, 100), "far", kinks=(-100.0, 100.0))
    expected = math.erf(1 / math.sqrt(2))
    assert quadrature.slope_square(far, 0.0, 1e4) == pytest.approx(expected, abs=1e-12)


def test_expectations_of_the_sine_equal_their_closed_forms():
    """E sin^2 = (1 - e^-2q) / 2, E sin(u1) sin(u2) = e^-q sinh(q c), and its slope by q c."""
    own = from_callable(np.sin, "sine")
    for q in (0.3, 4.0, 50.0):
        expected = (1 - math.exp(-2 * q)) / 2
        assert quadrature.second_moment(own, 0.0, q) == pytest.approx(expected, abs=1e-13)
    for c in (0.2, 0.9, 0.999):
        kernel = math.exp(-2) * math.sinh(2 * c)
        slope_kernel = math.exp(-2) * math.cosh(2 * c)
        assert quadrature.kernel(own, 2.0, 2.0, c) == pytest.approx(kernel, abs=1e-13)
        assert quadrature.slope_kernel(own, 2.0, 2.0, c) == pytest.approx(slope_kernel, abs=1e-12)


def test_a_function_that_works_in_place_does_no_harm():
    def relu(x):
        return np.maximum(x, 0.0, out=x)

    numbers = cards.card(from_callable(relu, "in place")).numbers
    assert numbers.second_moment == pytest.approx(0.5, abs=1e-14)


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda x: x.sum(), r"maps shape \(2, 3\) to \(\)"),
        (lambda x: x[..., :1], r"maps shape \(2, 3\) to \(2, 1\)"),
        (lambda x: [1, 2], "to list; expected the same shape"),
        (lambda x: x + "a", "raised UFuncTypeError"),
        (np.log, "is nan at x = 0|is -?inf at x = 0|is nan"),
        (lambda x: 1 / x, "is inf at x = 0|is -inf"),
        (lambda x: np.exp(x) / np.exp(x).sum(), "mixes entries or is random"),
        (
            lambda x: x + np.random.default_rng().standard_normal(x.shape),
            "mixes entries or is random",
        ),
        (lambda x: x + 0j, "returns complex128; expected real numbers"),
        (lambda x: np.tanh(x.astype(np.float32)), "float32 for float64"),
        (np.sign, "jumps at x = 0"),
        (lambda x: np.where(x > 0.3, 1.0, 0.0), r"jumps at x = 0\.3"),
        (lambda x: np.sqrt(np.abs(x)), "too rough near x = "),
        (lambda x: np.sin(50 * x), "varies too fast"),
    ],
)
def test_a_callable_that_theory_cannot_use_is_refused(function, words):
    with pytest.raises(RequestError, match=words):
        from_callable(function, "own")


def test_an_activation_without_a_second_moment_is_refused_by_its_card():
    words = "grows too fast: its second moment under a Gaussian of variance 1"
    with pytest.raises(RequestError, match=words):
        cards.card(from_callable(lambda x: np.exp(x * x), "fast"))


def test_the_exponential_has_moments_of_all_orders_and_diverges():
    """Its length map e^(2q) lies above the diagonal."""
    card = cards.card(from_callable(np.exp, "exponential"))
    assert card.field.status == "diverges"
    assert card.numbers.second_moment == pytest.approx(math.exp(2), rel=1e-13)
    assert card.diverge_sigma_w2 == 0


def test_short_vectors_vanish_under_the_square_for_all_weights():
    assert cards.card(from_callable(np.square, "square")).vanish_sigma_w2 == math.inf
