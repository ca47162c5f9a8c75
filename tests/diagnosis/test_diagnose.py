"""The numbers of a diagnosis, and what its card gives out."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

import harness
from harness.diagnosis.diagnose import diagnose
from harness.errors import RequestError
from harness.theory.selu.moment_map import map_moments

from .models import gaussian, labelled, selu_mlp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def card():
    return diagnose(selu_mlp([100, 128, 128, 4]), labelled(100, samples=512))


def test_importing_harness_loads_no_torch():
    code = (
        "import sys, harness\n"
        "assert 'torch' not in sys.modules\n"
        "assert callable(harness.diagnose)\n"
        "assert 'torch' in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_harness_has_no_other_attributes():
    with pytest.raises(AttributeError, match="nothing"):
        harness.nothing  # noqa: B018 - the look-up is what is tested


def test_the_numbers_are_those_of_the_model(card):
    model = selu_mlp([100, 128, 128, 4])
    x, _ = labelled(100, samples=512)
    z = model[0](x).detach().double()
    y = model[1](z)
    tau = model[0].weight.detach().double().square().sum(1)
    row = card.layers.iloc[0]
    assert row["pre_activation_mean"] == pytest.approx(float(z.mean()), abs=1e-6)
    assert row["pre_activation_variance"] == pytest.approx(float(z.var(correction=0)), rel=1e-5)
    assert row["activation_variance"] == pytest.approx(float(y.var(correction=0)), rel=1e-5)
    assert row["tau_mean"] == pytest.approx(float(tau.mean()), rel=1e-5)
    assert row["input_variance"] == pytest.approx(float(x.double().var(correction=0)), rel=1e-5)
    assert list(card.layers["name"]) == ["0", "2"]
    assert list(card.layers["activation"]) == ["selu", "selu"]


def test_gradients_are_those_of_autograd():
    model = selu_mlp([20, 32, 32, 4])
    x, labels = labelled(20, samples=64)
    layers = diagnose(model, (x, labels)).layers
    pre_activations = []
    hidden = x
    for module in model:
        hidden = module(hidden)
        if isinstance(module, nn.Linear):
            hidden.retain_grad()
            pre_activations.append(hidden)
    functional.cross_entropy(hidden, labels, reduction="sum").backward()
    squares = [float(z.grad.square().sum(1).mean()) for z in pre_activations[:2]]
    assert list(layers["gradient_square"]) == pytest.approx(squares, rel=1e-5)
    assert layers["gradient_product"].iloc[0] == pytest.approx(squares[0] / squares[1], rel=1e-5)
    norms = [float(module.weight.grad.norm()) / 64 for module in (model[0], model[2])]
    assert list(layers["weight_gradient_norm"]) == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("column", ["activation_mean", "activation_variance", "gradient_product"])
def test_a_clean_network_lies_in_the_bands_of_theory(card, column):
    layers = card.layers
    assert (layers[column] >= layers[f"predicted_{column}_low"] - 1e-9).all()
    assert (layers[column] <= layers[f"predicted_{column}_high"] + 1e-9).all()


def test_the_rung_with_weights_is_the_error_of_the_map(card):
    # The rung `weights` is g itself, with each unit's omega and tau.
    model = selu_mlp([100, 128, 128, 4])
    x, _ = labelled(100, samples=512)
    weight = model[0].weight.detach().double().numpy()
    mean, variance = map_moments(
        float(x.double().mean()),
        float(x.double().var(correction=0)),
        weight.sum(1),
        numpy.square(weight).sum(1),
    )
    y = model[1](model[0](x)).detach().double()
    mean_error = numpy.square(y.mean(0).numpy() - mean).mean()
    variance_error = numpy.square(y.var(0, correction=0).numpy() - variance).mean()
    error = math.sqrt(mean_error + variance_error)
    assert card.layers["ladder_weights"].iloc[0] == pytest.approx(error, rel=1e-4)


def test_the_last_rung_of_the_ladder_has_no_error(card):
    ladder = card.ladder
    assert (ladder["ladder_map"] > ladder["ladder_moments"]).all()
    assert (ladder["ladder_moments"] > ladder["ladder_empirical"]).all()
    assert (ladder["ladder_empirical"] < 1e-5).all()


def test_a_last_layer_of_zeros_is_noted():
    model = selu_mlp([20, 32, 4])
    nn.init.zeros_(model[2].weight)
    assert any("Every gradient is 0" in note for note in diagnose(model, labelled(20)).notes)


def test_few_samples_leave_columns_absent_with_the_reason():
    card = diagnose(selu_mlp([20, 32, 4]), labelled(20, samples=3))
    row = card.layers.iloc[0]
    assert math.isnan(row["unit_wasserstein_q90"])
    assert "only 3 samples" in row["absent"]
    assert row["activation_variance"] > 0
    assert any("3 samples are few" in note for note in card.notes)
    gaussianity = card.verdicts[card.verdicts["condition"] == "gaussianity"].iloc[0]
    assert "only 3 samples" in gaussianity["reason"]


def test_a_weight_that_is_not_finite_leaves_the_layers_before_measured():
    model = selu_mlp([20, 32, 32, 4])
    with torch.no_grad():
        model[2].weight[3, 3] = math.nan
    card = diagnose(model, labelled(20))
    assert card.layers["activation_variance"].notna().tolist() == [True, False]
    assert "128 of 4096 pre-activations are not finite" in card.layers["absent"].iloc[1]
    assert any("the loss is not a finite number" in note for note in card.notes)
    assert set(card.verdicts[card.verdicts["layer"] == 2]["verdict"]) == {"unknown"}
    assert "null" in card.to_json()
    assert "NaN" not in card.to_json()
    assert str(card)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_precisions_are_measured(dtype):
    layers = diagnose(selu_mlp([20, 32, 4]).to(dtype), labelled(20)).layers
    assert layers["activation_variance"].iloc[0] == pytest.approx(1, abs=0.3)


def test_frozen_models_have_gradients():
    model = selu_mlp([20, 32, 4])
    frozen = copy.deepcopy(model).requires_grad_(False)
    square = diagnose(model, labelled(20)).layers["gradient_square"].iloc[0]
    frozen_square = diagnose(frozen, labelled(20)).layers["gradient_square"].iloc[0]
    assert square > 0
    assert frozen_square == pytest.approx(square)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_data_follow_the_model_to_its_device():
    card = diagnose(selu_mlp([20, 32, 4]).cuda(), labelled(20))
    on_cpu = diagnose(selu_mlp([20, 32, 4]), labelled(20))
    assert card.device.startswith("cuda")
    assert card.layers["activation_variance"].iloc[0] == pytest.approx(
        on_cpu.layers["activation_variance"].iloc[0], rel=1e-4
    )


def test_a_tensor_is_a_loader():
    card = diagnose(selu_mlp([20, 32, 4]), gaussian(20))
    assert card.samples == 128


def test_the_page_is_one_file(card, tmp_path):
    path = card.write_html(tmp_path / "deep" / "card.html")
    text = path.read_text()
    assert text.count("data:image/png;base64,") == 4
    assert "http" not in text.replace("http-equiv", "")
    assert card.summary["verdict_sentence"][:30] in text


def test_a_page_that_cannot_be_written_is_one_clear_line(card, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        card.write_html(tmp_path / "file" / "card.html")


def test_json_has_layers_verdicts_and_findings(card):
    read = json.loads(card.to_json())
    assert read["summary"]["verdict_input"] == "holds"
    assert len(read["layers"]) == 2
    assert len(read["verdicts"]) == 16
    assert read["findings"] == []
    broken = selu_mlp([20, 32, 4])
    nn.init.constant_(broken[0].bias, 0.5)
    finding = json.loads(diagnose(broken, labelled(20)).to_json())["findings"][0]
    assert set(finding) == {"rule", "layers", "found", "consequence", "fix", "wrong"}
