"""Tables from a tracking store alone are those of the store that was sent."""

from __future__ import annotations

import shutil

import pandas
import pytest

from harness import tracking
from harness.commands import selu_report
from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store import searches
from harness.store.tables import collect


def assert_same_tables(one, other) -> None:
    for name in ("trials", "curves", "layers"):
        pandas.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    assert one.histograms.equals(other.histograms)


def test_a_database_gives_the_tables_of_the_store(synthetic):
    ids = synthetic.trial_ids()
    searches.write(
        synthetic.runs,
        searches.SearchRecord(
            key="k",
            axes={},
            spec={},
            search={},
            tuning_seeds=(0,),
            draws=(searches.DrawRecord(2, 0.1, (ids[0],)),),
            chosen=2,
            confirmation=(ids[1],),
        ),
    )
    wanted = collect(synthetic)
    assert sorted(wanted.trials["search_role"]) == ["", "", "confirmation", "tuning"]
    tracking.open(TrackingConfig(), synthetic.runs).log(synthetic, synthetic.trial_ids())
    shutil.rmtree(synthetic.trials)
    shutil.rmtree(synthetic.runs / "searches")
    uri = f"sqlite:///{synthetic.runs}/mlflow.db"
    assert_same_tables(tracking.tables_from_mlflow(uri), wanted)


def test_a_report_is_made_from_a_server_alone(trained, server, tmp_path):
    settings = TrackingConfig(uri=server, experiment="reported")
    tracking.open(settings, trained.runs).log(trained, trained.trial_ids())
    sources = (
        ("--runs", str(trained.runs)),
        ("--from-mlflow", server, "--experiment", "reported"),
    )
    pages = []
    for number, source in enumerate(sources):
        folder = tmp_path / str(number)
        assert selu_report.main([*source, "--out", str(folder)]) == 0
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_server_gives_the_tables_of_the_store(trained, server):
    settings = TrackingConfig(uri=server, experiment="tables")
    tracking.open(settings, trained.runs).log(trained, trained.trial_ids())
    assert_same_tables(tracking.tables_from_mlflow(server, "tables"), collect(trained))


def test_what_cannot_be_read_is_said(synthetic, tmp_path, warnings_of_harness):
    uri = f"sqlite:///{synthetic.runs}/mlflow.db"
    with pytest.raises(RequestError, match="no experiment 'selu'; it has: Default"):
        tracking.tables_from_mlflow(uri)
    with pytest.raises(RequestError, match="there is no tracking store"):
        tracking.tables_from_mlflow(f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(RequestError, match="cannot read from MLflow .*connection refused"):
        tracking.tables_from_mlflow("http://127.0.0.1:9")
    tracking.open(TrackingConfig(), synthetic.runs).log(synthetic, synthetic.trial_ids())
    for place in list(synthetic.runs.glob("mlartifacts/*/artifacts"))[:3]:
        (place / "curves.parquet").unlink()
    assert len(tracking.tables_from_mlflow(uri).trials) == 1
    assert "3 of 4 runs are left out" in warnings_of_harness()


@pytest.mark.parametrize("as_path", [True, False])
def test_a_hostile_id_on_a_server_leads_nowhere(synthetic, tmp_path, warnings_of_harness, as_path):
    """Whoever can write to a server chooses the tags of its runs."""
    from mlflow.tracking import MlflowClient

    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("ten years of work")
    tracking.open(TrackingConfig(), synthetic.runs).log(synthetic, synthetic.trial_ids())
    uri = f"sqlite:///{synthetic.runs}/mlflow.db"
    client = MlflowClient(uri)
    (run, *_) = client.search_runs([client.get_experiment_by_name("selu").experiment_id])
    hostile = str(victim) if as_path else "../" * 20 + str(victim)[1:]
    client.set_tag(run.info.run_id, "trial_id", hostile)
    client.set_tag(run.info.run_id, "search_draw", "many")
    before = sorted(tmp_path.rglob("*"))
    assert len(tracking.tables_from_mlflow(uri).trials) == 3
    assert sorted(tmp_path.rglob("*")) == before
    assert "is no id of a trial" in warnings_of_harness()
    assert (victim / "thesis.txt").read_text() == "ten years of work"


def test_a_damaged_record_on_a_server_costs_no_other_trial(synthetic, warnings_of_harness):
    tracking.open(TrackingConfig(), synthetic.runs).log(synthetic, synthetic.trial_ids())
    places = sorted(synthetic.runs.glob("mlartifacts/*/artifacts"))
    for place, content in zip(places, ("[]", "{", '{"status": 1}'), strict=False):
        (place / "config.json").write_text(content)
    uri = f"sqlite:///{synthetic.runs}/mlflow.db"
    assert len(tracking.tables_from_mlflow(uri).trials) == 1
    assert "3 of 4 runs are left out" in warnings_of_harness()
