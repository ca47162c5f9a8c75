"""Packs as jobs: submitted, waited for, pre-empted, lost, and found again by a later sweep."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import RequestError, TrialsFailed
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import cells, cluster_jobs, sweep
from harness.sweeps.cluster import Cluster, TrainingJob
from harness.sweeps.code_version import code_version
from harness.sweeps.packing import PackOptions, cut_into_jobs
from tests.sweeps.test_pack_checkpoints import assert_same_tables

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 6,
    "budget.evaluations": 1,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 4,
}
DEBUG = Cluster("debug", {}, 0.01)


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit", reason="submitit is not installed")


@pytest.fixture
def here(monkeypatch):
    """Runs every job at submission in this process, as `outcome(job)` says, without submitit."""
    submitted = []

    def arrange(outcome=lambda job: job()):
        class Executor:
            def batch(self):
                return threading.Lock()

            def submit(self, job):
                submitted.append(job)
                answer = outcome(job)
                result = SimpleNamespace(exists=lambda: answer is not None)
                return SimpleNamespace(
                    job_id=str(len(submitted)),
                    done=lambda: True,
                    result=lambda: answer,
                    paths=SimpleNamespace(result_pickle=result),
                )

        monkeypatch.setattr(Cluster, "make_executor", lambda self, folder: Executor())
        return submitted

    return arrange


def statuses(config):
    return sorted(record.status for record in Store(config.runs).records())


def test_the_debug_executor_trains_the_same_numbers(make_config, tmp_path, submitit):
    alone = make_config(**TINY, runs=str(tmp_path / "alone"))
    sweep.prefetch([alone], pack=2)
    config = make_config(**TINY)
    sweep.prefetch([config], pack=2, cluster=DEBUG)
    assert_same_tables(config, alone)


def test_one_job_for_each_pack(make_config, here, capsys):
    submitted = here()
    config = make_config(**TINY)
    sweep.prefetch([config], pack=3, cluster=DEBUG)
    assert [len(job.jobs) for job in submitted] == [2, 2]
    assert statuses(config) == ["done"] * 4
    assert "submitted 2 jobs to debug" in capsys.readouterr().err
    sweep.prefetch([config], pack=3, cluster=DEBUG)
    assert len(submitted) == 2


def test_a_search_is_tuned_and_confirmed_by_jobs(make_config, here):
    submitted = here()
    search = {"search": "learning_rate", "search.draws": 2, "search.seeds": 2, "seeds": 2}
    config = make_config(**TINY | search)
    sweep.prefetch([config], cluster=DEBUG)
    assert [len(job.jobs) for job in submitted] == [4, 2]
    roles = collect(Store(config.runs)).trials["search_role"]
    assert roles.value_counts().to_dict() == {"tuning": 4, "confirmation": 2}


def test_trials_of_a_job_that_ends_without_a_word_are_named(make_config, here):
    here(lambda job: None)
    config = make_config(**TINY)
    with pytest.raises(TrialsFailed) as failed:
        sweep.prefetch([config], cluster=DEBUG)
    assert len(failed.value.failures) == 4
    assert all("job 1 ended without a word" in text for text in failed.value.failures.values())
    here()
    sweep.prefetch([config], cluster=DEBUG)
    assert statuses(config) == ["done"] * 4


def test_a_job_trains_nothing_with_other_code(make_config, here):
    here(lambda job: replace(job, code="0" * 12)())
    with pytest.raises(TrialsFailed, match="the code was 000000000000 at submission and is"):
        sweep.prefetch([make_config(**TINY)], cluster=DEBUG)


def test_the_version_is_that_of_the_content(monkeypatch):
    assert len(code_version()) == 12
    assert code_version() == code_version.__wrapped__()


def test_a_failed_trial_of_a_job_is_a_failure_and_no_other(make_config, here, monkeypatch):
    from harness.sweeps import attempts, runner

    def picky(jobs, *rest):
        if any(job.trial.seed == 2 for job in jobs):
            raise ValueError("seed 2 is not for me")
        return runner.run_pack(jobs, *rest)

    here()
    monkeypatch.setattr(attempts, "run_pack", picky)
    config = make_config(**TINY)
    sweep.prefetch([config], cluster=DEBUG)
    assert statuses(config) == ["done"] * 3 + ["failed"]
    with pytest.raises(TrialsFailed, match="seed 2 is not for me"):
        sweep.run_cell(config)


def test_trials_that_another_job_holds_are_waited_for_and_not_submitted(
    make_config, here, monkeypatch
):
    submitted = here()
    config = make_config(**TINY | {"seeds": 2})
    store = Store(config.runs)
    first, second = cells.cell(config).jobs
    claim = store.claim(first.trial_id)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        claim.release()
        TrainingJob(store.runs.resolve(), [first], PackOptions(), {}, code_version())()

    monkeypatch.setattr(cluster_jobs.time, "sleep", nap)
    sweep.prefetch([config], cluster=DEBUG)
    assert [job.trial_id for work in submitted for job in work.jobs] == [second.trial_id]
    assert len(naps) == 1
    assert statuses(config) == ["done", "done"]


def test_jobs_of_an_earlier_sweep_are_waited_for(make_config, here, tmp_path, monkeypatch):
    """The queue of SLURM is asked; a job that is not in it any more is over."""
    slurm = Cluster("slurm", {}, 0.01)
    submitted = here(lambda job: None)
    config = make_config(**TINY | {"seeds": 2})
    queue = tmp_path / "queue"
    queue.write_text("1")
    _write_command(tmp_path / "squeue", f"cat {queue}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def leave(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_jobs.time, "sleep", leave)
    with pytest.raises(KeyboardInterrupt):
        sweep.prefetch([config], cluster=slurm)

    def train(seconds):
        submitted[0]()
        queue.write_text("")

    monkeypatch.setattr(cluster_jobs.time, "sleep", train)
    sweep.prefetch([config], cluster=slurm)
    assert len(submitted) == 1
    assert statuses(config) == ["done", "done"]
    (record,) = (Path(config.runs) / "packs" / "jobs").glob("*.json")
    assert json.loads(record.read_text())["code"] == code_version()


def _write_command(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_queue_that_does_not_answer_says_nothing_about_jobs(tmp_path, monkeypatch):
    _write_command(tmp_path / "squeue", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cluster_jobs._queued(["3"]) is None
    _write_command(tmp_path / "squeue", "echo 3_1; echo 4_0")
    assert cluster_jobs._queued(["3_0", "3_1"]) == {"3_1"}


def test_jobs_are_cut_by_the_size_that_their_device_likes(make_config):
    jobs = cells.cell(make_config(**TINY | {"seeds": 40})).jobs
    sizes = {
        device: [len(part) for part in cut_into_jobs(jobs, Path("none"), PackOptions(), device)]
        for device in ("cpu", "cuda")
    }
    assert sizes == {"cpu": [13, 13, 14], "cuda": [40]}


def test_the_preset_composes():
    from hydra import compose, initialize_config_dir

    from harness.configuration.composing import register_schema
    from harness.configuration.hydra_version import VERSION_OPTIONS
    from harness.configuration.schema import CONF_DIR

    register_schema()
    overrides = ["hydra/launcher=cluster", "hydra.launcher.partition=gpu"]
    overrides += ["+hydra.launcher.additional_parameters.reservation=week"]
    with initialize_config_dir(str(CONF_DIR), **VERSION_OPTIONS):
        launcher = compose("config", overrides, return_hydra_config=True).hydra.launcher
    assert (launcher.executor, launcher.partition) == ("slurm", "gpu")
    assert launcher.additional_parameters == {"requeue": True, "reservation": "week"}


def test_an_unknown_executor_is_refused():
    with pytest.raises(RequestError, match="expected one of none, slurm, local, debug"):
        Cluster.of("moon", {})


def test_a_machine_without_slurm_is_told(make_config, submitit, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="hydra.launcher.executor=slurm: "):
        sweep.prefetch([make_config(**TINY)], cluster=Cluster.of("slurm", {}))


def test_an_option_of_the_wrong_type_is_told(make_config, submitit):
    with pytest.raises(RequestError, match="timeout_min"):
        sweep.prefetch([make_config(**TINY)], cluster=Cluster.of("local", {"timeout_min": "x"}))


def _children(pid):
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def test_a_local_job_that_is_pre_empted_goes_on_from_its_checkpoint(
    make_config, tmp_path, submitit
):
    """Submitit's signal before a time limit, sent in the middle of the pack."""
    settings = TINY | {"budget.steps": 4000, "seeds": 2}
    alone = make_config(**settings, runs=str(tmp_path / "alone"))
    sweep.prefetch([alone])
    config = make_config(**settings)
    runs = Path(config.runs)

    def preempt():
        until = time.monotonic() + 240
        while not list((runs / "trials").glob("*/status.json")):
            if time.monotonic() > until:
                return
            time.sleep(0.02)
        for controller in _children(os.getpid()):
            for task in _children(controller):
                os.kill(task, signal.SIGUSR2)

    sender = threading.Thread(target=preempt)
    sender.start()
    sweep.prefetch([config], cluster=Cluster.of("local", {"max_num_timeout": 3}))
    sender.join()
    output = "".join(
        path.read_text() for path in (runs / "packs" / "jobs").glob("*/*") if path.suffix != ".pkl"
    )
    assert "Requeued job" in output
    assert "a pack of 2 goes on from step " in output
    assert_same_tables(config, alone)


@pytest.mark.slow
def test_the_command_line_trains_by_local_jobs(tmp_path, submitit):
    from tests.sweeps.test_processes import ended, start

    runs = tmp_path / "runs"
    launcher = ["hydra.launcher.executor=local", "hydra.launcher.cpus_per_task=1"]
    site = str(Path(submitit.__file__).parents[1])
    code, errors = ended(start(runs, "seeds=2", "budget.steps=3", *launcher, path=site))
    assert code == 0, errors
    assert "submitted 1 job to local" in errors
    assert len(Store(runs).records()) == 2
