"""Edge of chaos and phase diagrams."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations.functions import NAMES, activation
from harness.theory.mean_field import maps, phases

# Every length of these is critical at one sigma_w2.
LINEAR = ("relu", "leaky_relu", "identity")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("q_star", [0.2, 1.0, 5.0])
def test_a_critical_point_is_critical(name, q_star):
    phi = activation(name)
    for point in phases.edge_of_chaos(phi, q_star=q_star):
        length = maps.length_map(phi, q_star, point.sigma_w2, point.sigma_b2)
        length_gain = maps.length_gain(phi, q_star, point.sigma_w2)
        gradient_gain = maps.gradient_gain(phi, q_star, point.sigma_w2)
        assert length == pytest.approx(q_star, rel=1e-13)
        assert gradient_gain == pytest.approx(1.0, abs=1e-13)
        assert point.stable == (length_gain < 1 - 1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LINEAR])
@pytest.mark.parametrize("q_star", [0.2, 1.0, 5.0])
def test_a_critical_point_is_found_from_either_variance(name, q_star):
    phi = activation(name)
    for point in phases.edge_of_chaos(phi, q_star=q_star):
        for given in ({"sigma_w2": point.sigma_w2}, {"sigma_b2": point.sigma_b2}):
            lengths = [other.q_star for other in phases.edge_of_chaos(phi, **given)]
            assert any(length == pytest.approx(q_star, rel=1e-7) for length in lengths), given


@pytest.mark.parametrize(
    "name, given",
    [("relu", {"sigma_b2": 0.1}), ("softplus", {"sigma_b2": 0.0}), ("softplus", {"q_star": 0.57})],
)
def test_some_activations_are_nowhere_critical(name, given):
    assert phases.edge_of_chaos(activation(name), **given) == ()


def test_one_point_stands_for_all_where_every_length_is_critical():
    (point,) = phases.edge_of_chaos(activation("relu"), sigma_b2=0.0)
    assert point.sigma_w2 == pytest.approx(2.0)
    assert point.q_star == 1.0
    assert not point.stable


@pytest.mark.parametrize("name", ["tanh", "selu", "gelu"])
def test_the_critical_line_without_bias_ends_where_lengths_vanish(name):
    (end,) = phases.edge_of_chaos(activation(name), sigma_b2=0.0)
    assert end.sigma_w2 == pytest.approx(maps.vanish_limit(activation(name)))
    assert end.q_star == 0.0


def test_a_critical_length_of_gelu_is_unstable():
    (point,) = phases.edge_of_chaos(activation("gelu"), sigma_b2=0.172)
    assert point.q_star == pytest.approx(3.532450, abs=1e-6)
    assert not point.stable


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "give one of"),
        ({"sigma_b2": 0.1, "q_star": 1.0}, "give one of"),
        ({"q_star": 0.0}, "q_star=0"),
        ({"sigma_w2": -1.0}, "sigma_w2=-1"),
        ({"sigma_b2": math.nan}, "sigma_b2=nan"),
    ],
)
def test_an_impossible_request_for_the_edge_of_chaos_is_refused(given, message):
    with pytest.raises(RequestError, match=message):
        phases.edge_of_chaos(activation("selu"), **given)


@pytest.mark.parametrize("name", ["selu", "tanh", "gelu", "relu"])
def test_a_phase_diagram_is_the_solution_at_every_point(name):
    phi = activation(name)
    diagram = phases.phase_diagram(phi, np.linspace(0.3, 2.6, 7), np.array([0.0, 0.05, 0.4]))
    growth = {"converges": 0, "preserved": 0, "vanishes": -1, "diverges": 1}
    assert diagram.q_star.shape == (3, 7)
    assert diagram.xi_c.shape == (3, 7)
    for row, column in np.ndindex(3, 7):
        field = maps.solve(phi, diagram.sigma_w2[column], diagram.sigma_b2[row])
        assert diagram.growth[row, column] == growth[field.status]
        for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c"):
            value = getattr(field, quantity)
            expected = math.nan if value is None else value
            assert getattr(diagram, quantity)[row, column] == pytest.approx(
                expected, abs=2e-8, rel=1e-7, nan_ok=True
            ), (quantity, row, column)


def test_the_critical_line_of_a_diagram_is_the_edge_of_chaos():
    phi = activation("tanh")
    (edge,) = phases.edge_of_chaos(phi, sigma_b2=0.05)
    sigma_w2 = edge.sigma_w2 + np.array([-0.02, -0.002, 0.002, 0.02])
    diagram = phases.phase_diagram(phi, sigma_w2, 0.05)
    assert (diagram.chi_1[0] > 1).tolist() == [False, False, True, True]
    assert (diagram.c_star[0] == 1).tolist() == [True, True, False, False]
    assert (diagram.xi_c[0, [1, 2]] > 5 * diagram.xi_c[0, [0, 3]]).all()


def test_a_phase_diagram_shows_preserved_vanishing_and_diverging_lengths():
    diagram = phases.phase_diagram(activation("relu"), [1.0, 2.0, 2.5], [0.0])
    assert diagram.q_star[0, 1] == 1.0
    assert diagram.growth[0].tolist() == [-1, 0, 1]


def test_a_phase_diagram_without_weights_is_refused():
    with pytest.raises(RequestError, match="sigma_w2=0"):
        phases.phase_diagram(activation("relu"), [0.0], [0.0])
