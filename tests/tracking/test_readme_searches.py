"""The searches of harness/tracking/README.md find the runs that their comments promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "harness" / "tracking" / "README.md").read_text(encoding="utf-8")
BLOCK = re.search(r"```text\n(.*?)```", TEXT, re.DOTALL)[1]
SEARCHES = dict(re.findall(r"# (.*)\n(.*)\n?", BLOCK))

RUNS = {
    "lost and trained": {
        "tags": {"activation": "selu", "verdict_moments_end": "fails", "status": "done"},
        "metrics": {"accuracy/train": 0.97, "axis/depth": 8, "share/moments_init": 0.95}
        | {"share/moments_end": 0.05, "stability/margin_init": 0.4},
    },
    "unstable and done": {
        "tags": {"activation": "relu", "status": "done", "search_role": "confirmation"},
        "metrics": {"accuracy/train": 0.5, "axis/depth": 32, "stability/margin_init": 3.0},
    },
    "unstable and diverged": {
        "tags": {"activation": "selu", "status": "diverged", "search_role": "tuning"},
        "metrics": {"axis/depth": 4, "stability/margin_init": 30.0, "share/moments_init": 0.95},
    },
}
FOUND = (
    ["lost and trained"],
    ["unstable and done"],
    ["unstable and done"],
    ["unstable and done"],
    ["lost and trained"],
)


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> MlflowClient:
    """A store with the runs above."""
    client = MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('searches') / 'mlflow.db'}")
    experiment = client.create_experiment("selu")
    for name, content in RUNS.items():
        run = client.create_run(experiment, run_name=name, tags=content["tags"])
        for metric, value in content["metrics"].items():
            client.log_metric(run.info.run_id, metric, value)
    return client


def test_there_are_five_searches():
    assert len(SEARCHES) == 5


@pytest.mark.parametrize("number", range(5))
def test_a_search_finds_what_it_promises(client, number):
    (experiment,) = [entry for entry in client.search_experiments() if entry.name == "selu"]
    query = list(SEARCHES.values())[number]
    runs = client.search_runs([experiment.experiment_id], filter_string=query)
    assert sorted(run.info.run_name for run in runs) == FOUND[number]


def test_every_tag_and_metric_of_the_searches_is_one_that_runs_have():
    text = " ".join(SEARCHES.values())
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "harness" / "tracking").glob("*.py")
    )
    for section in set(re.findall(r"metrics\.`(\w+/)", text)):
        assert section in source
