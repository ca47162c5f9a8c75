"""Addresses of tracking stores: where they lead, what is refused, and how they are printed."""

from __future__ import annotations

import shlex
import sqlite3
import sys

import pytest

from harness import tracking
from harness.commands import selu_sync
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.tracking import address
from tests.tracking.conftest import made_up


@pytest.mark.parametrize(
    "uri, reason",
    [
        ("gopher://hole", "begins with one of sqlite:, http:"),
        ("./mlruns", "begins with one of sqlite:, http:"),
        ("sqlite://", "in memory loses its runs"),
        ("sqlite:///:memory:", "in memory loses its runs"),
        ("sqlite:///file::memory:?uri=true", "in memory loses its runs"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory loses its runs"),
        ("http://", "name of the server is missing"),
        ("file:///tmp/mlruns", "keeps no runs in plain folders; give sqlite:"),
        ("mysql+nonsense://host/name", "knows no driver mysql"),
        ("postgresql://user:port@host:x/name", "expected DATABASE:"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_training(uri, reason, tmp_path):
    with pytest.raises(RequestError) as refusal:
        tracking.check(TrackingConfig(uri=uri), tmp_path)
    message = str(refusal.value)
    assert message.startswith("tracking.uri=")
    assert reason in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri, missing, advice",
    [
        ("postgresql+psycopg2://u:secret@host/db", "psycopg2", "pip install psycopg2-binary"),
        ("mysql://u:secret@host/db", "MySQLdb", "pip install mysqlclient"),
        ("mssql+pyodbc://u:secret@host/db", "pyodbc", "pip install pyodbc"),
    ],
)
def test_a_missing_driver_is_named_with_its_package(uri, missing, advice, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RequestError, match=advice) as refusal:
        tracking.check(TrackingConfig(uri=uri), tmp_path)
    assert "secret" not in str(refusal.value)


def test_passwords_are_masked(tmp_path):
    for uri in ("postgresql+psycopg2://me:s3cret@host:5432/db", "https://me:s3cret@host/path"):
        place = address.Address(uri, "selu")
        assert place.shown == uri.replace("s3cret", "***")
        assert "s3cret" not in place.sync_command(tmp_path)
        assert "s3cret" not in place.interface_command()
        assert place.without_password("no s3cret here") == "no *** here"


@pytest.mark.parametrize("name", ["a b", "100%20", "what?", "it's #1 é", "-n; ls"])
def test_folders_of_any_name_keep_their_database(name, tmp_path, tables_of_mlflow, capsys):
    store = made_up(tmp_path / name / "runs", tables_of_mlflow)
    assert selu_sync.main(["--runs", str(store.runs)]) == 0
    printed = capsys.readouterr().out.splitlines()
    with sqlite3.connect(store.runs / "mlflow.db") as tables:
        assert tables.execute("SELECT count(*) FROM tags WHERE key = 'kind'").fetchone() == (6,)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sorted(path.name for path in store.runs.iterdir() if path.name[0] != ".") == [
        "mlartifacts",
        "mlflow.db",
        "trials",
    ]
    assert len(list(store.runs.glob("mlartifacts/*/artifacts/layers.parquet"))) == 4
    # The printed commands mean the same database to a shell.
    place = address.resolve(TrackingConfig(), store.runs)
    line = next(line for line in printed if "mlflow ui" in line)
    command = shlex.split(line.partition("after: ")[2])
    assert command[:3] == ["mlflow", "ui", "--backend-store-uri"]
    for uri in (command[3], _option(place.sync_command(store.runs), "--uri")):
        assert address.resolve(TrackingConfig(uri=uri), tmp_path).file == store.runs / "mlflow.db"
    assert _option(place.sync_command(store.runs), "--runs") == str(store.runs)


def _option(command: str, name: str) -> str:
    words = shlex.split(command)
    return words[words.index(name) + 1]


def test_the_environment_is_used_where_the_configuration_is_silent(
    synthetic, tmp_path, tables_of_mlflow, monkeypatch, capsys
):
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_bytes(tables_of_mlflow.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert selu_sync.main(["--runs", str(synthetic.runs)]) == 0
    printed = capsys.readouterr().out
    assert "experiment mine (from MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME)" in printed
    assert str(elsewhere) in printed
    with sqlite3.connect(elsewhere) as tables:
        names = {name for (name,) in tables.execute("SELECT name FROM experiments")}
    assert names == {"Default", "mine", "mine cells"}
    place = address.resolve(TrackingConfig(experiment="said"), tmp_path)
    assert (place.experiment, place.variables) == ("said", ("MLFLOW_TRACKING_URI",))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(RequestError, match="MLFLOW_TRACKING_URI=nonsense://x: expected"):
        tracking.check(TrackingConfig(), tmp_path)
    tracking.check(TrackingConfig(enabled=False), tmp_path)


def test_a_deleted_experiment_is_said_with_what_to_do(synthetic, capsys, warnings_of_harness):
    from mlflow.tracking import MlflowClient

    assert selu_sync.main(["--runs", str(synthetic.runs)]) == 0
    client = MlflowClient(f"sqlite:///{synthetic.runs}/mlflow.db")
    experiment = client.get_experiment_by_name("selu").experiment_id
    client.delete_experiment(experiment)
    assert selu_sync.main(["--runs", str(synthetic.runs)]) == 2
    said = warnings_of_harness()
    assert said.count("\n") == 0
    assert "the experiment 'selu' was deleted in MLflow" in said
    assert f"mlflow experiments restore --experiment-id {experiment}" in said
    assert "tracking.experiment=NAME" in said
    assert selu_sync.main(["--runs", str(synthetic.runs), "--experiment", "another"]) == 0
    assert "4 trials sent" in capsys.readouterr().out
