"""An activation is what its values are, however it is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose, structure_of
from harness.networks.tracing.recognition import recognise
from harness.networks.tracing.structure import Layer

from .models import gaussian, labelled, lecun

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805


class Acting(nn.Module):
    """A layer, an activation that is a function, and a readout."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first = lecun(nn.Linear(20, 32), 1)
        self.last = lecun(nn.Linear(32, 4), 2)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def activated(function) -> list[Layer]:
    return structure_of(Acting(function), gaussian(20)).activated


class OwnSELU(nn.Module):
    def forward(self, x):
        return LAMBDA * torch.where(x > 0, x, ALPHA * (torch.exp(x) - 1))


class Swish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


scaled_elu = nn.ELU(ALPHA)

WRITTEN = {
    "selu by elu": (lambda z: LAMBDA * functional.elu(z, ALPHA), "selu"),
    "selu with four digits": (lambda z: 1.0507 * functional.elu(z, 1.6733), "selu"),
    "selu as a module": (OwnSELU(), "selu"),
    "selu by a module and a scale": (lambda z: scaled_elu(z) * LAMBDA, "selu"),
    "selu by two parts": (
        lambda z: LAMBDA * (z.clamp(min=0) + torch.clamp(ALPHA * (z.exp() - 1), max=0)),
        "selu",
    ),
    "selu by a maximum": (
        lambda z: LAMBDA * (z.relu() - ALPHA * (1 - z.exp()).relu()),
        "selu",
    ),
    "silu": (lambda z: z * torch.sigmoid(z), "silu"),
    "silu by a quotient": (lambda z: z / (1 + torch.exp(-z)), "silu"),
    "silu in place": (lambda z: z.mul_(z.sigmoid()), "silu"),
    "silu with a parameter": (Swish(), "silu"),
    "mish": (lambda z: z * functional.softplus(z).tanh(), "mish"),
    "gelu": (lambda z: 0.5 * z * (1 + torch.erf(z / 2**0.5)), "gelu"),
    "relu by a clamp": (lambda z: z.clamp(min=0), "relu"),
    "relu by zeros": (lambda z: torch.maximum(z, torch.zeros_like(z)), "relu"),
    "relu by a threshold": (lambda z: functional.threshold(z, 0.0, 0.0), "relu"),
    "relu6": (lambda z: z.clamp(0, 6), "relu6"),
    "hardtanh": (lambda z: torch.clamp(z, -1, 1), "hardtanh"),
    "logsigmoid": (functional.logsigmoid, "logsigmoid"),
    "threshold": (lambda z: functional.threshold(z, 0.5, 0.1), "threshold"),
    "sigmoid by a power": (lambda z: 1 / (1 + torch.exp(-z)), "sigmoid"),
    "leaky relu": (lambda z: torch.where(z > 0, z, 0.2 * z), "leaky_relu"),
    "elu": (lambda z: functional.elu(z, 0.5), "elu"),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_an_activation_is_recognised_by_its_values(case):
    function, name = WRITTEN[case]
    layers = activated(function)
    assert [layer.activation for layer in layers] == [name]
    assert layers[0].direct


@pytest.mark.parametrize("case", ["selu as a module", "silu in place", "mish", "selu by elu"])
def test_written_activations_give_the_numbers_of_torchs_own(case):
    function, name = WRITTEN[case]
    own = {"selu": functional.selu, "silu": functional.silu, "mish": functional.mish}[name]
    written = diagnose(Acting(function), labelled(20)).layers.select_dtypes("number")
    expected = diagnose(Acting(own), labelled(20)).layers.select_dtypes("number")
    assert list(written) == list(expected)
    for column in expected:
        assert written[column].iloc[0] == pytest.approx(
            expected[column].iloc[0], rel=1e-3, abs=1e-5, nan_ok=True
        )


@pytest.mark.parametrize(
    "function, alpha, scale",
    [
        (lambda z: 1.0507 * functional.elu(z, 1.76), 1.76, 1.0507),
        (lambda z: 1.6733 * functional.elu(z, 1.0507), 1.0507, 1.6733),
        (lambda z: functional.elu(z, 1.6733), 1.6733, 1.0),
    ],
    ids=["alpha", "swapped", "no scale"],
)
def test_a_selu_with_other_constants_is_none(function, alpha, scale):
    (layer,) = activated(function)
    assert layer.activation in ("elu", "scaled_elu")
    assert layer.options["alpha"] == pytest.approx(alpha, rel=1e-3)
    assert layer.options.get("scale", 1.0) == pytest.approx(scale, rel=1e-3)


def test_two_activations_of_one_layer_are_two_rows():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = lecun(nn.Linear(20, 16), 1)
            self.last = lecun(nn.Linear(32, 4), 2)

        def forward(self, x):
            z = self.first(x)
            return self.last(torch.cat([functional.selu(z), torch.tanh(z)], 1))

    layers = diagnose(Two(), labelled(20)).layers
    assert layers["activation"].tolist() == ["selu", "tanh"]
    assert layers["name"].tolist() == ["first", "first (tanh)"]
    assert layers["pre_activation_variance"].nunique() == 1
    assert layers["gradient_square"].nunique() == 1


def test_arithmetic_after_an_activation_is_no_part_of_it():
    (layer,) = activated(lambda z: 2 * functional.selu(z))
    assert layer.activation == "selu"


def test_a_square_that_is_averaged_is_no_activation():
    class Normalized(nn.Module):
        def forward(self, x):
            return x * torch.rsqrt((x**2).mean(1, keepdim=True) + 1e-6)

    (layer,) = activated(lambda z: functional.selu(Normalized()(z)))
    assert layer.activation == "selu"
    assert not layer.direct


def test_arithmetic_before_an_activation_is_noted():
    (layer,) = activated(lambda z: functional.selu(3 * z))
    assert layer.activation == "selu"
    assert not layer.direct


@pytest.mark.parametrize(
    "change",
    [lambda z: 1 - z, lambda z: 1 / (z * z + 1), lambda z: 2**z],
    ids=["difference", "quotient", "power"],
)
def test_special_methods_keep_the_origin(change):
    layers = activated(lambda z: functional.selu(change(z)))
    assert len(layers) == 1


def test_an_assignment_to_entries_is_noticed():
    def assigned(z):
        z[:, :4] = 3.0
        return functional.selu(z)

    (layer,) = activated(assigned)
    assert not layer.direct


@pytest.mark.parametrize(
    "whole",
    [lambda z: z[:], lambda z: z[...], lambda z: z.data],
    ids=["slice", "ellipsis", "data"],
)
def test_a_whole_selection_is_the_tensor_itself(whole):
    (layer,) = activated(lambda z: functional.selu(whole(z)))
    assert layer.direct


def test_a_column_of_the_inputs_is_no_bias():
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = lecun(nn.Linear(20, 32, bias=False), 1)
            self.last = lecun(nn.Linear(32, 4), 2)

        def forward(self, x):
            return self.last(functional.selu(self.first(x) + x[:, :1]))

    (layer,) = structure_of(Added(), gaussian(20, samples=32)).activated
    assert layer.bias is None
    assert not layer.direct


MOVES = {
    "view": lambda z: z.view(len(z), 4, 8),
    "transpose": lambda z: z.view(len(z), 4, 8).transpose(1, 2),
    "flatten": lambda z: z.unsqueeze(1).flatten(1),
}


@pytest.mark.parametrize("case", MOVES)
def test_values_that_are_only_moved_keep_their_layer(case):
    class Moving(Acting):
        def forward(self, x):
            return self.last(functional.selu(MOVES[case](self.first(x))).flatten(1))

    expected = diagnose(Acting(functional.selu), labelled(20)).layers.iloc[0]
    row = diagnose(Moving(None), labelled(20)).layers.iloc[0]
    assert row["name"] == "first"
    for column in ("pre_activation_variance", "activation_variance", "tau_mean"):
        assert row[column] == pytest.approx(expected[column], rel=1e-5)


def test_pixel_shuffle_chomp_and_upsampling_keep_their_layer():
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shuffled = lecun(nn.Conv2d(3, 16, 3, padding=1), 0)
            self.chomped = lecun(nn.Conv2d(4, 8, 3, padding=2), 1)
            self.enlarged = lecun(nn.Conv2d(8, 8, 3, padding=1), 2)

        def forward(self, x):
            x = functional.selu(functional.pixel_shuffle(self.shuffled(x), 2))
            x = functional.selu(self.chomped(x)[:, :, :-2, :-2])
            return functional.selu(functional.interpolate(self.enlarged(x), scale_factor=2))

    layers = diagnose(Maps(), gaussian(3, 6, 6, samples=64)).layers
    assert layers["name"].tolist() == ["shuffled", "chomped", "enlarged"]
    assert layers["activation_variance"].notna().all()


def test_a_gate_does_not_hide_the_layer_that_it_multiplies():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = lecun(nn.Conv2d(3, 8, 3, padding=1), 0)
            self.gate = lecun(nn.Conv2d(8, 8, 1), 1)

        def forward(self, x):
            z = self.convolution(x)
            gate = torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(z, 1)))
            return functional.selu(z * gate)

    layers = diagnose(Gated(), gaussian(3, 6, 6, samples=64)).layers
    assert layers["name"].tolist() == ["gate", "convolution"]
    assert layers["activation"].tolist() == ["sigmoid", "selu"]


def test_transposed_convolutions_have_a_row():
    model = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, stride=2, padding=1),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(32 * 256, 4),
    )
    with torch.no_grad():
        # Each output sees 16 * 16 / 4 weights.
        model[0].weight.normal_(0.0, 64**-0.5, generator=torch.Generator().manual_seed(0))
        model[0].bias.zero_()
    row = diagnose(model, gaussian(16, 8, 8)).layers.iloc[0]
    assert row["kind"] == "conv_transpose2d"
    assert row["fan_in"] == 64
    assert row["tau_mean"] == pytest.approx(1.0, abs=0.05)
    assert row["pre_activation_variance"] == pytest.approx(1.0, abs=0.15)


def test_unknown_values_are_not_recognised():
    assert recognise(lambda x: x.abs()) is None
    assert recognise(lambda x: x) is None
    assert recognise(lambda x: x / 0) is None
