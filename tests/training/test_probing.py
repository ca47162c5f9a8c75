"""Probes within training: what is measured changes no number of a trial, and every layer says what it lacks."""

from __future__ import annotations

import pytest
import torch

from harness.data.batches import make_source
from harness.sweeps.results import results
from harness.training.events import Evaluated, Finished, PackData, Probed, Samples
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan

CPU = torch.device("cpu")
BUDGET = {
    "budget.epochs": None,
    "budget.steps": 6,
    "budget.batch_size": 16,
    "budget.evaluations": 2,
    "budget.probes": 4,
    "depth": 3,
    "width": 10,
}


def run(trials):
    generator = torch.Generator().manual_seed(0)
    pixels, labels = (
        torch.randn(120, 1, 8, 8, generator=generator),
        torch.randint(10, (120,), generator=generator),
    )
    samples = Samples([pixels[60:]], labels[60:], [0] * len(trials))
    data = PackData(
        make_source([pixels[:60]], labels[:60], samples.variant_of_trial, CPU),
        samples,
        samples,
        samples,
        samples,
    )
    schedule = plan(trials[0].spec, 60)
    events = list(train(Pack(trials, (1, 8, 8), 10, CPU), data, schedule))
    return events, results(events, trials, schedule, data.source.samples)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "batch", "dropout": "alpha", "dropout.rate": 0.1},
        {"architecture": "cnn", "architecture.pool": "max"},
    ],
    ids=str,
)
def test_what_is_measured_changes_no_number_of_the_training(make_trial, changes):
    outcomes = [
        run([make_trial(seed=seed, **(BUDGET | changes | probe)) for seed in (0, 1)])[0]
        for probe in ({}, {"probe.statistics": "full"}, {"budget.probes": 0})
    ]
    scores = [
        [
            [vars(event) for event in events if isinstance(event, kind)]
            for kind in (Evaluated, Finished)
        ]
        for events in outcomes
    ]
    for other in scores[1:]:
        torch.testing.assert_close(scores[0], other, rtol=0.0, atol=0.0, equal_nan=True)


def test_standard_measures_everything_at_the_ends(make_trial):
    events, outcome = run([make_trial(**BUDGET)])
    probes = [event for event in events if isinstance(event, Probed)]
    known = {
        event.step: {name for layer in event.layers for name in layer.columns} for event in probes
    }
    assert known[0] == known[6] > known[1]
    assert "unit_wasserstein_q90" in known[6] - known[1]
    full, _ = run([make_trial(**BUDGET, **{"probe.statistics": "full"})])
    more = [
        {name for layer in event.layers for name in layer.columns}
        for event in full
        if isinstance(event, Probed)
    ]
    assert all(names > known[0] for names in more)
    assert {name.rpartition("_")[2] for names in more for name in names - known[0]} == {
        "low",
        "high",
    }
    assert (
        len(outcome[0].layers["unit_wasserstein_q90"])
        == len(outcome[0].layers["step"])
        == 3 * len(probes)
    )


@pytest.mark.parametrize(
    "changes, direct",
    [
        ({}, True),
        ({"normalization": "batch"}, False),
        ({"normalization": "layer"}, False),
        ({"normalization": "batch", "normalization.position": "after"}, True),
        ({"normalization": "weight_standardization"}, True),
        ({"architecture": "cnn"}, True),
        ({"architecture": "cnn", "normalization": "rms"}, False),
    ],
    ids=str,
)
def test_the_ladder_knows_what_stands_before_the_activation(make_trial, changes, direct):
    layers = run([make_trial(**BUDGET, **changes)])[1][0].layers
    ends = torch.tensor([phase != "training" for phase in layers["phase"]])
    for name, there in (
        ("ladder_map", direct),
        ("ladder_weights", direct),
        ("residual_pooled", direct),
        ("ladder_moments", True),
        ("unit_variance_cv", True),
        ("predicted_unit_variance_cv", True),
    ):
        assert bool(torch.isfinite(torch.from_numpy(layers[name]))[ends].all()) == there, name
    assert torch.from_numpy(layers["ladder_empirical"])[ends].max() < 1e-6
    assert all(("normalization" in reason) != direct for reason in layers["absent"])
    if changes.get("normalization") == "weight_standardization":
        assert abs(layers["omega_mean"]).max() < 1e-6
        assert abs(layers["tau_mean"] - 1).max() < 1e-5
