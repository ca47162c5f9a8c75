"""Runs of trials that are in a search say so, even those that were sent before it."""

from __future__ import annotations

from harness import tracking
from harness.configuration.schema import TrackingConfig
from harness.store import searches
from harness.store.searches import DrawRecord, SearchRecord
from harness.store.trials import Store


def tags_of(store: Store) -> dict[str, tuple[str | None, str | None]]:
    """Returns the tags of a search by trial id."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store.runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("selu")
    tags = [run.data.tags for run in client.search_runs([experiment.experiment_id])]
    return {each["trial_id"]: (each.get("search_role"), each.get("search")) for each in tags}


def test_runs_carry_the_role_of_their_trial(trained):
    first, second = trained.trial_ids()
    tracker = tracking.open(TrackingConfig(figures=False), trained.runs)
    assert tracker.log(trained, [first]) == 1
    assert tags_of(trained) == {first: (None, None)}
    draws = (DrawRecord(0, 0.1, (second,), (0.5,)),)
    searches.write(trained.runs, SearchRecord("key", {}, {}, {}, (5,), draws, 0, (first,)))
    assert tracker.log(trained, [first, second]) == 1
    tagged = {first: ("confirmation", "key"), second: ("tuning", "key")}
    assert tags_of(trained) == tagged
    assert tracker.log(trained, [first, second]) == 0
    assert tags_of(trained) == tagged
