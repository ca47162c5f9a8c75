"""Runs of cells: means over seeds with intervals, kept up to date, and found by searches."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable

import pytest

from harness import tracking
from harness.configuration.schema import TrackingConfig
from harness.reports.accuracies import accuracy_interval
from harness.store.trials import Store
from harness.tracking import run_names
from tests.tracking.conftest import unseal

# As the README gives them: a question, the experiment, and the search that answers it.
SEARCHES = {
    "SELU trials whose premise fails and whose network trains": (
        "selu",
        "params.activation = 'selu' and metrics.`share/weights_init` < 0.1"
        " and metrics.`accuracy/validation` > 0.9",
    ),
    "SELU cells that keep the promise at the end of training": (
        "selu cells",
        "params.activation = 'selu' and metrics.`share/moments_end` >= 0.9",
    ),
    "cells beyond the stability limit that did not diverge": (
        "selu cells",
        "metrics.`stability/margin_init` > 1 and metrics.diverged = 0",
    ),
    "deep cells that are certainly better than 90 %": (
        "selu cells",
        "metrics.`axis/depth` >= 8 and metrics.`accuracy/validation_low` > 0.9",
    ),
    "trials that diverged although the promise held at initialisation": (
        "selu",
        "tags.status = 'diverged' and metrics.`share/moments_init` >= 0.9",
    ),
}


def client(store: Store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{store.runs}/mlflow.db")


def found(store: Store, experiment: str, search: str = "") -> list:
    mlflow = client(store)
    present = mlflow.get_experiment_by_name(experiment)
    return mlflow.search_runs([present.experiment_id], search)


def send(store: Store) -> None:
    tracker = tracking.open(TrackingConfig(), store.runs)
    tracker.log(store, store.trial_ids(), last=True)
    assert tracker.connected
    assert not tracker.faults


@pytest.fixture
def change(synthetic) -> Callable[..., None]:
    """Changes the summary, and the status, of a trial in the store."""

    def apply(trial_id: str, status: str = "done", **summary: object) -> None:
        path = synthetic.folder(trial_id) / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | summary))
        path = synthetic.folder(trial_id) / "status.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))
        unseal(synthetic.folder(trial_id))

    return apply


def by_cell(store: Store) -> dict[str, list]:
    cells: dict[str, list] = {}
    for record in store.records():
        cells.setdefault(record.cell_id, []).append(record)
    return cells


def test_a_cell_has_one_run_with_its_means_and_intervals(synthetic, change):
    for number, trial_id in enumerate(synthetic.trial_ids()):
        change(trial_id, test_samples=360, share_weights_init=0.25 * number)
    send(synthetic)
    send(synthetic)
    cells = by_cell(synthetic)
    runs = {run.data.tags["cell"]: run for run in found(synthetic, "selu cells")}
    assert sorted(runs) == sorted(cells)
    assert len(found(synthetic, "selu cells")) == 2
    for cell_id, records in cells.items():
        run = runs[cell_id]
        scores = [record.summary["validation_accuracy"] for record in records]
        # The test set's size says nothing of the validation split.
        interval = accuracy_interval(scores, math.nan)
        metrics = run.data.metrics
        assert metrics["accuracy/validation"] == pytest.approx(sum(scores) / 2)
        assert metrics["accuracy/validation_low"] == pytest.approx(interval.low)
        assert metrics["accuracy/validation_high"] == pytest.approx(interval.high)
        shares = [record.summary["share_weights_init"] for record in records]
        assert metrics["share/weights_init"] == pytest.approx(sum(shares) / 2)
        assert (metrics["n"], metrics["diverged"]) == (2, 0)
        assert metrics["axis/depth"] == 8
        assert run.info.status == "FINISHED"
        assert run.data.tags["kind"] == "cell"
    assert {run.data.tags["kind"] for run in found(synthetic, "selu")} == {"trial"}


def test_a_diverged_trial_counts_at_chance(synthetic, change):
    (first, second), _ = by_cell(synthetic).values()
    change(first.trial_id, status="diverged", classes=10, validation_accuracy=None)
    change(second.trial_id, validation_accuracy=0.9)
    send(synthetic)
    (run,) = [run for run in found(synthetic, "selu cells") if run.data.metrics["diverged"]]
    assert run.data.metrics["accuracy/validation"] == pytest.approx(0.5)
    assert run.data.metrics["diverged"] == 1


def test_a_new_seed_makes_the_run_of_its_cell_anew(synthetic, tmp_path):
    last = synthetic.trial_ids()[-1]
    cell = synthetic.read(last).cell_id
    shutil.move(synthetic.folder(last), tmp_path / last)
    send(synthetic)
    shutil.move(tmp_path / last, synthetic.folder(last))
    send(synthetic)
    counts = {
        run.data.tags["cell"]: run.data.metrics["n"] for run in found(synthetic, "selu cells")
    }
    assert counts[cell] == 2
    assert len(found(synthetic, "selu cells")) == 2


def test_the_searches_of_the_readme_find_what_they_promise(synthetic, change):
    (first, second), (third, fourth) = by_cell(synthetic).values()
    change(
        first.trial_id,
        share_weights_init=0.0,
        share_moments_init=1.0,
        share_moments_end=1.0,
        stability_margin_init=2.0,
        validation_accuracy=0.96,
    )
    change(
        second.trial_id,
        share_weights_init=1.0,
        share_moments_init=1.0,
        share_moments_end=0.9,
        stability_margin_init=2.0,
        validation_accuracy=0.961,
    )
    change(
        third.trial_id,
        status="diverged",
        classes=10,
        share_moments_init=1.0,
        stability_margin_init=9.0,
    )
    change(fourth.trial_id, share_weights_init=0.0, validation_accuracy=0.2)
    send(synthetic)
    results = []
    for experiment, search in SEARCHES.values():
        tag = "cell" if experiment.endswith("cells") else "trial_id"
        results.append([run.data.tags[tag] for run in found(synthetic, experiment, search)])
    assert results == [
        [first.trial_id],
        [first.cell_id],
        [first.cell_id],
        [first.cell_id],
        [third.trial_id],
    ]


def test_names_begin_with_what_differs():
    base = {"activation": "selu", "depth": 32, "initializer": "lecun_normal", "width": 64}
    base |= {"learning_rate": 0.01, "dataset": "digits", "normalization": "none"}
    rates = [base, base | {"learning_rate": 0.1}]
    assert run_names.of_cell(base) == "selu 32 lecun"
    names = [run_names.of_cell(axes, run_names.differing(rates)) for axes in rates]
    assert names == ["lr0.01 selu 32 lecun", "lr0.1 selu 32 lecun"]
    several = [base, base | {"width": 128, "dataset": "mnist", "activation": "my.py:swish"}]
    names = [run_names.of_cell(axes, run_names.differing(several)) for axes in several]
    assert names == ["selu w64 digits 32 lecun", "swish w128 mnist 32 lecun"]
    assert len(run_names.of_cell(base | {"normalization": "batch"}).split()) == 4


def test_a_run_of_a_named_network_bears_its_name():
    axes = {"activation": "selu", "depth": 3, "initializer": "he_normal", "normalization": "own"}
    network = {"architecture": "my_nets:ConvNet", "architecture.library": "factory"}
    assert run_names.of_cell(axes | network) == "selu 3 he ConvNet"
