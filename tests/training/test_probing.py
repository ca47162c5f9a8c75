"""Probes within training change no number of a trial, and every layer says what it lacks."""

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
SHAPE, CLASSES = (1, 8, 8), 10
SAMPLES, TRAINING_SAMPLES = 120, 60
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
    """Trains trials on random images; returns the events and the results."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(SAMPLES, *SHAPE, generator=generator)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    variant_of_trial = [0] * len(trials)
    training, training_labels = pixels[:TRAINING_SAMPLES], labels[:TRAINING_SAMPLES]
    source = make_source([training], training_labels, variant_of_trial, CPU)
    held_out = Samples([pixels[TRAINING_SAMPLES:]], labels[TRAINING_SAMPLES:], variant_of_trial)
    data = PackData(source, held_out, held_out, held_out, held_out)
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    events = list(train(Pack(trials, SHAPE, CLASSES, CPU), data, trial_plan))
    return events, results(events, trials, trial_plan, source.samples)


def numbers_of_training(events) -> list[dict]:
    """Everything that is not measured by a probe."""
    return [vars(event) for event in events if isinstance(event, (Evaluated, Finished))]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalization": "batch", "dropout": "alpha", "dropout.rate": 0.1},
        {"architecture": "cnn", "architecture.pool": "max"},
    ],
    ids=str,
)
def test_probes_change_no_number_of_the_training_to_the_bit(make_trial, settings):
    numbers = []
    for probe in ({}, {"probe.statistics": "full"}, {"budget.probes": 0}):
        trials = [make_trial(seed=seed, **BUDGET | settings | probe) for seed in (0, 1)]
        events, _ = run(trials)
        numbers.append(numbers_of_training(events))
    for others in numbers[1:]:
        torch.testing.assert_close(numbers[0], others, rtol=0.0, atol=0.0, equal_nan=True)


def columns_by_step(events) -> dict[int, set[str]]:
    """The names of the columns of each probe."""
    columns: dict[int, set[str]] = {}
    for event in events:
        if isinstance(event, Probed):
            columns[event.step] = set()
            for layer in event.layers:
                columns[event.step].update(layer.columns)
    return columns


def test_standard_probes_measure_everything_at_the_first_and_the_last_step(make_trial):
    events, (result,) = run([make_trial(**BUDGET)])
    standard = columns_by_step(events)
    assert standard[0] == standard[6]
    assert standard[1] < standard[6]
    assert "unit_wasserstein_q90" in standard[6] - standard[1]
    rows = 3 * len(standard)
    assert len(result.layers["step"]) == rows
    assert len(result.layers["unit_wasserstein_q90"]) == rows


def test_full_probes_add_intervals_at_every_step(make_trial):
    events, _ = run([make_trial(**BUDGET)])
    standard = columns_by_step(events)[0]
    full_events, _ = run([make_trial(**BUDGET, **{"probe.statistics": "full"})])
    for columns in columns_by_step(full_events).values():
        assert columns > standard
        assert {name.rpartition("_")[2] for name in columns - standard} == {"low", "high"}


# Settings of a network, and whether nothing stands between its weights and its activation.
NETWORKS = [
    ({}, True),
    ({"normalization": "batch"}, False),
    ({"normalization": "layer"}, False),
    ({"normalization": "batch", "normalization.position": "after"}, True),
    ({"normalization": "weight_standardization"}, True),
    ({"architecture": "cnn"}, True),
    ({"architecture": "cnn", "normalization": "rms"}, False),
]


@pytest.mark.parametrize("settings, direct", NETWORKS, ids=str)
def test_ladder_has_numbers_where_the_weights_feed_the_activation(make_trial, settings, direct):
    _, (result,) = run([make_trial(**BUDGET, **settings)])
    layers = result.layers
    ends = torch.tensor([phase != "training" for phase in layers["phase"]])
    for name, has_numbers in {
        "ladder_map": direct,
        "ladder_weights": direct,
        "residual_pooled": direct,
        "ladder_moments": True,
        "unit_variance_cv": True,
        "predicted_unit_variance_cv": True,
    }.items():
        finite = torch.isfinite(torch.from_numpy(layers[name]))
        assert bool(finite[ends].all()) == has_numbers, name
    assert torch.from_numpy(layers["ladder_empirical"])[ends].max() < 1e-6
    assert all(("normalization" in reason) != direct for reason in layers["absent"])


def test_probes_read_the_standardized_weights(make_trial):
    _, (result,) = run([make_trial(**BUDGET, normalization="weight_standardization")])
    assert abs(result.layers["omega_mean"]).max() < 1e-6
    assert abs(result.layers["tau_mean"] - 1).max() < 1e-5
