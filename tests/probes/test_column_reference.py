"""The reference of columns: up to date, and complete for real sweeps and diagnoses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from harness import diagnose
from harness.configuration.schema import CONF_DIR
from harness.probes.column_reference import markdown, meanings
from harness.sweeps.cells import cell
from harness.sweeps.runner import run_pack

README = Path(__file__).resolve().parents[2] / "harness" / "probes" / "README.md"


def test_the_readme_is_the_one_that_the_declarations_give():
    assert README.read_text(encoding="utf-8") == markdown(), (
        "harness/probes/README.md is stale; run python scripts/document.py"
    )


@pytest.mark.parametrize("name", ["standard", "full"])
def test_the_readme_states_the_samples_of_each_probe(name):
    samples = OmegaConf.load(CONF_DIR / "probe" / f"{name}.yaml")["samples"]
    assert f"{samples:,} with `probe={name}`" in " ".join(markdown().split())


@pytest.mark.parametrize(
    "choices",
    [
        {"probe": "full"},
        {"probe": "standard", "normalization": "layer", "activation": "relu"},
        {"probe": "full", "architecture": "cnn"},
    ],
    ids=["mlp", "normalized", "cnn"],
)
def test_every_column_of_a_sweep_has_a_meaning(make_config, choices):
    config = make_config(
        depth=2,
        width=16,
        seeds=[0],
        **choices,
        **{"budget.epochs": None, "budget.steps": 2, "probe.samples": 64},
    )
    request = cell(config)
    (result,) = run_pack(request.jobs, "auto", lambda steps: None)
    assert set(result.layers) - meanings().keys() == set()


def test_every_column_of_a_diagnosis_has_a_meaning():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.SELU(),
        nn.AlphaDropout(0.1),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(16 * 6 * 6, 32),
        nn.LayerNorm(32),
        nn.SELU(),
        nn.Linear(32, 10),
    )
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    card = diagnose(model, [(images, torch.arange(64) % 10)])
    assert set(card.layers.columns) - meanings().keys() == set()


def test_meanings_are_found_by_the_names_of_columns():
    by_name = meanings()
    assert "sum of a unit's weights" in by_name["omega_mean"]
    assert by_name["input_mean_low"].startswith("99 % interval")
    assert by_name["unit_wasserstein_q90_null"].startswith("The value of the column without")
