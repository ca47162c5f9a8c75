"""Layers, activations and normalizations that a diagnosis recognises in a forward pass."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose

from .models import Functional, labelled, lecun, selu_mlp


class Wrapped(nn.Module):
    """The parts of a network, called by a given function."""

    def __init__(self, inner: nn.Sequential, call) -> None:
        super().__init__()
        self.inner = inner
        self.call = call

    def forward(self, x):
        return self.call(self.inner, x)


def assert_equal_numbers(layers, others, tolerance: float) -> None:
    numbers = layers.select_dtypes("number")
    other_numbers = others.select_dtypes("number")
    assert list(numbers) == list(other_numbers)
    assert numpy.allclose(numbers, other_numbers, equal_nan=True, rtol=tolerance)


def test_functions_and_a_module_used_twice_are_seen_in_the_order_of_calls():
    layers = diagnose(Functional(), labelled(20)).layers
    assert list(layers["name"]) == ["first", "again", "again (call 2)"]
    assert list(layers["activation"]) == ["selu", "relu", "selu"]
    assert layers["pre_activation_variance"].iloc[1] != layers["pre_activation_variance"].iloc[2]


@pytest.mark.parametrize(
    "product",
    [
        lambda x, weight, bias: x @ weight.T + bias,
        lambda x, weight, bias: x.matmul(weight.t()) + bias,
        lambda x, weight, bias: torch.addmm(bias, x, weight.transpose(0, 1)),
        lambda x, weight, bias: functional.linear(x, weight) + bias,
    ],
    ids=["transpose", "matmul", "addmm", "added bias"],
)
def test_products_written_out_are_layers(product):
    def call(inner, x):
        return inner[2](functional.selu(product(x, inner[0].weight, inner[0].bias)))

    model = selu_mlp([20, 32, 4])
    nn.init.normal_(model[0].bias, generator=torch.Generator().manual_seed(0))
    written = diagnose(Wrapped(model, call), labelled(20)).layers
    assert written["name"].tolist() == ["inner.0"]
    assert_equal_numbers(diagnose(model, labelled(20)).layers, written, 1e-4)


def test_modules_and_functions_give_the_same_numbers():
    def call(inner, x):
        hidden = torch.selu_(functional.linear(x, inner[0].weight, inner[0].bias))
        return inner[4](functional.selu(inner[2](hidden)))

    model = selu_mlp([20, 32, 32, 4])
    written = diagnose(Wrapped(model, call), labelled(20)).layers
    assert_equal_numbers(diagnose(model, labelled(20)).layers, written, 1e-5)


def test_activations_in_place_show_what_enters_them():
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

    expected = diagnose(model(False), labelled(3, 12, 12)).layers
    layers = diagnose(model(True), labelled(3, 12, 12)).layers
    assert_equal_numbers(expected, layers, 1e-5)
    # Before ReLU, after the normalization.
    assert layers["pre_activation_mean"].iloc[0] == pytest.approx(0, abs=1e-5)


def test_convolutions_have_borders_and_groups():
    model = nn.Sequential(
        lecun(nn.Conv2d(4, 8, 3, padding=1)),
        nn.SELU(),
        lecun(nn.Conv2d(8, 8, 3, padding=1, groups=4)),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(8 * 64, 4),
    )
    layers = diagnose(model, labelled(4, 8, 8)).layers
    assert list(layers["fan_in"]) == [36, 18]
    assert (layers["border_tau_mean"] < layers["interior_tau_mean"]).all()
    # Theory does not follow groups.
    assert layers["predicted_activation_variance"].notna().tolist() == [True, False]


def test_one_dimensional_convolutions_are_measured():
    model = nn.Sequential(
        lecun(nn.Conv1d(4, 16, 5, padding=2)), nn.SELU(), nn.Flatten(), nn.Linear(16 * 30, 4)
    )
    layers = diagnose(model, labelled(4, 30)).layers
    assert layers["kind"].iloc[0] == "conv1d"
    assert 0.5 < layers["pre_activation_variance"].iloc[0] < 1.5


def test_a_normalization_before_the_activation_leaves_the_map_absent():
    model = nn.Sequential(lecun(nn.Linear(20, 32)), nn.BatchNorm1d(32), nn.SELU(), nn.Linear(32, 4))
    row = diagnose(model, labelled(20)).layers.iloc[0]
    assert row["normalization"] == "batch"
    assert math.isnan(row["ladder_map"])
    assert row["ladder_moments"] > 0
    assert "batch normalization stands between" in row["absent"]


def test_a_batch_normalization_uses_its_running_statistics_once_it_has_any():
    model = nn.Sequential(lecun(nn.Linear(20, 32)), nn.BatchNorm1d(32), nn.SELU(), nn.Linear(32, 4))
    fresh = diagnose(model, labelled(20)).layers["pre_activation_variance"].iloc[0]
    assert fresh == pytest.approx(1.0, abs=1e-3)
    model[1].running_var.fill_(4.0)
    model[1].num_batches_tracked.fill_(1)
    trained = diagnose(model, labelled(20)).layers["pre_activation_variance"].iloc[0]
    assert trained < 0.5


def test_a_users_own_activation_is_one_activation():
    class Wave(nn.Module):
        def forward(self, x):
            return torch.where(x > 0, torch.sin(x), torch.tanh(x) * 0.5)

    model = nn.Sequential(nn.Linear(20, 32), Wave(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    layers = diagnose(model, labelled(20)).layers
    assert list(layers["activation"]) == ["Wave", "tanh"]
    assert layers["ladder_empirical"].iloc[0] < 1e-5
    assert layers["predicted_activation_variance"].notna().all()


def test_shared_parameters_are_one_name_and_two_layers():
    model = nn.Sequential(
        nn.Linear(20, 20), nn.SELU(), nn.Linear(20, 20), nn.SELU(), nn.Linear(20, 4)
    )
    model[2].weight = model[0].weight
    layers = diagnose(model, labelled(20)).layers
    assert list(layers["name"]) == ["0", "0 (call 2)"]
    assert layers["tau_mean"].nunique() == 1


@pytest.mark.slow
def test_residual_networks_are_followed_as_far_as_they_go():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4)
    card = diagnose(model, labelled(3, 32, 32, samples=16))
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
    card = diagnose(model, labelled(12, samples=256))
    assert list(card.layers["activation"]) == ["leaky_relu"]
    assert numpy.isfinite(card.layers["predicted_activation_variance"]).all()
    assert any("a PReLU with a slope for each unit" in note for note in card.notes)
