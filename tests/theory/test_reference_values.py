"""Every entry of harness/theory/reference_values.json, computed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.optimize import brentq

from harness import theory
from harness.theory import selu
from harness.theory.activations import parameters, quadrature
from harness.theory.activations.functions import activation, from_callable
from harness.theory.mean_field import maps as mean_field
from harness.theory.mean_field import phases
from harness.theory.mean_field.cards import card
from harness.theory.networks import dropout, identities, pooling

FILE = Path(theory.__file__).parent / "reference_values.json"
REFERENCE = json.loads(FILE.read_text())


def _map(mu, nu, omega, tau):
    mean, variance = selu.map_moments(mu, nu, omega, tau)
    return {"mean": mean, "variance": variance, "variance_change": variance - nu}


def _jacobian(mu, nu, omega, tau):
    matrix = selu.jacobian(mu, nu, omega, tau)
    return {
        "mean_by_mu": matrix[0, 0],
        "mean_by_nu": matrix[0, 1],
        "variance_by_mu": matrix[1, 0],
        "variance_by_nu": matrix[1, 1],
        "spectral_norm": selu.spectral_norm(matrix),
    }


def _fixed_point(omega, tau):
    return vars(selu.fixed_points(omega, tau)[-1])


def _parameters(**target):
    return vars(parameters.for_fixed_point(**target))


def _floor():
    return {"floor": selu.FLOOR}


def _alpha_dropout(rate):
    return vars(dropout.alpha_dropout(rate))


def _neutral_rate():
    return {"rate": dropout.neutral_rate()}


def _expectations(activation_, q):
    phi = activation(activation_)
    mean, variance = quadrature.moments(phi, 0.0, q)
    second_moment = variance + mean**2
    slope_square = quadrature.slope_square(phi, 0.0, q)
    return {
        "mean": mean,
        "second_moment": second_moment,
        "slope_mean": quadrature.slope_mean(phi, 0.0, q),
        "slope_square": slope_square,
        "gain": 1 / second_moment,
        "centred_gain": 1 / variance,
        "centred_slope": slope_square / variance,
        "length_gain": mean_field.length_gain(phi, q, 1.0),
        "kurtosis": card(phi).numbers.kurtosis,
    }


def _length_map(activation_, q, sigma_w2, sigma_b2):
    return {"q": mean_field.length_map(activation(activation_), q, sigma_w2, sigma_b2)}


def _correlation_map(activation_, c, q, **options):
    phi = activation(activation_, **options)
    second_moment = quadrature.second_moment(phi, 0.0, q)
    return {
        "c": mean_field.correlation_map(phi, c, q, 1.0),
        "slope": q / second_moment * quadrature.slope_kernel(phi, q, q, c),
    }


def _mean_field(activation_, sigma_w2, sigma_b2):
    field = mean_field.solve(activation(activation_), sigma_w2, sigma_b2)
    return vars(field) | {"gradient_scale": 1 / math.log(field.chi_1)}


def _hermite(activation_, q):
    phi = activation(activation_)
    coefficients = {}
    for k in range(7):
        degree_k = np.eye(k + 1)[k]

        def product(x, degree_k=degree_k):
            return phi.value(x) * hermite_e.hermeval(x / math.sqrt(q), degree_k)

        expected = quadrature.expectation(phi, product, 0.0, q)
        coefficients[f"a_{k}"] = expected / math.sqrt(math.factorial(k))
    return coefficients


def _limits(activation_):
    phi = activation(activation_)
    return {
        "vanish_sigma_w2": mean_field.vanish_limit(phi),
        "diverge_sigma_w2": mean_field.diverge_limit(phi),
    }


def _edge_of_chaos(activation_, **given):
    points = phases.edge_of_chaos(activation(activation_), **given)
    (stable,) = [point for point in points if point.stable]
    return vars(stable)


def _half_stable_point(activation_):
    phi = activation(activation_)

    def excess(q):
        length_gain = mean_field.length_gain(phi, q, 1.0)
        return float(length_gain - mean_field.gradient_gain(phi, q, 1.0))

    q_star = brentq(excess, 1.0, 10.0, xtol=1e-14)
    return vars(phases.edge_of_chaos(phi, q_star=q_star)[0])


def _dks_resnet(x, step):
    """The largest value of a local map over the subnetworks of the published test's network.

    DKS (Martens et al. 2021), tests/test_activation_transform.py: residual stages of 3, 4, 23 and 3
    blocks, each a branch of three layers beside a shortcut of weight 0.6; the squares of the two
    weights sum to 1.
    """
    branch = step(step(step(x)))
    shortcut_share = 0.6**2
    for blocks in (3, 4, 23, 3):
        for block in range(blocks):
            shortcut = x if block else step(x)
            x = shortcut_share * shortcut + (1 - shortcut_share) * step(step(step(x)))
    return max(step(x), branch)


def _tat_leaky_relu(target, network):
    assert network == "dks_resnet"

    def miss(slope):
        phi = activation("leaky_relu", negative_slope=slope)

        def step(c):
            return float(mean_field.correlation_map(phi, min(c, 1.0), 1.0, 1.0))

        return _dks_resnet(0.0, step) - target

    slope = brentq(miss, 0.01, 0.99, xtol=1e-13)
    phi = activation("leaky_relu", negative_slope=slope)
    output_scale = 1 / math.sqrt(quadrature.second_moment(phi, 0.0, 1.0))
    return {"negative_slope": slope, "output_scale": output_scale}


def _transformed(activation_, network, **transformation):
    assert network == "dks_resnet"
    phi = activation(activation_)
    input_scale = transformation["input_scale"]
    input_shift = transformation["input_shift"]
    output_scale = transformation["output_scale"]
    output_shift = transformation["output_shift"]

    def transformed(x):
        return output_scale * (phi.value(input_scale * x + input_shift) + output_shift)

    conditions = card(from_callable(transformed, f"transformed {activation_}")).conditions
    values = {condition.name: condition.value for condition in conditions}
    network_slope = _dks_resnet(1.0, lambda slope: slope * values["c_slope_1"])
    return values | {"network_c_slope_1": network_slope}


def _maximum(activation_, count):
    mean, second_moment, _ = pooling.maximum_moments(
        activation(activation_), np.array(1.0), np.array(0.0), count
    )
    return {"mean": mean, "variance": second_moment - mean**2}


def _truncated_normal(limit):
    assert limit == 2
    variance = identities.TRUNCATED_VARIANCE
    return {"variance": variance, "sd": math.sqrt(variance)}


FUNCTIONS = {
    "map": _map,
    "jacobian": _jacobian,
    "fixed_point": _fixed_point,
    "parameters": _parameters,
    "floor": _floor,
    "alpha_dropout": _alpha_dropout,
    "neutral_rate": _neutral_rate,
    "expectations": _expectations,
    "length_map": _length_map,
    "correlation_map": _correlation_map,
    "mean_field": _mean_field,
    "hermite": _hermite,
    "limits": _limits,
    "edge_of_chaos": _edge_of_chaos,
    "half_stable_point": _half_stable_point,
    "tat_leaky_relu": _tat_leaky_relu,
    "transformed": _transformed,
    "maximum": _maximum,
    "truncated_normal": _truncated_normal,
}
# Numbers of the source's list that state no value.
WITHOUT_A_VALUE = {8, 15, 18, 21, 40, 49, 55, 58}


def entry_id(entry):
    return f"{entry['number']} {entry['quantity']}"


def assert_value_is_computed(entry):
    arguments = dict(entry["arguments"])
    if "activation" in arguments:
        arguments["activation_"] = arguments.pop("activation")
    computed = FUNCTIONS[entry["function"]](**arguments)
    for name, value in entry["value"].items():
        error = abs(float(computed[name]) - value)
        assert error <= entry["tolerance"], (name, float(computed[name]), value)


@pytest.mark.parametrize("entry", REFERENCE["values"], ids=entry_id)
def test_every_reference_value_is_computed_within_its_tolerance(entry):
    assert_value_is_computed(entry)


def test_a_wrong_reference_value_would_be_noticed():
    entry = next(entry for entry in REFERENCE["values"] if entry["number"] == 30)
    wrong = {"chi_1": entry["value"]["chi_1"] + 1e-11}
    with pytest.raises(AssertionError):
        assert_value_is_computed(entry | {"value": wrong})


@pytest.mark.parametrize("entry", REFERENCE["values"], ids=entry_id)
def test_every_reference_value_has_a_source_and_a_tolerance(entry):
    fields = {"number", "quantity", "function", "arguments", "value", "tolerance", "source", "mark"}
    assert fields <= set(entry) <= fields | {"note"}
    assert entry["tolerance"] > 0
    assert entry["value"]
    assert entry["source"]


def test_the_reference_file_describes_every_function_it_uses():
    used = {entry["function"] for entry in REFERENCE["values"]}
    assert used == set(REFERENCE["functions"])
    assert used == set(FUNCTIONS)


def test_the_reference_file_lists_every_number_that_states_a_value():
    numbers = {entry["number"] for entry in REFERENCE["values"]}
    assert numbers == set(range(1, 64)) - WITHOUT_A_VALUE
