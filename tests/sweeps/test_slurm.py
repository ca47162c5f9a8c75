"""A sweep on a real SLURM: an array of packs, and a job that is pre-empted and goes on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cluster import Cluster
from tests.sweeps import slurm_cluster
from tests.sweeps.test_pack_checkpoints import assert_same_tables

pytestmark = pytest.mark.slow

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 6,
    "budget.evaluations": 1,
    "budget.probes": 2,
    "probe.samples": 16,
    "checkpoint_minutes": 0,
    "device": "cpu",
}
OPTIONS = {"partition": "main", "cpus_per_task": 1, "timeout_min": 30}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a cluster that serves this module."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    reason = slurm_cluster.why_not()
    if reason:
        pytest.skip(reason)
    try:
        with slurm_cluster.started(tmp_path_factory.mktemp("slurm")) as environment:
            yield environment
    except TimeoutError as error:
        pytest.skip(str(error))


@pytest.fixture
def cluster(slurm, monkeypatch) -> Cluster:
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    found = Cluster.of("slurm", OPTIONS)
    assert found is not None
    return found


def output(runs: Path) -> str:
    files = (runs / "packs" / "jobs").glob("*/*.err")
    return "".join(path.read_text() for path in files)


def test_an_array_of_packs_is_trained(make_config, cluster, tmp_path):
    settings = TINY | {"seeds": 4}
    alone = make_config(**settings, runs=str(tmp_path / "alone"))
    sweep.prefetch([alone], pack=2)
    config = make_config(**settings)
    sweep.prefetch([config], pack=2, cluster=cluster)
    assert len(list((Path(config.runs) / "packs" / "jobs").glob("*_1"))) == 1
    assert_same_tables(config, alone)


def test_a_pre_empted_job_is_queued_again_and_goes_on(make_config, cluster, tmp_path):
    settings = TINY | {"seeds": 2, "budget.steps": 40000}
    alone = make_config(**settings, runs=str(tmp_path / "alone"))
    sweep.prefetch([alone], pack=2)
    config = make_config(**settings)
    runs = Path(config.runs)
    urgent = f"while ! ls {runs}/trials/*/status.json >/dev/null 2>&1; do sleep 0.2; done; sleep 1;"
    urgent += " exec srun --partition=urgent --nodes=2 sleep 1"
    preempting = subprocess.Popen(["bash", "-c", urgent])
    try:
        sweep.prefetch([config], pack=2, cluster=cluster)
    finally:
        preempting.kill()
        preempting.wait()
    assert "DUE TO PREEMPTION" in output(runs)
    assert "a pack of 2 goes on from step " in output(runs)
    assert_same_tables(config, alone)


def test_a_job_that_is_cancelled_is_named_and_the_same_command_trains_its_trials(
    make_config, cluster, monkeypatch
):
    from harness.errors import TrialsFailed
    from harness.sweeps import cluster_jobs

    config = make_config(**TINY | {"seeds": 2, "budget.steps": 100000})
    ordinary = time.sleep

    def cancel(seconds):
        subprocess.run(["scancel", "--me"], check=True)
        ordinary(seconds)

    with monkeypatch.context() as cancelled:
        cancelled.setattr(cluster_jobs.time, "sleep", cancel)
        pytest.raises(TrialsFailed, sweep.prefetch, [config], pack=2, cluster=cluster).match(
            "ended without a word"
        )
    assert not any(Store(config.runs).is_done(name) for name in Store(config.runs).trial_ids())
