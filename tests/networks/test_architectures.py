"""Networks built from specifications: names, sizes, normalizations, and what they refuse."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from harness.configuration.schema import known_names
from harness.errors import RequestError
from harness.networks.activations import activations, build_activation
from harness.networks.architectures import architectures, build_network
from harness.networks.initialization import initialize
from harness.networks.layout import check_layout, layer_sizes
from harness.networks.normalizations import (
    RMSNorm,
    StandardizedConv2d,
    StandardizedLinear,
    normalizations,
    standardize,
)

SHAPE, CLASSES = (3, 12, 10), 7


def test_conf_and_registries_name_the_same_things():
    assert known_names("architecture") == architectures.names()
    assert known_names("activation") == activations.names()
    assert known_names("normalization") == normalizations.names()


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
@pytest.mark.parametrize("normalization", normalizations.names())
@pytest.mark.parametrize("position", ["before", "after"])
def test_every_network_runs_and_has_the_layout_it_says(
    make_trial, architecture, normalization, position
):
    changes = {"architecture.pool": "max"} if architecture == "cnn" else {}
    spec = make_trial(
        architecture=architecture,
        normalization=normalization,
        depth=5,
        width=6,
        **changes,
        **{"normalization.position": position},
    ).spec
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], 0)
    assert network(torch.randn(4, *SHAPE)).shape == (4, CLASSES)
    weights = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    sizes = layer_sizes(spec, SHAPE, CLASSES)
    assert [(module.weight.shape[0], module.weight[0].numel()) for _, module in weights] == [
        (size.units, size.fan_in) for size in sizes
    ]
    order = list(dict(network.layer_01.named_children()))
    has_module = normalization not in ("none", "weight_standardization")
    assert order == [
        "weights",
        *["normalization"] * (has_module and position == "before"),
        "activation",
        *["normalization"] * (has_module and position == "after"),
    ]


def test_pooling_stops_before_the_map_vanishes(make_trial):
    spec = make_trial(
        architecture="cnn",
        depth=9,
        width=4,
        **{"architecture.pool": "average", "architecture.pool_every": 1},
    ).spec
    sizes = layer_sizes(spec, SHAPE, CLASSES)
    assert [(size.height, size.width) for size in sizes[:4]] == [(12, 10), (6, 5), (3, 2), (3, 2)]
    assert build_network(spec, SHAPE, CLASSES)(torch.zeros(1, *SHAPE)).shape == (1, CLASSES)


def test_width_input_is_as_wide_as_the_input(make_trial):
    sizes = layer_sizes(make_trial(width="input", depth=3).spec, (1, 8, 8), 10)
    assert [size.units for size in sizes] == [64, 64, 64, 10]


def test_weights_depend_on_seed_and_layer_alone(make_trial):
    def weights(depth: int, seed: int) -> dict[str, torch.Tensor]:
        spec = make_trial(depth=depth, width=16).spec
        network = build_network(spec, (1, 8, 8), 10)
        initialize(network, spec["initializer"], seed)
        return dict(network.named_parameters())

    shallow, deep, other = weights(3, 1), weights(6, 1), weights(3, 2)
    for name in ("layer_01.weights.weight", "layer_03.weights.weight", "readout.weight"):
        assert torch.equal(shallow[name], deep[name])
        assert not torch.equal(shallow[name], other[name])
    assert not torch.equal(deep["layer_02.weights.weight"], deep["layer_03.weights.weight"])


def test_initializing_leaves_global_random_state_alone(make_trial):
    spec = make_trial().spec
    network = build_network(spec, (1, 8, 8), 10)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    initialize(network, spec["initializer"], 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_layer_and_rms_norm_do_what_they_say():
    x = 3 + 2 * torch.randn(5, 6, 4, 4)
    layer = normalizations["layer"](6, True)(x)
    torch.testing.assert_close(layer.mean((1, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    rms = RMSNorm(6, True)(x)
    torch.testing.assert_close(rms.square().mean((1, 2, 3)), torch.ones(5), atol=1e-4, rtol=0)
    flat = torch.randn(5, 6)
    torch.testing.assert_close(
        RMSNorm(6, False)(flat), nn.functional.rms_norm(flat, (6,), eps=1e-5)
    )


@pytest.mark.parametrize("module", [StandardizedLinear(30, 20), StandardizedConv2d(5, 20, 3)])
def test_standardized_weights_have_omega_zero_and_tau_one_and_a_gradient(module):
    rows = standardize(module.weight).flatten(1)
    torch.testing.assert_close(rows.sum(1), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.square().sum(1), torch.ones(20), atol=1e-5, rtol=0)
    x = torch.randn(4, 30) if isinstance(module, nn.Linear) else torch.randn(4, 5, 6, 6)
    module(x).square().sum().backward()
    assert module.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"initializer": "lecun_exact"},
        {"normalization": "weight_standardization"},
        {"repair": "center_rows"},
    ],
)
def test_centring_a_single_weight_is_refused(make_trial, changes):
    with pytest.raises(RequestError, match="fan-in 1"):
        check_layout(make_trial(width=1, **changes).spec, (1, 8, 8), 10)


def test_a_users_activation(monkeypatch):
    module = types.ModuleType("own_functions")
    module.square = lambda x: x.square()
    module.pooled = lambda x: x.mean(1)
    module.broken = lambda x: x.no_such_method()
    monkeypatch.setitem(sys.modules, "own_functions", module)
    x = torch.randn(3)
    assert torch.equal(
        build_activation({"name": "own_functions:square", "source": "abc"})(x), x * x
    )
    module.overwriting = lambda x: x.relu_()
    for name, message in (
        ("pooled", "same shape"),
        ("broken", "no_such_method"),
        ("overwriting", "writes over its input"),
        ("absent", "cannot be loaded"),
    ):
        with pytest.raises(RequestError, match=message):
            build_activation({"name": f"own_functions:{name}"})
    with pytest.raises(RequestError, match="cannot be loaded"):
        build_activation({"name": "no_such_module:f"})


def test_a_users_activation_may_look_at_its_values(monkeypatch, make_trial):
    module = types.ModuleType("own_functions")
    module.careful = lambda x: x if float(x.abs().max()) < 1e6 else x.clamp(-1e6, 1e6)
    monkeypatch.setitem(sys.modules, "own_functions", module)
    spec = make_trial(depth=2, width=4).spec | {"activation": {"name": "own_functions:careful"}}
    with torch.device("meta"):  # as packs and choices lay networks out
        assert build_network(spec, SHAPE, CLASSES).readout.weight.is_meta


def test_a_users_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "own_unfinished.py").write_text("def f(x)\n")
    (tmp_path / "own_undefined.py").write_text("f = g\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, message in (
        ("own_unfinished", "importing own_unfinished raised SyntaxError"),
        ("own_undefined", "NameError: name 'g' is not defined"),
    ):
        with pytest.raises(RequestError, match=message):
            build_activation({"name": f"{name}:f"})
