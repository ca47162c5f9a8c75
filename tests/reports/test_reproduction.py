"""A report's commands name exactly its cells.

The grid that they stand for has the trials that are there, and no others.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from harness.configuration.composing import compose
from harness.reports.evidence import gather
from harness.reports.reproduction import commands
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cells import cell

BUDGET = ["budget.epochs=null", "budget.steps=2", "budget.evaluations=1", "tracking=none"]
TINY = ["width=8", *BUDGET]
# The folder of `named_modules`.
NETWORKS = Path(__file__).parents[1] / "networks"
SWEEPS = (
    ["activation=selu,elu", "dropout=none,alpha", "depth=2", "seeds=2"],
    ["optimizer.learning_rate=0.01,0.1", "depth=2,3", "seeds=[1,4]", "preprocessing=raw,none"],
    [
        "dataset=gaussian",
        "dataset.shape=[1,4,4]",
        "dataset.samples=200",
        "initializer=gaussian",
        "initializer.sigma_w2=0.5,2",
        "depth=2",
        "seeds=1",
    ],
    [
        "architecture=cnn",
        "architecture.pool=max,none",
        "normalization=batch",
        "normalization.position=before,after",
        "depth=2",
        "seeds=1",
        "repair=none,center_rows",
    ],
)


def grid(words: list[str]) -> list[list[str]]:
    """The jobs that Hydra makes of a multirun's words."""
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    # The sweeper escapes colons, which a command line that is composed by itself need not.
    return [[word.replace("\\:", ":") for word in job] for job in jobs]


def train(runs: Path, words: list[str]) -> None:
    sweep.prefetch([compose([*job, f"runs={runs}"]) for job in grid([*TINY, *words])])


@pytest.mark.parametrize("words", SWEEPS, ids=lambda words: words[0])
def test_the_command_stands_for_what_was_run(tmp_path, words):
    train(tmp_path, words)
    (command,) = commands(gather(collect(Store(tmp_path))))
    said = shlex.split(command.text)
    assert said[:4] == ["python", "-m", "harness.train", "--multirun"]
    jobs = grid(said[4:])
    assert command.cells == command.grid == len(jobs)
    again = {
        member.trial.trial_id
        for job in jobs
        for member in cell(compose([*job, f"runs={tmp_path}"])).jobs
    }
    assert again == set(Store(tmp_path).trial_ids())


@pytest.mark.parametrize(
    "words",
    [
        ["width=[8,5],[6,4,3]", "seeds=1"],
        [
            "architecture=stack",
            "architecture.layers=[{conv:3,pool:max,pool_stride:1},{dense:6}],[{dense:5}]",
            "readout.initializer=he_normal",
            "seeds=1",
        ],
        ["architecture=named_modules:dense", "activation=selu,relu", "seeds=1"],
        [
            "architecture=factory",
            "architecture.name=named_modules:dense",
            "architecture.replace=[initializer]",
            "initializer=lecun_normal,he_normal",
            "seeds=1",
        ],
    ],
    ids=["widths", "layers", "own network", "own activation"],
)
def test_the_command_of_other_networks_stands_for_what_was_run(tmp_path, monkeypatch, words):
    monkeypatch.syspath_prepend(NETWORKS)
    jobs = grid([*BUDGET, *words])
    sweep.prefetch([compose([*job, f"runs={tmp_path}"]) for job in jobs])
    again = set()
    for command in commands(gather(collect(Store(tmp_path)))):
        for job in grid(shlex.split(command.text)[4:]):
            again |= {member.trial_id for member in cell(compose([*job, f"runs={tmp_path}"])).jobs}
    assert again == set(Store(tmp_path).trial_ids())


def test_cells_of_different_kinds_are_several_commands(tmp_path):
    train(tmp_path, ["activation=elu", "activation.alpha=0.5,1.5", "depth=2", "seeds=1"])
    train(tmp_path, ["activation=selu,relu", "depth=2,3", "seeds=1"])
    made = commands(gather(collect(Store(tmp_path))))
    assert sorted((command.cells, command.grid) for command in made) == [(2, 2), (4, 4)]
    assert sum("activation.alpha=0.5,1.5" in command.text for command in made) == 1
