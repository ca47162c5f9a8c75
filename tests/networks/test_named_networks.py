"""Named networks: what is replaced in them, their weights, their description, their refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from harness import networks
from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.networks.architectures import architecture_of, build_network
from harness.networks.dropouts import AlphaDropout, StandardDropout
from harness.networks.initialization import draw_weight
from harness.networks.layout import layer_sizes
from harness.networks.named.assembly import resized
from harness.networks.trial_prediction import predict
from harness.seeding import purpose_seed
from harness.sweeps.cells import cell
from harness.theory.networks.predictions import Inputs

SHAPE, CLASSES, SEED = (1, 8, 8), 10, 3
MODULES = "named_modules"
NORMALIZED = {"architecture.replace": ["activation", "initializer", "normalization"]}


@pytest.fixture(autouse=True)
def modules_on_the_path(monkeypatch, request) -> None:
    monkeypatch.syspath_prepend(request.path.parent)


@pytest.fixture
def make_named(make_config):
    """Makes the trial of a user's factory: `make_named("dense", activation="relu")`."""

    def make(name: str, **choices) -> Trial:
        own = {"architecture": "factory", "architecture.name": f"{MODULES}:{name}"}
        return cell(make_config(**own | {"seeds": [SEED]} | choices)).jobs[0].trial

    return make


def drawn(trial: Trial, shape=SHAPE) -> nn.Module:
    """The network of a trial with its initial weights, in evaluation mode."""
    network = build_network(trial.spec, shape, CLASSES)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    kind = architecture_of(trial.spec)
    kind.initialize(network, trial.spec, trial.seed, (shape, CLASSES), state)
    return network.eval()


def images(count: int = 4, shape=SHAPE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def test_a_replaced_network_of_torchvision_equals_the_same_surgery_by_hand(make_config):
    choices = {"architecture": "torchvision", "architecture.name": "resnet18", **NORMALIZED}
    trial = cell(make_config(**choices, activation="tanh", seeds=[SEED])).jobs[0].trial
    network = drawn(trial)
    by_hand = models.resnet18(num_classes=CLASSES)
    by_hand.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    for name, module in list(by_hand.named_modules()):
        if isinstance(module, nn.ReLU):
            by_hand.set_submodule(name, nn.Tanh())
        if isinstance(module, nn.BatchNorm2d):
            by_hand.set_submodule(name, nn.Identity())
    by_hand.load_state_dict(network.state_dict())
    assert torch.equal(network(images()), by_hand.eval()(images()))
    for name, module in by_hand.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = torch.empty_like(module.weight)
            generator = torch.Generator().manual_seed(purpose_seed(SEED, f"weights/{name}"))
            draw_weight(weight, trial.spec["initializer"], generator)
            assert torch.equal(module.weight, weight), name
    assert not network.fc.bias.any()
    assert trial.axes["depth"] == 17  # the 17 convolutions that a ReLU follows
    assert (trial.axes["architecture"], trial.axes["width"]) == ("resnet18", "own")


def test_functions_are_replaced_and_work_in_place_as_before(make_named):
    network = drawn(make_named("Functional", activation="tanh"))
    x = images()
    y = torch.tanh(network.norm(network.first(x)))
    y = nn.functional.max_pool2d(y + torch.tanh(network.second(y)), 2)
    expected = network.head(torch.tanh(network.third(y.flatten(1))))
    assert torch.equal(network(x), expected)
    assert type(network).__name__ == "Functional"


def test_gates_are_left_alone(make_named):
    network = drawn(make_named("gated", activation="selu"))
    kinds = [type(module) for module in network]
    assert kinds == [nn.Flatten, nn.Linear, nn.Sigmoid, nn.SELU, nn.Linear]


def test_what_is_not_replaced_is_the_factorys_own(make_named):
    trial = make_named("Functional", **{"architecture.replace": ["activation"]})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network = drawn(trial)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(purpose_seed(SEED, "network"))
    own = sys.modules[MODULES].Functional(CLASSES, SHAPE)
    for name, parameter in own.named_parameters():
        assert torch.equal(network.get_parameter(name), parameter), name
    names = [trial.spec[part]["name"] for part in ("activation", "initializer", "normalization")]
    assert names == ["selu", "own", "own"]


@pytest.mark.parametrize(
    "normalization, kind",
    [("none", nn.Identity), ("group", nn.GroupNorm), ("layer", nn.GroupNorm)],
)
def test_normalizations_are_replaced(make_named, normalization, kind):
    groups = {"normalization.groups": 2} if normalization == "group" else {}
    trial = make_named("Functional", normalization=normalization, **NORMALIZED, **groups)
    assert isinstance(drawn(trial).norm, kind)


def test_a_dropout_keeps_its_rate_with_noise_of_the_trials_own(make_named):
    dropout = drawn(make_named("Functional")).drop
    assert type(dropout) is StandardDropout
    assert (float(dropout.rate), int(dropout.key)) == (0.25, purpose_seed(SEED, "dropout/drop"))
    swept = {"architecture.replace": ["dropout"], "dropout": "alpha", "dropout.rate": 0.1}
    replaced = drawn(make_named("Functional", **swept)).drop
    assert (type(replaced), float(replaced.rate)) == (AlphaDropout, pytest.approx(0.1))


def test_layers_have_the_sizes_of_their_maps(make_named):
    sizes = layer_sizes(make_named("Functional").spec, SHAPE, CLASSES)
    shown = [(size.name, size.fan_in, size.units, size.height, size.width) for size in sizes]
    assert shown == [
        ("first", 9, 4, 8, 8),
        ("second", 36, 4, 8, 8),
        ("third", 64, 9, 1, 1),
        ("head", 9, CLASSES, 1, 1),
    ]


def test_lazy_layers_are_drawn_too(make_named):
    assert drawn(make_named("lazy"))[1].weight.shape == (6, 64)


def test_images_are_enlarged_by_their_nearest_pixels(make_named):
    size = {"architecture.image_size": 16}
    trial = make_named("Functional", **size)
    network = drawn(trial)
    x = images()
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(resized(x, 16), large)
    plain = drawn(make_named("Functional"), (1, 16, 16))
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network(x), plain(large))
    assert architecture_of(trial.spec).entering(trial.spec, x.numpy()).shape == (4, 1, 16, 16)


def test_a_plain_network_is_predicted_as_the_stack_that_it_is(make_named, make_trial):
    inputs = Inputs(images(60).double().numpy())
    named = predict(make_named("dense").spec, SHAPE, CLASSES, inputs, 60)
    stack = predict(make_trial(depth=2, width=[12, 8]).spec, SHAPE, CLASSES, inputs, 60)
    assert named.rows() == stack.rows()


def test_theory_says_where_it_cannot_follow(make_named):
    spec = make_named("Functional").spec
    prediction = predict(spec, SHAPE, CLASSES, Inputs(images(60).double().numpy()), 60)
    reasons = [layer.reason for layer in prediction.layers]
    assert reasons[0] is None
    assert all("a sum of several layers" in reason for reason in reasons[1:])
    assert "not followed" in prediction.training[0].reason


def test_a_network_of_timm_has_the_channels_and_classes_of_the_data(make_config):
    pytest.importorskip("timm")
    choices = {"architecture": "timm", "architecture.name": "test_resnet", "seeds": [SEED]}
    network = drawn(cell(make_config(**choices)).jobs[0].trial)
    assert network(images()).shape == (4, CLASSES)
    assert any(isinstance(module, nn.SELU) for module in network.modules())


FACTORIES = {
    "demanding": "needs an argument 'size'",
    "wordy": "returned a str; expected a torch.nn.Module",
    "broken": "raised ValueError: no weights",
    "thousand": "gives 1000 numbers for an image, and the data have 10 classes",
    "large": "cannot take images of 1 x 8 x 8",
    "linear": "has no activation that can be replaced",
    "Noisy": "draws random numbers in training by itself",
    "Pair": "gives a tuple; expected a tensor of logits",
    "absent": "has no attribute 'absent'",
}
SETTINGS = {
    "depth": ({"depth": 4}, "depth=4: .* has layers of its own; leave depth out"),
    "width": ({"width": 12}, "width=12: .* leave width out"),
    "own activation": (
        {"architecture.replace": ["initializer"], "activation": "relu"},
        "activation=relu: .* keeps its own activation; add activation to architecture.replace",
    ),
    "own dropout": ({"dropout": "alpha"}, "dropout=alpha: .* keeps its own dropout"),
    "own weights": (
        {"architecture.replace": ["activation"], "readout.bias": "zeros"},
        "keeps its own weights; add initializer",
    ),
    "own activation's edge": (
        {"architecture.replace": ["initializer"], "initializer": "edge_of_chaos"},
        "it is computed for the swept activation",
    ),
    "no biases": ({"readout.bias": "none"}, "readout.bias=none: the head of"),
    "part": ({"architecture.replace": ["weights"]}, "expected a list of some of activation"),
    "part twice": ({"architecture.replace": ["dropout"] * 2}, "expected a list of some of"),
    "size": ({"architecture.image_size": 0}, "image_size=0: expected an integer of at least 1"),
    "weights' form": ({**NORMALIZED, "normalization": "spectral_norm"}, "acts on weights"),
    "name": ({"architecture.name": "Functional"}, "names no network; expected for example"),
    "place": ({**NORMALIZED, "normalization.position": "after"}, "keeps the places"),
    "groups": (
        {**NORMALIZED, "normalization": "group", "normalization.groups": 3},
        "groups=3 do not divide the 4 units of a BatchNorm2d",
    ),
    "identity": ({"activation": "identity"}, "activation=identity: the layers of"),
}


@pytest.mark.parametrize("name, message", FACTORIES.items(), ids=FACTORIES)
def test_a_factory_that_gives_no_network_for_the_data_is_refused(make_named, name, message):
    with pytest.raises(RequestError, match=message) as refusal:
        make_named(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("changes, message", SETTINGS.values(), ids=SETTINGS)
def test_settings_without_a_meaning_for_a_named_network_are_refused(make_named, changes, message):
    with pytest.raises(RequestError, match=message) as refusal:
        make_named("Functional", **changes)
    assert "\n" not in str(refusal.value)


def test_a_normalization_without_a_counterpart_is_refused(make_named):
    with pytest.raises(RequestError, match="2 is a LayerNorm, which has no counterpart"):
        make_named("layer_norm", **NORMALIZED)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_an_unknown_name_is_told_with_those_close_to_it(make_config, library):
    if library == "timm":
        pytest.importorskip("timm")
    choices = {"architecture": library, "architecture.name": "resnet19"}
    with pytest.raises(RequestError, match="has no such network; did you mean resnet18"):
        cell(make_config(**choices))


def test_timm_is_an_optional_extra(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match="timm is not installed; `pip install timm`"):
        cell(make_config(architecture="timm", **{"architecture.name": "resnet18"}))


def test_the_network_of_the_readme_is_swept(make_config, tmp_path, monkeypatch):
    text = Path(networks.__path__[0], "README.md").read_text(encoding="utf-8")
    (tmp_path / "my_nets.py").write_text(text.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    own = {"architecture": "factory", "architecture.name": "my_nets:ConvNet"}
    trial = cell(make_config(**own, activation="tanh", seeds=[SEED])).jobs[0].trial
    network = drawn(trial)
    assert network(images()).shape == (4, CLASSES)
    assert sum(isinstance(module, nn.Tanh) for module in network.modules()) == 2
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
