"""The diagnosis of a sweep's trained networks, by the folders of their trials."""

from __future__ import annotations

import json

import pytest

from harness.commands import selu_diagnose
from harness.store.trials import Store
from harness.sweeps import sweep

TINY = {
    "depth": 2,
    "width": 8,
    "preprocessing": "per_pixel",
    "preprocessing.shift": 0.5,
    "dataset.training_samples": 300,
    "budget.epochs": None,
    "budget.steps": 20,
    "probe.samples": 64,
}


@pytest.fixture
def train(make_config):
    """Trains one trial and returns its record."""

    def trained(**settings):
        config = make_config(**TINY | {"seeds": [0]} | settings)
        sweep.prefetch([config])
        store = Store(config.runs)
        known = {path.parent.name for path in store.trials.glob("*/done")}
        (trial_id,) = known - trained.before
        trained.before |= known
        return store.read(trial_id)

    trained.before = set()
    return trained


def test_a_trial_is_diagnosed_as_it_was_probed_at_its_end(train, capsys):
    record = train(keep_weights="last")
    command = ["--trial", str(record.folder), "--samples", "64", "--json"]
    assert selu_diagnose.main(command) == 0
    card = json.loads(capsys.readouterr().out)
    measured = record.layers().query("phase == 'end'")
    for name in ("activation_mean", "activation_variance"):
        expected = measured[name].tolist()
        assert [layer[name] for layer in card["layers"]] == pytest.approx(expected, rel=1e-3)


def test_settings_and_other_trials_stand_beside_a_trial(train, monkeypatch, capsys):
    first, second = (train(keep_weights="best", activation=name) for name in ("selu", "relu"))
    monkeypatch.chdir(first.folder.parent)
    command = ["--trial", first.trial_id, "preprocessing=global", "--samples", "64"]
    assert selu_diagnose.main([*command, "--against", second.trial_id]) == 0
    output = capsys.readouterr().out
    assert "64 samples of shape 1 x 8 x 8" in output
    assert f"Compared with {second.trial_id}" in output


def test_a_repaired_preprocessing_leaves_the_options_of_the_one_before(train, capsys):
    record = train(keep_weights="last", preprocessing="zca", repair="per_sample")
    assert selu_diagnose.main(["--trial", str(record.folder), "--samples", "64"]) == 0
    assert "64 samples of shape 1 x 8 x 8" in capsys.readouterr().out


def test_a_mistake_is_one_line(train, capsys):
    kept = str(train(keep_weights="last").folder)
    bare = str(train(seeds=[1]).folder)
    mistakes = {
        "--data digits": "no model: give FACTORY, or --trial",
        "nets:make": "no data: give --data",
        "--trial nowhere": "nowhere is no folder of a done trial",
        f"--trial {bare}": "keeps no weights",
        f"nets:make --trial {kept}": "nets:make beside --trial",
        f"--trial {kept} --argument width=3": "--argument width=3 beside --trial",
        f"--trial {kept} depth=3": "expected dataset.KEY=VALUE",
    }
    for mistake, reason in mistakes.items():
        assert selu_diagnose.main(mistake.split()) == 2
        answer = capsys.readouterr()
        assert answer.out == ""
        assert answer.err.splitlines()[-1].startswith("error: ")
        assert reason in answer.err
