"""Networks of other people's making: no traceback, and nothing in them is changed."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.diagnosis.diagnose import diagnose

from .models import gaussian

torchvision = pytest.importorskip("torchvision")

# Name: pixels a side.
NETWORKS = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mnasnet1_0": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_large": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "regnet_y_800mf": 32,
    "resnet18": 32,
    "resnet34": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "shufflenet_v2_x1_0": 32,
    "shufflenet_v2_x1_5": 32,
    "shufflenet_v2_x2_0": 32,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vgg11_bn": 32,
    "vgg13_bn": 32,
    "vgg16": 32,
    "vit_b_16": 224,
    "wide_resnet50_2": 32,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torchvision_is_diagnosed_and_left_as_it_is(name):
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, num_classes=4, **options)
    before = copy.deepcopy(model.state_dict())
    card = diagnose(model, gaussian(3, NETWORKS[name], NETWORKS[name], samples=4))
    assert len(card.layers) > 0
    assert max(map(len, str(card).split("\n"))) <= 100
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
