"""A diagnosis names what it cannot follow.

These are weights inside functions, concatenations, and other functions before a layer.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose

from . import models
from .models import gaussian


def noted(card, start: str) -> str:
    """The list in the only note that begins with `start`; "" where there is none."""
    notes = [note for note in card.notes if note.startswith(start)]
    assert len(notes) < 2
    return notes[0].partition(": ")[2] if notes else ""


UNFOLLOWED = "Weights that could not be followed"
CHANGED_INPUTS = "Layers whose inputs are not one"
STRAY = "Activations that no single"
PREDICTION_ENDS = "Theory's prediction"


class Between(nn.Module):
    """Two SELU layers with a function between them that may use weights."""

    def __init__(self, between, weights: dict[str, nn.Module | nn.Parameter] | None = None) -> None:
        super().__init__()
        self.first = models.lecun(nn.Linear(16, 16), 0)
        self.second = models.lecun(nn.Linear(16, 16), 1)
        self.last = models.lecun(nn.Linear(16, 16), 2)
        self.between = between
        for name, value in (weights or {}).items():
            setattr(self, name, value)

    def forward(self, x):
        x = functional.selu(self.first(x))
        return self.last(functional.selu(self.second(self.between(self, x))))


def attention() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"attention": nn.MultiheadAttention(16, 4, batch_first=True)}


def test_attention_is_named_with_its_weights():
    card = diagnose(
        Between(lambda model, x: model.attention(x, x, x)[0], attention()), gaussian(5, 16)
    )
    assert card.layers["name"].tolist() == ["first", "second"]
    note = noted(card, UNFOLLOWED)
    place = "(multi_head_attention_forward in attention)"
    assert f"attention.in_proj_weight {place}" in note
    assert f"attention.out_proj.weight {place}" in note
    assert noted(card, CHANGED_INPUTS) == "second (attention)."


def test_a_transformers_attention_is_named_and_its_other_layers_are_measured():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation=functional.gelu)
    card = diagnose(nn.Sequential(encoder, nn.Flatten(), nn.Linear(80, 4)), gaussian(5, 16))
    assert card.layers["name"].tolist() == ["0.linear1"]
    assert "0.self_attn.in_proj_weight" in noted(card, UNFOLLOWED)


def test_recurrent_weights_are_named():
    torch.manual_seed(0)
    cells = nn.LSTM(16, 16, batch_first=True)
    card = diagnose(Between(lambda model, x: model.cells(x)[0], {"cells": cells}), gaussian(5, 16))
    expected = "cells.weight_ih_l0 (lstm in cells), cells.weight_hh_l0 (lstm in cells)"
    assert expected in noted(card, UNFOLLOWED)


def test_weights_of_a_sum_over_indices_are_named():
    matrix = {"matrix": nn.Parameter(torch.eye(16))}
    model = Between(lambda model, x: torch.einsum("ni,oi->no", x, model.matrix), matrix)
    assert noted(diagnose(model, gaussian(16)), UNFOLLOWED) == "matrix (einsum in the model)."


def test_an_activation_of_attention_is_not_the_activation_of_the_layer_before():
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = models.lecun(nn.Linear(16, 16))
            self.last = models.lecun(nn.Linear(16, 16), 1)
            self.attention = attention()["attention"]

        def forward(self, x):
            x = self.first(x)
            return functional.selu(self.last(functional.selu(self.attention(x, x, x)[0])))

    card = diagnose(Attended(), gaussian(5, 16))
    assert card.layers["name"].tolist() == ["last"]
    assert noted(card, STRAY) == "selu in the model (after attention)."


class Joined(nn.Module):
    """Two layers side by side, joined before or after their activation, and one more layer."""

    def __init__(self, before_activation: bool) -> None:
        super().__init__()
        self.left = models.lecun(nn.Linear(16, 8), 0)
        self.right = models.lecun(nn.Linear(16, 8), 1)
        self.second = models.lecun(nn.Linear(16, 16), 2)
        self.last = models.lecun(nn.Linear(16, 16), 3)
        self.before_activation = before_activation

    def forward(self, x):
        left, right = self.left(x), self.right(x)
        if self.before_activation:
            x = functional.selu(torch.cat([left, right], 1))
        else:
            x = torch.cat([functional.selu(left), functional.selu(right)], 1)
        return self.last(functional.selu(self.second(x)))


def test_a_concatenation_before_weights_is_named():
    card = diagnose(Joined(before_activation=False), gaussian(16))
    assert card.layers["name"].tolist() == ["left", "right", "second"]
    assert noted(card, CHANGED_INPUTS) == "second (a concatenation)."
    assert noted(card, STRAY) == ""


def test_a_concatenation_before_an_activation_is_named():
    card = diagnose(Joined(before_activation=True), gaussian(16))
    assert card.layers["name"].tolist() == ["second"]
    assert noted(card, CHANGED_INPUTS) == "second (a concatenation)."
    assert noted(card, STRAY) == "selu in the model (after a concatenation)."


@pytest.mark.parametrize(
    "between, word",
    [
        (lambda model, x: 2 * x, "mul"),
        (lambda model, x: x.softmax(1), "softmax"),
        (lambda model, x: x[:, torch.arange(15, -1, -1)], "a choice of entries"),
    ],
)
def test_theory_follows_no_unknown_function(between, word):
    card = diagnose(Between(between), gaussian(16))
    assert card.layers["predicted_activation_variance"].notna().tolist() == [True, False]
    assert noted(card, CHANGED_INPUTS) == f"second ({word})."
    assert f"{word} in front of its weights" in noted(card, PREDICTION_ENDS)


def test_theory_does_not_follow_a_model_that_changes_its_inputs_first():
    plain = models.selu_mlp([16, 16, 4])

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = plain

        def forward(self, x):
            return self.body((x - 0.5) / 0.25)

    assert diagnose(plain, gaussian(16)).layers["predicted_activation_variance"].notna().all()
    card = diagnose(Scaled(), gaussian(16))
    assert "predicted_activation_variance" not in card.layers
    assert noted(card, CHANGED_INPUTS) == "body.0 (sub)."


@pytest.mark.parametrize(
    "between",
    [
        lambda model, x: x.view(-1, 4, 4).flatten(1),
        lambda model, x: x.unsqueeze(1).transpose(1, 2).squeeze(2).contiguous(),
        lambda model, x: x.clone(),
    ],
)
def test_functions_that_only_rearrange_entries_are_followed_without_a_note(between):
    card = diagnose(Between(between), gaussian(16))
    assert card.layers["predicted_activation_variance"].notna().all()
    for start in (CHANGED_INPUTS, UNFOLLOWED, PREDICTION_ENDS):
        assert noted(card, start) == ""


def test_weights_computed_from_parameters_are_followed():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), nn.SELU(), nn.Linear(16, 4)
    )
    card = diagnose(model, gaussian(16))
    assert len(card.layers) == 1
    assert noted(card, UNFOLLOWED) == ""
