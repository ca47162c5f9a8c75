"""Networks built from specifications: names, sizes, normalizations, and what they refuse."""

from __future__ import annotations

import pkgutil

import pytest
import torch
from torch import nn

from harness.configuration.options import known_names
from harness.errors import RequestError
from harness.networks import architectures
from harness.networks.activations import activations
from harness.networks.architectures import architecture_of, build_network
from harness.networks.declaration import Architecture
from harness.networks.initialization import initialize
from harness.networks.layout import check_layout, layer_sizes
from harness.networks.normalization_kinds import normalizations
from harness.networks.normalizations import RMSNorm

SHAPE, CLASSES = (3, 12, 10), 7


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_every_architecture_in_conf_has_its_file():
    files = {module.name for module in pkgutil.iter_modules(architectures.__path__)}
    assert files == set(known_names("architecture"))
    for name in known_names("architecture"):
        assert isinstance(architecture_of({"architecture": {"name": name}}), Architecture)


def test_every_activation_and_normalization_in_conf_is_declared():
    assert known_names("activation") == activations.names()
    assert known_names("normalization") == normalizations.names()


@pytest.fixture(params=["mlp", "cnn"])
def pooled_spec(request, make_trial):
    """A function of a normalization and its position: the specification of a small network."""

    def make(normalization: str, position: str) -> dict:
        changes = {"normalization.position": position}
        if request.param == "cnn":
            changes["architecture.pool"] = "max"
        return make_trial(
            architecture=request.param, normalization=normalization, depth=5, width=8, **changes
        ).spec

    return make


@pytest.mark.parametrize("normalization", sorted({*normalizations} - {"instance"}))
@pytest.mark.parametrize("position", ["before", "after"])
def test_every_network_runs_and_has_the_sizes_of_its_layout(pooled_spec, normalization, position):
    spec = pooled_spec(normalization, position)
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], 0)
    assert network(normal(4, *SHAPE)).shape == (4, CLASSES)
    built = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            units, fan_in = module.weight.flatten(1).shape
            built.append((name.removesuffix(".weights"), units, fan_in))
    sizes = layer_sizes(spec, SHAPE, CLASSES)
    assert built == [(size.name, size.units, size.fan_in) for size in sizes]


@pytest.mark.parametrize(
    "normalization, position, parts",
    [
        ("none", "before", ["weights", "activation"]),
        ("weight_standardization", "after", ["weights", "activation"]),
        ("batch", "before", ["weights", "normalization", "activation"]),
        ("layer", "before", ["weights", "normalization", "activation"]),
        ("rms", "before", ["weights", "normalization", "activation"]),
        ("batch", "after", ["weights", "activation", "normalization"]),
        ("layer", "after", ["weights", "activation", "normalization"]),
        ("rms", "after", ["weights", "activation", "normalization"]),
    ],
)
def test_normalization_stands_before_or_after_the_activation(
    pooled_spec, normalization, position, parts
):
    network = build_network(pooled_spec(normalization, position), SHAPE, CLASSES)
    assert list(dict(network.layer_01.named_children())) == parts


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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": "input"}, "width=input: only for architecture=mlp"),
        ({"architecture.kernel_size": 4}, "kernel_size=4: expected an odd integer of at least 1"),
        ({"architecture.kernel_size": -1}, "kernel_size=-1: expected an odd integer"),
        ({"architecture.padding": "same"}, "padding=same: expected one of zeros, circular"),
        ({"architecture.pool": "min"}, "pool=min: expected one of none, max, average"),
        ({"architecture.head": "mean"}, "head=mean: expected one of flatten, average"),
        ({"architecture.pool_every": 0}, "pool_every=0: expected an integer of at least 1"),
    ],
)
def test_impossible_convolutional_networks_are_refused(make_trial, changes, message):
    with pytest.raises(RequestError, match=message):
        check_layout(make_trial(architecture="cnn", **changes).spec, SHAPE, CLASSES)


@pytest.mark.parametrize("function", [build_network, check_layout, layer_sizes])
def test_an_unknown_architecture_is_refused(make_trial, function):
    spec = make_trial().spec | {"architecture": {"name": "transformer"}}
    with pytest.raises(
        RequestError, match="unknown architecture 'transformer'; known: cnn, .*mlp, resnet, stack"
    ):
        function(spec, SHAPE, CLASSES)


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


def parameters(make_trial, depth: int, seed: int) -> dict[str, torch.Tensor]:
    spec = make_trial(depth=depth, width=16).spec
    network = build_network(spec, (1, 8, 8), 10)
    initialize(network, spec["initializer"], seed)
    return dict(network.named_parameters())


@pytest.mark.parametrize(
    "name", ["layer_01.weights.weight", "layer_03.weights.weight", "readout.weight"]
)
def test_weights_depend_on_seed_and_layer_alone(make_trial, name):
    weight = parameters(make_trial, depth=3, seed=1)[name]
    assert torch.equal(weight, parameters(make_trial, depth=6, seed=1)[name])
    assert not torch.equal(weight, parameters(make_trial, depth=3, seed=2)[name])


def test_layers_of_one_network_have_different_weights(make_trial):
    weights = parameters(make_trial, depth=6, seed=1)
    second, third = weights["layer_02.weights.weight"], weights["layer_03.weights.weight"]
    assert not torch.equal(second, third)


def test_initializing_leaves_global_random_state_alone(make_trial):
    spec = make_trial().spec
    network = build_network(spec, (1, 8, 8), 10)
    before = torch.get_rng_state()
    initialize(network, spec["initializer"], 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_layer_norm_of_maps_centres_each_sample_over_all_units():
    x = 3 + 2 * normal(5, 6, 4, 4)
    y = normalizations["layer"].module(6, True)(x)
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name, groups", [("group", 3), ("instance", 6)])
def test_group_and_instance_norm_centre_each_sample_over_their_units(name, groups):
    x = 3 + 2 * normal(5, 6, 4, 4)
    options = {"groups": groups} if name == "group" else {}
    y = normalizations[name].module(6, True, **options)(x).unflatten(1, (groups, -1))
    torch.testing.assert_close(y.mean((2, 3, 4)), torch.zeros(5, groups), atol=1e-5, rtol=0)
    squares = y.square().mean((2, 3, 4))
    torch.testing.assert_close(squares, torch.ones(5, groups), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"normalization": "group", "normalization.groups": 3}, "groups=3 do not divide the 64"),
        ({"normalization": "group", "normalization.groups": 0}, "groups=0: expected an integer"),
        ({"normalization": "instance"}, "instance: layer_01 has one position"),
    ],
)
def test_impossible_normalizations_are_refused(make_trial, changes, message):
    with pytest.raises(RequestError, match=message):
        check_layout(make_trial(**changes).spec, SHAPE, CLASSES)


def test_rms_norm_gives_each_sample_mean_square_one():
    x = 3 + 2 * normal(5, 6, 4, 4)
    y = RMSNorm(6, True)(x)
    torch.testing.assert_close(y.square().mean((1, 2, 3)), torch.ones(5), atol=1e-4, rtol=0)


def test_rms_norm_of_vectors_is_that_of_torch():
    x = normal(5, 6)
    torch.testing.assert_close(RMSNorm(6, False)(x), nn.functional.rms_norm(x, (6,), eps=1e-5))
