"""A diagnosis leaves the model and the random generators as they were."""

from __future__ import annotations

import copy
import random

import numpy
import pytest
import torch
from torch import nn

from harness.diagnosis.diagnose import diagnose
from harness.errors import RequestError

from .models import labelled


class Disturbable(nn.Module):
    """A model with running statistics, a counter, dropout and a module in another mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(20, 16), nn.BatchNorm1d(16), nn.SELU(), nn.Dropout(0.5), nn.Linear(16, 4)
        )
        self.register_buffer("calls", torch.zeros(()))
        self.body[1].eval()

    def forward(self, x):
        self.calls += 1
        return self.body(x)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def hook_counts(model: nn.Module) -> list[tuple[int, int]]:
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]


def assert_same_state(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value), name


@pytest.fixture
def model():
    """A model in the middle of its training: a frozen weight, gradients, and a hook."""
    model = Disturbable()
    model.body[0].weight.requires_grad_(False)
    model(labelled(20)[0]).sum().backward()
    model.body[2].register_forward_hook(lambda *_: None)
    return model


def test_the_state_of_a_model_is_as_before(model):
    before = copy.deepcopy(model.state_dict())
    modes_before = modes(model)
    hooks_before = hook_counts(model)
    diagnose(model, labelled(20))
    assert_same_state(model, before)
    assert modes(model) == modes_before
    assert hook_counts(model) == hooks_before


def test_gradients_of_a_model_are_as_before(model):
    before = [copy.deepcopy(parameter.grad) for parameter in model.parameters()]
    diagnose(model, labelled(20))
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1


def test_random_generators_are_as_before(model):
    torch_state = torch.get_rng_state()
    python_state = random.getstate()
    numpy_state = numpy.random.get_state()[1].copy()
    data = torch.utils.data.TensorDataset(*labelled(20))
    diagnose(model, torch.utils.data.DataLoader(data, batch_size=32, shuffle=True))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    assert (numpy_state == numpy.random.get_state()[1]).all()


def test_a_model_that_fails_is_as_before():
    class Failing(Disturbable):
        def forward(self, x):
            super().forward(x)
            raise KeyError("broken")

    model = Failing()
    before = copy.deepcopy(model.state_dict())
    modes_before = modes(model)
    message = "the model failed on inputs of shape .* KeyError: 'broken'"
    with pytest.raises(RequestError, match=message):
        diagnose(model, labelled(20))
    assert_same_state(model, before)
    assert modes(model) == modes_before
    assert set(hook_counts(model)) == {(0, 0)}


def test_repeated_diagnoses_agree():
    model = Disturbable()
    assert diagnose(model, labelled(20)).to_json() == diagnose(model, labelled(20)).to_json()
