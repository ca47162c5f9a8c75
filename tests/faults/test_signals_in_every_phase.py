"""SIGTERM in every phase of a sweep: one line, exit code 143, and the same command goes on."""

from __future__ import annotations

import importlib
import os
import signal
import time
from typing import Any

import pytest

from harness import train
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import command_line
from harness.sweeps.pack_checkpoints import PackCheckpoints
from tests.faults import endurance
from tests.sweeps.test_processes import environment, wait_until

WORDS = (
    *("--multirun", "activation=selu,relu", "depth=2", "width=4", "seeds=2", "device=cpu"),
    *("budget.epochs=null", "budget.steps=20", "budget.evaluations=2", "budget.probes=2"),
    *("probe.samples=16", "checkpoint_minutes=1e-9"),
    *("hydra.launcher.pack=2", "hydra.launcher.workers=1"),
)
WITHOUT_TRACKING = (*WORDS, "tracking=none")
# By phase, the module and the function that a signal meets, and at which call.
PHASES = {
    "reading a request": ("harness.sweeps.command_line", "to_config", 2),
    "reading images": ("harness.sweeps.inputs", "View.check", 1),
    "planning packs": ("harness.sweeps.sweep", "plan_packs", 1),
    "looking at the folder": ("harness.store.trials", "Store.check_writable", 1),
    "claiming a trial": ("harness.store.trials", "Store.claim", 2),
    "beginning a trial": ("harness.store.trials", "Store.begin", 2),
    "drawing weights": ("harness.sweeps.runner", "Pack", 1),
    "probing": ("harness.training.loop", "probe", 1),
    "taking steps": ("harness.training.stepper", "Stepper.take_steps", 2),
    "evaluating": ("harness.training.loop", "evaluate", 2),
    "writing a checkpoint": ("harness.sweeps.pack_checkpoints", "_content", 1),
    "scoring": ("harness.training.loop", "final_scores", 1),
    "making tables": ("harness.sweeps.runner", "results", 1),
    "storing": ("harness.store.trials", "Store.finish", 2),
    "storing a file": ("harness.store.writes", "write_parquet", 1),
    "marking a trial as done": ("harness.store.wholeness", "marker", 1),
    "removing a checkpoint": ("harness.sweeps.pack_checkpoints", "Keeper.remove", 1),
    "between two packs": ("harness.sweeps.sweep", "_Sweep._note", 1),
    "reporting a cell": ("harness.sweeps.sweep", "run_cell", 2),
}
PHASES_OF_TRACKING = {
    "opening MLflow": ("harness.tracking", "open", 1),
    "making MLflow's store": ("harness.tracking.sqlite_file", "opened", 1),
    "sending": ("harness.tracking.tracker", "Tracker.log", 1),
    "writing a run": ("harness.tracking.trial_sender", "TrialSender._prepared", 2),
    "marking what was sent": ("harness.tracking.connection", "Connection._mark", 1),
    "sending the means of cells": ("harness.tracking.connection", "Connection.send_cells", 1),
}
# The others are run in the long form.
_SHORT = ("storing",)


def send_at(patch: pytest.MonkeyPatch, place: tuple[str, str, int]) -> None:
    """Lets a call of a function send SIGTERM to this process first."""
    module, name, number = place
    owner: Any = importlib.import_module(module)
    *parts, attribute = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    ordinary = getattr(owner, attribute)
    calls = []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return ordinary(*args, **options)

    patch.setattr(owner, attribute, call)


def run(patch: pytest.MonkeyPatch, runs: Any, words: tuple[str, ...]) -> int:
    patch.setattr("sys.argv", ["harness.train", *words, f"runs={runs}"])
    return command_line.run(train.main)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    runs = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "1")
        patch.delenv("HYDRA_FULL_ERROR")
        assert run(patch, runs, WITHOUT_TRACKING) == 0
    return collect(Store(runs))


def assert_goes_on(tmp_path, capsys, undisturbed, place, words) -> None:
    with pytest.MonkeyPatch.context() as patch:
        send_at(patch, place)
        code = run(patch, tmp_path, words)
    errors = capsys.readouterr().err
    assert code == 143, errors
    assert errors.count("ended by SIGTERM: finished trials are kept") == 1
    assert errors.splitlines()[-1].startswith("ended by SIGTERM")
    assert "Traceback" not in errors
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, tmp_path, words) == 0
    outcome = endurance.compare(endurance.Outcome("", 1), undisturbed, tmp_path)
    assert outcome.is_clean, outcome
    assert PackCheckpoints(tmp_path).saved() == []


def _mark(phase: str) -> Any:
    return phase if phase in _SHORT else pytest.param(phase, marks=pytest.mark.slow)


@pytest.mark.parametrize("phase", [_mark(phase) for phase in PHASES])
def test_sigterm_ends_a_sweep_and_the_same_command_goes_on(tmp_path, capsys, undisturbed, phase):
    assert_goes_on(tmp_path, capsys, undisturbed, PHASES[phase], WITHOUT_TRACKING)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES_OF_TRACKING)
def test_sigterm_while_sending_loses_and_doubles_no_run(tmp_path, capsys, undisturbed, phase):
    assert_goes_on(tmp_path, capsys, undisturbed, PHASES_OF_TRACKING[phase], WORDS)
    runs = endurance.runs_by_trial(f"sqlite:///{tmp_path / 'mlflow.db'}", "selu")
    assert sorted(runs) == Store(tmp_path).trial_ids()
    assert set(runs.values()) == {("FINISHED",)}


# Writing a checkpoint takes for ever, as on a disk that hangs.
HANGING = """
import runpy, sys, time
from harness.sweeps import pack_checkpoints
pack_checkpoints._content = lambda *_: (print("hangs\\n", end="", flush=True), time.sleep(600))
sys.argv[0] = "train"
runpy.run_module("harness.train", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_at_once(tmp_path, number):
    import subprocess
    import sys

    words = ("depth=2", "width=4", "budget.epochs=null", "budget.steps=1000000", "tracking=none")
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, *words, f"runs={tmp_path / 'runs'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    wait_until(lambda: bool(list(tmp_path.glob("runs/trials/*/status.json"))), process)
    process.send_signal(number)
    assert process.stdout.readline() == "hangs\n"
    assert process.poll() is None
    # Within a second it would be the first one told twice.
    time.sleep(1.1)
    before = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert time.monotonic() - before < 5
    process.communicate()
