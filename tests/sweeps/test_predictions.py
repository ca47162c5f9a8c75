"""Theory annotates trials, and its failure never costs a trial."""

from __future__ import annotations

import pytest

from harness.networks import trial_prediction as predictions
from harness.store.trials import Store
from harness.sweeps import sweep


@pytest.mark.parametrize("error", [OverflowError("out of range"), ValueError("no root")])
def test_a_prediction_that_fails_leaves_its_reason_and_the_trial(make_config, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(predictions.predictions, "predict", fail)
    predictions._predict.cache_clear()
    config = make_config(depth=2, width=8, seeds=1, **{"budget.epochs": None, "budget.steps": 2})
    sweep.prefetch([config])
    predictions._predict.cache_clear()
    (record,) = Store(config.runs).records()
    assert record.status == "done"
    assert str(error) in record.summary["prediction_sentence"]
    assert (
        "predicted_activation_variance" not in record.layers()
        or record.layers()["predicted_activation_variance"].isna().all()
    )


def test_vanishing_lengths_are_predicted_during_training(make_config):
    # Training flushes denormal numbers to zero. Lengths that vanish over 32 layers are no error.
    config = make_config(
        activation="gelu", depth=32, width=32, seeds=1, **{"budget.epochs": None, "budget.steps": 1}
    )
    sweep.prefetch([config])
    (record,) = Store(config.runs).records()
    assert record.status == "done"
    assert "OverflowError" not in record.summary["prediction_sentence"]
    rows = record.layers().query("phase == 'init'")
    assert rows["predicted_activation_variance"].iloc[-1] < 1e-15
    assert rows["predicted_activation_variance"].notna().all()
