"""Each rule of the lint with a violation, and silence on clean SELU networks of any shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.diagnosis.diagnose import structure_of
from harness.diagnosis.findings import Finding
from harness.diagnosis.lint import lint
from harness.diagnosis.weight_rules import weight_law
from harness.networks.dropouts import AlphaDropout, StandardDropout
from harness.networks.tracing.input_statistics import InputStatistics
from harness.networks.tracing.structure import Layer

from . import models
from .models import gaussian


def rules(model: nn.Module, inputs: torch.Tensor) -> dict[str, Finding]:
    """The findings on a model by the names of their rules."""
    findings = lint(structure_of(model, inputs), InputStatistics.measured(inputs))
    return {finding.rule: finding for finding in findings}


CLEAN = [
    [8, 4, 4, 3],
    [8, 8, 8, 8, 8, 2],
    [16, 512, 16, 4],
    [784, 512, 32, 10],
    [256, 64, 64, 64, 10],
    [64] + [16] * 24 + [10],
    [32] + [128] * 12 + [10],
    [3, 200, 2, 200, 2],
]


@pytest.mark.parametrize("widths", CLEAN, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_clean_networks_have_no_finding(widths, seed):
    assert rules(models.selu_mlp(widths, seed), gaussian(widths[0])) == {}


@pytest.mark.parametrize("seed", range(3))
def test_clean_convolutions_have_no_finding(seed):
    assert rules(models.selu_cnn(seed), gaussian(3, 12, 12)) == {}


@pytest.mark.parametrize(
    "units, fan_in", [(2, 2), (4, 4), (2, 64), (64, 2), (8, 8), (16, 4), (100, 300)]
)
def test_no_scale_of_lecun_weights_looks_wrong_by_chance(units, fan_in):
    generator = torch.Generator().manual_seed(1)
    for _ in range(2000):
        weight = torch.randn(units, fan_in, generator=generator) * fan_in**-0.5
        layer = Layer(
            name="layer",
            call=1,
            kind="linear",
            weight=weight,
            bias=None,
            units=units,
            fan_in=fan_in,
            fan_out=units,
            groups=1,
        )
        law, _ = weight_law(layer)
        assert law is None


def two_layers(after: nn.Module | None = None, before: nn.Module | None = None) -> nn.Sequential:
    """Two SELU layers and a readout, with a module before or after the first SELU."""
    modules = [
        models.lecun(nn.Linear(64, 64), 1),
        before,
        nn.SELU(),
        after,
        models.lecun(nn.Linear(64, 64), 2),
        nn.SELU(),
        models.lecun(nn.Linear(64, 4), 3),
    ]
    return nn.Sequential(*(module for module in modules if module is not None))


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(64), nn.LayerNorm(64), nn.GroupNorm(4, 64), nn.RMSNorm(64)],
    ids=lambda module: type(module).__name__,
)
def test_normalization_before_selu_is_found(norm):
    finding = rules(two_layers(before=norm), gaussian(64))["normalization before SELU"]
    assert finding.layers == ("0",)
    assert "1.0716" in finding.consequence


def test_normalization_after_selu_is_no_finding_of_that_rule():
    model = two_layers(after=nn.BatchNorm1d(64))
    assert "normalization before SELU" not in rules(model, gaussian(64))


@pytest.mark.parametrize(
    "wrong",
    [nn.Dropout(0.1), nn.Dropout1d(0.1), StandardDropout(0.1)],
    ids=lambda module: type(module).__name__,
)
def test_standard_dropout_after_selu_is_found(wrong):
    finding = rules(two_layers(after=wrong), gaussian(64))["Dropout where AlphaDropout belongs"]
    # Pooled fixed point of SELU for inputs of 1 / 0.9 times the mean square.
    assert "rate 0.1" in finding.found
    assert "variance 1.46" in finding.consequence
    assert finding.layers == ("0",)


def test_strong_dropout_leaves_no_fixed_point():
    findings = rules(two_layers(after=nn.Dropout(0.5)), gaussian(64))
    assert "no fixed point" in findings["Dropout where AlphaDropout belongs"].consequence


@pytest.mark.parametrize(
    "right",
    [nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1), AlphaDropout(0.1), nn.Dropout(0.0)],
    ids=repr,
)
def test_alpha_dropout_is_no_finding(right):
    assert rules(two_layers(after=right), gaussian(64)) == {}


def test_default_initialisation_is_found():
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(64, 64), nn.SELU()]
    model = nn.Sequential(*layers, nn.Linear(64, 4))
    finding = rules(model, gaussian(64))["default initialisation"]
    assert len(finding.layers) == 8
    assert "tau = 0.3" in finding.consequence
    assert "below tau = 0.4768" in finding.consequence


def test_default_weights_of_the_readout_are_no_finding():
    torch.manual_seed(0)
    model = nn.Sequential(models.lecun(nn.Linear(64, 64)), nn.SELU(), nn.Linear(64, 4))
    assert rules(model, gaussian(64)) == {}


def test_a_bias_is_found():
    model = two_layers()
    nn.init.constant_(model[0].bias, 0.1)
    finding = rules(model, gaussian(64))["non-zero bias"]
    # Reference: a bias of 0.1 moves the fixed point of g at omega = 0, tau = 1 to
    # (0.110451, 1.141698).
    assert "(0.1105, 1.142)" in finding.consequence
    assert "outside Theorem 1" in finding.consequence
    assert finding.layers == ("0",)


def test_a_small_bias_is_no_finding():
    model = two_layers()
    nn.init.constant_(model[0].bias, 0.001)
    assert rules(model, gaussian(64)) == {}


def test_he_initialisation_is_found():
    model = two_layers()
    with torch.no_grad():
        model[2].weight.mul_(2**0.5)
    finding = rules(model, gaussian(64))["He initialisation on SELU"]
    assert finding.layers == ("2",)
    assert "no fixed point" in finding.consequence


def test_he_initialisation_before_relu_is_no_finding():
    torch.manual_seed(0)
    relu = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 4))
    nn.init.kaiming_normal_(relu[0].weight)
    assert rules(relu, gaussian(64)) == {}


def truncated(deviation: float) -> nn.Module:
    """Two SELU layers with normal weights that are cut at two standard deviations."""
    model = two_layers()
    for layer in (model[0], model[2]):
        generator = torch.Generator().manual_seed(3)
        nn.init.trunc_normal_(
            layer.weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator
        )
    return model


def test_a_truncated_normal_of_too_small_variance_is_found():
    findings = rules(truncated(1 / 8), gaussian(64))
    assert set(findings) == {"raw truncated normal"}
    assert "tau = 0.77" in findings["raw truncated normal"].consequence


def test_a_truncated_normal_of_the_right_variance_is_no_finding():
    # The standard deviation of a standard normal cut at two.
    assert rules(truncated(1 / 8 / 0.8796256610), gaussian(64)) == {}


def uniform(weight: torch.Tensor) -> None:
    bound = (3 / 64) ** 0.5
    nn.init.uniform_(weight, -bound, bound, generator=torch.Generator().manual_seed(1))


def orthogonal(weight: torch.Tensor) -> None:
    nn.init.orthogonal_(weight, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fill", [uniform, orthogonal])
def test_other_laws_of_the_right_scale_are_no_finding(fill):
    model = two_layers()
    fill(model[0].weight)
    fill(model[2].weight)
    assert rules(model, gaussian(64)) == {}


def test_weights_of_another_scale_are_found():
    model = two_layers()
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    assert set(rules(model, gaussian(64))) == {"weights of another scale than 1 / fan_in"}


def test_max_pooling_is_found_and_average_pooling_is_not():
    finding = rules(models.selu_cnn(pool=nn.MaxPool2d(2)), gaussian(3, 12, 12))["max-pooling"]
    # Reference: SELU of the largest of four independent standard normals has mean 1.0754540 and
    # variance 0.5611231.
    assert "mean 1.075 and variance 0.561" in finding.consequence
    assert rules(models.selu_cnn(pool=nn.AvgPool2d(2)), gaussian(3, 12, 12)) == {}


def test_max_pooling_before_the_activation_is_found():
    model = nn.Sequential(
        models.lecun(nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular")),
        nn.MaxPool2d(2),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 4),
    )
    assert "max-pooling" in rules(model, gaussian(3, 12, 12))


def test_an_unscaled_residual_is_found_and_a_scaled_one_is_not():
    finding = rules(models.Residual(1.0), gaussian(64))["unscaled residual"]
    assert "2 sums" in finding.found
    assert "a block" in finding.consequence
    assert rules(models.Residual(0.5**0.5), gaussian(64)) == {}


def test_zero_padding_on_small_maps_is_found():
    finding = rules(models.selu_cnn(padding_mode="zeros"), gaussian(3, 12, 12))[
        "zero padding on small maps"
    ]
    # (3 W - 2)^2 / (3 W)^2 of the taps are live: 79.0 % at W = 6, 44.4 % = 4 / 9 in the corners.
    assert "79.0%" in finding.consequence
    assert "44.4%" in finding.consequence
    assert finding.layers == ("3",)


def test_zero_padding_on_large_maps_is_no_finding():
    large = nn.Sequential(
        models.lecun(nn.Conv2d(3, 8, 3, padding=1)),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(8 * 32 * 32, 4),
    )
    assert rules(large, gaussian(3, 32, 32)) == {}


def test_inputs_that_are_not_standardised_are_found():
    raw = torch.rand(128, 64, generator=torch.Generator().manual_seed(0))
    finding = rules(two_layers(), raw)["inputs not standardised"]
    assert "mean 0.499 and variance 0.0827" in finding.found
    assert "halve in no less than 23 layers" in finding.consequence
    assert "inputs not standardised" in rules(two_layers(), 255 * raw)
    assert rules(two_layers(), (raw - 0.5) * 12**0.5) == {}
