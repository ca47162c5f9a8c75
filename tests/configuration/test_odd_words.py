"""Odd words on the command line, each of which once ended in a traceback, two lines or a surprise.

They are run in this process, where they end before anything trains.
"""

from __future__ import annotations

import os

import pytest

from harness import train
from harness.configuration.composing import compose
from harness.configuration.overrides import ready
from harness.errors import RequestError
from harness.sweeps import command_line
from harness.sweeps.leftovers import Leftovers

REFUSED = {
    "activation=1": "unknown activation '1'; known: celu, ",
    "activation=null": "unknown activation 'null'; known: celu, ",
    "arm=true": "unknown arm 'True'; known: batch_norm,",
    "arm=null": "unknown arm 'null'; known: batch_norm,",
    "+activation=3": "unknown activation '3'",
    "optimizer=[sgd,adam]": "optimizer=[sgd,adam]: expected one name; several are a sweep",
    "arm=[[1]]": "arm=[[1]]: expected one name",
    "hydra/launcher=3": "hydra/launcher=3: expected a name",
    "=3": "=3: expected a name",
    "--multirun activation=range(3)": "activation=range(3): expected a name",
    "--multirun activation=selu,null": "unknown activation 'null'",
    "+dataset.shade=3": "unknown option 'dataset.shade'",
    "width=\n": "width=\\n: the value cannot be read",
    # Only one line, though a search has something to say first.
    "search=learning_rate dataset=mnist dataset.root=. dataset.download=false": "dataset=mnist",
    "search=learning_rate dataset=cifar10 dataset.root=. dataset.download=false": "dataset=cifar10",
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a command line in an empty folder; returns the exit code and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["harness.train", *words])
        code = command_line.run(train.main)
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("words", REFUSED)
def test_an_odd_word_is_refused_with_one_line(run, tmp_path, words):
    code, errors = run(*words.split(" "), "tracking=none")
    assert code == 2
    assert errors.startswith(f"error: {REFUSED[words]}")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_flags_may_stand_anywhere():
    words = ["depth=2", "--multirun", "activation=selu,relu", "--config-dir", "more"]
    expected = ["--multirun", "--config-dir", "more", "depth=2", "activation=selu,relu"]
    assert ready(words) == expected


def test_names_may_be_chosen_by_a_pattern(run):
    code, errors = run("--multirun", "activation=glob(si*)", "depth=0")
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: depth=0")


def test_an_axis_may_be_given_by_its_options():
    assert compose(["activation={name: relu}"]).activation.name == "relu"


def test_the_home_folder_is_not_made_in_the_working_directory(run, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    words = ("depth=1", "width=2", "seeds=1", "budget=initialization", "tracking=none")
    assert run(*words, "runs=~/results")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert sorted(path.name for path in (home / "results").iterdir()) == ["sweeps", "trials"]


def test_a_refusal_leaves_the_folders_of_earlier_sweeps(tmp_path):
    """In a container every sweep may have the same process id."""
    earlier = tmp_path / "sweeps" / f"2026-01-01_00-00-00_{os.getpid()}"
    (earlier / ".hydra").mkdir(parents=True)
    leftovers = Leftovers([f"runs={tmp_path}"])
    made = earlier.with_name(f"2026-01-02_00-00-00_{os.getpid()}")
    (made / ".hydra").mkdir(parents=True)
    leftovers.remove()
    assert list(earlier.parent.iterdir()) == [earlier]


def test_an_error_is_one_line_whatever_is_named_in_it():
    error = RequestError("there is no folder two\nlines")
    assert str(error) == "there is no folder two\\nlines"
