"""`python scripts/diagnose.py` as a user meets it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

NETS = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self, inputs=64, width=32, rate=0.0):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, 10)
        self.dropout = nn.Dropout(rate)
        for layer in (self.first, self.second, self.last):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.dropout(functional.selu(self.first(x.flatten(1))))
        return self.last(functional.selu(self.second(x)))


def make(**arguments):
    return Net(**arguments)


def raises():
    raise RuntimeError("no such luck")


ready = Net()
number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "nets.py").write_text(NETS)
    generator = numpy.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / "images" / kind).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=numpy.uint8)).save(
                folder / "images" / kind / f"{index}.png"
            )
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "diagnose.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


def test_text_and_page(folder, tmp_path):
    answer = run(
        folder,
        "nets:make",
        "--data",
        "digits",
        "--argument",
        "rate=0.1",
        "--html",
        str(tmp_path / "page.html"),
    )
    assert answer.returncode == 0, answer.stderr
    assert "2 activated layers" in answer.stdout
    assert "Dropout where AlphaDropout belongs: first" in answer.stdout
    assert "Attribution" in answer.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert answer.stdout.rstrip().endswith("page.html")


def test_json_of_a_folder_of_images(folder):
    answer = run(
        folder,
        "nets:make",
        "--data",
        "images",
        "--argument",
        "inputs=192",
        "--json",
        "preprocessing=per_channel",
        "--samples",
        "16",
    )
    assert answer.returncode == 0, answer.stderr
    card = json.loads(answer.stdout)
    assert card["samples"] == 16
    assert card["input_shape"] == [3, 8, 8]
    assert card["layers"][0]["fan_in"] == 192


MISTAKES = {
    "nets --data digits": "expected package.module:factory",
    "nowhere:make --data digits": "cannot be loaded: No module named 'nowhere'",
    "nets:nothing --data digits": "has no attribute 'nothing'",
    "nets:number --data digits": "is not callable",
    "nets:raises --data digits": "raised RuntimeError: no such luck",
    "math:hypot --data digits": "returned a float; expected a torch.nn.Module",
    "nets:make --data digits --argument wide=3": "unexpected keyword argument 'wide'",
    "nets:make --data digits --argument wide": "expected NAME=VALUE",
    "nets:ready --data digits --argument width=3": "Net",
    "nets:make --data nowhere": "neither a folder nor a data set; known data sets: cifar10,",
    "nets:make --data digits --samples 1": "at least 2 samples",
    "nets:make --data digits --image-size 0": "expected at least 1 pixel",
    "nets:make --data digits dataset.colour=3": "colour",
    "nets:make --data digits preprocessing=shiny": "unknown preprocessing 'shiny'; known: global,",
    "nets:make --data digits depth=3": "expected dataset.KEY=VALUE",
    "nets:make --data mnist dataset.root=/nowhere": "no such folder",
    "nets:make --data digits --argument inputs=7": "the model failed in first on inputs of shape (2, 1, 8, 8)",
    "nets:make --data digits --device cuda:77": "is not there",
    "nets:make --data digits --html nets.py/page.html": "cannot write",
}


@pytest.fixture
def main(folder, monkeypatch):
    """The script's function, in the user's folder: most of a process of its own would go into loading torch."""
    spec = importlib.util.spec_from_file_location(
        "diagnose_script", ROOT / "scripts" / "diagnose.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return script.main


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(main, capsys, mistake):
    assert main(mistake.split()) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert MISTAKES[mistake] in answer.err


def test_a_mistake_ends_the_process_with_2(folder):
    answer = run(folder, "nets:nothing", "--data", "digits")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)


def test_images_fitted_to_the_model_and_a_ready_model(main, capsys):
    assert (
        main(
            [
                "nets:make",
                "--data",
                "digits",
                "--image-size",
                "4",
                "--channels",
                "3",
                "--argument",
                "inputs=48",
                "--json",
                "--samples",
                "40",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["input_shape"] == [3, 4, 4]
    assert (
        main(
            [
                "nets:ready",
                "--data",
                "gaussian",
                "dataset.shape=[1,8,8]",
                "dataset.samples=300",
                "--samples",
                "40",
            ]
        )
        == 0
    )
