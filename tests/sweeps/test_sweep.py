"""Cells become packs, which are skipped, halved, kept, and shared between two sweeps."""

from __future__ import annotations

import io
import multiprocessing
from collections import Counter
from dataclasses import replace

import pytest
import torch

from harness.configuration.trial import trials
from harness.errors import RequestError, TrialsFailed
from harness.store import claims
from harness.store.trials import Store
from harness.sweeps import attempts, cells, packing, runner, sweep
from harness.training.arrangements import Arrangement

TINY = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 3,
    "budget.evaluations": 1,
    "budget.probes": 2,
    "seeds": 2,
}


def statuses(config) -> list[str]:
    return sorted(record.status for record in Store(config.runs).records())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fits", [1, 2])
def test_a_pack_that_is_too_large_is_halved_and_nothing_is_lost_or_done_twice(
    make_config, monkeypatch, capsys, fits, workers
):
    config = make_config(**TINY | {"seeds": 10})
    tried, trained = [], []

    def scarce(jobs, *rest):
        tried.append(len(jobs))
        if len(jobs) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        trained.extend(job.trial_id for job in jobs)
        return runner.run_pack(jobs, *rest)

    monkeypatch.setattr(attempts, "run_pack", scarce)
    sweep.prefetch([config], workers=workers)
    assert statuses(config) == ["done"] * 10
    assert len(trained) == len(set(trained)) == 10
    assert tried[0] == 10 // workers
    assert min(tried) >= 1
    # Sizes that failed are not tried again.
    too_large = Counter(size for size in tried if size > fits)
    assert max(too_large.values()) <= workers
    assert "trying it in halves" in capsys.readouterr().err


def test_a_trial_that_is_too_large_alone_fails_and_says_so(make_config, monkeypatch):
    config = make_config(**TINY | {"seeds": 3})

    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(attempts, "run_pack", never)
    sweep.prefetch([config])
    assert statuses(config) == ["failed"] * 3
    with pytest.raises(TrialsFailed, match="Tried to allocate 9 GiB"):
        sweep.run_cell(config)


def test_packs_are_even_and_keep_all_workers_busy(make_config):
    jobs = cells.cell(make_config(**TINY | {"seeds": 65})).jobs

    def sizes(count: int, pack: int, workers: int) -> list[int]:
        parts = packing.even_parts(jobs[:count], Arrangement("batched", pack, workers))
        return [len(part) for part in parts]

    assert sorted(sizes(65, 64, 1)) == [32, 33]
    assert sizes(64, 64, 1) == [64]
    assert sizes(48, 16, 2) == [12] * 4
    assert sizes(3, 16, 2) == [1, 2]
    assert sizes(1, 16, 2) == [1]


def test_one_bad_trial_fails_alone_and_is_retried_only_when_asked(make_config, monkeypatch):
    config = make_config(**TINY | {"seeds": 4})
    real = runner.run_pack

    def picky(jobs, *rest):
        if any(job.trial.seed == 2 for job in jobs):
            raise ValueError("seed 2 is not for me")
        return real(jobs, *rest)

    monkeypatch.setattr(attempts, "run_pack", picky)
    sweep.prefetch([config])
    assert statuses(config) == ["done", "done", "done", "failed"]
    with pytest.raises(TrialsFailed, match="seed 2 is not for me"):
        sweep.run_cell(config)
    monkeypatch.setattr(attempts, "run_pack", real)
    sweep.prefetch([config], retry=False)
    assert statuses(config) == ["done", "done", "done", "failed"]
    sweep.prefetch([config])
    assert statuses(config) == ["done"] * 4


def test_the_score_of_a_diverged_trial_is_chance(make_config):
    config = make_config(**TINY | {"optimizer.learning_rate": 1e30})
    assert sweep.run_cell(config) == pytest.approx(0.1)
    records = list(Store(config.runs).records())
    assert all(record.status == "diverged" and 1 <= record.diverged_step <= 3 for record in records)


def test_leaky_and_scaled_selu_are_swept_beside_selu(make_config):
    choices = [
        {"activation": "selu"},
        {"activation": "leaky_selu"},
        {"activation": "scaled_selu"},
        {"activation": "scaled_selu", "activation.epsilon": 0.125},
    ]
    requests = [make_config(**TINY | choice) for choice in choices]
    sweep.prefetch(requests)
    assert statuses(requests[0]) == ["done"] * 8
    epsilons = [trials(request)[0].axes.get("activation.epsilon") for request in requests]
    assert epsilons == [None, None, None, 0.125]


def test_packs_hold_trials_that_one_program_can_run(make_config):
    requests = [
        make_config(**TINY | changes)
        for changes in (
            {},
            {"activation": "relu"},
            {"initializer": "orthogonal"},
            {"optimizer.learning_rate": 0.5},
            {"optimizer.momentum": 0.5},
            {"schedule": "cosine"},
            {"preprocessing": "zca"},
            {"repair": "center_rows"},
            {"depth": 3},
            {"normalization": "layer"},
            {"dropout": "alpha"},
            {"dropout": "alpha", "dropout.rate": 0.3},
            {"dropout": "alpha", "repair": "neutral_dropout"},
        )
    ]
    keys = [key_of(request) for request in requests]
    assert len(set(keys[:8])) == 1
    assert len(set(keys[10:])) == 1
    assert len(set(keys)) == 4


def key_of(config) -> str:
    job = cells.cell(config).jobs[0]
    return cells.program_key(job, runner.trained_as(job))


def test_doses_of_data_share_a_pack_where_they_take_the_same_steps(make_config):
    def keys(doses: tuple[int, ...], **changes) -> list[str]:
        return [
            key_of(make_config(**TINY | changes | {"dataset.training_samples": dose}))
            for dose in doses
        ]

    assert len(set(keys((130, 500, 1079)))) == 1  # of one number of steps
    assert (
        len(set(keys((130, 140), **{"budget.steps": None, "budget.epochs": 3.0}))) == 1
    )  # both of 1 step in an epoch
    assert len(set(keys((130, 500), **{"budget.steps": None, "budget.epochs": 3.0}))) == 2
    assert len(set(keys((130, 100)))) == 2  # 100 samples make no batch of 128


def test_doses_of_data_train_in_one_pack_as_they_train_alone(make_config, tmp_path):
    """The pack has more views (doses times preprocessings) than are kept for the next pack."""
    changes = TINY | {"budget.steps": 12}
    configs = [
        make_config(**changes | {"dataset.training_samples": dose, "preprocessing": preprocessing})
        for dose in (130, 400, 1079)
        for preprocessing in ("per_pixel", "per_sample")
    ]
    sweep.prefetch(configs)
    together = {record.trial_id: record for record in Store(configs[0].runs).records()}
    assert len({record.summary["pack_id"] for record in together.values()}) == 1
    apart = [replace(config, runs=str(tmp_path / "apart")) for config in configs]
    sweep.prefetch(apart, pack=1, workers=1)
    alone = list(Store(apart[0].runs).records())
    assert len(alone) == len(together) == 12
    for record in alone:
        other = together[record.trial_id]
        assert (
            record.summary["epochs"]
            == other.summary["epochs"]
            == 12 / {130: 1, 400: 3, 1079: 8}[record.spec["dataset"]["training_samples"]]
        )
        for name in (
            "train_loss",
            "validation_loss",
            "test_loss",
            "predicted_last_variance",
            "predicted_last_cosine",
        ):
            assert other.summary[name] == pytest.approx(record.summary[name], rel=2e-3, abs=2e-5), (
                name
            )
        assert other.curves()["epoch"].tolist() == record.curves()["epoch"].tolist()
        for name in (
            "train_accuracy",
            "validation_accuracy",
        ):  # a sample on the border may fall either way
            assert other.summary[name] == pytest.approx(record.summary[name], abs=0.02)


@pytest.mark.parametrize(
    "repair", ["center_rows", "rescale_tau", "lsuv", "zero_bias", "per_sample", "neutral_dropout"]
)
def test_a_repair_mends_the_quantity_that_it_names(make_config, repair):
    changes = {
        "initializer": "pytorch_default",
        "initializer.bias": "uniform",
        "dropout": "alpha",
        "depth": 4,
        "width": 32,
        "probe.samples": 256,
    }
    plain, mended = (
        make_config(**TINY | changes),
        make_config(**TINY | changes | {"repair": repair}),
    )
    sweep.prefetch([plain, mended])
    plain_ids = {job.trial_id for job in cells.cell(plain).jobs}
    layers = {}
    for record in Store(plain.runs).records():
        table = record.layers()
        layers.setdefault(
            record.trial_id in plain_ids, table[table["phase"] == "init"].set_index("layer")
        )
    before, after = layers[True], layers[False]
    if repair == "center_rows":
        assert after["omega_q95"].abs().max() < 1e-5 < before["omega_q95"].abs().max()
    if repair == "rescale_tau":
        assert after[["tau_q05", "tau_q95"]].to_numpy() == pytest.approx(1.0, abs=1e-5)
        assert before["tau_q50"].max() < 0.5
    if repair == "lsuv":
        # Scaled on training images, measured on the probe's.
        assert after["pre_activation_variance"].to_numpy() == pytest.approx(1.0, abs=0.25)
        assert before["pre_activation_variance"].iloc[-1] < 0.5
    if repair in ("zero_bias", "per_sample"):
        assert (after["pre_activation_mean"] != before["pre_activation_mean"]).all()


def _sweep(config) -> None:
    sweep.prefetch([config])


def test_two_sweeps_on_one_folder_train_nothing_twice(make_config):
    config = make_config(**TINY | {"seeds": 6, "budget.steps": 40})
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_sweep, args=(config,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    records = list(Store(config.runs).records())
    assert [record.status for record in records] == ["done"] * 6
    # All of a pack have one id. Were a trial trained twice, its second result would have another.
    assert sum(1 / record.summary["pack_size"] for record in records) == pytest.approx(
        len({record.summary["pack_id"] for record in records})
    )


def test_trials_that_another_sweep_finished_meanwhile_are_counted(make_config, monkeypatch, capsys):
    config = make_config(**TINY | {"seeds": 2})
    finished = attempts.Attempts.train

    def held_first(self, pack):
        """The other sweep holds the pack, and has finished it when this one looks again."""
        finished(self, pack)
        return [], pack.jobs

    monkeypatch.setattr(attempts.Attempts, "train", held_first)
    sweep.prefetch([config])
    last = [line for line in capsys.readouterr().err.splitlines() if "trial-steps/s" in line][-1]
    assert last.startswith("2/2 trials")
    assert "took" in last


def test_every_cell_is_checked_before_anything_is_written(make_config):
    good, bad = make_config(**TINY), make_config(**TINY | {"device": "cuda:99"})
    with pytest.raises(RequestError, match="cuda:99"):
        sweep.prefetch([good, bad])
    assert not Store(good.runs).runs.exists()


def test_a_sweep_is_not_refused_while_another_has_claimed_and_not_begun(make_config, monkeypatch):
    config = make_config(**TINY)
    store = Store(config.runs)
    first, second = [job.trial_id for job in cells.cell(config).jobs]
    claim = store.claim(first)
    folder = store.folder(second)
    folder.mkdir()
    (folder / "trial.json").write_text("{")  # written when the power went
    monkeypatch.setattr(sweep.time, "sleep", lambda _: claim.release())
    sweep.prefetch([config])
    assert statuses(config) == ["done", "done"]


@pytest.mark.parametrize("retry", [True, False])
def test_a_failure_by_another_sweep_meanwhile_is_the_outcome_here(make_config, monkeypatch, retry):
    config = make_config(**TINY)
    store = Store(config.runs)
    first, second = (job.trial for job in cells.cell(config).jobs)
    claim = store.claim(first.trial_id)
    trained = []

    def other_fails(_) -> None:
        store.begin(
            {
                "trial_id": first.trial_id,
                "cell_id": first.cell_id,
                "rules_version": 1,
                "seed": first.seed,
                "axes": first.axes,
                "spec": first.spec,
            }
        )
        store.fail(first.trial_id, "ValueError: not there either")
        claim.release()

    def count(jobs, *rest):
        trained.extend(job.trial_id for job in jobs)
        return runner.run_pack(jobs, *rest)

    monkeypatch.setattr(sweep.time, "sleep", other_fails)
    monkeypatch.setattr(attempts, "run_pack", count)
    sweep.prefetch([config], retry=retry)
    with pytest.raises(TrialsFailed, match=f"{first.trial_id}: ValueError: not there either"):
        sweep.run_cell(config)
    assert trained == [second.trial_id]
    assert not claims.is_locked(store.folder(first.trial_id) / "lock")
    sweep.prefetch([config])  # the next sweep tries it again
    assert statuses(config) == ["done", "done"]


def test_a_failed_trial_that_another_sweep_lets_go_is_tried_again(make_config, monkeypatch):
    config = make_config(**TINY)
    store, trial = Store(config.runs), cells.cell(config).jobs[0].trial

    def never(*_):
        raise ValueError("not today")

    with monkeypatch.context() as today:
        today.setattr(attempts, "run_pack", never)
        sweep.prefetch([config])
    claim = store.claim(trial.trial_id)  # of a sweep that is killed before it begins
    monkeypatch.setattr(sweep.time, "sleep", lambda _: claim.release())
    sweep.prefetch([config])
    assert statuses(config) == ["done", "done"]


def test_a_pack_holds_no_more_claims_than_files_may_be_open(make_config, monkeypatch):
    config = make_config(**TINY | {"seeds": 9})
    monkeypatch.setattr(claims, "most_held", lambda: 7)
    sweep.prefetch([config], pack=9, workers=2)
    assert statuses(config) == ["done"] * 9
    assert all(record.summary["pack_size"] <= 3 for record in Store(config.runs).records())


def test_a_sweep_trains_though_nobody_reads_its_messages(make_config, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("nobody reads")

    config = make_config(**TINY)
    monkeypatch.setattr(sweep.sys, "stderr", Closed())
    monkeypatch.setattr("harness.sweeps.progress.PLAIN_SECONDS", 0.0)
    sweep.prefetch([config])
    assert statuses(config) == ["done"] * 2


def test_the_steps_of_a_diverged_trial_do_not_depend_on_its_companions(make_config, tmp_path):
    changes = TINY | {"budget.steps": 12, "budget.evaluations": 4, "seeds": 1}
    diverging, other = (
        make_config(**changes | {"optimizer.learning_rate": 1e30}),
        make_config(**changes),
    )
    alone = make_config(**changes | {"optimizer.learning_rate": 1e30}, runs=str(tmp_path / "alone"))
    sweep.prefetch([diverging, other])
    sweep.prefetch([alone])
    trial_id = cells.cell(diverging).jobs[0].trial_id
    beside, by_itself = Store(diverging.runs).read(trial_id), Store(alone.runs).read(trial_id)
    assert (beside.summary["pack_size"], by_itself.summary["pack_size"]) == (2, 1)
    assert beside.summary["steps"] == by_itself.summary["steps"] == beside.diverged_step < 12


def test_relative_paths_are_taken_from_a_folder_and_absolute_ones_stay(make_config, tmp_path):
    config = make_config(runs="results", **{"dataset.root": str(tmp_path / "images")})
    moved = cells.with_paths_from(config, "/home")
    assert moved.runs == "/home/results"
    assert moved.dataset.root == str(tmp_path / "images")
    assert config.runs == "results"
    relative = make_config(**{"dataset.root": "images"})
    assert cells.with_paths_from(relative, "/home").dataset.root == "/home/images"
    assert cells.with_paths_from(make_config(), "/home").dataset.root is None
