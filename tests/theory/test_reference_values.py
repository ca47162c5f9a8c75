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
from harness.theory.activations import parameters, quadrature
from harness.theory.activations.functions import activation, from_callable
from harness.theory.mean_field import maps as mean_field
from harness.theory.mean_field import phases
from harness.theory.mean_field.cards import card
from harness.theory.networks import dropout, identities, pooling
from harness.theory.selu import moment_map as selu

FILE = Path(theory.__file__).parent / "reference_values.json"
REFERENCE = json.loads(FILE.read_text())


def _map(mu, nu, omega, tau):
    mean, variance = selu.map_moments(mu, nu, omega, tau)
    return {"mean": mean, "variance": variance, "variance_change": variance - nu}


def _jacobian(mu, nu, omega, tau):
    matrix = selu.jacobian(mu, nu, omega, tau)
    names = ("mean_by_mu", "mean_by_nu", "variance_by_mu", "variance_by_nu")
    return dict(zip(names, matrix.ravel())) | {"spectral_norm": selu.spectral_norm(matrix)}


def _expectations(activation_, q):
    phi = activation(activation_)
    mean, variance = quadrature.moments(phi, 0.0, q)
    second, slopes = variance + mean**2, quadrature.slope_square(phi, 0.0, q)
    return {
        "mean": mean,
        "second_moment": second,
        "slope_mean": quadrature.slope_mean(phi, 0.0, q),
        "slope_square": slopes,
        "gain": 1 / second,
        "centred_gain": 1 / variance,
        "centred_slope": slopes / variance,
        "length_gain": mean_field.length_gain(phi, q, 1.0),
        "kurtosis": card(phi).numbers.kurtosis,
    }


def _mean_field(activation_, sigma_w2, sigma_b2):
    field = mean_field.solve(activation(activation_), sigma_w2, sigma_b2)
    return vars(field) | {"gradient_scale": 1 / math.log(field.chi_1)}


def _correlation_map(activation_, c, q, **options):
    phi = activation(activation_, **options)
    second = quadrature.second_moment(phi, 0.0, q)
    return {
        "c": mean_field.correlation_map(phi, c, q, 1.0),
        "slope": q / second * quadrature.slope_kernel(phi, q, q, c),
    }


def _hermite(activation_, q):
    phi = activation(activation_)

    def coefficient(k):
        return quadrature.expectation(
            phi,
            lambda x: phi.value(x) * hermite_e.hermeval(x / math.sqrt(q), np.eye(k + 1)[k]),
            0.0,
            q,
        ) / math.sqrt(math.factorial(k))

    return {f"a_{k}": coefficient(k) for k in range(7)}


def _limits(activation_):
    phi = activation(activation_)
    return {
        "vanish_sigma_w2": mean_field.vanish_limit(phi),
        "diverge_sigma_w2": mean_field.diverge_limit(phi),
    }


def _edge_of_chaos(activation_, **given):
    (point,) = (
        point for point in phases.edge_of_chaos(activation(activation_), **given) if point.stable
    )
    return vars(point)


def _half_stable_point(activation_):
    phi = activation(activation_)

    def excess(q):
        return float(mean_field.length_gain(phi, q, 1.0) - mean_field.gradient_gain(phi, q, 1.0))

    return vars(phases.edge_of_chaos(phi, q_star=brentq(excess, 1.0, 10.0, xtol=1e-14))[0])


def _dks_resnet(x, step):
    """The network of the published test: what its subnetworks reach at most."""
    branch, share = step(step(step(x))), 0.6**2
    for blocks in (3, 4, 23, 3):
        for block in range(blocks):
            x = share * (x if block else step(x)) + (1 - share) * step(step(step(x)))
    return max(step(x), branch)


def _tat_leaky_relu(target, network):
    assert network == "dks_resnet"

    def miss(slope):
        phi = activation("leaky_relu", negative_slope=slope)
        return (
            _dks_resnet(
                0.0, lambda c: float(mean_field.correlation_map(phi, min(c, 1.0), 1.0, 1.0))
            )
            - target
        )

    slope = brentq(miss, 0.01, 0.99, xtol=1e-13)
    return {
        "negative_slope": slope,
        "output_scale": 1
        / math.sqrt(
            quadrature.second_moment(activation("leaky_relu", negative_slope=slope), 0.0, 1.0)
        ),
    }


def _transformed(activation_, network, input_scale, input_shift, output_scale, output_shift):
    phi = activation(activation_)
    found = card(
        from_callable(
            lambda x: output_scale * (phi.value(input_scale * x + input_shift) + output_shift),
            f"transformed {activation_}",
        )
    )
    values = {condition.name: condition.value for condition in found.conditions}
    assert network == "dks_resnet"
    return values | {
        "network_c_slope_1": _dks_resnet(1.0, lambda slope: slope * values["c_slope_1"])
    }


def _maximum(activation_, count):
    mean, second, _ = pooling.maximum_moments(
        activation(activation_), np.array(1.0), np.array(0.0), count
    )
    return {"mean": mean, "variance": second - mean**2}


FUNCTIONS = {
    "map": _map,
    "jacobian": _jacobian,
    "fixed_point": lambda omega, tau: vars(selu.fixed_points(omega, tau)[-1]),
    "parameters": lambda **target: vars(parameters.for_fixed_point(**target)),
    "floor": lambda: {"floor": selu.FLOOR},
    "alpha_dropout": lambda rate: vars(dropout.alpha_dropout(rate)),
    "neutral_rate": lambda: {"rate": dropout.neutral_rate()},
    "expectations": _expectations,
    "length_map": lambda activation_, q, sigma_w2, sigma_b2: {
        "q": mean_field.length_map(activation(activation_), q, sigma_w2, sigma_b2)
    },
    "correlation_map": _correlation_map,
    "mean_field": _mean_field,
    "hermite": _hermite,
    "limits": _limits,
    "edge_of_chaos": _edge_of_chaos,
    "half_stable_point": _half_stable_point,
    "tat_leaky_relu": _tat_leaky_relu,
    "transformed": _transformed,
    "maximum": _maximum,
    "truncated_normal": lambda limit: {
        "variance": identities.TRUNCATED_VARIANCE,
        "sd": math.sqrt(identities.TRUNCATED_VARIANCE),
    },
}


@pytest.mark.parametrize(
    "entry", REFERENCE["values"], ids=lambda entry: f"{entry['number']} {entry['quantity']}"
)
def test_every_value(entry):
    arguments = {
        "activation_" if name == "activation" else name: value
        for name, value in entry["arguments"].items()
    }
    computed = FUNCTIONS[entry["function"]](**arguments)
    for name, value in entry["value"].items():
        assert abs(float(computed[name]) - value) <= entry["tolerance"], (
            name,
            float(computed[name]),
            value,
        )


def test_the_file_explains_itself():
    fields = {"number", "quantity", "function", "arguments", "value", "tolerance", "source", "mark"}
    for entry in REFERENCE["values"]:
        assert fields <= set(entry) <= fields | {"note"}
        assert entry["function"] in REFERENCE["functions"]
        assert entry["tolerance"] > 0
        assert entry["value"]
    assert (
        set(FUNCTIONS)
        == set(REFERENCE["functions"])
        == {entry["function"] for entry in REFERENCE["values"]}
    )
    never_given = {8, 15, 18, 21, 40, 49, 55, 58}
    assert {entry["number"] for entry in REFERENCE["values"]} == set(range(1, 64)) - never_given


def test_a_wrong_value_would_be_noticed():
    entry = next(entry for entry in REFERENCE["values"] if entry["number"] == 30)
    with pytest.raises(AssertionError):
        test_every_value(entry | {"value": {"chi_1": entry["value"]["chi_1"] + 1e-11}})
