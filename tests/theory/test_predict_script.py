"""The commands `predict` and `figures` of scripts/theory.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.commands import selu_theory
from harness.configuration.schema import PROJECT_ROOT
from tests.in_process import command


def started(*words: str) -> subprocess.CompletedProcess:
    """Starts the script as a user would."""
    return subprocess.run(
        [sys.executable, str(PROJECT_ROOT / "scripts" / "theory.py"), *words],
        capture_output=True,
        text=True,
        check=False,
    )


def theory(*words: str) -> subprocess.CompletedProcess:
    """Calls the script's function."""
    return command(selu_theory.main, *words)


def test_predict_prints_a_table_and_a_sentence():
    done = started(
        "predict",
        "activation=selu",
        "initializer=he_normal",
        "depth=3",
        "preprocessing=global",
        "dataset=digits",
    )
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert "initializer=he_normal" in lines[0]
    assert "participation ratio" in lines[1]
    assert [line.split()[0] for line in lines[4:7]] == ["1", "2", "3"]
    sentence = "Theory predicts, over 3 layers: "
    endings = ("the variance", "activations")
    assert any(sentence + ending in done.stdout for ending in endings)


def test_predict_as_json():
    done = theory("predict", "depth=2", "width=32", "dropout=alpha", "--json")
    answer = json.loads(done.stdout)
    assert "With dropout acting" in answer["sentence"]
    assert answer["inputs"]["q"] == pytest.approx(1, rel=1e-3)
    assert [row["layer"] for row in answer["layers"]] == [1, 2]
    for row in answer["layers"]:
        for name in ("q", "mean", "variance", "c", "gradient_product"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert answer["variance_recovery_depth"] == 1
    assert answer["training_gradient_product"] < answer["layers"][0]["gradient_product"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["activatoin=selu"], "unknown option 'activatoin'; did you mean activation"),
        (["activation=selu,relu"], "predict takes one cell"),
        (["depth=0"], "depth=0: expected an integer of at least 1"),
        (["dataset=mnist", "dataset.root=/nonexistent"], "dataset.root=/nonexistent"),
        (["activation=torch:nope"], "has no attribute 'nope'"),
    ],
)
def test_a_wrong_request_is_answered_in_one_line(words, message):
    done = theory("predict", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_users_own_activation_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "own_predicted.py").write_text("def halved(x):\n    return 0.5 * x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    done = theory("predict", "activation=own_predicted:halved", "depth=2", "width=32")
    assert done.returncode == 0, done.stderr
    assert "activation=own_predicted:halved" in done.stdout


@pytest.mark.slow
def test_figures_are_written(tmp_path):
    folder = tmp_path / "new"
    done = theory("figures", "--out", str(folder))
    assert done.returncode == 0
    files = sorted(folder.iterdir())
    names = ("depth_dropout", "phase_diagram", "phase_portrait")
    assert [path.name for path in files] == [
        f"{name}.{suffix}" for name in names for suffix in ("png", "svg")
    ]
    assert all(path.stat().st_size > 20_000 for path in files)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_a_wrong_request():
    assert theory("figures", "--out", "/proc/nowhere").returncode == 2
