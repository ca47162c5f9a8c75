"""Every trial is in MLflow once, whatever was moved, deleted, torn, lost or called otherwise."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import tracking
from harness.commands import selu_sync
from harness.configuration.schema import TrackingConfig
from harness.store.trials import Store
from harness.tracking import reachability, sqlite_file
from harness.tracking.address import file_uri
from harness.tracking.run_files import local_folder

_OLDER_REVISION = "1a0cddfcaa16"


def runs_of(uri: str, experiment: str = "selu") -> list:
    """The runs of an experiment, read by a client that no other test has used."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    present = client.get_experiment_by_name(experiment)
    return client.search_runs([present.experiment_id]) if present else []


def database(store: Store) -> str:
    return file_uri(store.runs / "mlflow.db")


def sync(capsys, store: Store, *options: str) -> str:
    """What a synchronisation says first."""
    assert selu_sync.main(["--runs", str(store.runs), *options]) == 0
    return capsys.readouterr().out.splitlines()[0]


def assert_complete(uri: str, store: Store, experiment: str = "selu") -> None:
    runs = runs_of(uri, experiment)
    assert sorted(run.data.tags["trial_id"] for run in runs) == store.trial_ids()
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_store_that_was_moved_sends_nothing_again(synthetic, tmp_path, capsys):
    last = synthetic.trial_ids()[-1]
    shutil.move(synthetic.folder(last), tmp_path / last)
    assert sync(capsys, synthetic) == "3 trials sent, 0 were there"
    moved = Store(shutil.move(synthetic.runs, tmp_path / "moved"))
    assert sync(capsys, moved) == "0 trials sent, 3 were there"
    shutil.move(tmp_path / last, moved.folder(last))
    assert sync(capsys, moved) == "1 trials sent, 3 were there"
    # The files of all runs are beside the database, and the old folder was not made again.
    assert not synthetic.runs.exists()
    for run in runs_of(database(moved)):
        assert (local_folder(run.info.artifact_uri) / "layers.parquet").is_file()


def test_a_database_that_was_deleted_is_filled_again(synthetic, capsys, tables_of_mlflow):
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    shutil.copy(tables_of_mlflow, synthetic.runs / "new.db")
    os.replace(synthetic.runs / "new.db", synthetic.runs / "mlflow.db")
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    assert_complete(database(synthetic), synthetic)


def test_a_database_replaced_within_a_sweep_is_filled_again(synthetic, tables_of_mlflow):
    tracker = tracking.open(TrackingConfig(), synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids()) == 4
    shutil.copy(tables_of_mlflow, synthetic.runs / "new.db")
    os.replace(synthetic.runs / "new.db", synthetic.runs / "mlflow.db")
    assert tracker.log(synthetic, synthetic.trial_ids(), last=True) == 4
    assert_complete(database(synthetic), synthetic)


def test_other_names_of_one_database_double_nothing(synthetic, capsys, monkeypatch):
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    monkeypatch.chdir(synthetic.runs)
    for uri in ("sqlite:///mlflow.db", f"sqlite+pysqlite:///{synthetic.runs}/../runs/mlflow.db"):
        assert sync(capsys, synthetic, "--uri", uri) == "0 trials sent, 4 were there"
    assert_complete(database(synthetic), synthetic)


def test_other_names_of_one_server_double_nothing(synthetic, server, gate, capsys):
    options = ("--experiment", "names")
    assert sync(capsys, synthetic, "--uri", server, *options) == "4 trials sent, 0 were there"
    for uri in (server.replace("127.0.0.1", "localhost"), gate.address):
        assert sync(capsys, synthetic, "--uri", uri, *options) == "0 trials sent, 4 were there"
    assert_complete(server, synthetic, "names")


def test_runs_that_were_doubled_before_become_one(synthetic, server, tmp_path):
    from mlflow.tracking import MlflowClient

    settings = TrackingConfig(uri=server, experiment="doubled")
    tracker = tracking.open(settings, synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids()) == 4
    client = MlflowClient(server)
    for run in runs_of(server, "doubled"):
        for status in ("FINISHED", None):
            twin = client.create_run(
                run.info.experiment_id, tags={"trial_id": run.data.tags["trial_id"]}
            )
            if status is not None:
                client.set_terminated(twin.info.run_id, status)
    assert len(runs_of(server, "doubled")) == 12
    assert tracking.open(settings, synthetic.runs).log(synthetic, synthetic.trial_ids()) == 0
    assert_complete(server, synthetic, "doubled")


def test_an_answer_lost_after_a_run_was_made_leaves_one_run(synthetic, gate, server):
    settings = TrackingConfig(uri=gate.address, experiment="lost")
    tracker = tracking.open(settings, synthetic.runs)
    gate.mode = "deaf"
    ids = synthetic.trial_ids()
    assert tracker.log(synthetic, ids[:1]) == 0
    assert len(runs_of(server, "lost")) == 1
    assert tracker.log(synthetic, ids, last=True) == 4
    assert_complete(server, synthetic, "lost")


def test_a_server_that_was_away_is_tried_again_within_the_sweep(
    synthetic, gate, server, monkeypatch, warnings_of_harness
):
    monkeypatch.setattr("harness.tracking.tracker._FIRST_PAUSE", 0.2)
    ids = synthetic.trial_ids()
    tracker = tracking.open(TrackingConfig(uri=gate.address, experiment="away"), synthetic.runs)
    assert tracker.log(synthetic, ids[:1]) == 1
    gate.mode = "closed"
    assert tracker.log(synthetic, ids[1:2]) == 0
    assert tracker.log(synthetic, ids[2:3]) == 0
    gate.mode = "open"
    time.sleep(0.5)
    assert tracker.log(synthetic, ids[3:]) == 3
    assert tracker.log(synthetic, ids, last=True) == 0
    assert warnings_of_harness().count("\n") == 0
    assert "the connection broke off" in warnings_of_harness()
    assert_complete(server, synthetic, "away")


def test_a_silent_server_holds_the_end_of_a_sweep_for_seconds(synthetic, gate, warnings_of_harness):
    gate.mode = "silent"
    start = time.monotonic()
    tracker = tracking.open(TrackingConfig(uri=gate.address), synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids(), last=True) == 0
    # The first attempt and the last one wait; a busy machine adds to it.
    assert time.monotonic() - start < 2 * reachability.SECONDS + 5
    assert "no answer in time" in warnings_of_harness()
    assert f"--uri {gate.address} --experiment selu" in warnings_of_harness()


def test_a_store_torn_while_it_was_made_is_made_anew(synthetic, capsys):
    """Its tables are MLflow's, of an earlier revision, and no run is in them."""
    file = synthetic.runs / "mlflow.db"
    tear(file)
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    assert file.with_name("mlflow.db.torn").exists()
    assert_complete(database(synthetic), synthetic)


def tear(file: Path) -> None:
    """Makes a store as one that was stopped between two steps of its making."""
    with sqlite3.connect(file) as tables:
        tables.execute("DELETE FROM experiments")
        tables.execute("DROP TABLE latest_metrics")
        tables.execute("UPDATE alembic_version SET version_num = ?", (_OLDER_REVISION,))


def test_a_store_of_an_older_mlflow_is_kept(synthetic, capsys, warnings_of_harness):
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    older = Store(shutil.copytree(synthetic.runs, synthetic.runs.with_name("older")))
    file = older.runs / "mlflow.db"
    with sqlite3.connect(file) as tables:
        tables.execute("UPDATE alembic_version SET version_num = ?", (_OLDER_REVISION,))
    assert selu_sync.main(["--runs", str(older.runs)]) == 2
    assert f"mlflow db upgrade sqlite:///{file}" in warnings_of_harness()
    assert not file.with_name("mlflow.db.torn").exists()
    with sqlite3.connect(file) as tables:
        assert tables.execute("SELECT count(*) FROM tags WHERE key = 'trial_id'").fetchone() == (4,)


@pytest.mark.parametrize("content", [b"no database at all, but long enough " * 40, None])
def test_a_file_that_is_no_tracking_store_is_kept(synthetic, content, warnings_of_harness):
    file = synthetic.runs / "other.db"
    if content is None:
        with sqlite3.connect(file) as tables:
            tables.execute("CREATE TABLE studies (study_id INTEGER)")
            tables.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            tables.execute("INSERT INTO alembic_version VALUES ('v3.0.0.d')")
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    assert selu_sync.main(["--runs", str(synthetic.runs), "--uri", f"sqlite:///{file}"]) == 2
    assert content is None or file.read_bytes() == before
    assert "give another address" in warnings_of_harness()
    assert not file.with_name("other.db.torn").exists()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_process_killed_while_it_makes_the_store_ruins_nothing(
    synthetic, capsys, tables_of_mlflow, share
):
    file = synthetic.runs / "mlflow.db"
    file.unlink()
    command = [sys.executable, "scripts/sync_mlflow.py", "--runs", str(synthetic.runs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = tables_of_mlflow.stat().st_size
    while process.poll() is None:
        sizes = [path.stat().st_size for path in synthetic.runs.glob(".mlflow.db.*.new")]
        if max(sizes, default=0) > share * whole:
            process.kill()
            break
        time.sleep(0.01)
    process.wait()
    assert not file.exists()
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    assert list(synthetic.runs.glob(".mlflow.db.*")) == []
    assert_complete(database(synthetic), synthetic)


_WITH_LITTLE_ROOM = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from harness.commands import selu_sync
sys.exit(selu_sync.main(["--runs", sys.argv[1]]))
"""


def sync_with_little_room(store: Store, size: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-c", _WITH_LITTLE_ROOM, str(store.runs), str(size)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000, 300_000])
def test_no_room_for_the_store_leaves_nothing(synthetic, size, capsys):
    file = synthetic.runs / "mlflow.db"
    file.unlink()
    failed = sync_with_little_room(synthetic, size)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert f"{file} cannot be made" in failed.stderr
    assert not list(synthetic.runs.glob("*mlflow.db*"))
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"


@pytest.mark.slow
def test_no_room_in_the_store_is_one_line(synthetic, capsys):
    """The file can be opened, and not grow."""
    assert sync(capsys, synthetic, "--experiment", "first") == "4 trials sent, 0 were there"
    failed = sync_with_little_room(synthetic, (synthetic.runs / "mlflow.db").stat().st_size)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert "4 trials are not in MLflow" in failed.stderr
    assert sync(capsys, synthetic) == "4 trials sent, 0 were there"
    assert_complete(database(synthetic), synthetic)


def test_a_store_that_cannot_be_made_is_a_warning(
    tmp_path, synthetic, warnings_of_harness, monkeypatch
):
    def fail(uri):
        raise OSError("No space left on device")

    monkeypatch.setattr(sqlite_file, "MlflowClient", fail)
    settings = TrackingConfig(uri=f"sqlite:///{tmp_path}/new/mlflow.db")
    tracker = tracking.open(settings, synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids(), last=True) == 0
    assert "cannot be made: no space left on the disk" in warnings_of_harness()
    assert list((tmp_path / "new").glob("*.db*")) == []
