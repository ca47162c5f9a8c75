"""SELU's parameters for other fixed points."""

from __future__ import annotations

import math

import pytest

from harness.errors import RequestError
from harness.theory.activations import parameters
from harness.theory.selu import moment_map


@pytest.mark.parametrize(
    "mean, variance, omega, tau",
    [
        (0.0, 1.0, 0.0, 1.0),
        (0.0, 2.0, 0.0, 1.0),
        (-0.1, 2.0, 1.0, 1.0),
        (0.3, 1.2, -0.5, 1.4),
        (0.0, 1e-3, 0.0, 1.0),
        (0.2, 0.5, 2.0, 0.3),
        (-0.4, 3.0, 0.0, 2.0),
    ],
)
def test_parameters_give_the_fixed_point_asked_for(mean, variance, omega, tau):
    solution = parameters.for_fixed_point(mean, variance, omega, tau)
    assert solution.alpha > 0
    assert solution.lam > 0
    mapped = moment_map.map_moments(mean, variance, omega, tau, solution.alpha, solution.lam)
    assert mapped == (pytest.approx(mean, abs=1e-13), pytest.approx(variance, rel=1e-13))


def test_published_parameters_of_another_fixed_point_take_omega_1():
    """The authors' getSELUparameters.ipynb puts the mean of z at the target mean."""
    with_omega_1 = parameters.for_fixed_point(-0.1, 2.0, omega=1.0)
    with_omega_0 = parameters.for_fixed_point(-0.1, 2.0)
    assert with_omega_1.alpha == pytest.approx(1.9769021954, abs=1e-10)
    assert with_omega_0.alpha == pytest.approx(2.3269908, abs=1e-7)


@pytest.mark.parametrize(
    "target, message",
    [
        ((0.0, 0.0), "variance=0 must be above 0"),
        ((0.0, -1.0), "variance=-1"),
        ((math.nan, 1.0), "mean must be a finite"),
        ((0.0, 1.0, 0.0, 0.0), "tau=0"),
        ((-2.0, 1.0), "must lie between"),
        ((2.0, 0.1), "must lie between"),
        ((-5.0, 1.0, 20.0), "one side of 0"),
    ],
)
def test_a_fixed_point_without_parameters_is_refused(target, message):
    with pytest.raises(RequestError, match=message):
        parameters.for_fixed_point(*target)
