"""Tidy tables, progress of a store, and the scripts that show them."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas
import pytest

from harness.errors import RequestError
from harness.store import status as progress
from harness.store.tables import collect
from harness.store.trials import Store

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def trial(number, **axes):
    axes = {"activation": "selu", "depth": 8, "width": 64} | axes
    return {
        "trial_id": f"{number:016x}",
        "cell_id": f"cell{number // 2}",
        "rules_version": 1,
        "seed": number % 2,
        "axes": axes,
        "spec": {"activation": {"name": axes["activation"]}, "depth": axes["depth"]},
    }


def finish(store, number, *, summary=None, layers=None, diverged_step=None, **axes):
    store.begin(trial(number, **axes))
    store.finish(
        f"{number:016x}",
        summary={"test_accuracy": 0.25 * number} if summary is None else summary,
        curves={"step": [0, 10], "validation_loss": [1.0, 0.5]},
        layers={"step": [0], "layer": [1], "activation_mean": [0.0]} if layers is None else layers,
        diverged_step=diverged_step,
    )


@pytest.fixture
def store(tmp_path):
    """A store with two finished trials of one cell, one diverged, one failed, one interrupted."""
    store = Store(tmp_path)
    finish(store, 0)
    finish(store, 1)
    finish(
        store,
        2,
        activation="relu",
        width="input",
        diverged_step=7,
        summary={"test_accuracy": math.nan, "verdict_moments": "fails"},
    )
    store.begin(trial(3, activation="relu", width="input"))
    store.fail(f"{3:016x}", "ValueError: bad", "Traceback\nValueError: bad")
    store.begin(trial(4, activation="tanh"))
    return store


def test_collect_has_a_row_for_every_trial(store):
    tables = collect(store)
    trials = tables.trials.set_index("trial_id")
    assert trials["status"].tolist() == ["done", "done", "diverged", "failed", "interrupted"]
    assert (
        trials["spec.activation.name"].tolist()
        == trials["activation"].tolist()
        == ["selu", "selu", "relu", "relu", "tanh"]
    )
    assert trials["width"].tolist() == [
        "64",
        "64",
        "input",
        "input",
        "64",
    ]  # text as soon as one is text
    assert str(trials["depth"].dtype) == str(trials["seed"].dtype) == "int64"
    assert trials["test_accuracy"].tolist()[:2] == [0.0, 0.25]
    assert trials["test_accuracy"].isna().tolist() == [False, False, True, True, True]
    assert trials["diverged_step"].dropna().tolist() == [7.0]
    assert trials["error"].dropna().tolist() == ["ValueError: bad"]
    assert trials["verdict_moments"].dropna().tolist() == ["fails"]


def test_curves_and_layers_hold_the_rows_of_finished_trials(store):
    tables = collect(store)
    assert Counter(tables.curves["trial_id"]) == {f"{number:016x}": 2 for number in range(3)}
    assert tables.curves.columns.tolist() == ["trial_id", "step", "validation_loss"]
    assert tables.layers["trial_id"].tolist() == [f"{number:016x}" for number in range(3)]


def test_trials_with_different_columns_join(tmp_path):
    store = Store(tmp_path)
    finish(store, 0, layers={"step": [0], "layer": [1], "predicted_activation_mean": [0.5]})
    finish(store, 1, layers={"step": [0], "layer": [1], "note": ["text"], "gap": [None]})
    finish(store, 2, layers={"step": [0], "layer": [1], "note": [None], "gap": [2.0]})
    layers = collect(store).layers
    assert layers["predicted_activation_mean"].isna().tolist() == [False, True, True]
    assert layers["note"].dropna().tolist() == ["text"]
    assert layers["gap"].dropna().tolist() == [2.0]


def test_lists_among_axes_and_summary_are_text(tmp_path):
    store = Store(tmp_path)
    finish(store, 0, summary={"recovery_depths": [1, 2]}, **{"dataset.shape": [1, 8, 8]})
    row = collect(store).trials.iloc[0]
    assert (row["dataset.shape"], row["recovery_depths"]) == ("[1, 8, 8]", "[1, 2]")


def test_an_empty_store_has_empty_tables(tmp_path):
    tables = collect(Store(tmp_path))
    assert (len(tables.trials), len(tables.curves), len(tables.layers)) == (0, 0, 0)
    assert tables.layers.columns.tolist() == ["trial_id"]


def test_a_damaged_trial_stops_collecting_and_not_the_survey(store):
    (store.folder(f"{0:016x}") / "summary.json").write_text("{")
    with pytest.raises(RequestError, match="summary.json is damaged"):
        collect(store)
    state = progress.survey(store)
    assert list(state.damaged) == [f"{0:016x}"]
    assert state.counts["done"] == 1


def test_progress_counts_and_names_the_failures(store):
    with store.claim(f"{4:016x}"):
        state = progress.survey(store)
    assert state.counts == Counter(done=2, diverged=1, failed=1, running=1)
    assert state.failures == {f"{3:016x}": "ValueError: bad"}
    lines = state.lines()
    assert lines[0] == "5 trials: 3 done (1 diverged), 1 failed, 1 running, 0 interrupted"
    assert "2/2  cell0  activation=selu width=64" in lines
    assert "1/2, 1 diverged  cell1  activation=relu width=input" in lines


def test_labels_fall_back_on_the_headline_axes():
    assert progress.distinguishing(
        [{"dataset": "digits", "activation": "selu", "schedule": "constant"}]
    ) == ["dataset=digits activation=selu"]


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True, timeout=60
    )


def test_scripts_show_the_progress_and_write_the_tables(store):
    status = run("status.py", "--runs", store.runs, "--json")
    assert status.returncode == 0, status.stderr
    assert {
        key: json.loads(status.stdout)[key] for key in ("trials", "done", "failed", "interrupted")
    } == {"trials": 5, "done": 3, "failed": 1, "interrupted": 1}
    collected = run("collect.py", "--runs", store.runs)
    assert collected.returncode == 0, collected.stderr
    tables = {
        name: pandas.read_parquet(store.runs / "tables" / f"{name}.parquet")
        for name in ("trials", "curves", "layers")
    }
    assert {name: len(table) for name, table in tables.items()} == {
        "trials": 5,
        "curves": 6,
        "layers": 3,
    }


@pytest.mark.parametrize("script", ["status.py", "collect.py"])
def test_a_missing_runs_folder_is_one_line(tmp_path, script):
    answer = run(script, "--runs", tmp_path / "nowhere")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert (
        answer.stderr
        == f"error: there is no runs folder {tmp_path / 'nowhere'}; give one with --runs\n"
    )


def test_tables_need_no_torch():
    code = """
import sys
import harness.store.tables, harness.store.status
sys.exit("torch" in sys.modules or "mlflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
