"""Sweeps of named networks: from the request to the store, the report and the diagnosis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import trained_network
from harness.commands import selu_diagnose
from harness.data import datasets, preprocessing
from harness.errors import RequestError
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cells import cell

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """\
from torch import nn
from torch.nn import functional

HIDDEN = 12


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Linear(64, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.second = nn.Linear(HIDDEN, 9)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(9, num_classes)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x.flatten(1))))
        return self.head(self.drop(functional.relu(self.second(x))))
"""
TINY = {
    "architecture": "factory",
    "architecture.name": "swept_nets:Net",
    "budget.epochs": None,
    "budget.steps": 20,
    "budget.evaluations": 2,
    "budget.probes": 2,
    "probe.samples": 64,
    "seeds": 2,
    "keep_weights": "last",
}


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """The file of a user's module on the Python path."""
    folder = tmp_path / "code"
    folder.mkdir()
    path = folder / "swept_nets.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "swept_nets", raising=False)
    return path


def edit(source: Path, monkeypatch, before: str, after: str) -> None:
    """Edits the module and lets Python read it anew, as another process would."""
    # Byte code of the same second and size would pass for that of the edited file.
    for kept in source.parent.glob("__pycache__/swept_nets.*"):
        kept.unlink()
    source.write_text(source.read_text().replace(before, after))
    monkeypatch.delitem(sys.modules, "swept_nets")


def test_a_users_network_is_swept_kept_and_diagnosed(source, make_config, capsys):
    configs = [make_config(**TINY, activation=name) for name in ("selu", "tanh")]
    sweep.prefetch(configs)
    records = Store(configs[0].runs).records()
    assert [record.status for record in records] == ["done"] * 4
    for record in records:
        assert (record.axes["architecture"], record.axes["depth"]) == ("swept_nets:Net", 2)
        layers = record.layers()
        assert layers["name"].tolist() == ["first", "second"] * 2
        assert layers["score_moments"].notna().all()
        assert record.summary["prediction_sentence"].startswith("Theory predicts, over 2 layers")
    record = records[0]
    data = datasets.load(configs[0].dataset)
    fitted = preprocessing.fit(configs[0].preprocessing, data.training.images, data.full_scale)
    with torch.no_grad():
        logits = trained_network(record.folder)(fitted.apply(data.test.images))
    accuracy = (logits.argmax(1) == data.test.labels).float().mean()
    assert float(accuracy) == pytest.approx(record.summary["test_accuracy"])
    capsys.readouterr()
    assert selu_diagnose.main(["--trial", str(record.folder), "--samples", "64", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in card["layers"]] == ["first", "second"]


def test_an_edited_factory_is_a_new_trial(source, make_config, monkeypatch):
    config = make_config(**TINY | {"seeds": [0]})
    before = cell(config).jobs[0].trial_id
    sweep.prefetch([config])
    edit(source, monkeypatch, "HIDDEN = 12", "HIDDEN = 13")
    assert cell(config).jobs[0].trial_id != before
    with pytest.raises(RequestError, match="swept_nets:Net was edited after trial"):
        trained_network(Store(config.runs).trials / before)
    edit(source, monkeypatch, "HIDDEN = 13", "HIDDEN = 12")
    assert cell(config).jobs[0].trial_id == before


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, check=False
    )


@pytest.mark.slow
def test_named_networks_are_swept_by_the_script_and_reported(source):
    sweep_of_both = (
        "architecture=mlp,swept_nets:Net activation=selu,relu initializer=lecun_normal,he_normal "
        "budget.epochs=null budget.steps=30 budget.probes=2 seeds=3 runs=runs"
    )
    arguments = ["-m", "harness.train", "--multirun", *sweep_of_both.split()]
    answer = run(*arguments, folder=source.parent)
    assert answer.returncode == 0, answer.stderr
    report = run(str(ROOT / "scripts" / "report.py"), "--runs", "runs", folder=source.parent)
    assert report.returncode == 0, report.stderr
    page = (source.parent / "runs" / "reports" / "latest" / "report.html").read_text()
    assert "swept_nets:Net" in page
