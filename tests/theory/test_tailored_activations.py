"""Activations whose constants are solved for have the numbers that their papers ask for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.configuration.composing import compose
from harness.configuration.trial import trials
from harness.errors import RequestError
from harness.networks.activations import build_activation
from harness.sweeps.cells import check
from harness.theory.activations import derived, tailoring
from harness.theory.activations.functions import activation
from harness.theory.selu import selu_function

# Gauss-Hermite nodes of a quadrature that is independent of the harness's.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(180)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
SMOOTH = ("tanh", "softplus", "gelu", "silu", "mish")


def mean(values):
    return float(WEIGHTS @ values)


def length(phi):
    return mean(phi.value(NODES) ** 2)


def length_slope(phi):
    return mean(NODES * phi.value(NODES) * phi.slope(NODES))


def cosine_slope(phi):
    return mean(phi.slope(NODES) ** 2)


def curvature(phi, step=1e-4):
    second = (phi.slope(NODES + step) - phi.slope(NODES - step)) / (2 * step)
    return mean(second**2)


@pytest.mark.parametrize("base", SMOOTH)
def test_gaussian_poincare_normalized_activations_have_two_mean_squares_of_one(base):
    phi = activation("gpn", base=base)
    assert length(phi) == pytest.approx(1, abs=1e-9)
    assert cosine_slope(phi) == pytest.approx(1, abs=1e-9)


def test_the_gaussian_poincare_form_of_relu_is_known():
    constants = derived.gpn_tailoring("relu")
    assert constants.output_scale == pytest.approx(math.sqrt(2))
    assert constants.output_shift == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("base", SMOOTH)
@pytest.mark.parametrize("layers", [2, 30])
def test_deep_kernel_shaping_sets_the_maps_of_a_layer(base, layers):
    phi = activation("dks", base=base, slope=1.5, layers=layers)
    assert length(phi) == pytest.approx(1, abs=1e-7)
    assert length_slope(phi) == pytest.approx(1, abs=1e-7)
    assert mean(phi.value(NODES)) == pytest.approx(0, abs=1e-7)
    assert cosine_slope(phi) ** layers == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize("base", SMOOTH)
@pytest.mark.parametrize("layers", [1, 30])
def test_tailored_smooth_activations_have_slope_one_and_the_curvature(base, layers):
    phi = activation("tat", base=base, curvature=0.3, layers=layers)
    assert length(phi) == pytest.approx(1, abs=1e-7)
    assert length_slope(phi) == pytest.approx(1, abs=1e-7)
    assert cosine_slope(phi) == pytest.approx(1, abs=1e-7)
    assert layers * curvature(phi) == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize("layers, cosine", [(1, 0.2), (8, 0.8), (50, 0.9)])
def test_tailored_rectifiers_take_cosine_zero_to_the_target(layers, cosine):
    phi = activation("tat", base="leaky_relu", cosine=cosine, layers=layers)
    slope = tailoring.tailored_rectifier(cosine, layers)
    assert phi.value(np.array([-2.0, 2.0])) == pytest.approx(
        np.array([-2.0 * slope, 2.0]) * math.sqrt(2 / (1 + slope**2))
    )
    c = 0.0
    for _ in range(layers):
        c = tailoring.leaky_relu_cosine(c, slope)
    assert c == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize("c", [-0.7, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_cosine_map_of_leaky_relu_is_that_of_a_simulation(c, slope):
    generator = np.random.default_rng(0)
    first, other = generator.standard_normal((2, 400_000))
    second = c * first + math.sqrt(1 - c * c) * other
    values = [np.where(x > 0, x, slope * x) for x in (first, second)]
    simulated = np.mean(values[0] * values[1]) / np.mean(values[0] ** 2)
    assert tailoring.leaky_relu_cosine(c, slope) == pytest.approx(simulated, abs=0.01)


@pytest.mark.parametrize("fixed_point", [(0.0, 1.0), (0.0, 2.0), (-0.1, 2.0), (0.1, 0.5)])
def test_selus_of_another_fixed_point_keep_it(fixed_point):
    phi = activation("selu_fixed_point", mean=fixed_point[0], variance=fixed_point[1])
    z = np.linspace(-12.0, 12.0, 2_000_001)
    density = np.exp(-0.5 * z * z)
    density /= density.sum()
    values = phi.value(math.sqrt(fixed_point[1]) * z)
    moments = density @ values, density @ values**2 - (density @ values) ** 2
    assert moments == pytest.approx(fixed_point, abs=1e-6)


def test_the_default_fixed_point_is_that_of_selu():
    x = np.linspace(-5.0, 5.0, 11)
    assert activation("selu_fixed_point").value(x) == pytest.approx(selu_function.selu(x))


def test_tailored_modules_have_no_parts():
    """So that a pack runs them as one function of all trials."""
    for name in ("selu_fixed_point", "leaky_selu", "scaled_selu", "gpn", "dks", "tat"):
        module = build_activation({"name": name})
        assert not [*module.parameters(), *module.buffers(), *module.children()]
        assert module(torch.zeros(2, 3)).shape == (2, 3)


def test_the_layers_in_a_row_are_the_depth_unless_they_are_given():
    def trial(*overrides):
        return trials(compose(["activation=dks", *overrides]))[0]

    assert trial("depth=12").spec["activation"]["layers"] == 12
    assert "activation.layers" not in trial("depth=12").axes
    assert trial("depth=12", "activation.layers=4").axes["activation.layers"] == 4
    assert trial("depth=12").axes["activation.base"] == "tanh"


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("selu_fixed_point activation.variance=-1", "variance=-1 must be above 0"),
        ("selu_fixed_point activation.mean=5", "no alpha > 0 has the fixed point"),
        ("gpn activation.base=rely", "activation.base=rely: expected one of celu, elu"),
        ("gpn activation.base=gpn", "activation.base=gpn: expected one of"),
        ("gpn activation.base=erf", "activation.base=erf: expected one of"),
        ("dks activation.slope=1.0", "activation.slope=1.0: expected a number above 1"),
        ("dks activation.base=relu", "activation.base=relu: no scales and shifts have"),
        ("dks activation.layers=0", "activation.layers=0: expected an integer of at least 1"),
        ("tat activation.cosine=1.0", "activation.cosine=1.0: expected a number between 0 and 1"),
        ("tat activation.base=leaky_relu depth=2", "2 layers of ReLU take two orthogonal inputs"),
        ("tat activation.base=selu", "its slope jumps"),
        ("tat activation.base=tanh activation.curvature=0.0", "expected a number above 0"),
        (
            "leaky_selu activation.epsilon=0.08",
            "epsilon=0.08: expected a number from 0.0001 to 0.07988",
        ),
        ("leaky_selu activation.epsilon=0.0", "epsilon=0: expected a number from"),
        (
            "scaled_selu activation.epsilon=1.5",
            "epsilon=1.5: expected a number from 0.0001 to 1 for",
        ),
        ("scaled_selu activation.epsilon=-0.1", "epsilon=-0.1: expected a number from"),
        ("elu activation.alpha=nan", "alpha=nan must be a finite number"),
        ("celu activation.alpha=0", "activation.alpha=0: expected a number above 0 for celu"),
        ("celu activation.alpha=-0.5", "alpha=-0.5: expected a number above 0 for celu"),
    ],
)
def test_constants_that_there_are_not_are_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        check(compose([f"activation={overrides.split()[0]}", *overrides.split()[1:]]))
