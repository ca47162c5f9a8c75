"""Results of real packs: the summary's data set, and trials that diverge before they begin."""

from __future__ import annotations

import math

import numpy
import pytest

from harness.configuration.composing import compose
from harness.reports.evidence import gather
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps.cells import cell
from harness.sweeps.runner import run_pack, view_of

TINY = (
    "budget.epochs=null",
    "budget.steps=2",
    "budget.evaluations=1",
    "budget.probes=2",
    "tracking=none",
)


def trained(*overrides):
    """The jobs of one cell and their results."""
    jobs = cell(compose([*TINY, *overrides])).jobs
    return jobs, run_pack(jobs, "auto", lambda steps: None)


def test_summary_says_how_large_and_how_even_the_test_split_is():
    jobs, outcome = trained("depth=2", "width=8", "seeds=2")
    for job, result in zip(jobs, outcome, strict=True):
        labels = view_of(job).prepared.test.labels.numpy()
        counts = numpy.bincount(labels)
        assert result.summary["classes"] == 10
        assert result.summary["test_samples"] == counts.sum() == 359
        assert result.summary["majority_share"] == pytest.approx(counts.max() / 359)


def test_trial_that_diverges_before_its_first_step_is_collected_beside_others(tmp_path):
    store = Store(tmp_path)
    for depth in (2, 64):
        jobs, outcome = trained(
            f"depth={depth}",
            "width=16",
            "activation=relu",
            "initializer=gaussian",
            "initializer.sigma_w2=64",
            "initializer.sigma_b2=0",
            "seeds=1",
        )
        for job, result in zip(jobs, outcome, strict=True):
            trial = job.trial
            identity = {"rules_version": 1, "seed": trial.seed, "axes": trial.axes}
            store.begin(
                identity
                | {"trial_id": trial.trial_id, "cell_id": trial.cell_id, "spec": trial.spec}
            )
            store.finish(
                trial.trial_id,
                summary=result.summary,
                curves=result.curves,
                layers=result.layers,
                diverged_step=result.diverged_step,
            )
    tables = collect(store)
    trials = tables.trials.set_index("depth")
    assert trials.loc[64, "status"] == "diverged"
    assert trials.loc[64, "diverged_step"] == 0
    assert math.isnan(trials.loc[64, "sharpness_init"])
    assert trials.loc[2, "sharpness_init"] >= 0
    assert set(tables.layers["trial_id"]) == {trials.loc[2, "trial_id"]}
    assert tables.layers["absent"].map(type).eq(str).all()
    assert len(gather(tables).finished) == 2
