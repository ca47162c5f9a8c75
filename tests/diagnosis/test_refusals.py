"""Models and loaders that cannot be diagnosed are refused in one clear line."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.diagnosis.diagnose import diagnose
from harness.errors import RequestError

from .models import labelled, selu_mlp


def network(inputs: int = 20) -> nn.Module:
    return selu_mlp([inputs, 8, 4])


def function() -> object:
    return lambda x: x


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.SELU())


def on_meta() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 8, device="meta"), nn.SELU())


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(20, 8), nn.SELU()))


def without_activation() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 8), nn.Softmax(1))


# Name: (function that makes the model, message).
MODELS = {
    "no module": (function, "the model is a function; expected a torch.nn.Module"),
    "lazy": (lazy, "parameters without values yet .0.weight, 0.bias.: run it once"),
    "meta": (on_meta, "meta device"),
    "scripted": (scripted, "TorchScript"),
    "no layer": (nn.Flatten, "no linear or convolutional layer"),
    "no activation": (
        without_activation,
        "no layer of the model is followed by a supported activation.*softmax",
    ),
    "wrong shape": (
        lambda: network(21),
        "the model failed in 0 on inputs of shape .2, 20.: RuntimeError",
    ),
}
# Name: (loader, message).
LOADERS = {
    "empty loader": ([], "the loader gave no sample"),
    "empty batch": ([torch.zeros(0, 20)], "the loader gave no sample"),
    "one sample": (torch.zeros(1, 20), "gave one sample; at least 2"),
    "no loader": (3, "the loader is a int"),
    "no tensors": ([["a", "b"]], "holds a str where a tensor"),
    "different shapes": (
        [torch.zeros(2, 20), torch.zeros(2, 21)],
        "inputs of different shapes",
    ),
    "not finite": (
        torch.full((8, 20), math.nan),
        "inputs hold a value that is not a finite number",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_diagnosed_is_refused_in_one_line(case):
    make, message = MODELS[case]
    with pytest.raises(RequestError, match=message) as caught:
        diagnose(make(), labelled(20))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", LOADERS)
def test_a_loader_without_usable_samples_is_refused_in_one_line(case):
    loader, message = LOADERS[case]
    with pytest.raises(RequestError, match=message) as caught:
        diagnose(network(), loader)
    assert "\n" not in str(caught.value)
