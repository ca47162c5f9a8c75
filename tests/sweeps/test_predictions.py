"""Theory annotates trials, and its failure never costs a trial."""

from __future__ import annotations

import pandas
import pytest

from harness.networks import trial_prediction as predictions
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.cells import cell
from harness.sweeps.runner import run_pack


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


def _stack(*layers: dict) -> dict:
    return {"architecture": "stack", "architecture.layers": list(layers)}


def _resnet(residual: str, **options) -> dict:
    return {"architecture": "resnet", "architecture.residual": residual, "depth": 9} | options


# Networks of every new kind, and the least share of numbers in bands that hold 99 %. A few seeds
# share the same inputs, so that a miss is seldom alone.
KINDS = {
    "unequal widths": {"width": [96, 48, 24]},
    "valid": _stack({"conv": 16, "padding": "valid"}, {"conv": 16, "padding": "valid"}),
    "strided": _stack({"conv": 16, "stride": 2}, {"conv": 16}, {"dense": 64}),
    "reflected": _stack({"conv": 16, "padding": "reflect"}, {"conv": 16, "padding": "reflect"}),
    "control": _resnet("none"),
    "plain": _resnet("plain"),
    "scaled": _resnet("scaled"),
    "skip_init": _resnet("skip_init"),
    "fixup": _resnet("fixup"),
    "residual maps": _resnet("plain", **{"architecture.layer": "conv", "width": 16, "depth": 5}),
    "layer normalization": _resnet("plain", normalization="layer"),
    "leaky SELU": {"activation": "leaky_selu", "width": 96},
    "scaled SELU": {"activation": "scaled_selu", "activation.epsilon": 0.125, "width": 96},
}
LEAST_SHARE = 0.94


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_measured_layers_lie_in_their_bands(make_config, settings):
    config = make_config(budget="initialization", seeds=3, **settings)
    inside = []
    for result in run_pack(cell(config).jobs, "auto", lambda steps: None):
        layers = pandas.DataFrame(result.layers)
        for low in [name for name in layers if name.endswith("_low")]:
            measured = layers.get(low.removeprefix("predicted_").removesuffix("_low"))
            if not low.startswith("predicted_") or measured is None:
                continue
            high = layers[low.removesuffix("low") + "high"]
            known = measured.notna() & layers[low].notna()
            inside += list(measured[known].between(layers[low][known], high[known]))
    assert len(inside) > 20
    assert sum(inside) / len(inside) >= LEAST_SHARE
