"""Measurements with dropout acting, theory beside them, and the state of the model afterwards."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose
from harness.networks import dropouts
from harness.theory.networks.dropout import alpha_dropout, standard_dropout_moments

from . import models

MEASURED = ["dropout_activation_mean", "dropout_activation_variance"]
PREDICTED = [f"predicted_{name}" for name in MEASURED]


def data(*shape: int, samples: int = 512) -> torch.Tensor:
    return models.gaussian(*shape, samples=samples)


def network(*followers: nn.Module, width: int = 256) -> nn.Sequential:
    """A SELU layer before each of these modules, and a readout."""
    layers: list[nn.Module] = []
    for index, module in enumerate(followers):
        layers += [models.lecun(nn.Linear(width, width), index), nn.SELU(), module]
    return nn.Sequential(*layers, models.lecun(nn.Linear(width, 4), 99))


@pytest.mark.parametrize(
    "make",
    [nn.AlphaDropout, nn.FeatureAlphaDropout, dropouts.AlphaDropout],
    ids=["alpha", "feature alpha", "of the harness"],
)
def test_alpha_dropout_keeps_mean_0_and_variance_1(make):
    layers = diagnose(network(*(make(0.2) for _ in range(4))), data(256)).layers
    assert layers[MEASURED].to_numpy() == pytest.approx(layers[PREDICTED].to_numpy(), abs=0.02)
    assert layers["dropout_activation_mean"].abs().max() < 0.1
    assert layers["dropout_activation_variance"].between(0.9, 1.1).all()


@pytest.mark.parametrize(
    "make", [nn.Dropout, dropouts.StandardDropout], ids=["torch", "of the harness"]
)
def test_dropout_multiplies_the_mean_square(make):
    rate = 0.2
    layers = diagnose(network(make(rate), nn.Identity(), make(rate)), data(256)).layers
    square = layers["dropout_activation_variance"] + layers["dropout_activation_mean"] ** 2
    plain = layers["activation_variance"] + layers["activation_mean"] ** 2
    # The two are measured on different samples.
    assert square[0] / plain[0] == pytest.approx(1 / (1 - rate), rel=0.02)
    dropping = layers.iloc[[0, 2]]
    assert dropping[MEASURED].to_numpy() == pytest.approx(dropping[PREDICTED].to_numpy(), abs=0.02)
    # A layer without a dropout of its own still gets that of the one before, and theory has no
    # prediction for it. SELU's pooled map takes a mean square of 1.25 to 1.18.
    assert layers[PREDICTED].iloc[1].isna().all()
    assert square[1] / plain[1] == pytest.approx(1.18, abs=0.05)


@pytest.mark.parametrize("make", [nn.Dropout2d, nn.FeatureAlphaDropout])
def test_a_prediction_starts_from_what_enters_the_dropout(make):
    model = nn.Sequential(
        models.lecun(nn.Conv2d(3, 64, 3)),
        nn.SELU(),
        nn.AvgPool2d(2),
        make(0.2),
        nn.Flatten(),
        nn.Linear(64 * 9, 4),
    )
    x = data(3, 8, 8, samples=256)
    layers = diagnose(model, x).layers
    pooled = model[:3](x).detach().double()
    # The pooling has made what enters the dropout smaller than the activations.
    entering = float(pooled.mean()), float(pooled.var(correction=0))
    expected = (
        standard_dropout_moments(0.2, *entering)
        if make is nn.Dropout2d
        else alpha_dropout(0.2).moments(*entering)
    )
    assert layers.loc[0, PREDICTED].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert layers.loc[0, MEASURED].tolist() == pytest.approx(expected, abs=0.03)


def test_moments_after_standard_dropout_are_those_of_its_distribution():
    values = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
    rate = 0.25
    # Every entry is 0 with probability 1 / 4 and else 4 / 3 of itself.
    after = torch.cat([torch.zeros(3, dtype=torch.float64), *3 * [values / (1 - rate)]])
    expected = float(after.mean()), float(after.var(correction=0))
    assert standard_dropout_moments(
        rate, float(values.mean()), float(values.var(correction=0))
    ) == pytest.approx(expected)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Dropout(0.0)], ids=["none", "rate 0"])
def test_without_dropout_there_are_no_such_columns(module):
    card = diagnose(network(module, width=32), data(32))
    assert not [name for name in card.layers if "dropout" in name]
    assert not any("ropout" in note for note in card.notes)


def test_the_lint_names_the_measurement():
    findings = diagnose(network(nn.Dropout(0.1), nn.Dropout(0.1)), data(256)).findings
    rules = {finding.rule: finding for finding in findings}
    consequence = rules["Dropout where AlphaDropout belongs"].consequence
    assert "1.11 times as large; where every layer" in consequence
    measured = consequence.split("measured with dropout acting: ")[1]
    assert float(measured.split()[0]) == pytest.approx(1 / 0.9, rel=0.01)
    assert "after 3, with mean" in measured


def test_a_dropout_in_place_gives_the_same_numbers():
    expected = diagnose(network(nn.Dropout(0.3), width=64), data(64)).layers
    layers = diagnose(network(nn.Dropout(0.3, inplace=True), width=64), data(64)).layers
    assert layers[MEASURED + PREDICTED].to_numpy() == pytest.approx(
        expected[MEASURED + PREDICTED].to_numpy()
    )


class Nested(nn.Module):
    """One nested dropout module used twice, a batch normalization, and a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.4)
        inner = nn.Sequential(
            models.lecun(nn.Linear(64, 64)), nn.BatchNorm1d(64), nn.SELU(), self.dropout
        )
        self.inner = nn.ModuleDict({"a": inner})
        self.outer = nn.Sequential(
            models.lecun(nn.Linear(64, 64), 1), nn.SELU(), self.dropout, nn.Linear(64, 4)
        )
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.outer(self.inner["a"](x))


def test_nested_dropout_modules_may_be_used_twice():
    layers = diagnose(Nested(), data(64)).layers
    assert layers["name"].tolist() == ["inner.a.0", "outer.0"]
    assert layers[MEASURED].to_numpy() == pytest.approx(layers[PREDICTED].to_numpy(), abs=0.06)
    square = layers["dropout_activation_variance"] + layers["dropout_activation_mean"] ** 2
    assert square[1] > 1.4 * (layers["activation_variance"] + layers["activation_mean"] ** 2)[1]


@pytest.mark.parametrize("training", [True, False])
def test_modes_statistics_and_random_numbers_are_as_before(training):
    model = Nested().train(training)
    model.inner["a"][1].eval()
    # The dropout that both parts share.
    model.outer[2].train(not training)
    model(data(64)).sum().backward()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    torch.manual_seed(11)
    generators = generator_states()
    diagnose(model, data(64))
    for before, after in zip(generators, generator_states(), strict=True):
        assert torch.equal(before, after)
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), name


def generator_states() -> list[torch.Tensor]:
    """The states of torch's generators on all devices."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *on_gpus]


def test_two_diagnoses_with_dropout_agree():
    model = Nested()
    first = diagnose(model, data(64)).to_json()
    torch.manual_seed(11)
    assert diagnose(model, data(64)).to_json() == first


def test_a_model_that_fails_with_dropout_acting_is_as_before():
    class Failing(Nested):
        def forward(self, x):
            if self.dropout.training:
                raise ValueError("only without")
            return super().forward(x)

    model = Failing().eval()
    state = torch.get_rng_state()
    with pytest.raises(Exception, match="only without"):
        diagnose(model, data(64))
    assert not any(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


class Written(nn.Module):
    """A network with a dropout that is called as a function, between two SELU layers."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.body = network(nn.Identity(), nn.Dropout(0.2), width=64)
        self.always = always

    def forward(self, x):
        acts = self.always or self.training
        return self.body[3:](functional.dropout(self.body[:3](x), 0.3, acts))


def test_dropout_as_a_function_is_named_and_does_not_act():
    card = diagnose(Written(always=False), data(64))
    notes = [note for note in card.notes if "called as a function" in note]
    assert len(notes) == 1
    assert notes[0].endswith("as it is: rate 0.3 in the model.")
    assert card.layers[PREDICTED].notna().all(axis=1).tolist() == [True, True]
    # It did not act, so nothing changed.
    assert card.layers["dropout_activation_variance"][0] == pytest.approx(
        card.layers["activation_variance"][0], rel=0.02
    )


def test_dropout_that_acts_in_evaluation_is_named_as_such():
    notes = diagnose(Written(always=True), data(64)).notes
    assert any("rate 0.3 in the model, acting in evaluation too" in note for note in notes)


def test_a_dropout_of_everything_gives_zeros():
    layers = diagnose(network(nn.Dropout(1.0), nn.Identity(), width=64), data(64)).layers
    assert layers["dropout_activation_variance"][1] == pytest.approx(0, abs=1e-12)
    assert layers["activation_variance"][1] > 0.5
    assert all(math.isfinite(value) for value in layers["dropout_activation_mean"])
