"""Whatever cannot be measured is NaN with the reason, never 0, and no model ends in a traceback."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnosis.card import _plain
from harness.diagnosis.diagnose import diagnose, structure_of
from harness.diagnosis.first_samples import first_samples

from .models import gaussian, labelled, lecun, selu_cnn, selu_mlp


class Partly(nn.Module):
    """Three layers, of which the first runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = selu_mlp([20, 32, 32, 4])

    def forward(self, x):
        with torch.no_grad():
            x = self.body[1](self.body[0](x))
        return self.body[4](self.body[3](self.body[2](x)))


def test_a_layer_without_gradients_has_none():
    card = diagnose(Partly(), labelled(20))
    assert math.isnan(card.layers["gradient_square"].iloc[0])
    assert card.layers["gradient_square"].iloc[1] > 0
    assert "no gradient: the loss does not reach" in card.layers["absent"].iloc[0]


def test_weights_used_twice_have_no_gradient_of_one_use():
    model = selu_mlp([20, 20, 20, 4])
    model[2].weight = model[0].weight
    layers = diagnose(model, labelled(20)).layers
    assert layers["weight_gradient_norm"].isna().all()
    assert layers["gradient_square"].notna().all()


def test_a_failing_backward_leaves_no_partial_sums():
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("no such luck")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = selu_mlp([20, 32, 4])

        def forward(self, x):
            return Failing.apply(self.body(x))

    card = diagnose(Model(), labelled(20))
    assert card.layers["gradient_square"].isna().all()
    assert any("no such luck" in note for note in card.notes)


def test_a_token_model_has_gradients():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 20)
            self.body = selu_mlp([20, 32, 4])

        def forward(self, tokens):
            return self.body(self.embedding(tokens)).mean(1)

    tokens = torch.randint(11, (64, 7), generator=torch.Generator().manual_seed(0))
    card = diagnose(Tokens(), tokens)
    assert card.layers["gradient_square"].iloc[0] > 0


@dataclass
class Output:
    aux: None
    logits: Tensor


def test_outputs_of_a_dataclass_give_the_loss():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = selu_mlp([20, 32, 4])

        def forward(self, x):
            return Output(None, self.body(x))

    card = diagnose(Wrapped(), labelled(20))
    assert any("cross-entropy" in note for note in card.notes)


def test_all_outputs_give_gradients():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = selu_mlp([20, 16, 4])
            self.right = selu_mlp([20, 16, 3], 1)

        def forward(self, x):
            return self.left(x), self.right(x)

    layers = diagnose(Heads(), gaussian(20)).layers
    assert (layers["gradient_square"] > 0).all()


def test_weights_of_zero_are_a_finding():
    model = selu_mlp([20, 32, 32, 4])
    nn.init.zeros_(model[2].weight)
    findings = {finding.rule: finding for finding in diagnose(model, labelled(20)).findings}
    assert findings["weights of zero"].layers == ("2",)


def test_weights_that_are_not_finite_are_a_finding():
    model = selu_mlp([20, 32, 32, 4])
    with torch.no_grad():
        model[2].weight[3, 3] = math.nan
    card = diagnose(model, labelled(20))
    assert card.findings[0].rule == "weights that are not finite"
    assert card.findings[0].layers == ("2",)
    assert str(card).split("\n\n")[1].startswith("WRONG: values that are not finite")


def test_a_model_of_one_number_is_measured():
    card = diagnose(nn.Sequential(nn.Linear(1, 1), nn.SELU()), gaussian(1))
    assert card.layers["activation_variance"].iloc[0] >= 0


def test_a_row_of_1200_layers_is_followed():
    layers: list[nn.Module] = []
    for _ in range(1200):
        layers += [nn.Linear(2, 2), nn.SELU()]
    structure = structure_of(nn.Sequential(*layers), gaussian(2, samples=4))
    assert structure.activated[-1].depth == 1200


def test_infinity_is_told_from_what_is_absent():
    assert _plain(math.inf) == "inf"
    assert _plain(numpy.float64(-math.inf)) == "-inf"
    assert _plain(math.nan) is None
    assert json.dumps(_plain(math.inf), allow_nan=False)


@pytest.mark.parametrize(
    "loader, words",
    [
        ([(gaussian(20), torch.ones(128, 1, dtype=torch.long))], None),
        ((gaussian(20), torch.ones(128, 1, dtype=torch.long)), None),
        ([(gaussian(20), torch.ones(128, 5))], "no classes"),
        ([(gaussian(20), torch.ones(128).long()), (gaussian(20),)], "1 of 2 batches"),
    ],
    ids=["column", "pair", "vectors", "missing"],
)
def test_labels_are_used_or_the_reason_is_said(loader, words):
    read = first_samples(loader, 256)
    if words is None:
        assert read.labels.shape == (128,)
    else:
        assert read.labels is None
        assert words in read.labels_reason
        assert any(words in note for note in diagnose(selu_mlp([20, 8, 4]), loader).notes)


POOLS = {
    "1d": (nn.Conv1d(3, 4, 3), nn.MaxPool1d(2), (3, 12), (2,)),
    "2d": (nn.Conv2d(3, 4, 3), nn.MaxPool2d((1, 3)), (3, 12, 12), (1, 3)),
    "3d": (nn.Conv3d(3, 4, 3), nn.MaxPool3d(2), (3, 6, 6, 6), (2, 2, 2)),
    "adaptive": (nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d((1, 5)), (3, 12, 12), (10, 2)),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools_have_the_windows_that_they_have(case):
    convolution, pool, shape, window = POOLS[case]
    structure = structure_of(nn.Sequential(convolution, nn.SELU(), pool), gaussian(*shape))
    (seen,) = structure.activated[0].pools
    assert seen.window == window
    assert seen.entries == math.prod(window)


def test_positions_of_a_sequence_are_no_independent_samples():
    model = nn.Sequential(lecun(nn.Linear(16, 32)), nn.SELU())
    rows = diagnose(model, gaussian(1, 16, samples=64).expand(-1, 9, -1).contiguous()).layers
    single = diagnose(model, gaussian(1, 16, samples=64)).layers
    for column in ("activation_variance_low", "activation_variance_high", "activation_variance"):
        assert rows[column].iloc[0] == pytest.approx(single[column].iloc[0], rel=1e-4)


NORMS = {
    "factors": nn.LayerNorm(32),
    "running statistics": nn.BatchNorm1d(32),
    "epsilon": nn.LayerNorm(32, eps=0.5),
}


@pytest.mark.parametrize("case", NORMS)
def test_theory_follows_no_normalization_that_it_does_not_describe(case):
    norm = NORMS[case]
    if case == "factors":
        nn.init.constant_(norm.weight, 3.0)
    if case == "running statistics":
        norm.num_batches_tracked.fill_(1)
        norm.running_var.fill_(9.0)
    model = nn.Sequential(lecun(nn.Linear(20, 32)), norm, nn.SELU(), nn.Linear(32, 4))
    card = diagnose(model, labelled(20))
    assert "predicted_activation_variance" not in card.layers
    assert any(note.startswith("Theory's prediction") for note in card.notes)


def test_the_note_on_batch_normalization_is_on_batch_normalization():
    def notes(norm: nn.Module) -> list[str]:
        model = nn.Sequential(lecun(nn.Linear(20, 32)), norm, nn.SELU(), nn.Linear(32, 4))
        return [note for note in diagnose(model, labelled(20)).notes if "batch norm" in note]

    assert notes(nn.LayerNorm(32)) == []
    assert len(notes(nn.BatchNorm1d(32))) == 1


def test_a_padding_before_a_convolution_is_seen():
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = lecun(nn.Conv1d(3, 8, 3))

        def forward(self, x):
            return functional.selu(self.convolution(functional.pad(x, (1, 1))))

    (layer,) = structure_of(Padded(), gaussian(3, 12)).activated
    assert layer.padding_mode == "constant"


def test_a_weight_standardisation_does_not_bound_the_samples():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = functional.batch_norm(flat, None, None, training=True, eps=1e-6)
            return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)

    model = selu_cnn(channels=8)
    model[0] = Standardised(3, 512, 3)
    network = nn.Sequential(model[0], nn.SELU(), nn.AvgPool2d(10), nn.Flatten(), nn.Linear(512, 4))
    structure = structure_of(network, gaussian(3, 12, 12))
    assert structure.activated[0].activation == "selu"
