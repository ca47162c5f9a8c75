"""Tidy tables, progress of a store, and the scripts that show them."""

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from harness.errors import RequestError
from harness.probes.histogram_bins import COUNT_COLUMNS
from harness.store import status as progress
from harness.store.records import Record
from harness.store.tables import collect, read
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


@pytest.mark.parametrize("number, read", [(2**63, 2.0**63), (10**400, math.inf)])
def test_an_integer_beyond_64_bits_is_a_float(tmp_path, number, read):
    store = Store(tmp_path)
    finish(store, 0, depth=number)
    finish(store, 1, depth=-number)
    assert collect(store).trials["depth"].tolist() == [read, -read]


def test_an_empty_store_has_empty_tables(tmp_path):
    tables = collect(Store(tmp_path))
    assert (len(tables.trials), len(tables.curves), len(tables.layers)) == (0, 0, 0)
    assert tables.layers.columns.tolist() == ["trial_id"]
    assert tables.histograms.num_rows == 0
    assert tables.histograms.column_names[4:] == list(COUNT_COLUMNS)


# Layers of a trial that ended before its first probe: text columns without a text.
NO_LAYERS = {"step": [], "phase": [], "layer": [], "name": [], "absent": [], "q": []}
LAYERS = {
    "step": [0],
    "phase": ["init"],
    "layer": [1],
    "name": ["layer_01"],
    "absent": ["no loss, so no gradient"],
    "q": [1.0],
}


def test_columns_of_text_are_text_where_a_trial_has_no_rows(tmp_path):
    store = Store(tmp_path)
    finish(store, 0, layers=NO_LAYERS, diverged_step=0)
    finish(store, 1, layers=LAYERS)
    finish(store, 2, layers=LAYERS | {"absent": [None]})
    schemas = [store.read(f"{number:016x}").table("layers").schema for number in range(3)]
    assert schemas[0] == schemas[1] == schemas[2]
    layers = collect(store).layers
    assert layers["absent"].tolist()[:1] == LAYERS["absent"]
    assert layers["absent"].isna().tolist() == [False, True]


def test_trials_are_read_whose_empty_text_columns_were_stored_as_numbers(tmp_path):
    store = Store(tmp_path)
    finish(store, 0, layers=NO_LAYERS, diverged_step=0)
    finish(store, 1, layers=LAYERS)
    path = store.folder(f"{0:016x}") / "layers.parquet"
    table = pyarrow.parquet.read_table(path)
    numbers = pyarrow.array([], pyarrow.float64())
    for name in ("absent", "name", "phase"):
        table = table.set_column(table.column_names.index(name), name, numbers)
    pyarrow.parquet.write_table(table, path)
    layers = collect(store).layers
    assert layers["absent"].tolist() == LAYERS["absent"]
    assert layers["phase"].tolist() == ["init"]


def test_histograms_become_a_table_of_their_own(tmp_path):
    store = Store(tmp_path)
    counts = numpy.arange(64)
    rows = {"step": [0, 0], "phase": ["init", "init"], "layer": [1, 2]}
    finish(store, 0, layers=rows | {"histogram": [counts, None]})
    # Stored before there were histograms.
    finish(store, 1, layers=rows)
    finish(store, 2, layers=rows | {"histogram": [None, counts[::-1]]})
    tables = collect(store)
    assert "histogram" not in tables.layers
    assert len(tables.layers) == 6
    rows = tables.histograms.to_pylist()
    assert [(row["trial_id"], row["layer"]) for row in rows] == [
        (f"{number:016x}", layer) for number in (0, 2) for layer in (1, 2)
    ]
    numbers = [[row[name] for name in COUNT_COLUMNS] for row in rows]
    nothing = [None] * 64
    assert numbers == [counts.tolist(), nothing, nothing, counts[::-1].tolist()]
    assert tables.histograms.schema.field("count_00").type == pyarrow.int32()
    paths = tables.write(tmp_path / "tables")
    assert pyarrow.parquet.read_table(paths[-1]).equals(tables.histograms)


def same(tables, others):
    """Whether two collections have the same contents, whatever the order of their columns."""
    for name in ("trials", "curves", "layers"):
        first, second = getattr(tables, name), getattr(others, name)
        pandas.testing.assert_frame_equal(first, second, check_like=True)
    return tables.histograms.equals(others.histograms)


def layers_of(number, **columns):
    rows = {"step": [0], "phase": ["init"], "layer": [1], "q": [float(number)]}
    return rows | {"histogram": [numpy.full(64, number)]} | columns


def reads(monkeypatch):
    """The ids of the trials whose tables are read from now on."""
    read = []
    table = Record.table

    def noted(record, name, wanted=None):
        read.append(record.trial_id)
        return table(record, name, wanted)

    monkeypatch.setattr(Record, "table", noted)
    return read


def test_only_new_trials_are_read_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    finish(store, 1, layers=layers_of(1))
    finish(store, 4, layers=layers_of(4, note=["text"]))
    finish(store, 6, layers=NO_LAYERS, diverged_step=0)
    store.begin(trial(5))
    collect(store).write(tmp_path / "tables")
    for number in (0, 2, 3, 5, 7):
        finish(store, number, layers=layers_of(number, extra=[0.5]))
    read = reads(monkeypatch)
    tables = collect(store)
    assert sorted(set(read)) == [f"{number:016x}" for number in (0, 2, 3, 5, 7)]
    assert tables.layers["trial_id"].tolist() == [
        f"{number:016x}" for number in (0, 1, 2, 3, 4, 5, 7)
    ]
    (tmp_path / "tables" / "trials.parquet").unlink()
    assert same(tables, collect(store))
    tables.write(tmp_path / "tables")
    read.clear()
    assert same(tables, collect(store))
    assert read == []


CHANGES = ["trained again", "deleted", "torn table", "changed name", "other collection"]


@pytest.mark.parametrize("change", CHANGES)
def test_all_trials_are_read_where_the_tables_cannot_be_trusted(tmp_path, monkeypatch, change):
    store = Store(tmp_path)
    for number in (0, 1):
        finish(store, number, layers=layers_of(number))
    old = collect(store)
    old.write(tmp_path / "tables")
    finish(store, 2, layers=layers_of(2))
    if change == "trained again":
        finish(store, 0, layers=layers_of(7))
    elif change == "deleted":
        shutil.rmtree(store.folder(f"{0:016x}"))
    elif change == "torn table":
        (tmp_path / "tables" / "layers.parquet").write_bytes(b"PAR1")
    elif change == "changed name":
        rename_step(tmp_path / "tables" / "layers.parquet")
    else:
        collect(store).write(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "layers.parquet", tmp_path / "tables")
    read = reads(monkeypatch)
    tables = collect(store)
    assert sorted(set(read)) == store.trial_ids()
    shutil.rmtree(tmp_path / "tables")
    assert same(tables, collect(store))


def test_tables_that_were_written_are_read_as_they_were(store, tmp_path):
    wanted = collect(store)
    wanted.write(tmp_path / "shared")
    found = read(tmp_path / "shared")
    for name in ("trials", "curves", "layers"):
        pandas.testing.assert_frame_equal(getattr(found, name), getattr(wanted, name))
    assert found.histograms.equals(wanted.histograms)
    (tmp_path / "shared" / "histograms.parquet").unlink()
    assert read(tmp_path / "shared").histograms.equals(wanted.histograms.slice(0, 0))
    rename_step(tmp_path / "shared" / "layers.parquet")
    with pytest.raises(RequestError, match="cannot be read: its sum is not the one in SHA256SUMS"):
        read(tmp_path / "shared")
    (tmp_path / "shared" / "SHA256SUMS").unlink()
    assert "stop" in read(tmp_path / "shared").layers


def rename_step(path):
    """Changes a letter of a column's name, which Parquet reads without an error."""
    path.write_bytes(path.read_bytes().replace(b"step", b"stop"))


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


def test_a_result_without_its_identity_is_told_and_trained_anew(tmp_path):
    store = Store(tmp_path)
    for number in (1, 2):
        finish(store, number)
    lost = f"{1:016x}"
    (store.folder(lost) / "trial.json").unlink()
    store = Store(tmp_path)  # which has not seen the trial whole
    tables = collect(store)
    assert list(tables.trials["trial_id"]) == [f"{2:016x}"]
    assert "trial.json" in tables.set_aside[lost]
    assert "trial.json" in progress.survey(store).damaged[lost]
    looking_anew = Store(tmp_path)
    assert not looking_anew.is_done(lost)
    assert looking_anew.is_done(f"{2:016x}")


def test_a_store_without_trials_has_tables_without_rows(tmp_path):
    (tmp_path / "trials").mkdir()
    tables = collect(Store(tmp_path))
    assert tables.trials.empty
    assert all(path.exists() for path in tables.write(tmp_path / "tables"))


def test_a_table_whose_description_of_columns_is_damaged_is_refused(tmp_path):
    """The names and types of pandas' columns stand in the file as JSON of their own."""
    folder = tmp_path / "tables"
    folder.mkdir()
    table = pyarrow.table({"trial_id": ["a"]})
    for metadata in (b'{"columns": \x92}', b"{", b"{}"):
        described = table.replace_schema_metadata({"pandas": metadata})
        pyarrow.parquet.write_table(described, folder / "trials.parquet")
        with pytest.raises(RequestError, match="trials.parquet cannot be read"):
            read(folder)
