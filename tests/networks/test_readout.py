"""The readout has the initializer of the hidden layers, or one of its own, and its own biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.configuration.validation import validate
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.networks.layout import check_layout, describe

SHAPE, CLASSES = (1, 20, 20), 200


def drawn(make_trial, **choices) -> tuple[nn.Sequential, dict]:
    """Returns a network of one hidden layer with its initial weights, and its specification."""
    spec = make_trial(depth=1, width=300, **choices).spec
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], 3, readout=spec.get("readout"))
    return network, spec


@pytest.mark.parametrize(
    "initializer, variance", [("same", 1 / 300), ("he_normal", 2 / 300), ("xavier_normal", 2 / 500)]
)
def test_the_readout_has_its_own_initializer(make_trial, initializer, variance):
    network, spec = drawn(make_trial, **{"readout.initializer": initializer})
    hidden = network.layer_01.weights.weight
    assert float(hidden.square().mean()) == pytest.approx(1 / 400, rel=0.05)
    assert float(network.readout.weight.square().mean()) == pytest.approx(variance, rel=0.05)
    layer = describe(spec, SHAPE, CLASSES)[-1]
    assert layer.sigma_w2 == pytest.approx(300 * variance)


@pytest.mark.parametrize(
    "bias, variance", [("same", 0.3), ("zeros", 0.0), ("uniform", 1 / 900), ("none", None)]
)
def test_the_readout_has_its_own_biases(make_trial, bias, variance):
    options = {"initializer.sigma_b2": 0.3, "readout.bias": bias}
    network, spec = drawn(make_trial, initializer="gaussian", **options)
    hidden = network.layer_01.weights.bias
    assert float(hidden.square().mean()) == pytest.approx(0.3, rel=0.3)
    described = describe(spec, SHAPE, CLASSES)[-1]
    if variance is None:
        assert network.readout.bias is None
        assert (described.bias, described.sigma_b2) == (False, 0.0)
    else:
        measured = float(network.readout.bias.square().mean())
        assert measured == pytest.approx(variance, rel=0.3)
        assert described.sigma_b2 == pytest.approx(variance)


def test_a_readout_like_the_hidden_layers_is_absent_from_the_specification(make_trial):
    assert "readout" not in make_trial().spec
    own = make_trial(**{"readout.initializer": "he_normal", "readout.bias": "none"})
    assert own.spec["readout"] == {"initializer": {"name": "he_normal"}, "bias": "none"}
    assert own.axes["readout.initializer"] == "he_normal"
    assert own.axes["readout.bias"] == "none"


def test_hidden_weights_do_not_depend_on_the_readout(make_trial):
    one, _ = drawn(make_trial)
    other, _ = drawn(make_trial, **{"readout.initializer": "he_normal"})
    assert torch.equal(one.layer_01.weights.weight, other.layer_01.weights.weight)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"readout.initializer": "he"}, "initializer=he: expected one of same, delta_orthogonal"),
        ({"readout.bias": "ones"}, "readout.bias=ones: expected one of same, zeros, uniform, none"),
    ],
)
def test_impossible_readouts_are_refused(make_config, changes, message):
    with pytest.raises(RequestError, match=message):
        validate(make_config(**changes))


@pytest.mark.parametrize(
    "initializer, message",
    [
        ("mean_shifted", "readout.initializer=mean_shifted: omega=1 with fan-in 1 .readout.: "),
        ("lecun_exact", "readout.initializer=lecun_exact with fan-in 1 .readout.: "),
    ],
)
def test_a_law_that_a_readout_cannot_have_is_named_as_its_own(make_trial, initializer, message):
    spec = make_trial(depth=1, width=1, **{"readout.initializer": initializer}).spec
    with pytest.raises(RequestError, match=f"^{message}"):
        check_layout(spec, SHAPE, CLASSES)
