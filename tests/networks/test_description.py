"""A network as theory sees it agrees with the module that is built and the weights that are drawn."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.described import describe
from harness.networks.initialization import initialize
from harness.networks.initializers import initializers
from harness.networks.normalizations import EPSILON, standardize
from harness.theory.networks.description import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Normalization,
    Pool,
)

SHAPE, CLASSES = (1, 8, 8), 10


def spec_of(make_trial, **choices):
    return make_trial(**choices).spec


def weight_layers(network):
    return [layer for layer in network if isinstance(layer, (Dense, Convolution))]


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
@pytest.mark.parametrize("name", initializers.names())
def test_every_initializer_has_the_variance_and_kurtosis_it_is_described_with(
    make_trial, name, architecture
):
    spec = spec_of(
        make_trial,
        architecture=architecture,
        initializer=name,
        depth=3,
        width=96 if architecture == "mlp" else 24,
    )
    if name == "gaussian":
        spec["initializer"] |= {"sigma_w2": 1.7, "sigma_b2": 0.3}
    if name == "pytorch_default":
        spec["initializer"]["bias"] = "uniform"
    described = weight_layers(describe(spec, SHAPE, CLASSES))
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], seed=3)
    modules = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    assert len(described) == len(modules) == 4
    for layer, module in zip(described, modules):
        rows = module.weight.detach().flatten(1).double()
        assert (layer.units, layer.fan_in) == tuple(rows.shape)
        tau = rows.square().sum(1)
        assert float(tau.mean()) == pytest.approx(
            layer.sigma_w2, rel=8 * (2 / rows.numel()) ** 0.5 + 1e-6
        )
        assert (float(rows.sum(1).abs().max()) < 1e-5) == layer.centred
        assert (float((tau - layer.sigma_w2).abs().max()) < 1e-4) == layer.exact
        if rows.numel() > 4000 and not layer.exact and name != "orthogonal":
            assert float((rows**4).mean() / rows.square().mean() ** 2) == pytest.approx(
                layer.kurtosis, rel=0.12
            )
        bias = module.bias.detach().double()
        assert float(bias.square().mean()) == pytest.approx(
            layer.sigma_b2, rel=1.0 if layer.sigma_b2 else 0, abs=0 if layer.sigma_b2 else 1e-12
        )


@pytest.mark.parametrize(
    "normalization", ["none", "batch", "layer", "rms", "weight_standardization"]
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_the_order_within_a_layer_is_that_of_the_modules(make_trial, normalization, position):
    choices = {
        "normalization": normalization,
        "normalization.position": position,
        "dropout": "alpha",
        "depth": 2,
    }
    described = describe(spec_of(make_trial, **choices), SHAPE, CLASSES)
    network = build_network(spec_of(make_trial, **choices), SHAPE, CLASSES)
    kinds = {
        "weights": Dense,
        "activation": Activation,
        "normalization": Normalization,
        "dropout": Dropout,
    }
    built = [
        kinds[name.rpartition(".")[2]]
        for name, _ in network.named_modules()
        if name.rpartition(".")[2] in kinds
    ]
    assert [type(layer) for layer in described] == [Flatten, *built, Dense]
    for layer in described:
        if isinstance(layer, Normalization):
            assert (layer.kind, layer.epsilon) == (normalization, EPSILON)
        if isinstance(layer, Dropout):
            assert (layer.kind, layer.rate) == ("alpha", 0.05)
    if normalization == "weight_standardization":
        hidden, readout = weight_layers(described)[:-1], weight_layers(described)[-1]
        weight = standardize(network[1].weights.weight)
        assert all(layer.centred and layer.exact and layer.sigma_w2 == 1 for layer in hidden)
        assert not readout.centred
        assert weight.square().sum(1).mean().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "pool, head", [("none", "flatten"), ("max", "average"), ("average", "flatten")]
)
def test_convolutions_have_the_maps_of_the_modules(make_trial, pool, head):
    choices = {
        "architecture": "cnn",
        "architecture.pool": pool,
        "architecture.head": head,
        "depth": 4,
        "width": 6,
    }
    spec = spec_of(make_trial, **choices)
    described = describe(spec, (3, 12, 8), CLASSES)
    network = build_network(spec, (3, 12, 8), CLASSES)
    maps = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, inputs, output: maps.append(tuple(inputs[0].shape[2:]))
            )
    network(torch.zeros(2, 3, 12, 8))
    convolutions = [layer for layer in described if isinstance(layer, Convolution)]
    assert [(layer.height, layer.width) for layer in convolutions] == maps
    assert [layer.fan_in for layer in convolutions] == [27, 54, 54, 54]
    assert all(layer.fan_out == 54 and layer.units == 6 for layer in convolutions)
    pools = [layer for layer in described if isinstance(layer, Pool)]
    assert [layer.kind for layer in pools] == [pool] * (2 if pool != "none" else 0) + [
        "average"
    ] * (head == "average")
    assert isinstance(described[-1], Dense)
    assert described[-1].fan_in == network[-1].in_features


def test_repairs_change_the_law_of_hidden_weights(make_trial):
    def hidden(**choices):
        network = describe(
            spec_of(make_trial, depth=2, initializer="he_normal", **choices), SHAPE, CLASSES
        )
        return weight_layers(network)[0], weight_layers(network)[-1], network

    first, readout, _ = hidden(repair="center_rows")
    assert first.centred
    assert first.sigma_w2 == 2
    assert not readout.centred
    first, readout, _ = hidden(repair="rescale_tau")
    assert first.sigma_w2 == 1
    assert first.exact
    assert readout.sigma_w2 == 2
    _, _, network = hidden(repair="lsuv")
    assert [layer.kind for layer in network if isinstance(layer, Normalization)] == [
        "pooled",
        "pooled",
    ]
    spec = spec_of(
        make_trial,
        initializer="pytorch_default",
        repair="zero_bias",
        **{"initializer.bias": "uniform"},
    )
    layers = weight_layers(describe(spec, SHAPE, CLASSES))
    assert layers[0].sigma_b2 == 0
    assert layers[-1].sigma_b2 > 0


def test_what_is_not_described_is_said(make_trial):
    spec = spec_of(make_trial)
    with pytest.raises(RequestError, match="unknown architecture 'transformer'; known: cnn, mlp"):
        describe(spec | {"architecture": {"name": "transformer"}}, SHAPE, CLASSES)
    with pytest.raises(
        RequestError, match="theory does not know the variance of initializer 'mystery'"
    ):
        describe(spec | {"initializer": {"name": "mystery"}}, SHAPE, CLASSES)


def test_a_description_needs_no_torch():
    code = "import sys, harness.networks.described, harness.theory.networks.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
