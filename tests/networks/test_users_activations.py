"""A user's own activation joins a network, or is refused with a message that names it."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from harness.errors import RequestError
from harness.networks.activations import build_activation
from harness.networks.architectures import build_network

SHAPE, CLASSES = (3, 12, 10), 7


@pytest.fixture
def own_functions(monkeypatch):
    """A module on the Python path, to be given functions."""
    module = types.ModuleType("own_functions")
    monkeypatch.setitem(sys.modules, "own_functions", module)
    return module


def test_a_users_function_acts_on_every_entry(own_functions):
    own_functions.square = lambda x: x.square()
    x = torch.tensor([-1.5, 0.0, 2.0])
    activation = build_activation({"name": "own_functions:square", "source": "abc"})
    assert torch.equal(activation(x), x * x)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x.mean(1), "same shape"),
        (lambda x: x.no_such_method(), "no_such_method"),
        (lambda x: x.relu_(), "writes over its input"),
    ],
    ids=["pools", "raises", "writes over its input"],
)
def test_a_function_that_is_no_elementwise_map_is_refused(own_functions, function, message):
    own_functions.wrong = function
    with pytest.raises(RequestError, match=message):
        build_activation({"name": "own_functions:wrong"})


@pytest.mark.parametrize("name", ["own_functions:absent", "no_such_module:f"])
def test_a_function_that_is_not_there_is_refused(own_functions, name):
    with pytest.raises(RequestError, match="cannot be loaded"):
        build_activation({"name": name})


def test_a_users_activation_may_look_at_its_values(own_functions, make_trial):
    own_functions.careful = lambda x: x if float(x.abs().max()) < 1e6 else x.clamp(-1e6, 1e6)
    spec = make_trial(depth=2, width=4).spec | {"activation": {"name": "own_functions:careful"}}
    with torch.device("meta"):  # Networks are laid out there before weights are drawn.
        assert build_network(spec, SHAPE, CLASSES).readout.weight.is_meta


@pytest.mark.parametrize(
    "name, source, message",
    [
        ("own_unfinished", "def f(x)\n", "importing own_unfinished raised SyntaxError"),
        ("own_undefined", "f = g\n", "NameError: name 'g' is not defined"),
    ],
)
def test_a_users_module_that_cannot_be_imported_is_named(
    tmp_path, monkeypatch, name, source, message
):
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RequestError, match=message):
        build_activation({"name": f"{name}:f"})
