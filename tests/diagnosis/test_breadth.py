"""Networks of other people's making: no traceback, reasons for what is missing, nothing changed."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from harness.diagnosis.diagnose import diagnose
from harness.errors import RequestError

from .models import labelled

torchvision = pytest.importorskip("torchvision")

# Name: pixels a side.
TORCHVISION = {
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
TIMM = {
    "convnext_atto": 32,
    "cspresnet50": 32,
    "darknet17": 32,
    "deit_tiny_patch16_224": 224,
    "dla34": 32,
    "ecaresnet26t": 32,
    "edgenext_xx_small": 32,
    "fastvit_t8": 256,
    "ghostnet_050": 32,
    "hardcorenas_a": 32,
    "hrnet_w18_small": 32,
    "inception_next_atto": 32,
    "lcnet_050": 32,
    "levit_128s": 224,
    "mixer_s32_224": 224,
    "mnasnet_small": 32,
    "mobilenetv4_conv_small": 32,
    "mobilevit_xxs": 32,
    "nfnet_l0": 32,
    "poolformer_s12": 32,
    "pvt_v2_b0": 32,
    "repvgg_a0": 32,
    "res2net50_14w_8s": 32,
    "resnet26t": 32,
    "rexnet_100": 32,
    "semnasnet_050": 32,
    "seresnet18": 32,
    "skresnet18": 32,
    "starnet_s1": 32,
    "tinynet_e": 32,
    "vovnet39a": 32,
    "xcit_nano_12_p16_224": 224,
}
_CLASSES = 4
# Enough for a distribution's shape, so that a missing number has another reason than that.
_SAMPLES = 24
# Numbers that a diagnosis never has: updates need a training, borders a convolution's map.
_NEVER = ("update_ratio", "border_")


def samples(side: int) -> tuple[Tensor, Tensor]:
    return labelled(3, side, side, samples=_SAMPLES, classes=_CLASSES)


def check(model: nn.Module, side: int) -> None:
    """Diagnoses a model; a number is measured or has a reason, and the model is as before."""
    before = copy.deepcopy(model.state_dict())
    card = diagnose(model, samples(side))
    text = str(card)
    assert len(card.layers) > 0
    assert max(map(len, text.split("\n"))) <= 100
    numbers = card.layers.select_dtypes("number")
    measured = numbers.loc[:, [not name.startswith("predicted_") for name in numbers]]
    unexplained = measured[card.layers["absent"] == ""]
    missing = set(unexplained.columns[unexplained.isna().any()])
    assert {name for name in missing if not name.startswith(_NEVER)} == set()
    predicted = numbers.loc[:, [name.startswith("predicted_") for name in numbers]]
    if predicted.isna().all(axis=1).any():
        assert any(note.startswith("Theory's prediction") for note in card.notes)
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision_is_diagnosed_whole(name):
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    check(torchvision.models.get_model(name, num_classes=_CLASSES, **options), TORCHVISION[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_is_diagnosed_whole(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own
        model = timm.create_model(name, num_classes=_CLASSES)
    check(model, TIMM[name])


@pytest.mark.slow
def test_a_network_of_gated_layers_alone_is_refused_with_the_reason():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("gmixer_12_224", num_classes=_CLASSES)
    with pytest.raises(RequestError, match="no layer of the model is followed by a supported"):
        diagnose(model, samples(224))
