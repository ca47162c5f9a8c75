"""Each rule of the lint, wrong beside right, and silence on clean SELU networks of any shape."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.diagnosis.diagnose import structure_of
from harness.diagnosis.lint import InputFacts, lint, weight_law
from harness.diagnosis.structure import Layer
from harness.networks.dropouts import AlphaDropout, StandardDropout

_SPEC = importlib.util.spec_from_file_location(
    "diagnosed_models", Path(__file__).with_name("models.py")
)
models = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(models)


def gaussian(*shape: int, samples: int = 128) -> torch.Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(5))


def rules(model: nn.Module, inputs: torch.Tensor) -> dict[str, object]:
    return {
        finding.rule: finding
        for finding in lint(structure_of(model, inputs), InputFacts.of(inputs))
    }


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
def test_silence_on_clean_networks(widths):
    for seed in range(3):
        assert rules(models.selu_mlp(widths, seed), gaussian(widths[0])) == {}


def test_silence_on_clean_convolutions():
    for seed in range(3):
        assert rules(models.selu_cnn(seed), gaussian(3, 12, 12)) == {}


@pytest.mark.parametrize(
    "units, fan_in", [(2, 2), (4, 4), (2, 64), (64, 2), (8, 8), (16, 4), (100, 300)]
)
def test_no_scale_of_lecun_weights_looks_wrong_by_chance(units, fan_in):
    generator = torch.Generator().manual_seed(1)
    for _ in range(2000):
        weight = torch.randn(units, fan_in, generator=generator) * fan_in**-0.5
        law, _ = weight_law(Layer("layer", 1, "linear", weight, None, units, fan_in, units, 1))
        assert law is None


def linear_pair(behind: nn.Module | None = None, before: nn.Module | None = None) -> nn.Sequential:
    first = [
        models.lecun(nn.Linear(64, 64), 1),
        *([before] if before else []),
        nn.SELU(),
        *([behind] if behind else []),
    ]
    return nn.Sequential(
        *first, models.lecun(nn.Linear(64, 64), 2), nn.SELU(), models.lecun(nn.Linear(64, 4), 3)
    )


def test_normalization_before_selu():
    for norm in (nn.BatchNorm1d(64), nn.LayerNorm(64), nn.GroupNorm(4, 64), nn.RMSNorm(64)):
        finding = rules(linear_pair(before=norm), gaussian(64))["normalization before SELU"]
        assert finding.layers == ("0",)
        assert "1.0716" in finding.consequence
    assert "normalization before SELU" not in rules(
        linear_pair(behind=nn.BatchNorm1d(64)), gaussian(64)
    )


@pytest.mark.parametrize(
    "wrong",
    [nn.Dropout(0.1), nn.Dropout1d(0.1), StandardDropout(0.1)],
    ids=lambda module: type(module).__name__,
)
def test_dropout_where_alpha_dropout_belongs(wrong):
    finding = rules(linear_pair(behind=wrong), gaussian(64))["Dropout where AlphaDropout belongs"]
    # Pooled fixed point of SELU for inputs of 1 / 0.9 times the mean square.
    assert "rate 0.1" in finding.found
    assert "variance 1.46" in finding.consequence
    assert finding.layers == ("0",)
    assert (
        "no fixed point"
        in rules(linear_pair(behind=nn.Dropout(0.5)), gaussian(64))[
            "Dropout where AlphaDropout belongs"
        ].consequence
    )


@pytest.mark.parametrize(
    "right",
    [nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1), AlphaDropout(0.1), nn.Dropout(0.0)],
    ids=repr,
)
def test_the_right_dropout(right):
    assert rules(linear_pair(behind=right), gaussian(64)) == {}


def test_default_initialisation():
    torch.manual_seed(0)
    wrong = nn.Sequential(
        *(module for _ in range(8) for module in (nn.Linear(64, 64), nn.SELU())), nn.Linear(64, 4)
    )
    finding = rules(wrong, gaussian(64))["default initialisation"]
    assert len(finding.layers) == 8
    assert "tau = 0.3" in finding.consequence
    assert "below tau = 0.4768" in finding.consequence
    # The readout's own default weights feed no SELU.
    assert (
        rules(
            nn.Sequential(models.lecun(nn.Linear(64, 64)), nn.SELU(), nn.Linear(64, 4)),
            gaussian(64),
        )
        == {}
    )


def test_non_zero_bias():
    model = linear_pair()
    nn.init.constant_(model[0].bias, 0.1)
    finding = rules(model, gaussian(64))["non-zero bias"]
    # Reference: a bias of 0.1 moves the fixed point of g at omega = 0, tau = 1 to (0.110451, 1.141698).
    assert "(0.1105, 1.142)" in finding.consequence
    assert "outside Theorem 1" in finding.consequence
    assert finding.layers == ("0",)
    nn.init.constant_(model[0].bias, 0.001)
    assert rules(model, gaussian(64)) == {}


def test_he_initialisation():
    model = linear_pair()
    with torch.no_grad():
        model[2].weight.mul_(2**0.5)
    finding = rules(model, gaussian(64))["He initialisation on SELU"]
    assert finding.layers == ("2",)
    assert "no fixed point" in finding.consequence
    # He on ReLU is what it is for.
    torch.manual_seed(0)
    relu = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 4))
    nn.init.kaiming_normal_(relu[0].weight)
    assert rules(relu, gaussian(64)) == {}


def test_raw_truncated_normal():
    def model(scale: float) -> nn.Module:
        made = linear_pair()
        for layer in (made[0], made[2]):
            nn.init.trunc_normal_(
                layer.weight,
                0.0,
                scale / 8,
                -2 * scale / 8,
                2 * scale / 8,
                generator=torch.Generator().manual_seed(3),
            )
        return made

    assert set(rules(model(1.0), gaussian(64))) == {"raw truncated normal"}
    assert "tau = 0.77" in rules(model(1.0), gaussian(64))["raw truncated normal"].consequence
    assert rules(model(1 / 0.8796256610), gaussian(64)) == {}


def test_other_laws_of_the_right_scale_are_right():
    for fill in (nn.init.uniform_, nn.init.orthogonal_):
        model = linear_pair()
        for layer in (model[0], model[2]):
            bound = (3 / 64) ** 0.5
            fill(
                layer.weight, -bound, bound, generator=torch.Generator().manual_seed(1)
            ) if fill is nn.init.uniform_ else fill(
                layer.weight, generator=torch.Generator().manual_seed(1)
            )
        assert rules(model, gaussian(64)) == {}


def test_weights_of_another_scale():
    model = linear_pair()
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    assert set(rules(model, gaussian(64))) == {"weights of another scale than 1 / fan_in"}


def test_max_pooling():
    finding = rules(models.selu_cnn(pool=nn.MaxPool2d(2)), gaussian(3, 12, 12))["max-pooling"]
    # Reference: SELU of the largest of four independent standard normals has mean 1.0754540 and variance 0.5611231.
    assert "mean 1.075 and variance 0.561" in finding.consequence
    assert rules(models.selu_cnn(pool=nn.AvgPool2d(2)), gaussian(3, 12, 12)) == {}


def test_pooling_before_the_activation_is_seen_too():
    model = nn.Sequential(
        models.lecun(nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular")),
        nn.MaxPool2d(2),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 4),
    )
    assert "max-pooling" in rules(model, gaussian(3, 12, 12))


def test_unscaled_residual():
    finding = rules(models.Residual(1.0), gaussian(64))["unscaled residual"]
    assert "2 sums" in finding.found
    assert "a block" in finding.consequence
    assert rules(models.Residual(0.5**0.5), gaussian(64)) == {}


def test_zero_padding_on_small_maps():
    finding = rules(models.selu_cnn(padding_mode="zeros"), gaussian(3, 12, 12))[
        "zero padding on small maps"
    ]
    # (3 W - 2)^2 / (3 W)^2 of the taps are live: 79.0 % at W = 6, 44.4 % = 4 / 9 in the corners.
    assert "79.0%" in finding.consequence
    assert "44.4%" in finding.consequence
    assert finding.layers == ("3",)
    large = nn.Sequential(
        models.lecun(nn.Conv2d(3, 8, 3, padding=1)),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(8 * 32 * 32, 4),
    )
    assert rules(large, gaussian(3, 32, 32)) == {}


def test_inputs_not_standardised():
    raw = torch.rand(128, 64, generator=torch.Generator().manual_seed(0))
    finding = rules(linear_pair(), raw)["inputs not standardised"]
    assert "mean 0.499 and variance 0.0827" in finding.found
    assert "halve in no less than 23 layers" in finding.consequence
    assert "inputs not standardised" in rules(linear_pair(), 255 * raw)
    assert rules(linear_pair(), (raw - 0.5) * 12**0.5) == {}
