"""Networks from lists of layers are the same networks written in plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.configuration.layer_lists import canonical_layers, layers_text
from harness.configuration.options import defaults
from harness.configuration.validation import validate
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.networks.layout import check_layout, describe, layer_sizes
from harness.theory.networks.description import Convolution, Dense, Pool

SHAPE, CLASSES = (2, 12, 10), 7
# A list with every option of a convolution, and the modules that it stands for.
LISTED = [
    {"conv": 6, "kernel": 5, "padding": "valid", "pool": "max", "pool_size": 3, "pool_stride": 1},
    {"conv": 8, "stride": 2, "padding": "reflect", "groups": 2},
    {"conv": 4, "padding": "circular", "pool": "average", "pool_position": "before"},
    {"dense": 9, "dropout": 0.25},
    {"dense": 5},
]


def plain_torch() -> nn.Sequential:
    """Returns what `LISTED` says, as anyone would write it."""
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 5), nn.SELU(), nn.MaxPool2d(3, 1)),
        *(nn.Conv2d(6, 8, 3, stride=2, padding=1, padding_mode="reflect", groups=2), nn.SELU()),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"),
        *(nn.AvgPool2d(2), nn.SELU()),
        nn.Flatten(),
        *(nn.Linear(4, 9), nn.SELU()),
        *(nn.Linear(9, 5), nn.SELU()),
        nn.Linear(5, CLASSES),
    )


def stack(make_trial, layers: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Returns the specification of a stack."""
    return make_trial(
        architecture="stack", dropout="alpha", **{"architecture.layers": layers} | changes
    ).spec


def test_a_stack_is_its_layers_in_plain_torch(make_trial):
    spec = stack(make_trial, LISTED)
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], 3)
    plain = plain_torch()
    for own, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert own.shape == theirs.shape
        theirs.data.copy_(own)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.eval()(x), plain(x))


def test_every_layer_has_its_own_rate_of_dropout(make_trial):
    network = build_network(stack(make_trial, LISTED), SHAPE, CLASSES)
    assert float(network.layer_04.dropout.rate) == 0.25
    assert float(network.layer_05.dropout.rate) == pytest.approx(0.05)


def test_sizes_and_description_are_those_of_the_modules(make_trial):
    spec = stack(make_trial, LISTED)
    sizes = layer_sizes(spec, SHAPE, CLASSES)
    assert [(size.height, size.width) for size in sizes[:3]] == [(8, 6), (3, 2), (3, 2)]
    network = build_network(spec, SHAPE, CLASSES)
    modules = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    described = [
        layer for layer in describe(spec, SHAPE, CLASSES) if isinstance(layer, Dense | Convolution)
    ]
    for size, module, layer in zip(sizes, modules, described, strict=True):
        units, fan_in = module.weight.flatten(1).shape
        assert (size.units, size.fan_in) == (units, fan_in)
        assert (layer.units, layer.fan_in) == (units, fan_in)
    pools = [layer for layer in describe(spec, SHAPE, CLASSES) if isinstance(layer, Pool)]
    assert pools == [Pool("max", 3, 1), Pool("average", 2)]
    assert [layer.padding for layer in described[:3]] == ["none", "reflect", "circular"]


def test_a_stack_of_dense_layers_is_the_mlp_of_these_widths(make_trial):
    listed = stack(make_trial, [{"dense": 9}, {"dense": 5}])
    mlp = make_trial(dropout="alpha", width=[9, 5]).spec
    assert mlp["depth"] == 2
    states = []
    for spec in (listed, mlp):
        network = build_network(spec, SHAPE, CLASSES)
        initialize(network, spec["initializer"], 3)
        states.append(network.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
    assert describe(listed, SHAPE, CLASSES) == describe(mlp, SHAPE, CLASSES)


def test_a_stack_of_convolutions_is_the_cnn_of_these_options(make_trial):
    pooled = {
        "architecture.pool": "max",
        "architecture.pool_every": 1,
        "architecture.head": "average",
    }
    cnn = make_trial(architecture="cnn", depth=2, width=6, dropout="alpha", **pooled).spec
    layers = [{"conv": 6, "pool": "max"}, {"conv": 6, "pool": "max"}]
    listed = stack(make_trial, layers, **{"architecture.head": "average"})
    assert describe(listed, SHAPE, CLASSES) == describe(cnn, SHAPE, CLASSES)
    assert layer_sizes(listed, SHAPE, CLASSES) == layer_sizes(cnn, SHAPE, CLASSES)
    built = [str(build_network(spec, SHAPE, CLASSES)) for spec in (listed, cnn)]
    assert built[0] == built[1]


def test_a_list_of_equal_widths_is_that_width(make_trial):
    assert make_trial(width=[8, 8, 8]).trial_id == make_trial(width=8, depth=3).trial_id


def test_options_of_the_architecture_are_those_of_every_layer_without_its_own(make_trial):
    layers = [{"conv": 6}, {"conv": 6, "kernel": 3}]
    own = stack(make_trial, [{"conv": 6, "kernel": 5}, {"conv": 6}])
    shared = stack(make_trial, layers, **{"architecture.kernel": 5})
    assert own == shared


def test_options_that_change_nothing_are_not_in_the_specification(make_config):
    layers = [
        {"conv": 6, "pool_size": 3, "stride": 1},
        {"conv": 6, "pool": "max", "pool_stride": 2},
    ]
    config = make_config(architecture="stack", **{"architecture.layers": layers})
    assert canonical_layers(config.architecture) == [{"conv": 6}, {"conv": 6, "pool": "max"}]


def test_lists_are_axes_in_words(make_trial):
    layers = [{"conv": 6, "kernel": 5, "pool": "max"}, {"dense": 9}]
    trial = make_trial(architecture="stack", **{"architecture.layers": layers})
    assert trial.axes["architecture.layers"] == "conv 6 kernel 5 pool max, dense 9"
    assert (trial.axes["depth"], trial.axes["width"]) == (2, "6-9")
    assert make_trial(width=[9, 5]).axes["width"] == "9-5"
    default = make_trial(architecture="stack")
    assert "architecture.layers" not in default.axes
    assert layers_text(defaults("architecture", "stack")["layers"]).endswith("dense 64")


REFUSED = {
    "contradicted depth": ({"width": [9, 5], "depth": 3}, "which are the depth; leave depth out"),
    "width of 0": ({"width": [9, 0]}, r"width=\[9, 0\]: expected an integer of at least 1"),
    "listed depth": (
        {"architecture": "stack", "depth": 8},
        "architecture.layers has 3 layers, which are the depth",
    ),
    "listed width": (
        {"architecture": "stack", "width": 64},
        "width=64: architecture.layers has the widths; leave width out",
    ),
    "layers of a dense network": (
        {"architecture.layers": [{"dense": 5}]},
        "architecture=mlp takes no such option; it belongs to stack",
    ),
}
REFUSED_LAYERS = {
    "no list": (5, "architecture.layers=5: expected a list of layers"),
    "no dict": (["conv"], "layer 1: conv: expected a dict with either conv or dense in it"),
    "both": ([{"conv": 3, "dense": 3}], "expected a dict with either conv or dense in it"),
    "unknown option": ([{"conv": 3, "kernl": 3}], "a conv layer takes no kernl; it takes conv"),
    "kernel of a dense layer": ([{"dense": 3, "kernel": 3}], "a dense layer takes no kernel"),
    "no units": ([{"conv": 0}], "conv=0: expected an integer of at least 1"),
    "stride": ([{"conv": 3, "stride": 0}], "stride=0: expected an integer of at least 1"),
    "window": ([{"conv": 3, "pool_size": 1.5}], "pool_size=1.5: expected an integer"),
    "padding": ([{"conv": 3, "padding": "same"}], "padding=same: expected one of zeros"),
    "pool": ([{"conv": 3, "pool": "min"}], "pool=min: expected one of none, max, average"),
    "even kernel": ([{"conv": 3, "kernel": 4}], "kernel=4: expected an odd integer"),
    "late convolution": (
        [{"dense": 3}, {"conv": 3}],
        "layer 2: a convolution cannot follow a dense layer",
    ),
    "rate": ([{"dense": 3, "dropout": 1.0}], r"dropout=1.0: expected a number in \[0, 1\)"),
}
IMPOSSIBLE = {
    "kernel": ([{"conv": 3, "kernel": 11, "padding": "valid"}], "does not fit its map of 12x10"),
    "vanishing map": (
        [{"conv": 3, "pool": "max"}] * 4,
        "layer_04: a pooling of 2x2 does not fit its map of 1x1",
    ),
    "groups of inputs": ([{"conv": 3, "groups": 3}], "do not divide its 2 input channels"),
    "groups of units": ([{"conv": 3, "groups": 2}], "do not divide its 3 units"),
    "reflection": (
        [{"conv": 3, "pool": "max", "pool_size": 8}, {"conv": 3, "padding": "reflect"}],
        "padding=reflect by 1 needs a larger map than 1x1",
    ),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_contradictory_sizes_are_refused(make_config, changes, message):
    with pytest.raises(RequestError, match=message) as refusal:
        validate(make_config(**changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("layers, message", REFUSED_LAYERS.values(), ids=REFUSED_LAYERS)
def test_improper_layers_are_refused(make_config, layers, message):
    changes = {"architecture.layers": layers, "dropout": "standard"}
    with pytest.raises(RequestError, match=message) as refusal:
        validate(make_config(architecture="stack", **changes))
    assert "\n" not in str(refusal.value)


def test_a_rate_without_a_dropout_is_refused(make_config):
    layers = [{"dense": 3, "dropout": 0.1}]
    with pytest.raises(RequestError, match="a rate of dropout with dropout=none"):
        validate(make_config(architecture="stack", **{"architecture.layers": layers}))


@pytest.mark.parametrize("layers, message", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_layers_that_do_not_fit_are_refused(make_trial, layers, message):
    spec = stack(make_trial, layers)
    with pytest.raises(RequestError, match=message) as refusal:
        check_layout(spec, SHAPE, CLASSES)
    assert "\n" not in str(refusal.value)


def test_an_unknown_head_of_a_stack_is_refused(make_trial):
    spec = stack(make_trial, LISTED, **{"architecture.head": "mean"})
    with pytest.raises(RequestError, match="head=mean: expected one of flatten, average"):
        check_layout(spec, SHAPE, CLASSES)
