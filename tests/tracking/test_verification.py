"""Every done trial is compared with its run, and a repair sends again and deletes nothing."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from harness import tracking
from harness.commands import selu_sync, selu_verify
from harness.configuration.schema import TrackingConfig
from harness.store.trials import Store
from harness.tracking.presence import all_runs
from tests.tracking.conftest import unseal


@pytest.fixture
def sent(synthetic) -> Store:
    """Four made-up trials that are in MLflow."""
    tracker = tracking.open(TrackingConfig(), synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids(), last=True) == 4
    return synthetic


def client_and_runs(store: Store):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store.runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("selu")
    return client, {
        run.data.tags["trial_id"]: run
        for run in all_runs(client, experiment.experiment_id)
        if "trial_id" in run.data.tags
    }


def verify(store: Store, *arguments: str) -> int:
    return selu_verify.main(["--runs", str(store.runs), *arguments])


def trained_again(store: Store, trial_id: str) -> None:
    """Gives a trial another result, as another pack would."""
    record = store.read(trial_id)
    summary = record.summary | {"test_accuracy": record.summary["test_accuracy"] / 2}
    columns = {name: getattr(record, name)() for name in ("curves", "layers")}
    names = ("trial_id", "cell_id", "rules_version", "seed", "axes", "spec")
    store.begin({name: getattr(record, name) for name in names})
    store.finish(trial_id, summary=summary, **columns)


def test_a_sound_store_has_no_problem(sent, capsys):
    assert verify(sent) == 0
    assert capsys.readouterr().out.startswith("4 done trials are whole, compared with")


def test_without_a_tracking_store_runs_are_not_asked_for(synthetic, capsys):
    (synthetic.runs / "mlflow.db").unlink()
    assert verify(synthetic) == 0
    assert "no tracking store to compare with; 0 problems" in capsys.readouterr().out
    assert not (synthetic.runs / "mlflow.db").exists()


def test_a_trial_that_is_not_in_mlflow_is_sent(sent, capsys):
    client, runs = client_and_runs(sent)
    trial_id = sent.trial_ids()[0]
    client.delete_run(runs[trial_id].info.run_id)
    assert verify(sent) == 1
    assert f"trial {trial_id} has no run in MLflow" in capsys.readouterr().out
    assert verify(sent, "--repair") == 0
    assert verify(sent) == 0
    assert sorted(client_and_runs(sent)[1]) == sent.trial_ids()


@pytest.mark.parametrize("what", ["metric", "tag", "file", "unfinished"])
def test_a_run_that_says_something_else_is_kept_and_replaced(sent, capsys, what):
    client, runs = client_and_runs(sent)
    trial_id, *others = sent.trial_ids()
    run = runs[trial_id]
    if what == "metric":
        client.log_metric(run.info.run_id, "accuracy/test", 0.999)
    elif what == "tag":
        client.set_tag(run.info.run_id, "seed", "77")
    elif what == "file":
        os.truncate(run.info.artifact_uri.removeprefix("file://") + "/layers.parquet", 7)
    else:
        client.update_run(run.info.run_id, "RUNNING")
    assert verify(sent) == 1
    assert f"trial {trial_id} differs from its run {run.info.run_id}" in capsys.readouterr().out
    assert verify(sent, "--repair") == 0
    assert verify(sent) == 0
    now = client_and_runs(sent)[1]
    assert now[trial_id].info.run_id != run.info.run_id
    assert [now[name].info.run_id for name in others] == [runs[name].info.run_id for name in others]
    former = client.get_run(run.info.run_id)
    assert former.info.lifecycle_stage == "active"
    assert former.data.tags["former_trial_id"] == trial_id


def test_damaged_folders_are_moved_and_the_others_sent(sent, capsys):
    damaged, *others = sent.trial_ids()
    (sent.folder(damaged) / "curves.parquet").write_bytes(b"PAR1")
    assert verify(sent) == 1
    assert f"{damaged}/curves.parquet is damaged" in capsys.readouterr().out
    assert verify(sent, "--repair") == 0
    assert Store(sent.runs).trial_ids() == others
    assert (sent.runs / "set_aside" / damaged / "curves.parquet").read_bytes() == b"PAR1"
    assert verify(sent) == 0


def test_what_was_repaired_before_the_repair_came_to_it_is_left_alone(
    synthetic, capsys, monkeypatch
):
    """A sweep trains the trial again, and a search writes its record, while others are judged."""
    from harness.store import searches, verification

    (synthetic.runs / "mlflow.db").unlink()
    damaged = synthetic.trial_ids()[0]
    whole = (synthetic.folder(damaged) / "curves.parquet").read_bytes()
    (synthetic.folder(damaged) / "curves.parquet").write_bytes(b"PAR1")
    search = searches.SearchRecord("0" * 16, {}, {}, {}, (), ())
    searches.write(synthetic.runs, search)
    record = synthetic.runs / "searches" / f"{search.key}.json"
    record.write_text("{")
    ordinary = verification.set_aside

    def late(store, name):
        (synthetic.folder(damaged) / "curves.parquet").write_bytes(whole)
        searches.write(synthetic.runs, search)
        return ordinary(store, name)

    monkeypatch.setattr(verification, "set_aside", late)
    assert verify(synthetic, "--repair") == 0
    output = capsys.readouterr().out
    assert output.count("repaired meanwhile; left alone") == 2
    assert synthetic.folder(damaged).is_dir()
    assert record.exists()
    assert not list(synthetic.runs.glob("set_aside/*"))


@pytest.mark.parametrize("marker", ["whole", "torn"])
def test_a_trial_that_was_trained_again_replaces_its_run(sent, marker):
    trial_id = sent.trial_ids()[0]
    first = client_and_runs(sent)[1][trial_id]
    trained_again(sent, trial_id)
    if marker == "torn":
        os.truncate(sent.folder(trial_id) / "mlflow.json", 20)
    tracker = tracking.open(TrackingConfig(), sent.runs)
    assert tracker.log(sent, sent.trial_ids(), last=True) == 1
    second = client_and_runs(sent)[1][trial_id]
    assert second.data.metrics["accuracy/test"] == first.data.metrics["accuracy/test"] / 2
    assert tracker.log(sent, sent.trial_ids(), last=True) == 0
    assert verify(sent) == 0


def test_a_trial_that_is_trained_again_while_it_is_sent_is_sent_again(synthetic, monkeypatch):
    from harness.tracking.run_writer import RunWriter

    trial_id = synthetic.trial_ids()[0]
    tracker = tracking.open(TrackingConfig(), synthetic.runs)
    ordinary = RunWriter.end

    def end(self, *rest):
        ordinary(self, *rest)
        trained_again(synthetic, trial_id)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(RunWriter, "end", end)
        assert tracker.log(synthetic, synthetic.trial_ids()) == 4
    assert tracker.log(synthetic, synthetic.trial_ids()) == 1
    assert verify(synthetic) == 0


def test_a_run_of_a_trial_whose_end_is_unknown_is_not_marked(sent):
    """Another sweep may just have begun it again; such a mark would never be outdated."""
    trial_id, *others = sent.trial_ids()
    folder = sent.folder(trial_id)
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"ended": None}))
    unseal(folder)
    for name in sent.trial_ids():
        (sent.folder(name) / "mlflow.json").unlink()
    assert send(sent, TrackingConfig()) == 0
    assert not (folder / "mlflow.json").exists()
    assert all((sent.folder(name) / "mlflow.json").exists() for name in others)


@pytest.fixture
def two_addresses(synthetic, tables_of_mlflow) -> list[TrackingConfig]:
    """Two tracking stores of one runs folder."""
    addresses = []
    for name in ("first.db", "second.db"):
        shutil.copy(tables_of_mlflow, synthetic.runs / name)
        addresses.append(TrackingConfig(uri=f"sqlite:///{synthetic.runs / name}"))
    return addresses


def send(store: Store, settings: TrackingConfig) -> int:
    return tracking.open(settings, store.runs).log(store, store.trial_ids())


def test_a_trial_that_was_trained_again_replaces_its_runs_at_every_address(
    synthetic, two_addresses
):
    assert [send(synthetic, settings) for settings in two_addresses] == [4, 4]
    trained_again(synthetic, synthetic.trial_ids()[0])
    assert [send(synthetic, settings) for settings in two_addresses] == [1, 1]
    assert [send(synthetic, settings) for settings in two_addresses] == [0, 0]
    for settings in two_addresses:
        assert verify(synthetic, "--uri", settings.uri) == 0


def test_a_marker_of_an_earlier_version_still_says_that_its_run_is_outdated(sent):
    trial_id = sent.trial_ids()[0]
    path = sent.folder(trial_id) / "mlflow.json"
    marker = json.loads(path.read_text())
    del marker["sent"]
    path.write_text(json.dumps(marker))
    assert send(sent, TrackingConfig()) == 0
    path.write_text(json.dumps(marker))
    trained_again(sent, trial_id)
    assert send(sent, TrackingConfig()) == 1


def test_a_torn_marker_of_a_sent_trial_sends_nothing_again(sent):
    first = client_and_runs(sent)[1]
    for trial_id in sent.trial_ids():
        os.truncate(sent.folder(trial_id) / "mlflow.json", 20)
    tracker = tracking.open(TrackingConfig(), sent.runs)
    assert tracker.log(sent, sent.trial_ids(), last=True) == 0
    assert {name: run.info.run_id for name, run in client_and_runs(sent)[1].items()} == {
        name: run.info.run_id for name, run in first.items()
    }


def test_sending_names_damaged_trials_and_sends_the_others(synthetic, capsys):
    damaged, *others = synthetic.trial_ids()
    (synthetic.folder(damaged) / "layers.parquet").unlink()
    assert selu_sync.main(["--runs", str(synthetic.runs)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("set aside: ") == 1
    assert "3 trials sent" in captured.out
    assert sorted(client_and_runs(synthetic)[1]) == others


def test_trials_after_one_whose_file_vanishes_while_it_is_sent_are_sent(synthetic, monkeypatch):
    from harness.tracking import run_files

    ordinary, (damaged, *others) = run_files.write, synthetic.trial_ids()

    def vanish(folder, trial):
        if trial.record.trial_id == damaged:
            (trial.record.folder / "curves.parquet").unlink()
        ordinary(folder, trial)

    monkeypatch.setattr(run_files, "write", vanish)
    tracker = tracking.open(TrackingConfig(), synthetic.runs)
    assert tracker.log(synthetic, synthetic.trial_ids(), last=True) == 3
    assert list(tracker.faults) == [damaged]
    assert tracker.connected
    assert sorted(client_and_runs(synthetic)[1]) == others
