"""The measurements with dropout acting: what they are, what theory says beside them, and that nothing is left behind."""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose
from harness.networks import dropouts
from harness.theory.networks.dropout import alpha_dropout, standard_dropout_moments

_SPEC = importlib.util.spec_from_file_location(
    "diagnosed_models", Path(__file__).with_name("models.py")
)
models = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(models)

MEASURED = ["dropout_activation_mean", "dropout_activation_variance"]
PREDICTED = [f"predicted_{name}" for name in MEASURED]


def data(*shape: int, samples: int = 512) -> torch.Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(5))


def network(*behind: nn.Module, width: int = 256) -> nn.Sequential:
    """A SELU layer for each of these modules, which follow them."""
    layers = [
        part
        for index, module in enumerate(behind)
        for part in (models.lecun(nn.Linear(width, width), index), nn.SELU(), module)
    ]
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
    assert square[0] / plain[0] == pytest.approx(1 / (1 - rate), rel=0.02)  # of other samples
    dropping = layers.iloc[[0, 2]]
    assert dropping[MEASURED].to_numpy() == pytest.approx(dropping[PREDICTED].to_numpy(), abs=0.02)
    # Without a dropout of its own a layer still gets what the one before does, and theory has nothing to say of it.
    assert layers[PREDICTED].iloc[1].isna().all()
    assert square[1] / plain[1] == pytest.approx(
        1.18, abs=0.05
    )  # SELU's pooled map takes a mean square of 1.25 to 1.18


@pytest.mark.parametrize("make", [nn.Dropout2d, nn.FeatureAlphaDropout])
def test_maps_dropped_as_a_whole_and_a_pooling_in_front(make):
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
    # Theory starts from what enters the dropout, which the pooling has made smaller than the activations.
    entering = float(pooled.mean()), float(pooled.var(correction=0))
    expected = (
        standard_dropout_moments(0.2, *entering)
        if make is nn.Dropout2d
        else alpha_dropout(0.2).moments(*entering)
    )
    assert layers.loc[0, PREDICTED].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert layers.loc[0, MEASURED].tolist() == pytest.approx(expected, abs=0.03)


def test_moments_behind_standard_dropout():
    values = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
    rate = 0.25
    # Every entry is 0 with probability 1 / 4 and else 4 / 3 of itself: the distribution written out.
    behind = torch.cat([torch.zeros(3, dtype=torch.float64), *3 * [values / (1 - rate)]])
    expected = float(behind.mean()), float(behind.var(correction=0))
    assert standard_dropout_moments(
        rate, float(values.mean()), float(values.var(correction=0))
    ) == pytest.approx(expected)


def test_without_dropout_there_are_no_such_columns():
    for behind in (nn.Identity(), nn.Dropout(0.0)):
        card = diagnose(network(behind, width=32), data(32))
        assert not [name for name in card.layers if "dropout" in name]
        assert not any("ropout" in note for note in card.notes)


def test_the_lint_says_what_was_measured():
    finding = next(
        one
        for one in diagnose(network(nn.Dropout(0.1), nn.Dropout(0.1)), data(256)).findings
        if one.rule == "Dropout where AlphaDropout belongs"
    )
    assert "1.11 times as large; where every layer" in finding.consequence
    said = finding.consequence.split("measured with dropout acting: ")[1]
    assert float(said.split()[0]) == pytest.approx(1 / 0.9, rel=0.01)
    assert "behind 3, with mean" in said


@pytest.mark.parametrize("in_place", [False, True])
def test_a_dropout_that_overwrites_its_input_is_measured_alike(in_place):
    expected = diagnose(network(nn.Dropout(0.3), width=64), data(64)).layers
    found = diagnose(network(nn.Dropout(0.3, inplace=in_place), width=64), data(64)).layers
    assert found[MEASURED + PREDICTED].to_numpy() == pytest.approx(
        expected[MEASURED + PREDICTED].to_numpy()
    )


class Nested(nn.Module):
    """One dropout module used twice, deep inside, with a batch normalization, a buffer that counts and parts in other modes."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.4)
        self.inner = nn.ModuleDict(
            {
                "a": nn.Sequential(
                    models.lecun(nn.Linear(64, 64)), nn.BatchNorm1d(64), nn.SELU(), self.dropout
                )
            }
        )
        self.outer = nn.Sequential(
            models.lecun(nn.Linear(64, 64), 1), nn.SELU(), self.dropout, nn.Linear(64, 4)
        )
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.outer(self.inner["a"](x))


def test_dropout_modules_are_found_deep_inside_and_may_be_used_twice():
    layers = diagnose(Nested(), data(64)).layers
    assert layers["name"].tolist() == ["inner.a.0", "outer.0"]
    assert layers[MEASURED].to_numpy() == pytest.approx(layers[PREDICTED].to_numpy(), abs=0.06)
    square = layers["dropout_activation_variance"] + layers["dropout_activation_mean"] ** 2
    assert square[1] > 1.4 * (layers["activation_variance"] + layers["activation_mean"] ** 2)[1]


@pytest.mark.parametrize("training", [True, False])
def test_modes_statistics_and_random_numbers_are_as_before_and_two_diagnoses_agree(training):
    model = Nested().train(training)
    model.inner["a"][1].eval()
    model.outer[2].train(not training)  # the module that both share
    model(data(64)).sum().backward()
    flags = [module.training for module in model.modules()]
    buffers = copy.deepcopy(model.state_dict())
    torch.manual_seed(11)
    states = [torch.get_rng_state()] + (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    )
    cards = [diagnose(model, data(64)).to_json() for _ in range(2)]
    assert cards[0] == cards[1]
    after = [torch.get_rng_state()] + (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    )
    assert all(torch.equal(old, new) for old, new in zip(states, after))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(buffers[name], value) for name, value in model.state_dict().items())


def test_modes_are_as_before_where_the_model_fails_with_dropout_acting():
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


def test_dropout_as_a_function_is_named_and_left_as_it_is():
    class Written(nn.Module):
        def __init__(self, always: bool) -> None:
            super().__init__()
            self.body, self.always = network(nn.Identity(), nn.Dropout(0.2), width=64), always

        def forward(self, x):
            x = functional.dropout(self.body[:3](x), 0.3, True if self.always else self.training)
            return self.body[3:](x)

    card = diagnose(Written(False), data(64))
    assert any(
        "called as a function" in note and note.endswith("as it is: rate 0.3 in the model.")
        for note in card.notes
    )
    assert card.layers[PREDICTED].notna().all(axis=1).tolist() == [True, True]
    # It did not act, so that nothing became of it.
    assert card.layers["dropout_activation_variance"][0] == pytest.approx(
        card.layers["activation_variance"][0], rel=0.02
    )
    assert any(
        "rate 0.3 in the model, acting in evaluation too" in note
        for note in diagnose(Written(True), data(64)).notes
    )


def test_a_dropout_of_everything_is_no_reason_to_fail():
    layers = diagnose(network(nn.Dropout(1.0), nn.Identity(), width=64), data(64)).layers
    assert layers["dropout_activation_variance"][1] == pytest.approx(0, abs=1e-12)
    assert layers["activation_variance"][1] > 0.5
    assert all(math.isfinite(value) for value in layers["dropout_activation_mean"])
