"""Many trials in one transaction: MLflow then holds what its own client would have written.

Where that is not possible, the client writes, and the log says so.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import tracking
from harness.configuration.schema import TrackingConfig
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.tracking import contents
from tests.tracking.conftest import unseal

# The random key of a table's rows, and the column that identifies a row.
_NAMES = {"runs": ("run_uuid", "name"), "datasets": ("dataset_uuid", "digest")}
_SEARCHES = [
    ("metrics.`accuracy/test` > 0.05", "metrics.`accuracy/test` DESC"),
    ("params.depth = '3' AND tags.status = 'done'", "attributes.start_time ASC"),
    ("tags.status = 'diverged'", "params.seed DESC"),
    ("attributes.run_name LIKE '%s1' AND metrics.`init/variance` > 0", "tags.seed ASC"),
    ("attributes.end_time > 0", "metrics.`curve/train_loss` ASC"),
]


@pytest.fixture
def trials(make_config, tiny):
    """Two trials of a cell, and two of another that diverged."""
    fine, wild = make_config(**tiny), make_config(**tiny, **{"optimizer.learning_rate": 1e30})
    sweep.prefetch([fine, wild])
    store = Store(fine.runs)
    assert sorted(record.status for record in store.records()) == [
        "diverged",
        "diverged",
        "done",
        "done",
    ]
    return store


@pytest.fixture
def place(tables_of_mlflow, tmp_path) -> Callable[[str], TrackingConfig]:
    """The settings for a store of this name, which is made."""

    def make(name: str) -> TrackingConfig:
        shutil.copy(tables_of_mlflow, tmp_path / f"{name}.db")
        return TrackingConfig(
            uri=f"sqlite:///{tmp_path / name}.db", artifacts=(tmp_path / name).as_uri()
        )

    return make


def client(settings: TrackingConfig):
    from mlflow.tracking import MlflowClient

    return MlflowClient(settings.uri)


def open_for_client(settings: TrackingConfig, runs: Path) -> tracking.Tracker:
    """A tracker that writes everything through MLflow's client."""
    tracker = tracking.open(settings, runs, bulk=False)
    assert tracker.connected
    assert not tracker.in_bulk
    return tracker


def open_in_bulk(settings: TrackingConfig, runs: Path) -> tracking.Tracker:
    """A tracker that writes many runs in one transaction."""
    tracker = tracking.open(settings, runs)
    assert tracker.in_bulk
    return tracker


def runs_of(settings: TrackingConfig, *searched: str, order: tuple[str, ...] = ()) -> list:
    mlflow = client(settings)
    return mlflow.search_runs(
        [mlflow.get_experiment_by_name("selu").experiment_id], *searched, order_by=list(order)
    )


def read_back(settings: TrackingConfig) -> dict[str, dict]:
    """Everything that the client reads of every run, by trial; random names are replaced."""
    mlflow = client(settings)
    runs = {}
    for run_id in [run.info.run_id for run in runs_of(settings)]:
        run = mlflow.get_run(run_id)
        info = {
            name: value
            for name, value in dict(run.info).items()
            if name not in ("run_id", "run_uuid", "experiment_id")
        }
        info["artifact_uri"] = (
            info["artifact_uri"].replace(run_id, "RUN").replace(settings.artifacts, "PLACE")
        )
        folder = Path(settings.artifacts.removeprefix("file://")) / run_id / "artifacts"
        run_contents = {
            "info": info,
            "tags": run.data.tags,
            "params": run.data.params,
            "metrics": {key: repr(value) for key, value in run.data.metrics.items()},
            "histories": {
                key: sorted(
                    (point.step, point.timestamp, repr(point.value))
                    for point in mlflow.get_metric_history(run_id, key)
                )
                for key in run.data.metrics
            },
            "inputs": [(dict(entry.dataset), entry.tags) for entry in run.inputs.dataset_inputs],
            "files": {
                file.path: (file.is_dir, (folder / file.path).read_bytes())
                for file in mlflow.list_artifacts(run_id)
            },
        }
        assert len(run_contents["histories"]) > 10
        assert len(run_contents["inputs"]) == 1
        assert len(run_contents["files"]) == 6
        runs[run.data.tags["trial_id"]] = run_contents
    return runs


def tables(settings: TrackingConfig) -> dict[str, list[str]]:
    """Every row of every table but those of experiments, whose times differ.

    Random keys are replaced by what they stand for.
    """
    with sqlite3.connect(settings.uri.removeprefix("sqlite:///")) as file:
        names = [
            name
            for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("experiment")
        ]
        meanings: dict[object, str] = {}
        for table, (key, identifying) in _NAMES.items():
            for random, word in file.execute(f"SELECT {key}, {identifying} FROM {table}"):
                meanings[random] = f"{table} {word}"
        trials = file.execute("SELECT run_uuid, value FROM tags WHERE key = 'trial_id'")
        for run_id, trial_id in trials:
            meanings[run_id] = f"run of {trial_id}"
        for random, run_id in file.execute("SELECT input_uuid, destination_id FROM inputs"):
            meanings[random] = f"input of {meanings[run_id]}"
        rows = {name: file.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
    rows["runs"] = [without_random_paths(row, settings) for row in rows["runs"]]
    named = {}
    for name, table in rows.items():
        named[name] = sorted(repr([meanings.get(value, value) for value in row]) for row in table)
    return named


def without_random_paths(row: tuple, settings: TrackingConfig) -> list[object]:
    """A row of runs, whose first value is the run's id, without that id in its addresses."""
    run_id, *values = row
    texts = [str(value).replace(run_id, "RUN") for value in values]
    return [run_id, *(text.replace(settings.artifacts, "PLACE") for text in texts)]


def search_results(settings: TrackingConfig) -> list[list[str]]:
    """The trials that each search gives, in its order."""
    results = []
    for searched, order in _SEARCHES:
        runs = runs_of(settings, searched, order=(order, "tags.trial_id ASC"))
        results.append([run.data.tags["trial_id"] for run in runs])
    return results


def test_runs_written_in_bulk_read_back_as_if_the_client_had_written_them(trials, place):
    one, many = place("one"), place("many")
    assert open_for_client(one, trials.runs).log(trials, trials.trial_ids()) == 4
    tracker = open_in_bulk(many, trials.runs)
    assert tracker.log(trials, trials.trial_ids()) == 4
    assert tracker.in_bulk
    assert len(read_back(one)) == 4
    assert read_back(many) == read_back(one)
    assert tables(many) == tables(one)
    results = search_results(one)
    assert search_results(many) == results
    assert [len(ids) for ids in results][1:3] == [2, 2]
    assert all(results)


def test_odd_values_are_kept_as_the_client_keeps_them(trials, place, monkeypatch):
    """Points without number, infinite, out of order or twice, and values that are too long."""
    odd = [
        ("a", 3.0, 5, 2),
        ("a", 9.0, 9, 1),
        ("a", 1.0, 5, 2),
        ("a", 4.0, 4, 2),
        ("a", 3.0, 5, 2),
        ("b", math.nan, 1, 0),
        ("b", -1.0, 1, 0),
        ("c", 1.0, 1, 0),
        ("c", math.nan, 1, 1),
        ("d", math.inf, 1, 0),
        ("d", -math.inf, 1, 1),
        ("e", -2.0, 0, -3),
    ]
    ordinary = contents.metric_points
    monkeypatch.setattr(
        contents,
        "metric_points",
        lambda *trial: [*ordinary(*trial), *itertools.starmap(contents.Point, odd)],
    )
    for folder in trials.trials.iterdir():
        trial = json.loads((folder / "trial.json").read_text())
        (folder / "trial.json").write_text(
            json.dumps(trial | {"axes": trial["axes"] | {"long": "x" * 9000, "empty": ""}})
        )
        unseal(folder)
    one, many = place("one"), place("many")
    assert open_for_client(one, trials.runs).log(trials, trials.trial_ids()) == 4
    tracker = open_in_bulk(many, trials.runs)
    assert tracker.log(trials, trials.trial_ids()) == 4
    assert tracker.in_bulk
    assert read_back(many) == read_back(one)
    assert tables(many) == tables(one)
    run = runs_of(many)[0]
    assert (run.data.metrics["a"], len(run.data.params["long"]), run.data.params["empty"]) == (
        3.0,
        6000,
        "",
    )
    assert math.isnan(run.data.metrics["c"])


@pytest.mark.parametrize("ways", [(open_for_client, open_in_bulk), (open_in_bulk, open_for_client)])
def test_bulk_and_client_write_into_one_store(trials, place, warnings_of_harness, ways):
    """Whichever made the store and the data set, the other finds it."""
    both, one = place("both"), place("one")
    ids = trials.trial_ids()
    assert [
        way(both, trials.runs).log(trials, part)
        for way, part in zip(ways, (ids[:2], ids[1:]), strict=True)
    ] == [2, 2]
    assert warnings_of_harness() == ""
    open_for_client(one, trials.runs).log(trials, ids)
    assert tables(both) == tables(one)
    assert len(tables(both)["datasets"]) == 1


def test_a_name_that_mlflow_refuses_is_refused(trials, place, monkeypatch, warnings_of_harness):
    point = contents.Point("accuracy?", 1.0, 1, 0)
    monkeypatch.setattr(contents, "metric_points", lambda *_: [point])
    tracker = open_in_bulk(place("many"), trials.runs)
    assert tracker.log(trials, trials.trial_ids()) == 0
    assert tracker.connected
    assert sorted(tracker.faults) == trials.trial_ids()
    assert all("Invalid value" in fault for fault in tracker.faults.values())
    assert "Invalid value" in warnings_of_harness()


def test_unknown_tables_are_left_to_the_client(trials, place, monkeypatch, warnings_of_harness):
    from harness.tracking import bulk

    monkeypatch.setattr(bulk, "REVISION", "0123456789ab")
    assert_sent_by_the_client(trials, place("newer"))
    assert "trials are sent to MLflow one by one" in warnings_of_harness()
    assert "written to revision 0123456789ab only" in warnings_of_harness()


def test_an_mlflow_with_other_modules_is_left_to_the_client(
    trials, place, monkeypatch, warnings_of_harness
):
    monkeypatch.setitem(sys.modules, "harness.tracking.bulk", None)
    assert_sent_by_the_client(trials, place("other"))
    assert "trials are sent to MLflow one by one" in warnings_of_harness()


def assert_sent_by_the_client(trials: Store, settings: TrackingConfig) -> None:
    tracker = tracking.open(settings, trials.runs)
    assert not tracker.in_bulk
    assert tracker.log(trials, trials.trial_ids()) == 4
    assert len(read_back(settings)) == 4


def test_a_server_is_written_to_by_the_client(trained, server, warnings_of_harness):
    tracker = tracking.open(TrackingConfig(uri=server, experiment="bulk"), trained.runs)
    assert tracker.connected
    assert not tracker.in_bulk
    assert warnings_of_harness() == ""


def test_a_failed_transaction_leaves_nothing_and_the_client_takes_over(
    trials, place, monkeypatch, warnings_of_harness
):
    from harness.tracking import bulk

    one, many = place("one"), place("many")
    open_for_client(one, trials.runs).log(trials, trials.trial_ids())
    latest, tracker = bulk.latest_rows, open_in_bulk(many, trials.runs)
    # The database refuses a key that is there twice.
    monkeypatch.setattr(bulk, "latest_rows", lambda rows: [*latest(rows)] * 2)
    assert tracker.log(trials, trials.trial_ids()) == 4
    assert tracker.connected
    assert not tracker.in_bulk
    assert warnings_of_harness().count("MLflow's database did not take many trials at once") == 1
    assert "UNIQUE constraint failed: latest_metrics.key" in warnings_of_harness()
    assert tables(many) == tables(one)
    assert read_back(many) == read_back(one)
    assert tracker.log(trials, trials.trial_ids()) == 0


def test_runs_that_cannot_be_ended_together_are_ended_one_by_one(
    trials, place, monkeypatch, warnings_of_harness
):
    from harness.tracking.bulk import Bulk

    def fail(self, ended):
        raise OSError("no more room")

    one, many = place("one"), place("many")
    open_for_client(one, trials.runs).log(trials, trials.trial_ids())
    monkeypatch.setattr(Bulk, "end", fail)
    assert open_in_bulk(many, trials.runs).log(trials, trials.trial_ids()) == 4
    assert "(no more room)" in warnings_of_harness()
    assert tables(many) == tables(one)


def test_a_run_deleted_under_way_is_no_success(trials, place, monkeypatch, warnings_of_harness):
    from harness.tracking import run_files

    settings, ordinary = place("many"), run_files.write

    def delete(folder, trial):
        client(settings).delete_run(trial.run_id)
        ordinary(folder, trial)

    monkeypatch.setattr(run_files, "write", delete)
    tracker = open_in_bulk(settings, trials.runs)
    assert tracker.log(trials, trials.trial_ids()) == 0
    assert not tracker.connected
    assert "MLflow did not take trial" in warnings_of_harness()
    monkeypatch.undo()
    assert open_in_bulk(settings, trials.runs).log(trials, trials.trial_ids()) == 4
    assert len(runs_of(settings)) == 4


@pytest.mark.parametrize("way", [open_for_client, open_in_bulk])
@pytest.mark.parametrize("damage", ["layers.parquet", "curves.parquet", "trial.json"])
def test_trials_around_one_that_cannot_be_read_are_sent(
    trials, place, warnings_of_harness, way, damage
):
    settings, ids = place("store"), trials.trial_ids()
    (trials.folder(ids[1]) / damage).write_bytes(b"no table")
    (trials.folder(ids[0]) / "mlflow.json").write_text('{"torn')
    tracker = way(settings, trials.runs)
    assert tracker.log(trials, ids) == 3
    assert tracker.log(trials, ids) == 0
    assert list(tracker.faults) == [ids[1]]
    warnings = warnings_of_harness()
    assert warnings.count("\n") == 0
    assert f"trial {ids[1]} cannot be sent to MLflow" in warnings
    assert f"{trials.folder(ids[1])}/{damage} is damaged" in warnings
    sent = sorted(run.data.tags["trial_id"] for run in runs_of(settings))
    assert sent == [ids[0], *ids[2:]]


@pytest.mark.parametrize("way", [open_for_client, open_in_bulk])
def test_trials_before_one_whose_files_are_not_taken_are_sent(
    trials, place, monkeypatch, warnings_of_harness, way
):
    from harness.tracking import run_files

    settings, ids, ordinary = place("store"), trials.trial_ids(), run_files.write

    def third_fails(folder, trial):
        if trial.record.trial_id == ids[2]:
            raise OSError("disk full")
        ordinary(folder, trial)

    monkeypatch.setattr(run_files, "write", third_fails)
    assert way(settings, trials.runs).log(trials, ids) == 2
    assert f"did not take trial {ids[2]} (disk full)" in warnings_of_harness()
    assert (
        sorted(
            run.data.tags["trial_id"] for run in runs_of(settings, "attributes.status = 'FINISHED'")
        )
        == ids[:2]
    )
    monkeypatch.undo()
    assert way(settings, trials.runs).log(trials, ids) == 2
    assert sorted(run.data.tags["trial_id"] for run in runs_of(settings)) == ids
    assert all(run.info.status == "FINISHED" for run in runs_of(settings))


def test_a_busy_database_is_waited_for(trials, place, warnings_of_harness):
    settings = place("busy")
    tracker = open_in_bulk(settings, trials.runs)
    other = sqlite3.connect(
        settings.uri.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(1.0, lambda: other.execute("COMMIT"))
    release.start()
    assert tracker.log(trials, trials.trial_ids()) == 4
    release.join()
    assert warnings_of_harness() == ""
    assert len(runs_of(settings)) == 4


def multiplied(trials: Store, folder: Path, count: int) -> Store:
    """`count` copies of the store's trials under other ids."""
    store, ids = Store(folder), trials.trial_ids()
    for number in range(count):
        old = ids[number % len(ids)]
        trial = json.loads((trials.folder(old) / "trial.json").read_text()) | {
            "trial_id": f"{folder.name}-{number:04d}"
        }
        shutil.copytree(trials.folder(old), store.folder(trial["trial_id"]))
        (store.folder(trial["trial_id"]) / "trial.json").write_text(json.dumps(trial))
        unseal(store.folder(trial["trial_id"]))
    return store


def _log(runs: str, settings: TrackingConfig, start, sent) -> None:
    tracker = open_in_bulk(settings, Path(runs))
    start.wait(120)
    store = Store(runs)
    count = tracker.log(store, store.trial_ids())
    assert tracker.in_bulk
    sent.put(count)


def in_two_processes(folders: list[Path], settings: TrackingConfig) -> tuple[list[int], int]:
    """Returns the number of trials that each of two processes sent, and of reads meanwhile.

    Both begin at the same moment; every read sees whole runs only.
    """
    # Its server loads MLflow once for all processes; none of them inherits a connection.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start, sent = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_log, args=(str(folder), settings, start, sent))
        for folder in folders
    ]
    for process in processes:
        process.start()
    start.wait(120)
    reads = 0
    while any(process.is_alive() for process in processes):
        for run in runs_of(settings):
            assert run.data.tags["trial_id"]
            assert len(run.data.params) >= 15
            if run.data.tags["status"] != "diverged":
                assert "accuracy/test" in run.data.metrics
        reads += 1
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return sorted(sent.get(timeout=10) for _ in processes), reads


def test_two_processes_write_to_one_store_at_once(trials, tmp_path, place):
    stores = [multiplied(trials, tmp_path / name, 70) for name in ("left", "right")]
    settings = place("shared")
    counts, reads = in_two_processes([store.runs for store in stores], settings)
    assert counts == [70, 70]
    assert reads > 0
    assert sorted(run.data.tags["trial_id"] for run in runs_of(settings)) == sorted(
        trial for store in stores for trial in store.trial_ids()
    )
    assert {len(rows) for name, rows in tables(settings).items() if name == "datasets"} == {1}


def test_two_processes_send_no_trial_twice(trials, tmp_path, place):
    store = multiplied(trials, tmp_path / "same", 40)
    settings = place("shared")
    counts, _ = in_two_processes([store.runs] * 2, settings)
    assert sum(counts) == 40
    assert len(tables(settings)["runs"]) == 40
    assert sorted(run.data.tags["trial_id"] for run in runs_of(settings)) == store.trial_ids()
