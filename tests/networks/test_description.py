"""A network as theory sees it agrees with the module that is built and the weights drawn."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.networks.initializers import initializers
from harness.networks.layout import describe
from harness.networks.normalizations import EPSILON
from harness.networks.weight_forms import standardize
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
PARTS = {
    "weights": Dense,
    "activation": Activation,
    "normalization": Normalization,
    "dropout": Dropout,
}


# Orthogonal weights have that of normal ones in wide layers only, and a sample says little of a
# heavy tail.
NO_KURTOSIS = ("delta_orthogonal", "heavy_tailed", "orthogonal")


def weight_layers(network):
    return [layer for layer in network if isinstance(layer, Dense | Convolution)]


def weight_modules(network):
    return [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


@pytest.fixture(params=["mlp", "cnn"])
def drawn(request, make_trial):
    """A function of an initializer's name: pairs of a described and a drawn weight layer."""

    def draw(name: str):
        width = 96 if request.param == "mlp" else 24
        spec = make_trial(architecture=request.param, initializer=name, depth=3, width=width).spec
        if name == "gaussian":
            spec["initializer"] |= {"sigma_w2": 1.7, "sigma_b2": 0.3}
        if name == "pytorch_default":
            spec["initializer"]["bias"] = "uniform"
        network = build_network(spec, SHAPE, CLASSES)
        initialize(network, spec["initializer"], seed=3)
        described = weight_layers(describe(spec, SHAPE, CLASSES))
        assert len(described) == 4
        return list(zip(described, weight_modules(network), strict=True))

    return draw


@pytest.mark.parametrize("name", initializers.names())
def test_described_weights_have_the_moments_of_drawn_ones(drawn, name):
    for layer, module in drawn(name):
        rows = module.weight.detach().flatten(1).double()
        assert (layer.units, layer.fan_in) == tuple(rows.shape)
        tau = rows.square().sum(1)
        tolerance = 8 * (2 / rows.numel()) ** 0.5 + 1e-6
        assert float(tau.mean()) == pytest.approx(layer.sigma_w2, rel=tolerance)
        sums_are_zero = float(rows.sum(1).abs().max()) < 1e-5
        assert sums_are_zero == layer.centred
        squares_are_exact = float((tau - layer.sigma_w2).abs().max()) < 1e-4
        assert squares_are_exact == layer.exact


@pytest.mark.parametrize("name", [name for name in initializers.names() if name not in NO_KURTOSIS])
def test_described_weights_have_the_kurtosis_of_drawn_ones(drawn, name):
    for layer, module in drawn(name):
        rows = module.weight.detach().flatten(1).double()
        if rows.numel() > 4000 and not layer.exact:
            kurtosis = float((rows**4).mean() / rows.square().mean() ** 2)
            assert kurtosis == pytest.approx(layer.kurtosis, rel=0.12)


@pytest.mark.parametrize("name", initializers.names())
def test_described_biases_have_the_variance_of_drawn_ones(drawn, name):
    for layer, module in drawn(name):
        variance = float(module.bias.detach().double().square().mean())
        if layer.sigma_b2 == 0:
            assert variance == 0
        else:
            assert variance == pytest.approx(layer.sigma_b2, rel=1.0)


@pytest.mark.parametrize(
    "normalization",
    ["none", "batch", "layer", "rms", "weight_standardization", "weight_norm", "spectral_norm"],
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_parts_of_a_layer_are_described_in_the_order_of_the_modules(
    make_trial, normalization, position
):
    spec = make_trial(
        normalization=normalization,
        dropout="alpha",
        depth=2,
        **{"normalization.position": position},
    ).spec
    described = describe(spec, SHAPE, CLASSES)
    built = []
    for name, _ in build_network(spec, SHAPE, CLASSES).named_modules():
        part = name.rpartition(".")[2]
        if part in PARTS:
            built.append(PARTS[part])
    assert [type(layer) for layer in described] == [Flatten, *built, Dense]
    for layer in described:
        if isinstance(layer, Normalization):
            assert (layer.kind, layer.epsilon) == (normalization, EPSILON)
        if isinstance(layer, Dropout):
            assert (layer.kind, layer.rate) == ("alpha", 0.05)


def test_weight_standardization_is_described_by_the_law_of_hidden_weights(make_trial):
    spec = make_trial(normalization="weight_standardization", depth=2).spec
    *hidden, readout = weight_layers(describe(spec, SHAPE, CLASSES))
    for layer in hidden:
        assert (layer.centred, layer.exact, layer.sigma_w2) == (True, True, 1)
    assert not readout.centred
    weight = standardize(build_network(spec, SHAPE, CLASSES)[1].weights.weight)
    assert weight.square().sum(1).mean().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "pool, head, pools",
    [
        ("none", "flatten", []),
        ("max", "average", ["max", "max", "average"]),
        ("average", "flatten", ["average", "average"]),
    ],
)
def test_convolutions_are_described_with_the_maps_of_the_modules(make_trial, pool, head, pools):
    shape = (3, 12, 8)
    spec = make_trial(
        architecture="cnn",
        depth=4,
        width=6,
        **{"architecture.pool": pool, "architecture.head": head},
    ).spec
    described = describe(spec, shape, CLASSES)
    network = build_network(spec, shape, CLASSES)
    maps = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, inputs, output: maps.append(tuple(inputs[0].shape[2:]))
            )
    network(torch.zeros(2, *shape))
    convolutions = [layer for layer in described if isinstance(layer, Convolution)]
    assert [(layer.height, layer.width) for layer in convolutions] == maps
    assert [layer.fan_in for layer in convolutions] == [27, 54, 54, 54]
    assert {(layer.fan_out, layer.units) for layer in convolutions} == {(54, 6)}
    assert [layer.kind for layer in described if isinstance(layer, Pool)] == pools
    assert described[-1].fan_in == network[-1].in_features


def first_and_readout(make_trial, **choices):
    spec = make_trial(depth=2, **choices).spec
    layers = weight_layers(describe(spec, SHAPE, CLASSES))
    return layers[0], layers[-1]


def test_center_rows_centres_the_weights_of_hidden_layers_alone(make_trial):
    first, readout = first_and_readout(make_trial, initializer="he_normal", repair="center_rows")
    assert (first.centred, first.sigma_w2) == (True, 2)
    assert not readout.centred


def test_rescale_tau_makes_the_squares_of_hidden_weights_exact(make_trial):
    first, readout = first_and_readout(make_trial, initializer="he_normal", repair="rescale_tau")
    assert (first.exact, first.sigma_w2) == (True, 1)
    assert readout.sigma_w2 == 2


def test_zero_bias_leaves_the_biases_of_the_readout(make_trial):
    first, readout = first_and_readout(
        make_trial,
        initializer="pytorch_default",
        repair="zero_bias",
        **{"initializer.bias": "uniform"},
    )
    assert first.sigma_b2 == 0
    assert readout.sigma_b2 > 0


def test_lsuv_is_described_as_one_factor_for_a_whole_layer(make_trial):
    network = describe(make_trial(depth=2, repair="lsuv").spec, SHAPE, CLASSES)
    kinds = [layer.kind for layer in network if isinstance(layer, Normalization)]
    assert kinds == ["pooled", "pooled"]


@pytest.mark.parametrize(
    "group, message",
    [
        ("architecture", "unknown architecture 'mystery'; known: cnn, .*mlp, resnet, stack"),
        ("initializer", "unknown initializer 'mystery'; known: delta_orthogonal, edge_of_chaos"),
        ("normalization", "unknown normalization 'mystery'; known: batch"),
        ("dropout", "unknown dropout 'mystery'; known: alpha"),
    ],
)
def test_an_unknown_part_is_not_described(make_trial, group, message):
    spec = make_trial().spec | {group: {"name": "mystery"}}
    with pytest.raises(RequestError, match=message):
        describe(spec, SHAPE, CLASSES)


def test_a_description_needs_no_torch():
    code = (
        "import sys; from harness.configuration.composing import compose; "
        "from harness.configuration.trial import trials; "
        "from harness.networks.layout import check_layout, describe, layer_sizes; "
        "spec = trials(compose(['architecture=cnn', 'normalization=batch', 'dropout=alpha']))[0]"
        ".spec; check_layout(spec, (1, 8, 8), 10); describe(spec, (1, 8, 8), 10); "
        "layer_sizes(spec, (1, 8, 8), 10); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
