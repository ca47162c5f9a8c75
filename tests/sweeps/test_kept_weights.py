"""Trained weights are kept where asked, load into the network, and change no number."""

from __future__ import annotations

import dataclasses
import json

import pandas
import pytest
import torch
from torch.nn import functional

from harness import trained_network
from harness.data import datasets, preprocessing
from harness.errors import RequestError
from harness.store import verification, wholeness
from harness.store.records import Record
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.pack_checkpoints import Keeper, PackCheckpoints

TINY = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 40,
    "budget.evaluations": 4,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 2,
    "checkpoint_minutes": 0,
}
# At this rate the validation accuracy is highest long before the end.
RESTLESS = {
    "optimizer.learning_rate": 3.0,
    "normalization": "batch",
    "budget.evaluations": 8,
    "seeds": 4,
}
CIRCUMSTANCES = ["started", "ended", "seconds", "pack_id"]
OF_BEST = ["best_validation_step", "test_loss_best", "test_accuracy_best"]


class Killed(BaseException):
    """Stands for the end of the process."""


def records(config) -> list[Record]:
    return Store(config.runs).records()


def scores(record: Record, config) -> tuple[float, float]:
    """Loss and accuracy on the test split of the kept network, as its user would compute them."""
    images = datasets.load(config.dataset)
    fitted = preprocessing.fit(config.preprocessing, images.training.images, images.full_scale)
    network = trained_network(record.folder)
    with torch.no_grad():
        logits = network(fitted.apply(images.test.images))
    loss = functional.cross_entropy(logits, images.test.labels)
    accuracy = (logits.argmax(1) == images.test.labels).float().mean()
    return float(loss), float(accuracy)


def about(record: Record) -> dict[str, object]:
    content = (record.folder / wholeness.WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["harness"])


@pytest.mark.parametrize(
    "settings, program",
    [
        ({"normalization": "batch"}, "batched"),
        ({"dropout": "alpha", "optimizer": "adam"}, "stacked"),
        ({"architecture": "resnet", "repair": "center_rows"}, "auto"),
        ({"architecture": "cnn", "width": 4, "preprocessing": "per_pixel"}, "auto"),
    ],
    ids=["batched", "stacked", "residual", "convolutional"],
)
def test_the_last_weights_give_the_networks_test_scores(make_config, settings, program):
    config = make_config(**TINY | settings, keep_weights="last")
    sweep.prefetch([config], program=program)
    for record in records(config):
        loss, accuracy = scores(record, config)
        assert loss == pytest.approx(record.summary["test_loss"], rel=1e-4)
        assert accuracy == pytest.approx(record.summary["test_accuracy"], abs=1e-6)
        assert about(record)["step"] == 40
        assert not set(OF_BEST) & set(record.summary)


@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_the_best_weights_are_those_of_the_best_evaluation(make_config, program):
    config = make_config(**TINY | RESTLESS, keep_weights="best")
    sweep.prefetch([config], program=program)
    steps = []
    for record in records(config):
        curves = record.curves()
        best = curves.loc[curves["validation_accuracy"].idxmax(), "step"]
        steps.append(best)
        assert record.summary["best_validation_step"] == best
        assert about(record)["step"] == best
        loss, accuracy = scores(record, config)
        assert loss == pytest.approx(record.summary["test_loss_best"], rel=1e-4)
        assert accuracy == pytest.approx(record.summary["test_accuracy_best"], abs=1e-6)
        if best == 40:
            assert record.summary["test_loss_best"] == record.summary["test_loss"]
        else:
            assert record.summary["test_loss_best"] != record.summary["test_loss"]
    assert min(steps) < 40


def assert_same_numbers(first, second, besides=()):
    one, other = (collect(Store(config.runs)) for config in (first, second))
    kept = other.trials.drop(columns=[*CIRCUMSTANCES, *besides])
    pandas.testing.assert_frame_equal(one.trials.drop(columns=CIRCUMSTANCES), kept)
    pandas.testing.assert_frame_equal(one.curves, other.curves)
    pandas.testing.assert_frame_equal(one.layers, other.layers)


def test_keeping_weights_changes_no_id_and_no_number(make_config, tmp_path):
    plain = make_config(**TINY | RESTLESS)
    keeping = make_config(**TINY | RESTLESS, keep_weights="best", runs=str(tmp_path / "keeping"))
    for config in (plain, keeping):
        sweep.prefetch([config])
    assert_same_numbers(plain, keeping, OF_BEST)
    assert not list(Store(plain.runs).trials.glob("*/*.safetensors"))


def test_a_resumed_pack_keeps_the_best_weights_from_before(make_config, tmp_path, monkeypatch):
    settings = TINY | RESTLESS | {"checkpoint_minutes": 1e-9, "keep_weights": "best"}
    undisturbed = make_config(**settings, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([undisturbed])
    config = make_config(**settings)
    ordinary = Keeper.save_if_due

    def killed(self, stepper, *rest):
        ordinary(self, stepper, *rest)
        if stepper.done == 40:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save_if_due", killed)
        with pytest.raises(Killed):
            sweep.prefetch([config])
    sweep.prefetch([config])
    assert_same_numbers(undisturbed, config)
    for record in records(config):
        other = Store(undisturbed.runs).folder(record.trial_id) / wholeness.WEIGHTS
        assert (record.folder / wholeness.WEIGHTS).read_bytes() == other.read_bytes()


@pytest.mark.parametrize("before, after", [("none", "best"), ("best", "last")])
def test_a_checkpoint_serves_where_it_has_the_weights(
    make_config, monkeypatch, capsys, before, after
):
    settings = TINY | {"checkpoint_minutes": 1e-9}
    ordinary = Keeper.save_if_due

    def killed(self, stepper, *rest):
        ordinary(self, stepper, *rest)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save_if_due", killed)
        with pytest.raises(Killed):
            sweep.prefetch([make_config(**settings, keep_weights=before)])
    config = make_config(**settings, keep_weights=after)
    sweep.prefetch([config])
    told = capsys.readouterr().err
    assert ("written without the best weights" in told) == (after == "best")
    assert ("goes on from step" in told) == (after == "last")
    assert all(wholeness.kept_weights(record.folder) == after for record in records(config))
    assert not list(PackCheckpoints(Store(config.runs).runs).folder.glob("*.checkpoint"))


def test_a_done_trial_without_the_weights_is_trained_again_once(make_config, capsys):
    plain, keeping = (make_config(**TINY, keep_weights=kept) for kept in ("none", "last"))
    sweep.prefetch([plain])
    before = collect(Store(plain.runs)).trials
    capsys.readouterr()
    sweep.run_cell(keeping)
    told = capsys.readouterr().err
    assert "2 done trials without last weights, which are to be kept: trained again" in told
    assert "2 trials: 0 done, 0 failed, 2 to run" in told
    after = collect(Store(plain.runs)).trials
    pandas.testing.assert_frame_equal(
        before.drop(columns=CIRCUMSTANCES), after.drop(columns=CIRCUMSTANCES)
    )
    for config in (keeping, plain):
        sweep.prefetch([config])
        assert "2 trials: 2 done, 0 failed, 0 to run" in capsys.readouterr().err
    assert all((record.folder / wholeness.WEIGHTS).is_file() for record in records(plain))


def test_other_weights_replace_those_that_are_kept(make_config):
    for kept in ("best", "last"):
        config = make_config(**TINY, keep_weights=kept)
        sweep.prefetch([config])
        assert {about(record)["kept"] for record in records(config)} == {kept}


@pytest.mark.parametrize("kept", ["best", "last"])
def test_a_diverged_trial_keeps_none_and_is_not_trained_again(make_config, capsys, kept):
    config = make_config(**TINY | {"optimizer.learning_rate": 1e30}, keep_weights=kept)
    sweep.prefetch([config])
    (record, _) = records(config)
    assert record.status == "diverged"
    assert not (record.folder / wholeness.WEIGHTS).exists()
    if kept == "best":
        assert [record.summary[name] for name in OF_BEST] == [None, None, None]
    capsys.readouterr()
    sweep.prefetch([config])
    assert "2 trials: 2 done" in capsys.readouterr().err
    with pytest.raises(RequestError, match="keeps no weights: it diverged at step"):
        trained_network(record.folder)


def test_a_search_keeps_the_weights_of_its_confirmation(make_config):
    settings = {"search": "learning_rate", "search.draws": 2, "search.seeds": 1}
    config = make_config(**TINY | settings, keep_weights="best")
    sweep.run_cell(config)
    keeping = {record.seed for record in records(config) if "test_loss_best" in record.summary}
    kept = {path.parent.name for path in Store(config.runs).trials.glob("*/*.safetensors")}
    assert keeping == {0, 1}
    assert kept == {record.trial_id for record in records(config) if record.seed in keeping}
    assert len(records(config)) == 4


@pytest.fixture
def kept_trial(make_config):
    config = make_config(**TINY | {"seeds": [0], "budget.steps": 1}, keep_weights="last")
    sweep.prefetch([config])
    return config, records(config)[0].folder


@pytest.mark.parametrize("damage", ["cut", "deleted", "a folder"])
def test_a_trial_whose_weights_are_damaged_is_trained_again(kept_trial, damage):
    config, folder = kept_trial
    path = folder / wholeness.WEIGHTS
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "a folder":
        path.mkdir()
    store = Store(config.runs)
    assert not store.is_done(folder.name)
    assert wholeness.WEIGHTS in store.damage(folder.name)
    if damage != "a folder":
        sweep.prefetch([config])
        assert path.read_bytes() == content


def test_overwritten_weights_are_found_before_they_are_used(kept_trial):
    config, folder = kept_trial
    path = folder / wholeness.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert list(verification.problems(Store(config.runs))[1]) == [folder.name]
    with pytest.raises(RequestError, match="its content is not what was written"):
        trained_network(folder)


def test_what_cannot_be_loaded_is_refused(kept_trial, make_config, tmp_path):
    config, folder = kept_trial
    with pytest.raises(RequestError, match="no folder of a done trial"):
        trained_network(tmp_path)
    other = dataclasses.replace(config, keep_weights="none", seeds=[5])
    sweep.prefetch([other])
    (bare,) = {record.folder for record in records(config)} - {folder}
    with pytest.raises(RequestError, match="keeps no weights: the same sweep with keep_weights="):
        trained_network(bare)


def test_a_sweep_keeps_one_kind_of_weights(make_config):
    configs = [make_config(**TINY, keep_weights=kept) for kept in ("best", "last")]
    with pytest.raises(RequestError, match="keep_weights=best,last: all cells"):
        sweep.prefetch(configs)
    with pytest.raises(RequestError, match="keep_weights=first: expected one of none, best, last"):
        sweep.prefetch([make_config(**TINY, keep_weights="first")])
    assert not Store(configs[0].runs).trials.exists()
