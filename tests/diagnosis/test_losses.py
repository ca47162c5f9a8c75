"""The loss whose gradients a diagnosis measures."""

from __future__ import annotations

import pytest
from torch import nn

from harness.diagnosis.diagnose import diagnose

from .models import labelled, selu_mlp


class Returning(nn.Module):
    """A SELU network whose output is given to a function."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.body = selu_mlp([20, 32, 4])
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.body(x))


@pytest.mark.parametrize(
    "wrap",
    [lambda y: (y, 3), lambda y: {"logits": y, "aux": None}, lambda y: [(y,)]],
    ids=["tuple", "mapping", "nested"],
)
def test_the_first_tensor_of_an_output_gives_the_loss(wrap):
    expected = diagnose(selu_mlp([20, 32, 4]), labelled(20)).layers["gradient_square"].iloc[0]
    layers = diagnose(Returning(wrap), labelled(20)).layers
    assert layers["gradient_square"].iloc[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrap",
    [lambda y: None, lambda y: "text", lambda y: y.argmax(1), lambda y: y.detach()],
    ids=["nothing", "text", "classes", "detached"],
)
def test_without_a_loss_gradients_are_absent_with_the_reason(wrap):
    card = diagnose(Returning(wrap), labelled(20))
    assert card.layers["gradient_square"].isna().all()
    assert card.layers["activation_variance"].notna().all()
    assert any(note.startswith("No gradients: the model gives no tensor") for note in card.notes)
    assert "no gradient" in card.layers["absent"].iloc[0]


INPUTS, LABELS = labelled(20)


@pytest.mark.parametrize(
    "loader",
    [
        INPUTS,
        [INPUTS],
        [(INPUTS,)],
        [{"image": INPUTS}],
        (INPUTS, LABELS + 100),
    ],
    ids=["tensor", "batch", "tuple", "mapping", "labels out of range"],
)
def test_without_labels_a_random_projection_stands_in(loader):
    card = diagnose(selu_mlp([20, 32, 4]), loader)
    assert card.layers["gradient_square"].iloc[0] > 0
    assert any("random projection" in note for note in card.notes)


@pytest.mark.parametrize(
    "loader",
    [
        (INPUTS, LABELS),
        [(INPUTS[:50], LABELS[:50]), (INPUTS[50:], LABELS[50:])],
        [{"pixel_values": INPUTS, "labels": LABELS}],
    ],
    ids=["pair", "batches", "mapping"],
)
def test_labels_of_a_loader_give_the_loss(loader):
    notes = diagnose(selu_mlp([20, 32, 4]), loader).notes
    assert any("cross-entropy" in note for note in notes)


def test_more_samples_than_a_backward_pass_uses_keep_their_labels():
    card = diagnose(selu_mlp([20, 32, 4]), labelled(20, samples=400))
    assert card.samples == 400
    assert any("cross-entropy" in note for note in card.notes)
