"""Residual networks: their control, their forms, their description, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.configuration.options import known_names
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.networks.layout import check_layout, describe, layer_sizes
from harness.networks.residual import Residual
from harness.networks.residual_forms import residual_forms
from harness.networks.trial_prediction import predict
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.networks.description import Activation, Convolution, Dense
from harness.theory.networks.description import Residual as DescribedResidual
from harness.theory.networks.predictions import Inputs

SHAPE, CLASSES = (1, 6, 6), 7


def drawn(spec: dict) -> nn.Sequential:
    network = build_network(spec, SHAPE, CLASSES)
    initialize(network, spec["initializer"], 3)
    return network.eval()


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("normalization", ["none", "layer"])
@pytest.mark.parametrize("depth", [1, 2, 6, 7])
def test_without_a_residual_sum_it_is_the_dense_network(make_trial, depth, normalization):
    settings = {"depth": depth, "width": 9, "normalization": normalization, "dropout": "alpha"}
    control = make_trial(architecture="resnet", **settings | {"architecture.residual": "none"}).spec
    mlp = make_trial(**settings).spec
    assert layer_sizes(control, SHAPE, CLASSES) == layer_sizes(mlp, SHAPE, CLASSES)
    assert describe(control, SHAPE, CLASSES) == describe(mlp, SHAPE, CLASSES)
    networks = [drawn(control), drawn(mlp)]
    outputs = [network.train()(images()) for network in networks]
    assert torch.equal(*outputs)


def test_without_a_residual_sum_it_is_the_convolutional_network(make_trial):
    options = {"architecture.residual": "none", "architecture.layer": "conv"}
    control = make_trial(architecture="resnet", depth=3, width=4, **options).spec
    cnn = make_trial(architecture="cnn", depth=3, width=4).spec
    assert describe(control, SHAPE, CLASSES) == describe(cnn, SHAPE, CLASSES)
    assert torch.equal(drawn(control)(images()), drawn(cnn)(images()))


def test_what_blocks_leave_over_stands_in_front_of_them(make_trial):
    for depth, block, blocks in ((8, 2, 3), (7, 2, 3), (8, 3, 2), (4, 1, 3), (1, 2, 0)):
        spec = make_trial(architecture="resnet", depth=depth, **{"architecture.block": block}).spec
        described = describe(spec, SHAPE, CLASSES)
        assert sum(isinstance(layer, DescribedResidual) for layer in described) == blocks
        modules = build_network(spec, SHAPE, CLASSES).modules()
        assert sum(isinstance(module, Residual) for module in modules) == blocks


@pytest.mark.parametrize("name", ["plain", "scaled"])
def test_a_block_is_the_sum_of_its_input_and_its_branch(make_trial, name):
    spec = make_trial(architecture="resnet", depth=3, **{"architecture.residual": name}).spec
    network = drawn(spec)
    x = images()
    entering = network.layer_01(network.flatten(x))
    first, second = (
        network.block_01.branch.layer_02.weights,
        network.block_01.branch.layer_03.weights,
    )
    branch = second(torch.selu(first(torch.selu(entering))))
    scale = {"plain": 1.0, "scaled": math.sqrt(0.5)}[name]
    expected = network.readout(torch.selu(scale * (entering + branch)))
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("name", ["skip_init", "fixup"])
def test_blocks_begin_as_the_identity(make_trial, name):
    spec = make_trial(architecture="resnet", depth=7, **{"architecture.residual": name}).spec
    network = drawn(spec)
    x = images()
    entering = network.layer_01(network.flatten(x))
    expected = network.readout(torch.selu(entering))
    torch.testing.assert_close(network(x), expected)


def test_fixup_shrinks_the_weights_of_its_branches_and_zeroes_their_ends(make_trial):
    """L^(-1 / (2 m - 2)) for L branches of m layers (Zhang et al. 2019, section 3)."""
    options = {"architecture.block": 3, "architecture.residual": "fixup"}
    settings = {"architecture": "resnet", "depth": 13, "width": 200}
    spec = make_trial(**settings, **options).spec
    network = drawn(spec)
    plain = drawn(make_trial(**settings, **{"architecture.block": 3}).spec)
    for name, weight in network.named_parameters():
        if name.endswith("layer_03.weights.weight"):
            own = plain.get_parameter(name)
            torch.testing.assert_close(weight, own * 4 ** (-1 / 4))
    assert not network.block_01.branch.layer_04.weights.weight.any()
    assert not network.readout.weight.any()
    blocks = [layer for layer in describe(spec, SHAPE, CLASSES) if hasattr(layer, "branch")]
    scales = [part.sigma_w2 for part in blocks[0].branch if isinstance(part, Dense)]
    assert scales == pytest.approx([0.5, 0.5, 0.0])


# The mean square after a block, from that in front of it and that of the branch.
SUMS = {
    "none": lambda skip, branch: branch,
    "plain": lambda skip, branch: skip + branch,
    "scaled": lambda skip, branch: (skip + branch) / 2,
    "skip_init": lambda skip, branch: skip,
    "fixup": lambda skip, branch: skip,
}


def selu_square(q: float) -> float:
    """Returns E selu(z)^2 for z of mean 0 and variance q."""
    mean, variance = quadrature.moments(activation("selu"), 0.0, q)
    return float(variance + mean**2)


@pytest.mark.parametrize("name", residual_forms.names())
def test_every_form_is_predicted(make_trial, name):
    spec = make_trial(architecture="resnet", depth=5, **{"architecture.residual": name}).spec
    inputs = Inputs(images(40).double().numpy())
    prediction = predict(spec, SHAPE, CLASSES, inputs, 40)
    assert [layer.reason for layer in prediction.layers] == [None] * 5
    assert "nan" not in prediction.sentence
    q = prediction.layers[0]["q"]
    for _ in range(2):
        q = SUMS[name](q, selu_square(selu_square(q)))
    assert prediction.layers[4]["q"] == pytest.approx(q, rel=0.02)


def test_convolutions_keep_their_map(make_trial):
    options = {"architecture.layer": "conv", "architecture.padding": "reflect"}
    spec = make_trial(architecture="resnet", depth=3, width=4, **options).spec
    sizes = layer_sizes(spec, SHAPE, CLASSES)
    assert [(size.height, size.width) for size in sizes[:3]] == [(6, 6)] * 3
    described = describe(spec, SHAPE, CLASSES)
    assert isinstance(described[0], Convolution)
    kinds = [type(part) for part in described[1].branch]
    assert kinds == [Activation, Convolution, Activation, Convolution]
    assert drawn(spec)(images()).shape == (5, CLASSES)


REFUSED = {
    "form": (
        {"architecture.residual": "highway"},
        "unknown architecture.residual 'highway'; known: ",
    ),
    "layer": ({"architecture.layer": "linear"}, "layer=linear: expected one of dense, conv"),
    "block": ({"architecture.block": 0}, "block=0: expected an integer of at least 1"),
    "kernel": ({"architecture.kernel": 2}, "kernel=2: expected an odd integer of at least 1"),
    "padding": ({"architecture.padding": "valid"}, "padding=valid: expected one of zeros"),
    "head": ({"architecture.head": "max"}, "head=max: expected one of flatten, average"),
    "kernel of dense layers": (
        {"architecture.kernel": 5},
        "architecture.kernel=5: dense layers have none; give architecture.layer=conv",
    ),
    "padding of dense layers": (
        {"architecture.padding": "reflect"},
        "architecture.padding=reflect: dense layers have none",
    ),
    "head of dense layers": (
        {"architecture.head": "average"},
        "architecture.head=average: dense layers have none",
    ),
    "widths": ({"width": [9, 8, 9]}, "a residual sum needs layers of one width"),
    "input": (
        {"width": "input", "architecture.layer": "conv"},
        "width=input: only for dense layers",
    ),
    "standardized zeros": (
        {"architecture.residual": "fixup", "normalization": "weight_standardization"},
        "residual=fixup with normalization=weight_standardization",
    ),
    "repaired zeros": (
        {"architecture.residual": "fixup", "repair": "lsuv"},
        "residual=fixup with repair=lsuv",
    ),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_impossible_residual_networks_are_refused(make_trial, changes, message):
    spec = make_trial(architecture="resnet", **{"depth": 3} | changes).spec
    with pytest.raises(RequestError, match=message) as refusal:
        check_layout(spec, SHAPE, CLASSES)
    assert "\n" not in str(refusal.value)


def test_the_configuration_names_every_form():
    text = " ".join(residual_forms.names())
    assert text == "fixup none plain scaled skip_init"
    assert "resnet" in known_names("architecture")
