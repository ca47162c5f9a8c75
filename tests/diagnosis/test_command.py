"""The command that diagnoses a model, as its users call it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from harness.commands import selu_diagnose

ROOT = Path(__file__).resolve().parents[2]

NETS = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self, inputs=64, width=32, rate=0.0):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 10)
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


def test_the_command_prints_the_card_and_writes_the_page(folder, tmp_path):
    page = tmp_path / "page.html"
    command = f"nets:make --data digits --argument rate=0.1 --html {page}"
    answer = run(folder, *command.split())
    assert answer.returncode == 0, answer.stderr
    assert "2 activated layers" in answer.stdout
    assert "Dropout where AlphaDropout belongs: first" in answer.stdout
    assert "Attribution" in answer.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert answer.stdout.rstrip().endswith("page.html")


def test_a_folder_of_images_is_a_data_set(folder):
    command = (
        "nets:make --data images --argument inputs=192 --json preprocessing=per_channel "
        "--samples 16"
    )
    answer = run(folder, *command.split())
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
    "nets:make --data digits preprocessing.shift=[1": (
        "preprocessing.shift=[1: the value cannot be read (expected ',' or ']'"
    ),
    "nets:make --data digits preprocessing.shift=nan": (
        "preprocessing.shift=nan: expected a finite number"
    ),
    "nets:make --data digits preprocessing.scale=-1": (
        "preprocessing.scale=-1.0: expected a number above 0"
    ),
    "nets:make --data digits preprocessing=global preprocessing.epsilon=5": (
        "preprocessing=global takes no such option; it belongs to zca"
    ),
    "nets:make --data digits preprocessing=zca preprocessing.epsilon=inf": (
        "preprocessing.epsilon=inf: expected a number above 0"
    ),
    "nets:make --data digits dataset.validation_share=nan": "expected a number between 0 and 1",
    "nets:make --data digits depth=3": "expected dataset.KEY=VALUE",
    "nets:make --data mnist dataset.root=/nowhere": "no such folder",
    "nets:make --data digits --argument inputs=7": (
        "the model failed in first on inputs of shape (2, 1, 8, 8)"
    ),
    "nets:make --data digits --device cuda:77": "is not there",
    "nets:make --data digits --device mps": "device=mps: expected auto, cpu, cuda or cuda:N",
    "nets:make --data digits --html nets.py/page.html": "cannot write",
    "nets:make --data digits --html images": "it is a folder",
    "nets:make --data digits --against nowhere.json": "cannot read nowhere.json",
    "nets:make --data digits --against nets.py": "no state dictionary of this model",
    "nets:make --data digits --against nets:nothing": "has no attribute 'nothing'",
    "nets:make --data gaussian dataset.shape=[2,4,4] dataset.samples=300 --channels 3": (
        "the images have 2 channels"
    ),
}


@pytest.fixture
def main(folder, monkeypatch):
    """The function of the command, in the user's folder.

    A process of its own would spend most of its time on loading torch.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return selu_diagnose.main


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(main, capsys, mistake):
    assert main(mistake.split()) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert MISTAKES[mistake] in answer.err


def test_a_mistake_ends_the_process_with_exit_code_2(folder):
    answer = run(folder, "nets:nothing", "--data", "digits")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)


def test_images_are_fitted_to_the_model(main, capsys):
    command = (
        "nets:make --data digits --image-size 4 --channels 3 --argument inputs=48 --json "
        "--samples 40"
    )
    assert main(command.split()) == 0
    assert json.loads(capsys.readouterr().out)["input_shape"] == [3, 4, 4]


def test_a_ready_model_is_diagnosed_on_settings_of_the_data(main, capsys):
    command = "nets:ready --data gaussian dataset.shape=[1,8,8] dataset.samples=300 --samples 40"
    assert main(command.split()) == 0
    assert "40 samples of shape 1 x 8 x 8" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["--data 2024_01", "--data image_folder dataset.root=2024_01"])
def test_a_folder_whose_name_reads_as_a_number_is_a_folder(main, folder, capsys, data):
    shutil.copytree(folder / "images", folder / "2024_01", dirs_exist_ok=True)
    assert main(f"nets:make {data} --argument inputs=192 --samples 16".split()) == 0
    assert "16 samples of shape 3 x 8 x 8" in capsys.readouterr().out


def test_images_are_standardised_after_they_are_resized(main, capsys):
    command = "nets:make --data digits --image-size 2 --argument inputs=4 --json --samples 200"
    assert main(command.split()) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["layers"][0]["input_variance"] == pytest.approx(1.0, abs=0.1)
    assert card["layers"][0]["input_mean"] == pytest.approx(0.0, abs=0.1)


def test_a_finding_gives_exit_code_1_where_that_is_asked_for(main, capsys):
    command = "nets:make --data digits --samples 40 --fail-on lint"
    assert main(command.split()) == 0
    assert main([*command.split(), "--argument", "rate=0.1"]) == 1
    output = capsys.readouterr().out
    assert "wrong: nn.Dropout(0.1)" in output
    assert "right: nn.AlphaDropout(0.1)" in output


def test_a_card_and_a_checkpoint_are_compared_with(main, capsys, folder, tmp_path):
    command = ["nets:make", "--data", "digits", "--samples", "40"]
    assert main([*command, "--argument", "rate=0.1", "--json"]) == 0
    earlier = tmp_path / "before.json"
    earlier.write_text(capsys.readouterr().out)
    sys.path.insert(0, str(folder))
    state = importlib.import_module("nets").make().state_dict()
    state["first.weight"] *= 2
    torch.save({"state_dict": state}, tmp_path / "model.pt")
    page = tmp_path / "page.html"
    others = ["--against", str(earlier), "--against", str(tmp_path / "model.pt")]
    assert main([*command, *others, "--html", str(page)]) == 0
    output = capsys.readouterr().out
    assert "Compared with before.json" in output
    assert "gone: Dropout where AlphaDropout belongs" in output
    assert "gone: weights of another scale than 1 / fan_in" in output
    assert page.read_text().count("data:image/png;base64,") == 5


def test_a_page_that_cannot_be_written_loses_no_diagnosis(main, capsys, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    command = f"nets:make --data digits --samples 40 --html {tmp_path / 'page.html'}"
    assert main(command.split()) == 2
    answer = capsys.readouterr()
    assert "2 activated layers" in answer.out
    assert "No space left on device" in answer.err


def test_an_interruption_is_one_line(main, capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(selu_diagnose, "_diagnose", interrupted)
    assert main(["nets:make", "--data", "digits"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
