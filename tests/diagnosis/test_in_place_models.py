"""Models that write over their inputs, keep graphs, checkpoint, or change themselves."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from harness.diagnosis.diagnose import diagnose

from .models import gaussian, labelled, lecun, selu_mlp
from .test_recognised_layers import assert_equal_numbers


class Preparing(nn.Module):
    """A network behind a function of its inputs."""

    def __init__(self, prepare) -> None:
        super().__init__()
        self.body = selu_mlp([20, 32, 32, 4])
        self.prepare = prepare

    def forward(self, x):
        return self.body(self.prepare(x))


def test_a_model_that_overwrites_its_inputs_has_the_card_of_its_twin():
    inputs, labels = labelled(20, samples=300)
    raw = inputs * 74 + 128
    kept = raw.clone()
    in_place = diagnose(Preparing(lambda x: x.sub_(128.0).div_(74.0)), (raw, labels))
    twin = diagnose(Preparing(lambda x: (x - 128.0) / 74.0), (raw, labels))
    assert_equal_numbers(twin.layers, in_place.layers, 1e-5)
    assert in_place.layers["gradient_square"].notna().all()
    assert torch.equal(raw, kept)
    assert in_place.findings == twin.findings == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_model_is_measured(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = selu_mlp([20, 32, 32, 4])

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=reentrant)

    card = diagnose(Checkpointed(), labelled(20))
    plain = diagnose(selu_mlp([20, 32, 32, 4]), labelled(20))
    assert card.layers["activation_variance"].tolist() == pytest.approx(
        plain.layers["activation_variance"].tolist(), rel=1e-5
    )
    if reentrant:
        assert card.layers["gradient_square"].isna().all()
        assert any(note.startswith("No gradients: autograd refuses") for note in card.notes)
    else:
        assert card.layers["gradient_square"].tolist() == pytest.approx(
            plain.layers["gradient_square"].tolist(), rel=1e-4
        )


class Caching(nn.Module):
    """A model that keeps what it computed from parameters while it evaluates."""

    def __init__(self) -> None:
        super().__init__()
        self.body = selu_mlp([20, 32, 4])
        self.scale = nn.Parameter(torch.ones(()))
        self.cache: dict[str, torch.Tensor] = {}
        self.counts = Counter()
        self.last = None

    def forward(self, x):
        if "scale" not in self.cache:
            self.cache["scale"] = torch.exp(self.scale * torch.ones(4))
        self.counts["calls"] += 1
        self.last = x.mean()
        return self.body(x) * self.cache["scale"]


def test_a_model_that_keeps_a_graph_is_measured_and_left_as_it_is():
    model = Caching().eval()
    model(gaussian(20))
    kept, last = model.cache["scale"], model.last
    card = diagnose(model, labelled(20, samples=400))
    assert card.layers["gradient_square"].notna().all()
    assert model.cache["scale"] is kept
    assert model.last is last
    assert model.counts == Counter(calls=1)
    # The graph that the model keeps still works.
    kept.sum().backward()


def test_a_cache_of_the_diagnosis_does_not_stay():
    model = Caching()
    diagnose(model, labelled(20))
    assert model.cache == {}
    assert model.last is None


def test_what_a_model_prepares_for_evaluation_is_there_and_does_not_stay():
    class Prepared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = selu_mlp([20, 32, 4])

        def train(self, mode=True):
            super().train(mode)
            if mode and hasattr(self, "kept"):
                del self.kept
            elif not mode:
                self.kept = torch.ones(())
            return self

        def forward(self, x):
            return self.body(x) * self.kept

    model = Prepared()
    diagnose(model, labelled(20))
    assert model.training
    assert not hasattr(model, "kept")


class Changing(nn.Module):
    """A model that changes its buffers, attributes and parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = selu_mlp([20, 32, 4])
        self.register_buffer("total", torch.tensor([0.0, math.nan]))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.history: list[float] = []

    def forward(self, x):
        self.total.fill_(0.0)
        self.count = self.count + 1
        self.history.append(1.0)
        with torch.no_grad():
            self.body[0].weight.clamp_(-0.1, 0.1)
        return self.body(x)


def test_buffers_attributes_and_parameters_are_as_before():
    model = Changing()
    count, weight = model.count, model.body[0].weight.detach().clone()
    diagnose(model, labelled(20))
    assert model.count is count
    assert int(model.count) == 0
    assert math.isnan(float(model.total[1]))
    assert model.history == []
    assert torch.equal(model.body[0].weight, weight)


def test_an_own_activation_is_not_called_for_its_own_sake():
    class Counting(nn.Module):
        calls: list[int] = []

        def forward(self, x):
            self.seen = getattr(self, "seen", 0) + 1
            return functional.selu(x)

    activation = Counting()
    model = nn.Sequential(lecun(nn.Linear(20, 16)), activation, nn.Linear(16, 4))
    card = diagnose(model, labelled(20))
    assert card.layers["activation"].tolist() == ["selu"]
    assert not hasattr(activation, "seen")


def test_inputs_that_are_overwritten_before_the_activation_are_said():
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = lecun(nn.Linear(20, 16))
            self.last = nn.Linear(16, 4)

        def forward(self, x):
            z = self.first(x)
            x.zero_()
            return self.last(functional.selu(z))

    row = diagnose(Overwriting(), labelled(20)).layers.iloc[0]
    assert "inputs were overwritten" in row["absent"]
