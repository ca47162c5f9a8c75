"""From the store to MLflow: once, complete, and without harm when the server is away."""

from __future__ import annotations

import importlib
import multiprocessing
import re
import shutil
import socket
import subprocess
import sys

import pytest

from harness import tracking
from harness.commands import selu_sync
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.verdicts.criteria import load
from tests import in_process


def client(uri: str):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def runs_of(uri: str, experiment: str = "selu") -> list:
    mlflow = client(uri)
    present = mlflow.get_experiment_by_name(experiment)
    return mlflow.search_runs([present.experiment_id]) if present else []


def test_a_trial_becomes_one_flat_complete_run(trained):
    ids = trained.trial_ids()
    tracker = tracking.open(TrackingConfig(), trained.runs)
    assert (tracker.log(trained, ids), tracker.log(trained, ids)) == (2, 0)
    uri = f"sqlite:///{trained.runs / 'mlflow.db'}"
    runs = runs_of(uri)
    assert len(runs) == 2
    run = next(run for run in runs if run.data.params["seed"] == "1")
    record = trained.read(run.data.tags["trial_id"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "selu 3 lecun s1"
    assert run.data.tags["cell"] == record.cell_id
    assert run.data.tags["initializer"] == "lecun_normal"
    assert run.data.params["depth"] == "3"
    assert run.data.metrics["accuracy/test"] == pytest.approx(record.summary["test_accuracy"])
    layers = record.layers()
    history = client(uri).get_metric_history(run.info.run_id, "init/variance")
    profile = layers[layers["phase"] == "init"].set_index("layer")["activation_variance"]
    assert {point.step: point.value for point in history} == pytest.approx(profile.to_dict())
    steps = [
        point.step
        for point in client(uri).get_metric_history(run.info.run_id, "curve/validation_loss")
    ]
    assert sorted(steps) == [0, 2, 4]
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    files = {file.path for file in client(uri).list_artifacts(run.info.run_id)}
    assert files == {
        "config.json",
        "curves.parquet",
        "diagnosis.html",
        "histograms.svg",
        "layers.parquet",
        "layers.svg",
    }
    words = {
        name: value
        for name, value in record.summary.items()
        if name.startswith("verdict_") and value != "unknown"
    }
    expected = {f"verdict_{name}_{phase}" for name in load().names for phase in ("init", "end")}
    assert set(words) >= expected | {"verdict_sentence"}
    assert {name: run.data.tags[name] for name in words} == words
    assert run.data.tags["criteria_version"] == str(load().version)
    shared = run.data.metrics["share/moments_end"]
    assert shared == pytest.approx(record.summary["share_moments_end"])
    page = (
        trained.runs / "mlartifacts" / run.info.run_id / "artifacts" / "diagnosis.html"
    ).read_text()
    # Three layers, three probes, eight conditions; nothing is loaded from elsewhere.
    assert len(re.findall('<td class="(?:holds|strained|fails|unknown)"', page)) == 3 * 3 * 8
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    predicted = {
        point.step: point.value
        for point in client(uri).get_metric_history(run.info.run_id, "init/variance_predicted")
    }
    assert predicted == pytest.approx(
        layers[layers["phase"] == "init"]
        .set_index("layer")["predicted_activation_variance"]
        .to_dict()
    )
    assert (
        trained.runs / "mlartifacts" / run.info.run_id / "artifacts" / "layers.parquet"
    ).read_bytes() == (record.folder / "layers.parquet").read_bytes()


def test_an_unfinished_run_is_replaced(trained, monkeypatch):
    from harness.tracking import run_files

    def fail(folder, trial):
        raise OSError("disk full")

    tracker = tracking.open(TrackingConfig(), trained.runs)
    with monkeypatch.context() as patch:
        patch.setattr(run_files, "write", fail)
        assert tracker.log(trained, trained.trial_ids()) == 0
    assert not tracker.connected
    tracker = tracking.open(TrackingConfig(), trained.runs)
    assert tracker.log(trained, trained.trial_ids()) == 2
    assert len(runs_of(f"sqlite:///{trained.runs / 'mlflow.db'}")) == 2


def _send(runs: str, uri: str, together, sent) -> None:
    # MLflow takes seconds to import, in one process more than in another.
    importlib.import_module("harness.tracking.connection")
    store = Store(runs)
    together.wait(300)
    sent.put(tracking.open(TrackingConfig(uri=uri), store.runs).log(store, store.trial_ids()))


def test_processes_make_one_store_at_once_and_send_every_trial_once(trained, tmp_path):
    """Two of one runs folder, and two of a copy of it, whose trials are the same."""
    uri = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}"
    folders = [tmp_path / "one", tmp_path / "one", tmp_path / "two", tmp_path / "two"]
    # Its server loads MLflow once for all processes; none of them inherits a connection.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "harness.tracking.connection"])
    together, sent = context.Barrier(4), context.Queue()
    processes = []
    for folder in folders:
        shutil.copytree(trained.runs, folder, dirs_exist_ok=True)
        processes.append(context.Process(target=_send, args=(str(folder), uri, together, sent)))
    (tmp_path / "shared").mkdir()
    for process in processes:
        process.start()
    assert sum(sent.get(timeout=300) for _ in processes) == 2
    for process in processes:
        process.join(300)
    assert len(runs_of(uri)) == 2
    # Artifacts stand beside the database, wherever the sweeps were started.
    artifacts = tmp_path / "shared" / "mlartifacts"
    assert len(list(artifacts.glob("*/artifacts/layers.parquet"))) == 2


def test_a_nonsense_address_is_refused_and_tracking_none_does_nothing(tmp_path):
    with pytest.raises(RequestError, match="tracking.uri=gopher"):
        tracking.check(TrackingConfig(uri="gopher://hole"), tmp_path)
    silent = tracking.open(TrackingConfig(enabled=False), tmp_path)
    assert silent.links() == []
    assert not silent.connected
    assert list(tmp_path.iterdir()) == []


def test_an_absent_server_costs_a_warning_and_the_trials_can_be_sent_later(
    make_config, tiny, warnings_of_harness, server
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        absent = f"http://127.0.0.1:{closed.getsockname()[1]}"
        config = make_config(**tiny)
        config.tracking = TrackingConfig(uri=absent)
        sweep.prefetch([config])
    store = Store(config.runs)
    assert all(record.finished for record in store.records())
    assert "MLflow cannot be reached" in warnings_of_harness()
    command = [sys.executable, "scripts/sync_mlflow.py", "--runs", str(store.runs), "--uri", server]
    first = subprocess.run(command, capture_output=True, text=True)
    second = in_process.command(selu_sync.main, *command[2:])
    assert first.stdout.startswith("2 trials sent, 0 were there"), first.stderr
    assert second.stdout.startswith("0 trials sent, 2 were there")
    assert len(runs_of(server)) == 2
