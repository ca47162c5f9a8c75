"""Edge of chaos and phase diagrams."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import RequestError
from harness.theory.activations.functions import NAMES, activation
from harness.theory.mean_field import maps as mean_field
from harness.theory.mean_field import phases


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("q_star", [0.2, 1.0, 5.0])
def test_a_critical_point_is_critical_and_found_from_either_side(name, q_star):
    phi = activation(name)
    for point in phases.edge_of_chaos(phi, q_star=q_star):
        assert mean_field.length_map(phi, q_star, point.sigma_w2, point.sigma_b2) == pytest.approx(
            q_star, rel=1e-13
        )
        assert mean_field.gradient_gain(phi, q_star, point.sigma_w2) == pytest.approx(
            1.0, abs=1e-13
        )
        assert point.stable == (mean_field.length_gain(phi, q_star, point.sigma_w2) < 1 - 1e-12)
        if name in ("relu", "leaky_relu", "identity"):
            continue  # every length is critical there
        for given in ({"sigma_w2": point.sigma_w2}, {"sigma_b2": point.sigma_b2}):
            assert any(
                other.q_star == pytest.approx(q_star, rel=1e-7)
                for other in phases.edge_of_chaos(phi, **given)
            ), given


def test_special_answers():
    assert (
        phases.edge_of_chaos(activation("relu"), sigma_b2=0.1)
        == ()
        == phases.edge_of_chaos(activation("softplus"), sigma_b2=0.0)
    )
    (every,) = phases.edge_of_chaos(activation("relu"), sigma_b2=0.0)
    assert (every.sigma_w2, every.q_star, every.stable) == (pytest.approx(2.0), 1.0, False)
    # Without bias the critical line of tanh and of SELU ends in the vanishing of lengths.
    for name in ("tanh", "selu", "gelu"):
        (end,) = phases.edge_of_chaos(activation(name), sigma_b2=0.0)
        assert (end.sigma_w2, end.q_star) == (
            pytest.approx(mean_field.vanish_limit(activation(name))),
            0.0,
        )
    both = phases.edge_of_chaos(activation("gelu"), sigma_b2=0.172)
    assert [point.stable for point in both] in ([False], [True, False], [False, True])
    assert phases.edge_of_chaos(activation("softplus"), q_star=0.57) == ()


@pytest.mark.parametrize(
    "given, words",
    [
        ({}, "give one of"),
        ({"sigma_b2": 0.1, "q_star": 1.0}, "give one of"),
        ({"q_star": 0.0}, "q_star=0"),
        ({"sigma_w2": -1.0}, "sigma_w2=-1"),
        ({"sigma_b2": math.nan}, "sigma_b2=nan"),
    ],
)
def test_wrong_requests(given, words):
    with pytest.raises(RequestError, match=words):
        phases.edge_of_chaos(activation("selu"), **given)


@pytest.mark.parametrize("name", ["selu", "tanh", "gelu", "relu"])
def test_a_phase_diagram_is_the_solution_at_every_point(name):
    phi = activation(name)
    diagram = phases.phase_diagram(phi, np.linspace(0.3, 2.6, 7), np.array([0.0, 0.05, 0.4]))
    assert diagram.q_star.shape == diagram.xi_c.shape == (3, 7)
    for i, sigma_b2 in enumerate(diagram.sigma_b2):
        for j, sigma_w2 in enumerate(diagram.sigma_w2):
            field = mean_field.solve(phi, sigma_w2, sigma_b2)
            assert (
                diagram.growth[i, j]
                == {"converges": 0, "preserved": 0, "vanishes": -1, "diverges": 1}[field.status]
            )
            for quantity in ("q_star", "chi_q", "chi_1", "c_star", "chi_c"):
                got, expected = getattr(diagram, quantity)[i, j], getattr(field, quantity)
                assert (expected is None and np.isnan(got)) or got == pytest.approx(
                    expected, abs=2e-8, rel=1e-7
                ), (quantity, sigma_w2, sigma_b2)


def test_the_critical_line_of_a_diagram_is_the_edge_of_chaos():
    phi = activation("tanh")
    (edge,) = phases.edge_of_chaos(phi, sigma_b2=0.05)
    diagram = phases.phase_diagram(
        phi, edge.sigma_w2 + np.array([-0.02, -0.002, 0.002, 0.02]), 0.05
    )
    assert (diagram.chi_1[0] > 1).tolist() == [False, False, True, True]
    assert (diagram.c_star[0] == 1).tolist() == [True, True, False, False]
    assert (diagram.xi_c[0, [1, 2]] > 5 * diagram.xi_c[0, [0, 3]]).all()


def test_a_preserved_length_in_a_diagram():
    diagram = phases.phase_diagram(activation("relu"), [1.0, 2.0, 2.5], [0.0])
    assert diagram.q_star[0, 1] == 1.0
    assert diagram.growth[0].tolist() == [-1, 0, 1]
    with pytest.raises(RequestError, match="sigma_w2=0"):
        phases.phase_diagram(activation("relu"), [0.0], [0.0])
