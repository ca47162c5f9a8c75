"""A trial in a pack is the trial alone: its results do not depend on its companions."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from harness.data.batches import make_source
from harness.training import probing
from harness.training.events import PackData, Probed, Samples
from harness.training.feeds import feed
from harness.training.loop import train
from harness.training.optimizers import optimizers
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.sharpness import sharpness

CPU = torch.device("cpu")
SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130


@pytest.fixture(autouse=True)
def one_lanczos_step(monkeypatch):
    """Sharpness takes one step instead of eight, which would take most of the time.

    These tests do not compare its value; those of `test_sharpness.py` do.
    """
    monkeypatch.setattr(probing, "sharpness", partial(sharpness, steps=1))


def test_trial_alone_equals_trial_in_a_pack_in_both_programs(
    train_pack, make_trial, network_settings, assert_same_losses_and_columns
):
    trials = [make_trial(seed=seed, **network_settings) for seed in range(3)]
    _, together = train_pack(trials)
    _, alone = train_pack([trials[1]])
    _, stacked = train_pack(trials, "stacked")
    assert_same_losses_and_columns(together, alone, trial=1)
    assert_same_losses_and_columns(together, stacked, trial=None)


@pytest.mark.parametrize("optimizer", optimizers.names())
def test_trial_alone_equals_trial_in_a_pack_with_every_optimizer(
    train_pack, make_trial, budget, optimizer, assert_same_losses_and_columns
):
    trials = [make_trial(seed=seed, optimizer=optimizer, **budget) for seed in range(3)]
    _, together = train_pack(trials)
    _, alone = train_pack([trials[1]])
    _, stacked = train_pack(trials, "stacked")
    assert_same_losses_and_columns(together, alone, trial=1)
    assert_same_losses_and_columns(together, stacked, trial=None)


# Everything that may differ within a pack, and the preprocessing that each trial sees.
DIFFERENCES = [
    ({"seed": 0}, 0),
    ({"seed": 5, "optimizer.learning_rate": 0.1}, 1),
    ({"optimizer.weight_decay": 0.05}, 2),
    ({"initializer": "orthogonal"}, 0),
    ({"activation": "tanh", "dropout.rate": 0.5}, 1),
    ({"initializer": "pytorch_default", "initializer.bias": "uniform", "activation": "relu"}, 2),
    ({"seed": 7, "activation": "elu", "activation.alpha": 0.5}, 1),
]
# Each preprocessing as (scale, shift).
PREPROCESSINGS = [(1.0, 0.0), (1.3, 0.5), (0.7, -0.5)]


def preprocessed_data(images, preprocessings: list[int]) -> PackData:
    """The data of a pack whose trial t sees preprocessing `preprocessings[t]`."""
    pixels, labels = images
    distinct = sorted(set(preprocessings))
    variants = []
    for index in distinct:
        scale, shift = PREPROCESSINGS[index]
        variants.append(scale * pixels + shift)
    variant_of_trial = [distinct.index(index) for index in preprocessings]
    held_out = Samples(
        [variant[TRAINING_SAMPLES:] for variant in variants],
        labels[TRAINING_SAMPLES:],
        variant_of_trial,
    )
    source = make_source(
        [variant[:TRAINING_SAMPLES] for variant in variants],
        labels[:TRAINING_SAMPLES],
        variant_of_trial,
        CPU,
    )
    return PackData(source, held_out, held_out, held_out, held_out)


def test_whatever_may_differ_within_a_pack_changes_no_companion(
    images, make_trial, budget, assert_same_losses_and_columns
):
    trials = [make_trial(dropout="alpha", **budget | settings) for settings, _ in DIFFERENCES]
    preprocessings = [preprocessing for _, preprocessing in DIFFERENCES]
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    pack = Pack(trials, SHAPE, CLASSES, CPU)
    data = preprocessed_data(images, [preprocessings[index] for index in pack.order])
    together = list(train(pack, data, trial_plan))
    for place, index in enumerate(pack.order):
        pack_alone = Pack([trials[index]], SHAPE, CLASSES, CPU)
        data_alone = preprocessed_data(images, [preprocessings[index]])
        alone = list(train(pack_alone, data_alone, plan(trials[index].spec, TRAINING_SAMPLES)))
        assert_same_losses_and_columns(together, alone, place, tolerance=(3e-3, 3e-5))


# Numbers of training samples: 4, 1 and 3 batches of 32 in an epoch.
DOSES = (130, 40, 97)


@pytest.mark.parametrize("mixed_activations", [False, True])
def test_trials_with_different_numbers_of_samples_train_side_by_side(
    make_data, make_trial, budget, mixed_activations, assert_same_losses_and_columns
):
    """Each is scored on its own samples."""
    trials = []
    for seed in (0, 3):
        for dose in DOSES:
            settings = budget | {"budget.steps": 7, "dataset.training_samples": dose}
            activation = "relu" if mixed_activations and dose != 97 else "selu"
            trials.append(make_trial(seed=seed, activation=activation, **settings))
    pack = Pack(trials, SHAPE, CLASSES, CPU)
    doses = [trial.spec["dataset"]["training_samples"] for trial in pack.trials]
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    together = list(train(pack, make_data(doses), trial_plan))
    for place, (trial, dose) in enumerate(zip(pack.trials, doses, strict=True)):
        pack_alone = Pack([trial], SHAPE, CLASSES, CPU)
        alone = list(train(pack_alone, make_data([dose]), trial_plan))
        assert_same_losses_and_columns(together, alone, place)


def test_trials_with_different_numbers_of_samples_keep_the_order_of_their_batches(
    make_data, make_trial, budget
):
    seeds = [seed for seed in (0, 3) for _ in DOSES]
    doses = [*DOSES, *DOSES]
    trial_plan = plan(make_trial(**budget | {"budget.steps": 7}).spec, TRAINING_SAMPLES)
    together = feed(make_data(doses).source, seeds, trial_plan)
    alone = [
        feed(make_data([dose]).source, [seed], trial_plan)
        for seed, dose in zip(seeds, doses, strict=True)
    ]
    for done in range(7):
        together.prepare(done)
        x, labels = together.take()
        for place, own_feed in enumerate(alone):
            own_feed.prepare(done)
            x_alone, labels_alone = own_feed.take()
            assert torch.equal(x_alone[0], x[place])
            assert torch.equal(labels_alone[0], labels[place])


def test_diverging_companion_changes_nothing_to_the_bit(train_pack, make_trial, budget):
    calm = [make_trial(seed=seed, **budget) for seed in (0, 1)]
    tame = make_trial(seed=2, **budget)
    wild = make_trial(seed=2, **budget | {"optimizer.learning_rate": 1e30})
    wild_pack, with_wild = train_pack([calm[0], wild, calm[1]])
    tame_pack, with_tame = train_pack([calm[0], tame, calm[1]])
    finished, expected = with_wild[-1], with_tame[-1]
    wild_place = wild_pack.order.index(1)
    assert int(finished.diverged_step[wild_place]) >= 1
    assert torch.isnan(finished.scores["test_accuracy"][wild_place])
    for index in (0, 2):
        place, expected_place = wild_pack.order.index(index), tame_pack.order.index(index)
        assert int(finished.diverged_step[place]) == -1
        for name, values in finished.scores.items():
            assert torch.equal(values[place], expected.scores[name][expected_place]), name


def test_pack_stops_once_all_its_trials_diverged(train_pack, make_trial, budget):
    settings = budget | {"budget.steps": 200, "optimizer.learning_rate": 1e30}
    _, events = train_pack([make_trial(**settings)])
    finished = events[-1]
    assert finished.step <= 100
    assert 1 <= int(finished.diverged_step[0]) <= finished.step


def test_activations_and_learning_rates_may_differ_within_a_pack(train_pack, make_trial, budget):
    trials = [
        make_trial(activation=activation, **budget | {"optimizer.learning_rate": learning_rate})
        for activation, learning_rate in (
            ("relu", 0.1),
            ("selu", 0.01),
            ("tanh", 0.02),
            ("selu", 0.05),
        )
    ]
    pack, events = train_pack(trials)
    for place, index in enumerate(pack.order):
        _, alone = train_pack([trials[index]])
        torch.testing.assert_close(
            events[-1].scores["test_loss"][place : place + 1],
            alone[-1].scores["test_loss"],
            rtol=1e-4,
            atol=1e-6,
        )
        for event, event_alone in zip(events, alone, strict=True):
            if isinstance(event, Probed):
                variance = event.layers[1].columns["activation_variance"]
                expected = event_alone.layers[1].columns["activation_variance"]
                torch.testing.assert_close(
                    variance[place : place + 1], expected, rtol=1e-4, atol=1e-8
                )
