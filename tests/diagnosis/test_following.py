"""What a diagnosis cannot follow is named: weights inside functions, concatenations, and whatever else enters a layer."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.diagnosis.diagnose import diagnose

_SPEC = importlib.util.spec_from_file_location(
    "diagnosed_models", Path(__file__).with_name("models.py")
)
models = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(models)


def data(*shape: int, samples: int = 128) -> torch.Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(5))


def noted(card, start: str) -> str:
    """The one note that begins so, without its beginning; "" where there is none."""
    found = [note for note in card.notes if note.startswith(start)]
    assert len(found) < 2
    return found[0].partition(": ")[2] if found else ""


UNFOLLOWED, BEHIND, STRAY = (
    "Weights that could not be followed",
    "Layers that something else",
    "Activations that no single",
)


class Between(nn.Module):
    """SELU layer, whatever is given, SELU layer."""

    def __init__(self, between, weights: dict[str, nn.Module | nn.Parameter] | None = None) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            models.lecun(nn.Linear(16, 16), seed) for seed in range(3)
        )
        self.between = between
        for name, value in (weights or {}).items():
            setattr(self, name, value)

    def forward(self, x):
        x = functional.selu(self.first(x))
        return self.last(functional.selu(self.second(self.between(self, x))))


def attention() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"attention": nn.MultiheadAttention(16, 4, batch_first=True)}


def matrix() -> dict[str, nn.Parameter]:
    return {"matrix": nn.Parameter(torch.eye(16))}


def test_attention_is_named_with_its_weights():
    card = diagnose(Between(lambda model, x: model.attention(x, x, x)[0], attention()), data(5, 16))
    assert card.layers["name"].tolist() == ["first", "second"]
    said = noted(card, UNFOLLOWED)
    assert all(
        f"{name} (multi_head_attention_forward in attention)" in said
        for name in ("attention.in_proj_weight", "attention.out_proj.weight")
    )
    assert noted(card, BEHIND) == "second (attention)."


def test_a_transformers_attention_is_named_and_its_other_layers_are_measured():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation=functional.gelu)
    card = diagnose(nn.Sequential(encoder, nn.Flatten(), nn.Linear(80, 4)), data(5, 16))
    assert card.layers["name"].tolist() == ["0.linear1"]
    assert "0.self_attn.in_proj_weight" in noted(card, UNFOLLOWED)


def test_recurrent_and_written_out_products_are_named():
    torch.manual_seed(0)
    recurrent = Between(
        lambda model, x: model.cells(x)[0], {"cells": nn.LSTM(16, 16, batch_first=True)}
    )
    assert "cells.weight_ih_l0 (lstm in cells), cells.weight_hh_l0 (lstm in cells)" in noted(
        diagnose(recurrent, data(5, 16)), UNFOLLOWED
    )
    written = Between(lambda model, x: torch.einsum("ni,oi->no", x, model.matrix), matrix())
    assert noted(diagnose(written, data(16)), UNFOLLOWED) == "matrix (einsum in the model)."


def test_an_activation_of_attention_is_not_the_activation_of_the_layer_before():
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = (
                models.lecun(nn.Linear(16, 16)),
                models.lecun(nn.Linear(16, 16), 1),
            )
            self.attention = attention()["attention"]

        def forward(self, x):
            x = self.first(x)
            return functional.selu(self.last(functional.selu(self.attention(x, x, x)[0])))

    card = diagnose(Attended(), data(5, 16))
    assert card.layers["name"].tolist() == ["last"]
    assert noted(card, STRAY) == "selu in the model (behind attention)."


def test_a_concatenation_is_named_before_weights_and_before_an_activation():
    class Joined(nn.Module):
        def __init__(self, early: bool) -> None:
            super().__init__()
            self.left, self.right = (models.lecun(nn.Linear(16, 8), seed) for seed in range(2))
            self.second, self.last = (models.lecun(nn.Linear(16, 16), seed) for seed in (2, 3))
            self.early = early

        def forward(self, x):
            parts = self.left(x), self.right(x)
            x = (
                functional.selu(torch.cat(parts, 1))
                if self.early
                else torch.cat([functional.selu(part) for part in parts], 1)
            )
            return self.last(functional.selu(self.second(x)))

    late, early = (diagnose(Joined(when), data(16)) for when in (False, True))
    assert late.layers["name"].tolist() == ["left", "right", "second"]
    assert early.layers["name"].tolist() == ["second"]
    assert noted(late, BEHIND) == noted(early, BEHIND) == "second (a concatenation)."
    assert noted(early, STRAY) == "selu in the model (behind a concatenation)."
    assert noted(late, STRAY) == ""


@pytest.mark.parametrize(
    "between, word",
    [
        (lambda model, x: 2 * x, "mul"),
        (lambda model, x: x.softmax(1), "softmax"),
        (lambda model, x: x[:, torch.arange(15, -1, -1)], "a choice of entries"),
    ],
)
def test_theory_follows_no_function_that_it_does_not_know(between, word):
    card = diagnose(Between(between), data(16))
    assert card.layers["predicted_activation_variance"].notna().tolist() == [True, False]
    assert noted(card, BEHIND) == f"second ({word})."
    assert f"{word} in front of its weights" in noted(card, "Theory's prediction")


def test_neither_does_it_where_the_models_own_inputs_are_changed_first():
    plain = models.selu_mlp([16, 16, 4])

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = plain

        def forward(self, x):
            return self.body((x - 0.5) / 0.25)

    assert diagnose(plain, data(16)).layers["predicted_activation_variance"].notna().all()
    card = diagnose(Scaled(), data(16))
    assert "predicted_activation_variance" not in card.layers
    assert noted(card, BEHIND) == "body.0 (sub)."


@pytest.mark.parametrize(
    "between",
    [
        lambda model, x: x.view(-1, 4, 4).flatten(1),
        lambda model, x: x.unsqueeze(1).transpose(1, 2).squeeze(2).contiguous(),
        lambda model, x: x.clone(),
    ],
)
def test_what_only_moves_entries_is_followed_in_silence(between):
    card = diagnose(Between(between), data(16))
    assert card.layers["predicted_activation_variance"].notna().all()
    assert (
        noted(card, BEHIND) == noted(card, UNFOLLOWED) == noted(card, "Theory's prediction") == ""
    )


def test_weights_made_of_parameters_are_followed():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), nn.SELU(), nn.Linear(16, 4)
    )
    card = diagnose(model, data(16))
    assert len(card.layers) == 1
    assert noted(card, UNFOLLOWED) == ""
