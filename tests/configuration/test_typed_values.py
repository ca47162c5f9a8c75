"""What a user types is what is meant, or one line says how to write it."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness import train
from harness.configuration.composing import compose, register_schema
from harness.configuration.overrides import FREE_TEXT, check_cells, parsed, ready
from harness.configuration.schema import CONF_DIR
from harness.errors import RequestError
from harness.sweeps import command_line
from harness.sweeps.leftovers import Leftovers

TYPED = [
    "~/data",
    "sweeps/lr=0.1",
    "sträße/資料",
    "with blank",
    " leading and trailing ",
    "it's",
    'say "yes"',
    "both ' and \"",
    "back\\slash'quote",
    "a(b)[c]{d}",
    "100%#&!",
    "1e3",
    "2024_01",
    "007",
    "0x10",
    "true",
    "1.50",
]


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("option", [name for name in FREE_TEXT if not name.startswith("hydra")])
def test_free_text_means_what_was_typed(option, text):
    (override,) = parsed(ready([f"{option}={text}"]))
    assert (override.key_or_group, override.value()) == (option, text)


def test_a_composed_request_has_the_folders_as_typed():
    request = compose(["runs=2024_01", "dataset.root=~/data=1"])
    assert (request.runs, request.dataset.root) == ("2024_01", "~/data=1")


@pytest.mark.parametrize(
    "argument, value",
    [("runs='a b'", "a b"), ('runs="a=b"', "a=b"), ("tracking.uri=null", None), ("depth=3", 3)],
)
def test_what_is_written_in_hydras_grammar_stays(argument, value):
    assert ready([argument]) == [argument]
    assert parsed([argument])[0].value() == value


def test_values_of_flags_are_no_overrides():
    arguments = ["--config-dir", "a=[b", "--multirun", "-cn", "x=(", "runs=~/a"]
    assert ready(arguments) == [*arguments[:-1], "runs='~/a'"]


@pytest.mark.parametrize(
    "argument, shown",
    [
        ("activation=mö:f", "\"activation='mö:f'\""),
        ("depth=[1,2", "\"depth='[1,2'\""),
        ("activation=~x", "\"activation='~x'\""),
    ],
)
def test_an_unreadable_value_names_its_option_and_shows_the_quoting(argument, shown):
    with pytest.raises(RequestError) as refusal:
        compose([argument])
    assert str(refusal.value).startswith(f"{argument}: the value cannot be read")
    assert shown in str(refusal.value)


@pytest.mark.parametrize("asked", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_several_values_are_a_sweep_where_one_is_asked_for(asked):
    check_cells([asked, "activation=selu,relu", "depth=range(2,5)"])


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Runs the command in a new folder and returns its one line; nothing may be left."""
    monkeypatch.chdir(tmp_path)
    # So that it is taken back at the end.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")

    def run(*arguments: str) -> str:
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # Running sets it.
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        code = command_line.run(train.main)
        said = capsys.readouterr().err
        assert (code, said.count("\n")) == (2, 1), said
        assert sorted(tmp_path.rglob("*")) == before
        return said

    return run


@pytest.mark.parametrize("mode", [[], ["--multirun"]], ids=["one cell", "sweep"])
@pytest.mark.parametrize("runs", ["a b", "'a b'", '"it is"', "a=b", "1e3", "sträße", "x/y/z"])
def test_a_refusal_leaves_nothing_whatever_the_folder_is_called(refused, mode, runs):
    assert "depth=0: expected an integer" in refused(*mode, "depth=0", f"runs={runs}")


def test_a_refusal_keeps_the_folders_of_other_processes(tmp_path):
    runs = tmp_path / "runs"
    leftovers = Leftovers([f"runs={runs}"])
    for name in (f"2026_{os.getpid()}", "2026_1"):
        (runs / "sweeps" / name / ".hydra").mkdir(parents=True)
    leftovers.remove()
    assert [path.name for path in (runs / "sweeps").iterdir()] == ["2026_1"]


def test_sweeps_of_one_second_have_folders_of_their_own():
    settings = OmegaConf.load(CONF_DIR / "config.yaml").hydra
    for folder in (settings.run, settings.sweep):
        assert OmegaConf.to_container(folder)["dir"].endswith("_${process_id:}")
    register_schema()
    assert OmegaConf.create({"folder": "${process_id:}"}).folder == os.getpid()


REFUSALS = {
    "activation=selu,relu": "several values are a sweep; add --multirun",
    "--multirun depth=range(1,1)": "the range holds no value",
    "--multirun depth=range(3,1)": "the range holds no value",
    "--multirun depth=range(1,1000000000)": "more than 1,000,000 cells",
    "--multirun runs=A,B": "one folder for results",
    "experiment=quickstart": "this is a sweep over activation, initializer, normalization, depth",
    f"runs={'a' * 300}": "File name too long",
    f"--multirun runs={'a' * 300}": "File name too long",
    "width=1000000000000": "GiB",
    "width=9999999999999999999999999": "GiB",
    "depth=100000000": "expected at most 10,000 hidden layers",
    "seeds=1000000000": "expected at most 100,000 seeds",
    "dataset=gaussian dataset.samples=1000000000": "GiB",
    "dataset=gaussian dataset.shape=[1,100000,100000]": "GiB",
    "budget.epochs=null budget.steps=1000000000000000": "expected at most",
    "budget.evaluations=1000000000": "expected at most",
    "budget.probes=1000000000": "expected at most",
    "search=learning_rate search.draws=1000000000": "expected at most",
    "search=learning_rate search.seeds=1000000000": "expected at most",
    "dataset.split_seed=99999999999999999999": "below 2^31",
}


@pytest.mark.parametrize("arguments", REFUSALS, ids=[name[:40] for name in REFUSALS])
def test_what_cannot_be_meant_is_one_line(refused, arguments):
    assert REFUSALS[arguments] in refused(*arguments.split())


EXPERIMENTS = {
    "depth: x": "experiment=mine: depth: Value 'x' of type 'str' could not be converted",
    "widht: 3": "experiment=mine: unknown option 'widht'; did you mean width?",
    "activation: {alpha: 1.0, beta: 2}": "experiment=mine: unknown option 'activation.beta'",
    "a: [1": "experiment/mine.yaml, line 3: expected ',' or ']'",
    "hydra: {sweeper: {params: {depth: 'range('}}}": "depth=range(: the value cannot be read",
    "hydra: {sweeper: {params: {depth: 'range(1,1)'}}}": "the sweep has no cells",
    "hydra: {sweeper: {params: {activation: 'selu,rely'}}}": "unknown activation 'rely'",
}


def experiment(folder: Path, text: str) -> list[str]:
    """Writes an experiment beside the harness and returns the arguments that name it."""
    (folder / "mine" / "experiment").mkdir(parents=True, exist_ok=True)
    file = folder / "mine" / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{textwrap.dedent(text)}\n")
    return ["--config-dir", str(folder / "mine"), "experiment=mine"]


@pytest.mark.parametrize("text", EXPERIMENTS)
def test_a_mistake_in_an_experiment_keeps_its_reason(refused, tmp_path, text):
    arguments = experiment(tmp_path, text)
    assert EXPERIMENTS[text] in refused("--multirun", *arguments)


def test_a_refused_experiment_leaves_no_folder_of_its_own(refused, tmp_path):
    arguments = experiment(tmp_path, "runs: elsewhere\ndepth: 0")
    assert "depth=0: expected an integer" in refused("--multirun", *arguments)
    assert "depth=0: expected an integer" in refused("--multirun", *arguments, "runs=here")


@pytest.mark.parametrize(
    "choice",
    ["own_shapes:f", "choice(selu,own_shapes:f)", "selu, own_shapes:f", "'own_shapes:f',relu"],
)
def test_a_users_function_may_stand_wherever_a_name_does(refused, tmp_path, monkeypatch, choice):
    (tmp_path / "own_shapes.py").write_text("def f(x):\n    return x.tanh()\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = f'hydra: {{sweeper: {{params: {{activation: "{choice}"}}}}}}'
    for arguments in ([f"activation={choice}"], experiment(tmp_path, text)):
        # The name is accepted, and the next mistake is told.
        assert "depth=0: expected" in refused("--multirun", *arguments, "depth=0")


def test_an_experiments_default_may_be_a_users_function(refused, tmp_path, monkeypatch):
    (tmp_path / "own_shapes.py").write_text("def f(x):\n    return x.tanh()\n")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = experiment(tmp_path, "defaults: [{override /activation: 'own_shapes:f'}]")
    assert "depth=0: expected" in refused("--multirun", *arguments, "depth=0")
