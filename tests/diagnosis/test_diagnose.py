"""The diagnosis of any model: what it sees, that it leaves no trace, and what it says of what it cannot do."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

import harness
from harness.diagnosis.diagnose import FEW_SAMPLES, diagnose
from harness.errors import RequestError
from harness.theory.selu.moment_map import map_moments

_SPEC = importlib.util.spec_from_file_location(
    "diagnosed_models", Path(__file__).with_name("models.py")
)
models = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(models)

ROOT = Path(__file__).resolve().parents[2]


def data(
    *shape: int, samples: int = 128, classes: int = 4, seed: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, *shape, generator=generator), torch.randint(
        classes, (samples,), generator=generator
    )


@pytest.fixture(scope="module")
def card():
    return diagnose(models.selu_mlp([100, 128, 128, 4]), data(100, samples=512))


def test_importing_harness_loads_no_torch():
    code = "import sys, harness; assert 'torch' not in sys.modules; assert callable(harness.diagnose); assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    with pytest.raises(AttributeError):
        harness.nothing


def test_the_numbers_are_those_of_the_model(card):
    model, (x, _) = models.selu_mlp([100, 128, 128, 4]), data(100, samples=512)
    z = model[0](x).detach().double()
    y = model[1](z)
    row = card.layers.iloc[0]
    assert row["pre_activation_mean"] == pytest.approx(float(z.mean()), abs=1e-6)
    assert row["pre_activation_variance"] == pytest.approx(float(z.var(correction=0)), rel=1e-5)
    assert row["activation_variance"] == pytest.approx(float(y.var(correction=0)), rel=1e-5)
    assert row["tau_mean"] == pytest.approx(
        float(model[0].weight.detach().double().square().sum(1).mean()), rel=1e-5
    )
    assert row["input_variance"] == pytest.approx(float(x.double().var(correction=0)), rel=1e-5)
    assert list(card.layers["name"]) == ["0", "2"]
    assert list(card.layers["activation"]) == [
        "selu",
        "selu",
    ]


def test_gradients_are_those_of_autograd():
    model, (x, labels) = models.selu_mlp([20, 32, 32, 4]), data(20, samples=64)
    layers = diagnose(model, (x, labels)).layers
    kept = []
    hidden = x
    for module in model:
        hidden = module(hidden)
        if isinstance(module, nn.Linear):
            hidden.retain_grad()
            kept.append(hidden)
    functional.cross_entropy(hidden, labels, reduction="sum").backward()
    squares = [float(z.grad.square().sum(1).mean()) for z in kept[:2]]
    assert list(layers["gradient_square"]) == pytest.approx(squares, rel=1e-5)
    assert layers["gradient_product"].iloc[0] == pytest.approx(squares[0] / squares[1], rel=1e-5)
    norms = [float(module.weight.grad.norm()) / 64 for module in (model[0], model[2])]
    assert list(layers["weight_gradient_norm"]) == pytest.approx(norms, rel=1e-4)


def test_theory_stands_beside_the_measurement(card):
    layers = card.layers
    for name in ("activation_mean", "activation_variance", "gradient_product"):
        inside = (layers[name] >= layers[f"predicted_{name}_low"] - 1e-9) & (
            layers[name] <= layers[f"predicted_{name}_high"] + 1e-9
        )
        assert inside.all(), name
    # The rung `weights` is g itself: its error at the first layer is that of map_moments with each unit's omega and tau.
    model, (x, _) = models.selu_mlp([100, 128, 128, 4]), data(100, samples=512)
    weight = model[0].weight.detach().double().numpy()
    mean, variance = map_moments(
        float(x.double().mean()),
        float(x.double().var(correction=0)),
        weight.sum(1),
        numpy.square(weight).sum(1),
    )
    y = model[1](model[0](x)).detach().double()
    error = math.sqrt(
        numpy.square(y.mean(0).numpy() - mean).mean()
        + numpy.square(y.var(0, correction=0).numpy() - variance).mean()
    )
    assert layers["ladder_weights"].iloc[0] == pytest.approx(error, rel=1e-4)


def test_the_ladder_comes_down_to_nothing(card):
    ladder = card.ladder
    assert (ladder["ladder_map"] > ladder["ladder_moments"]).all()
    assert (ladder["ladder_moments"] > ladder["ladder_empirical"]).all()
    assert (ladder["ladder_empirical"] < 1e-5).all()


def test_functions_and_a_module_used_twice_are_seen_in_the_order_of_calls():
    layers = diagnose(models.Functional(), data(20)).layers
    assert list(layers["name"]) == ["first", "again", "again (call 2)"]
    assert list(layers["activation"]) == ["selu", "relu", "selu"]
    assert layers["pre_activation_variance"].iloc[1] != layers["pre_activation_variance"].iloc[2]


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w, b: x @ w.T + b,
        lambda x, w, b: x.matmul(w.t()) + b,
        lambda x, w, b: torch.addmm(b, x, w.transpose(0, 1)),
        lambda x, w, b: functional.linear(x, w) + b,
    ],
)
def test_products_written_out_are_layers(product):
    class Written(nn.Module):
        def __init__(self, inner: nn.Sequential) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner[2](
                functional.selu(product(x, self.inner[0].weight, self.inner[0].bias))
            )

    model = models.selu_mlp([20, 32, 4])
    nn.init.normal_(model[0].bias, generator=torch.Generator().manual_seed(0))
    expected, found = (diagnose(one, data(20)).layers for one in (model, Written(model)))
    assert found["name"].tolist() == ["inner.0"]
    assert numpy.allclose(
        expected.select_dtypes("number"), found.select_dtypes("number"), equal_nan=True, rtol=1e-4
    )


def test_a_last_layer_of_zeros_is_noted():
    model = models.selu_mlp([20, 32, 4])
    nn.init.zeros_(model[2].weight)
    assert any("Every gradient is 0" in note for note in diagnose(model, data(20)).notes)


def test_modules_and_functions_agree():
    class Written(nn.Module):
        def __init__(self, inner: nn.Sequential) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner[4](
                functional.selu(
                    self.inner[2](
                        torch.selu_(functional.linear(x, self.inner[0].weight, self.inner[0].bias))
                    )
                )
            )

    model = models.selu_mlp([20, 32, 32, 4])
    numbers = [
        diagnose(one, data(20)).layers.select_dtypes("number") for one in (model, Written(model))
    ]
    assert numpy.allclose(numbers[0], numbers[1], equal_nan=True, rtol=1e-5)


def test_in_place_activations_show_what_enters_them():
    def model(in_place: bool) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(in_place),
            nn.Conv2d(8, 8, 3),
            nn.SELU(in_place),
            nn.Flatten(),
            nn.Linear(8 * 64, 4),
        )

    numbers = [
        diagnose(model(in_place), data(3, 12, 12)).layers.select_dtypes("number")
        for in_place in (False, True)
    ]
    assert numpy.allclose(numbers[0], numbers[1], equal_nan=True, rtol=1e-5)
    assert numbers[1]["pre_activation_mean"].iloc[0] == pytest.approx(
        0, abs=1e-5
    )  # before ReLU, behind the normalization


def test_convolutions_have_borders_and_groups():
    model = nn.Sequential(
        models.lecun(nn.Conv2d(4, 8, 3, padding=1)),
        nn.SELU(),
        models.lecun(nn.Conv2d(8, 8, 3, padding=1, groups=4)),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(8 * 64, 4),
    )
    layers = diagnose(model, data(4, 8, 8)).layers
    assert list(layers["fan_in"]) == [36, 18]
    assert (layers["border_tau_mean"] < layers["interior_tau_mean"]).all()
    assert layers["predicted_activation_variance"].notna().tolist() == [
        True,
        False,
    ]  # theory does not follow groups


def test_one_dimensional_convolutions():
    model = nn.Sequential(
        models.lecun(nn.Conv1d(4, 16, 5, padding=2)), nn.SELU(), nn.Flatten(), nn.Linear(16 * 30, 4)
    )
    layers = diagnose(model, data(4, 30)).layers
    assert layers["kind"].iloc[0] == "conv1d"
    assert 0.5 < layers["pre_activation_variance"].iloc[0] < 1.5


def test_a_normalization_in_between_is_seen_and_the_map_is_absent():
    model = nn.Sequential(
        models.lecun(nn.Linear(20, 32)), nn.BatchNorm1d(32), nn.SELU(), nn.Linear(32, 4)
    )
    card = diagnose(model, data(20))
    row = card.layers.iloc[0]
    assert row["normalization"] == "batch"
    assert math.isnan(row["ladder_map"])
    assert row["ladder_moments"] > 0
    assert row["pre_activation_variance"] == pytest.approx(
        1.0, abs=1e-3
    )  # the batch's own statistics: this one never saw a batch
    assert "batch normalization stands between" in row["absent"]
    model[1].running_var.fill_(4.0)
    model[1].num_batches_tracked.fill_(1)
    assert (
        diagnose(model, data(20)).layers["pre_activation_variance"].iloc[0] < 0.5
    )  # now its running ones count


def test_a_users_own_activation_is_one_activation():
    class Wave(nn.Module):
        def forward(self, x):
            return torch.where(x > 0, torch.sin(x), torch.tanh(x) * 0.5)

    layers = diagnose(
        nn.Sequential(nn.Linear(20, 32), Wave(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4)),
        data(20),
    ).layers
    assert list(layers["activation"]) == ["Wave", "tanh"]
    assert layers["ladder_empirical"].iloc[0] < 1e-5
    assert layers["predicted_activation_variance"].notna().all()


class Watched(nn.Module):
    """A model with everything that could be disturbed: running statistics, a counter, dropout, a frozen part, hooks, gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(20, 16), nn.BatchNorm1d(16), nn.SELU(), nn.Dropout(0.5), nn.Linear(16, 4)
        )
        self.register_buffer("calls", torch.zeros(()))
        self.body[1].eval()

    def forward(self, x):
        self.calls += 1
        return self.body(x)


def test_no_trace_is_left():
    model = Watched()
    model.body[0].weight.requires_grad_(False)
    model(data(20)[0]).sum().backward()
    model.body[2].register_forward_hook(lambda *_: None)
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    gradients = [
        None if parameter.grad is None else parameter.grad.clone()
        for parameter in model.parameters()
    ]
    hooks = [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*data(20)), batch_size=32, shuffle=True
    )
    diagnose(model, loader)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ] == hooks
    assert all(
        old is None and parameter.grad is None or torch.equal(old, parameter.grad)
        for old, parameter in zip(gradients, model.parameters())
    )
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == numpy.random.get_state()[1]).all()


def test_no_trace_is_left_by_a_model_that_fails():
    class Failing(Watched):
        def forward(self, x):
            super().forward(x)
            raise KeyError("broken")

    model = Failing()
    before, flags = (
        copy.deepcopy(model.state_dict()),
        [module.training for module in model.modules()],
    )
    with pytest.raises(
        RequestError, match="the model failed on inputs of shape .* KeyError: 'broken'"
    ):
        diagnose(model, data(20))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_repeated_diagnoses_agree():
    model = Watched()
    assert diagnose(model, data(20)).to_json() == diagnose(model, data(20)).to_json()


class Tuple(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.body, self.wrap = models.selu_mlp([20, 32, 4]), wrap

    def forward(self, x):
        return self.wrap(self.body(x))


@pytest.mark.parametrize(
    "wrap",
    [lambda y: (y, 3), lambda y: {"logits": y, "aux": None}, lambda y: [(y,)]],
    ids=["tuple", "mapping", "nested"],
)
def test_the_first_tensor_of_a_tuple_gives_the_loss(wrap):
    expected = diagnose(models.selu_mlp([20, 32, 4]), data(20)).layers["gradient_square"].iloc[0]
    assert diagnose(Tuple(wrap), data(20)).layers["gradient_square"].iloc[0] == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "wrap",
    [lambda y: None, lambda y: "text", lambda y: y.argmax(1), lambda y: y.detach()],
    ids=["nothing", "text", "classes", "detached"],
)
def test_without_a_loss_gradients_are_absent_with_the_reason(wrap):
    card = diagnose(Tuple(wrap), data(20))
    assert card.layers["gradient_square"].isna().all()
    assert card.layers["activation_variance"].notna().all()
    assert any(note.startswith("No gradients: the model gives no tensor") for note in card.notes)
    assert "no gradient" in card.layers["absent"].iloc[0]


def test_without_labels_a_random_projection_stands_in():
    x, labels = data(20)
    model = models.selu_mlp([20, 32, 4])
    for loader in (x, [x], [(x,)], [{"image": x}], (x, labels + 100)):
        card = diagnose(model, loader)
        assert card.layers["gradient_square"].iloc[0] > 0
        assert any("random projection" in note for note in card.notes)
    for loader in (
        (x, labels),
        [(x[:50], labels[:50]), (x[50:], labels[50:])],
        [{"pixel_values": x, "labels": labels}],
    ):
        assert any("cross-entropy" in note for note in diagnose(model, loader).notes)


def test_a_value_that_is_no_number_is_absent_and_the_layers_before_are_measured():
    model = models.selu_mlp([20, 32, 32, 4])
    with torch.no_grad():
        model[2].weight[3, 3] = math.nan
    card = diagnose(model, data(20))
    assert card.layers["activation_variance"].notna().tolist() == [True, False]
    assert "128 of 4096 pre-activations are not finite" in card.layers["absent"].iloc[1]
    assert any("the loss is not a finite number" in note for note in card.notes)
    assert set(card.verdicts[card.verdicts["layer"] == 2]["verdict"]) == {"unknown"}
    assert "null" in card.to_json()
    assert "NaN" not in card.to_json()
    assert str(card)


def test_few_samples_leave_absent_what_needs_more():
    card = diagnose(models.selu_mlp([20, 32, 4]), data(20, samples=3))
    row = card.layers.iloc[0]
    assert math.isnan(row["unit_wasserstein_q90"])
    assert "only 3 samples" in row["absent"]
    assert row["activation_variance"] > 0
    assert any(f"{3} samples are few" in note for note in card.notes)
    assert FEW_SAMPLES > 3
    gaussianity = card.verdicts[card.verdicts["assumption"] == "gaussianity"].iloc[0]
    assert "only 3 samples" in gaussianity["reason"]


def test_shared_parameters_are_one_name_and_two_layers():
    model = nn.Sequential(
        nn.Linear(20, 20), nn.SELU(), nn.Linear(20, 20), nn.SELU(), nn.Linear(20, 4)
    )
    model[2].weight = model[0].weight
    layers = diagnose(model, data(20)).layers
    assert list(layers["name"]) == ["0", "0 (call 2)"]
    assert layers["tau_mean"].nunique() == 1


def test_double_and_half_precision_models():
    for dtype in (torch.float64, torch.bfloat16):
        layers = diagnose(models.selu_mlp([20, 32, 4]).to(dtype), data(20)).layers
        assert layers["activation_variance"].iloc[0] == pytest.approx(1, abs=0.3)


def test_frozen_models_have_gradients():
    model = models.selu_mlp([20, 32, 4])
    frozen = copy.deepcopy(model).requires_grad_(False)
    squares = [diagnose(one, data(20)).layers["gradient_square"].iloc[0] for one in (model, frozen)]
    assert squares[0] == pytest.approx(squares[1])


NONSENSE = {
    "no module": (
        lambda: lambda x: x,
        data(20),
        "the model is a function; expected a torch.nn.Module",
    ),
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(8), nn.SELU()),
        data(20),
        "parameters without values yet .0.weight, 0.bias.: run it once",
    ),
    "meta": (
        lambda: nn.Sequential(nn.Linear(20, 8, device="meta"), nn.SELU()),
        data(20),
        "meta device",
    ),
    "scripted": (
        lambda: torch.jit.script(nn.Sequential(nn.Linear(20, 8), nn.SELU())),
        data(20),
        "TorchScript",
    ),
    "no layer": (lambda: nn.Flatten(), data(20), "no linear or convolutional layer"),
    "no activation": (
        lambda: nn.Sequential(nn.Linear(20, 8), nn.Softmax(1)),
        data(20),
        "no layer of the model is followed by a supported activation.*softmax",
    ),
    "wrong shape": (
        lambda: models.selu_mlp([21, 8, 4]),
        data(20),
        "the model failed in 0 on inputs of shape .2, 20.: RuntimeError",
    ),
    "empty loader": (lambda: models.selu_mlp([20, 8, 4]), [], "the loader gave no sample"),
    "empty batch": (
        lambda: models.selu_mlp([20, 8, 4]),
        [torch.zeros(0, 20)],
        "the loader gave no sample",
    ),
    "one sample": (
        lambda: models.selu_mlp([20, 8, 4]),
        torch.zeros(1, 20),
        "gave one sample; at least 2",
    ),
    "no loader": (lambda: models.selu_mlp([20, 8, 4]), 3, "the loader is a int"),
    "no tensors": (lambda: models.selu_mlp([20, 8, 4]), [["a", "b"]], "holds a str where a tensor"),
    "ragged": (
        lambda: models.selu_mlp([20, 8, 4]),
        [torch.zeros(2, 20), torch.zeros(2, 21)],
        "inputs of different shapes",
    ),
    "NaN": (
        lambda: models.selu_mlp([20, 8, 4]),
        torch.full((8, 20), math.nan),
        "inputs hold a value that is not a finite number",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_one_clear_line(case):
    make, loader, message = NONSENSE[case]
    with pytest.raises(RequestError, match=message) as caught:
        diagnose(make(), loader)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_data_follow_the_model_to_its_device():
    card = diagnose(models.selu_mlp([20, 32, 4]).cuda(), data(20))
    assert card.device.startswith("cuda")
    assert card.layers["activation_variance"].iloc[0] == pytest.approx(
        diagnose(models.selu_mlp([20, 32, 4]), data(20)).layers["activation_variance"].iloc[0],
        rel=1e-4,
    )


def test_the_page_is_one_file(card, tmp_path):
    path = card.write_html(tmp_path / "deep" / "card.html")
    text = path.read_text()
    assert text.count("data:image/png;base64,") == 4
    assert "http" not in text.replace("http-equiv", "")
    assert card.summary["verdict_sentence"][:30] in text
    with pytest.raises(RequestError, match="cannot write"):
        card.write_html(tmp_path / "deep" / "card.html" / "below")


def test_json_has_everything(card):
    read = json.loads(card.to_json())
    assert read["summary"]["verdict_input"] == "holds"
    assert len(read["layers"]) == 2
    assert len(read["verdicts"]) == 10
    assert {"found", "fix", "rule", "layers", "consequence"} >= set(
        read["findings"][0] if read["findings"] else {"rule": 0}
    )


@pytest.mark.slow
def test_residual_networks_are_followed_as_far_as_they_go():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    card = diagnose(torchvision.models.resnet18(num_classes=4), data(3, 32, 32, samples=16))
    names = list(card.layers["name"])
    assert len(names) == 17
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert not any("downsample" in name for name in names)
    assert "residual sum" in card.layers["absent"].iloc[2]
    assert any("downsample" in note for note in card.notes)


def test_a_prelu_of_one_slope_is_a_leaky_relu_and_one_of_many_is_left_out():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 24), nn.PReLU(), nn.Linear(24, 24), nn.PReLU(24), nn.Linear(24, 4)
    )
    card = diagnose(model, [(torch.randn(256, 12), torch.randint(0, 4, (256,)))])
    assert list(card.layers["activation"]) == ["leaky_relu"]
    assert numpy.isfinite(card.layers["predicted_activation_variance"]).all()
    assert any("a PReLU with a slope for each unit" in note for note in card.notes)
