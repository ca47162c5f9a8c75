"""Probes within training change no number of a trial, and every layer says what it lacks."""

from __future__ import annotations

import math

import pytest
import torch

from harness.data.batches import make_source
from harness.sweeps.results import results
from harness.training import probing, schedules
from harness.training.events import Evaluated, Finished, PackData, Probed, Samples
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.sharpness import sharpness
from harness.verdicts import grading

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


WHEN = ("init", "end", "max")
ZERO_WEIGHTS = {"initializer.sigma_w2": 0.0, "initializer.sigma_b2": 0.0}


def run(trials, program="auto"):
    """Trains trials on random images; returns the events and the results.

    The trials must be given in the order of their pack.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(SAMPLES, *SHAPE, generator=generator)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    variant_of_trial = [0] * len(trials)
    training, training_labels = pixels[:TRAINING_SAMPLES], labels[:TRAINING_SAMPLES]
    source = make_source([training], training_labels, variant_of_trial, CPU)
    held_out = Samples([pixels[TRAINING_SAMPLES:]], labels[TRAINING_SAMPLES:], variant_of_trial)
    data = PackData(source, held_out, held_out, held_out, held_out)
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    events = list(train(Pack(trials, SHAPE, CLASSES, CPU, program), data, trial_plan))
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
    ({"normalization": "spectral_norm"}, True),
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


STABLE = ("sharpness", "stability_margin")


def test_sharpness_is_measured_at_the_start_after_a_tenth_and_at_the_end(make_trial):
    settings = BUDGET | {"budget.steps": 40, "budget.probes": 6}
    events, _ = run([make_trial(**settings)])
    probes = [event for event in events if isinstance(event, Probed)]
    assert [event.step for event in probes] == [0, 1, 3, 6, 16, 40]
    measured = [event.step for event in probes if event.sharpness is not None]
    assert measured == [0, 6, 40]
    events, _ = run([make_trial(**settings, **{"probe.statistics": "full"})])
    assert all(event.sharpness is not None for event in events if isinstance(event, Probed))


def test_sharpness_is_measured_at_the_phases_in_which_trials_are_graded():
    assert schedules.EARLY_SHARE == grading.EARLY_SHARE
    for steps in (1, 2, 5, 40, 510, 10_000):
        for count in range(8):
            probes = frozenset(schedules.probe_steps(steps, count))
            trial_plan = schedules.Plan(steps, 16, frozenset(), probes)
            phases = grading.phase_steps(list(probes), steps).values()
            expected = {step for step in phases if not math.isnan(step)}
            assert trial_plan.sharpness_probes == expected


@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_sharpness_is_measured_once_for_every_trial(make_trial, monkeypatch, program):
    ranges = []

    def counted(pack, start, stop, samples, **options):
        ranges.append((start, stop))
        return sharpness(pack, start, stop, samples, **options)

    monkeypatch.setattr(probing, "sharpness", counted)
    # So little memory that each trial is probed by itself.
    monkeypatch.setitem(probing._TAP_BYTES, "cpu", 1)
    trials = [make_trial(seed=seed, **BUDGET) for seed in (0, 1, 2)]
    events, outcome = run(trials, program)
    assert ranges == [(0, 1), (1, 2), (2, 3)] * 3
    monkeypatch.undo()
    _, together = run(trials, program)
    for own, other in zip(outcome, together, strict=True):
        assert own.layers["sharpness"] == pytest.approx(
            other.layers["sharpness"], rel=1e-3, nan_ok=True
        )


def test_stability_margin_follows_the_schedule_of_each_trial(make_trial):
    constant = make_trial(**BUDGET)
    decaying = make_trial(
        **BUDGET, **{"schedule": "cosine", "optimizer.learning_rate": 0.02}, seed=1
    )
    _, outcome = run([constant, decaying])
    for trial, result in zip([constant, decaying], outcome, strict=True):
        rate = trial.spec["optimizer"]["learning_rate"]
        for step, value, margin in zip(
            *(result.layers[name] for name in ("step", *STABLE)), strict=True
        ):
            factor = schedules.multiplier(trial.spec["schedule"], max(step, 1), 6)
            expected = rate * factor * value / (2 * (1 + 0.9))
            assert margin == pytest.approx(expected, nan_ok=True)


def test_summary_has_sharpness_and_margin_at_the_start_the_end_and_their_largest(make_trial):
    _, (result,) = run([make_trial(**BUDGET)])
    for name in STABLE:
        by_step = dict(zip(result.layers["step"], result.layers[name], strict=True))
        assert result.summary[f"{name}_init"] == by_step[0] > 0
        assert result.summary[f"{name}_end"] == by_step[6] > 0
        largest = max(value for value in by_step.values() if not math.isnan(value))
        assert result.summary[f"{name}_max"] == largest


def test_adam_has_a_sharpness_and_no_margin(make_trial):
    _, (result,) = run([make_trial(**BUDGET, optimizer="adam")])
    assert result.summary["sharpness_end"] > 0
    assert all(math.isnan(result.summary[f"stability_margin_{when}"]) for when in WHEN)


def test_diverged_trial_has_a_sharpness_of_its_start_and_none_of_its_end(make_trial):
    settings = BUDGET | {"budget.steps": 40, "activation": "identity"}
    trials = [make_trial(**settings, **{"optimizer.learning_rate": rate}) for rate in (0.01, 1e30)]
    _, (companion, result) = run(trials)
    assert result.diverged_step is not None
    assert result.summary["sharpness_init"] > 0
    assert result.summary["stability_margin_init"] > 1e6
    assert math.isnan(result.summary["sharpness_end"])
    assert companion.summary["sharpness_end"] > 0


def test_unprobed_trial_has_no_sharpness(make_trial):
    _, (result,) = run([make_trial(**BUDGET | {"budget.probes": 0})])
    assert all(math.isnan(result.summary[f"{name}_{when}"]) for name in STABLE for when in WHEN)
    assert result.layers["histogram"] == []


@pytest.mark.parametrize("settings", [{}, {"architecture": "cnn"}], ids=str)
def test_every_row_has_a_histogram_of_all_pre_activations(make_trial, settings):
    trials = [make_trial(seed=seed, **BUDGET, **settings) for seed in (0, 1)]
    _, outcome = run(trials)
    positions = 64 if settings else 1
    expected = (SAMPLES - TRAINING_SAMPLES) * 10 * positions
    for trial, result in zip(trials, outcome, strict=True):
        counts = result.layers["histogram"]
        assert len(counts) == len(result.layers["step"])
        assert {int(row.sum()) for row in counts} == {expected}
        _, (alone,) = run([trial])
        moved = [
            int(abs(row - other).sum())
            for row, other in zip(counts, alone.layers["histogram"], strict=True)
        ]
        assert max(moved) <= 0.002 * expected
        assert moved[0] == 0


def test_layer_of_zeros_has_no_histogram(make_trial):
    _, (result,) = run([make_trial(**BUDGET, initializer="gaussian", **ZERO_WEIGHTS)])
    assert result.layers["histogram"][0] is None
