"""Trials read back as they were written, and damage is named together with its mend."""

import itertools
import json
import math
import os
import re

import numpy
import pandas
import pyarrow
import pytest

from harness.errors import RequestError
from harness.store import writes
from harness.store.trials import Store, typed

TRIAL = {
    "trial_id": "0123456789abcdef",
    "cell_id": "fedcba9876543210",
    "rules_version": 1,
    "seed": 3,
    "axes": {"depth": 8, "width": "input"},
    "spec": {"depth": 8, "budget": {"steps": 2}},
}
CURVES = {"step": [0, 2], "epoch": [0.0, 1.0], "validation_accuracy": [0.1, float("nan")]}
LAYERS = {
    "step": numpy.repeat([0, 2], 2),
    "phase": ["init", "init", "end", "end"],
    "layer": [1, 2, 1, 2],
    "activation_mean": numpy.arange(4.0),
    "omega_q05": [None, 1.0, 2.0, None],
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def finish(store, trial=TRIAL, **result):
    store.begin(trial)
    store.finish(
        trial["trial_id"],
        **({"summary": {"test_accuracy": 0.5}, "curves": CURVES, "layers": LAYERS} | result),
    )
    return store.read(trial["trial_id"])


def test_a_finished_trial_reads_back(store):
    record = finish(
        store,
        summary={
            "test_accuracy": numpy.float32(0.5),
            "steps": numpy.int64(2),
            "train_loss": math.inf,
            "test_loss": math.nan,
            "device": "cpu",
        },
    )
    assert store.is_done(record.trial_id)
    assert record.finished
    assert record.status == "done"
    assert {name: getattr(record, name) for name in TRIAL} == TRIAL
    assert record.summary == {
        "test_accuracy": 0.5,
        "steps": 2,
        "train_loss": math.inf,
        "test_loss": None,
        "device": "cpu",
    }
    assert record.started <= record.ended
    assert record.started.endswith("+00:00")
    pandas.testing.assert_frame_equal(record.curves(), pandas.DataFrame(CURVES))
    layers = record.layers()
    assert layers["phase"].tolist() == LAYERS["phase"]
    numpy.testing.assert_array_equal(layers["omega_q05"], [math.nan, 1.0, 2.0, math.nan])


def test_done_is_written_last(store, monkeypatch):
    """A failure of any write before it then leaves a trial that is not done."""
    store.begin(TRIAL)
    written = []
    original = writes.write_bytes

    def write_bytes(path, content, **options):
        written.append(path.name)
        original(path, content, **options)

    monkeypatch.setattr(writes, "write_bytes", write_bytes)
    store.finish(TRIAL["trial_id"], summary={}, curves=CURVES, layers=LAYERS)
    assert written[-1] == "done"
    assert {
        "summary.json",
        "curves.parquet",
        "layers.parquet",
        "status.json",
    } <= set(written)


def test_a_marker_is_on_the_disk_behind_its_files_and_before_the_result_is_reported(
    store, monkeypatch
):
    """What the trial was trained from is deleted next, and a power failure may come then."""
    folder = store.folder(TRIAL["trial_id"])
    synced = []
    monkeypatch.setattr(
        writes, "_sync", lambda path: synced.append((path.name, (folder / "done").exists()))
    )
    finish(store)
    files = ("trial.json", "status.json", "summary.json", "curves.parquet", "layers.parquet")
    assert sorted(synced[:-2]) == sorted((name, False) for name in files)
    assert sorted(synced[-2:]) == sorted([("done", True), (folder.name, True)])


def test_a_store_that_does_not_wait_for_the_disk_never_does(tmp_path, monkeypatch):
    monkeypatch.setattr(writes, "_sync", lambda path: pytest.fail("waited"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("waited"))
    finish(Store(tmp_path / "runs", sync=False))


def test_a_diverged_trial_is_done_and_keeps_its_step(store):
    record = finish(store, diverged_step=0)
    assert record.status == "diverged"
    assert record.diverged_step == 0
    assert store.is_done(record.trial_id)
    assert store.claim(record.trial_id) is None


def test_a_failed_trial_keeps_its_traceback_and_may_be_claimed_again(store):
    store.begin(TRIAL)
    store.fail(TRIAL["trial_id"], "ValueError: no", "Traceback ...\nValueError: no")
    record = store.read(TRIAL["trial_id"])
    assert record.status == "failed"
    assert record.error == "ValueError: no"
    assert record.traceback == "Traceback ...\nValueError: no"
    assert record.summary == {}
    with store.claim(TRIAL["trial_id"]) as claim:
        assert claim is not None
    assert finish(store).status == "done"


def test_beginning_again_clears_what_an_earlier_attempt_left(store):
    folder = finish(store).folder
    (folder / "mlflow.json").write_text("{}")
    (folder / ".summary.json.1.2.tmp").write_text("torn")
    store.begin(TRIAL)
    assert sorted(os.listdir(folder)) == ["mlflow.json", "status.json", "trial.json"]
    assert store.read(TRIAL["trial_id"]).status == "interrupted"


def test_a_stale_temporary_file_blocks_nothing(store, monkeypatch):
    monkeypatch.setattr(writes, "_serial", itertools.count())
    path = store.runs / "value.json"
    store.runs.mkdir()
    (store.runs / f".value.json.{os.getpid()}.0.tmp").write_text("torn")
    writes.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "value.json"
    writes.write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="cannot write a set as JSON"):
        writes.write_json(path, {"a": {1}})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        writes.write_bytes(tmp_path / "folder", b"x")
    assert json.loads(path.read_text()) == {"a": 1}
    assert sorted(os.listdir(tmp_path)) == ["folder", "value.json"]


@pytest.mark.parametrize("name", ["trial.json", "status.json", "summary.json"])
@pytest.mark.parametrize("damage", ["missing", "torn", "no object"])
def test_a_damaged_done_trial_names_the_file_and_the_mend(store, name, damage):
    folder = finish(store).folder
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_text('{"a": ' if damage == "torn" else "[1]")
    with pytest.raises(
        RequestError,
        match=re.escape(f"{folder / name} is ") + ".*; the next sweep trains that trial again",
    ):
        store.read(TRIAL["trial_id"])


def test_a_damaged_table_names_the_file(store):
    record = finish(store)
    (record.folder / "layers.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(RequestError, match=re.escape(str(record.folder / "layers.parquet"))):
        record.layers()


def test_a_torn_status_of_an_unfinished_trial_is_only_interrupted(store):
    store.begin(TRIAL)
    (store.folder(TRIAL["trial_id"]) / "status.json").write_text("")
    assert store.read(TRIAL["trial_id"]).status == "interrupted"


def test_the_status_alone_says_whether_a_trial_failed(store):
    trial_id = TRIAL["trial_id"]
    assert not store.has_failed(trial_id)
    with store.claim(trial_id):  # the folder is there, and nothing else yet
        assert not store.has_failed(trial_id)
    store.begin(TRIAL)
    assert not store.has_failed(trial_id)
    store.fail(trial_id, "ValueError: no")
    assert store.has_failed(trial_id)
    (store.folder(trial_id) / "trial.json").write_text("{")  # the next attempt writes it anew
    assert store.has_failed(trial_id)
    finish(store)
    assert not store.has_failed(trial_id)


def test_an_error_that_has_no_utf_8_is_kept(store):
    store.begin(TRIAL)
    store.fail(TRIAL["trial_id"], "OSError: no file 'gr\udcf6\u00dfe.png'")
    assert store.read(TRIAL["trial_id"]).error == "OSError: no file 'gr\udcf6\u00dfe.png'"


def test_check_writable_names_the_folder_and_leaves_nothing_behind(tmp_path):
    Store(tmp_path / "runs").check_writable()
    assert os.listdir(tmp_path / "runs" / "trials") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=re.escape(str(tmp_path / "file"))):
        Store(tmp_path / "file").check_writable()


def test_the_columns_of_a_trial_have_the_same_types_in_every_trial():
    table = typed(
        {
            "step": [0.0],
            "units": numpy.array([64], dtype=numpy.int32),
            "epoch": [1],
            "phase": ["init"],
            "dead_share": [None],
            "verdict": ["holds"],
            "flag": [True],
        }
    )
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "int64",
        "double",
        "string",
        "null",
        "string",
        "double",
    ]
    assert typed(pandas.DataFrame({"name": ["a"], "x": [1]})).schema == pyarrow.schema(
        [("name", pyarrow.string()), ("x", pyarrow.float64())]
    )


def test_columns_of_unequal_length_are_refused(store):
    store.begin(TRIAL)
    with pytest.raises(ValueError, match="length"):
        store.finish(
            TRIAL["trial_id"], summary={}, curves={"step": [0, 1], "epoch": [0.0]}, layers=LAYERS
        )
    assert not store.is_done(TRIAL["trial_id"])


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/etc", "a/b", "a/"])
def test_an_id_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match="is no id of a trial"):
        Store(tmp_path).folder(name)
