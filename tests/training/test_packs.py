"""Initial weights, batches and noise of a trial are equal to the bit alone and in any pack."""

from __future__ import annotations

import pytest
import torch

from harness.configuration.trial import Trial
from harness.training.feeds import Feed, feed
from harness.training.packs import Pack
from harness.training.programs import TRAIN
from harness.training.schedules import plan

CPU = torch.device("cpu")
SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130


def next_batch(batches: Feed, done: int) -> tuple[torch.Tensor, torch.Tensor]:
    batches.prepare(done)
    return batches.take()


def test_initial_weights_are_equal_to_the_bit(make_trial, budget):
    trials = [
        make_trial(seed=seed, initializer=initializer, **budget)
        for seed in (0, 5)
        for initializer in ("lecun_normal", "orthogonal")
    ]
    together = Pack(trials, SHAPE, CLASSES, CPU)
    for index, trial in enumerate(trials):
        alone = Pack([trial], SHAPE, CLASSES, CPU)
        place = together.order.index(index)
        for name, tensor in alone.state.items():
            assert torch.equal(tensor[0], together.state[name][place]), name


def test_batches_are_equal_to_the_bit(make_data, make_trial, budget):
    trials = [make_trial(seed=seed, **budget) for seed in (0, 0, 5, 5)]
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    data = make_data([TRAINING_SAMPLES] * 4)
    together = feed(data.source, [trial.seed for trial in trials], trial_plan)
    batches = []
    for done in range(5):
        x, labels = next_batch(together, done)
        batches.append((x.clone(), labels.clone()))
    for index, trial in enumerate(trials):
        alone = feed(make_data([TRAINING_SAMPLES]).source, [trial.seed], trial_plan)
        for done, (x, labels) in enumerate(batches):
            x_alone, labels_alone = next_batch(alone, done)
            assert torch.equal(x_alone[0], x[index])
            assert torch.equal(labels_alone[0], labels[index])


def test_initial_state_is_equal_to_the_bit_in_every_network(make_trial, network_settings):
    trials = [make_trial(seed=seed, **network_settings) for seed in (4, 0, 9)]
    together = Pack(trials, SHAPE, CLASSES, CPU)
    tensors = together.state | together.buffers
    for index, trial in enumerate(trials):
        alone = Pack([trial], SHAPE, CLASSES, CPU)
        place = together.order.index(index)
        for name, tensor in (alone.state | alone.buffers).items():
            assert torch.equal(tensor[0], tensors[name][place]), name


def dropout_noise(trials: list[Trial], program: str, step: int) -> torch.Tensor:
    """The output of the first layer with zero weights and a bias of one: its mask alone."""
    pack = Pack(trials, SHAPE, CLASSES, CPU, program)
    for name, tensor in pack.state.items():
        tensor.detach().fill_(1.0 if name == "layer_01.weights.bias" else 0.0)
    readout = pack.state["readout.weight"]
    readout.detach().copy_(torch.eye(CLASSES, readout.shape[2]))
    pack.step.fill_(step)
    images = torch.zeros(len(trials), 32, *SHAPE)
    return pack.program(pack.state, pack.buffers, images, TRAIN).detach()


@pytest.mark.parametrize("dropout", ["alpha", "standard"])
@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_dropout_noise_is_equal_to_the_bit(make_trial, budget, dropout, program):
    settings = budget | {"depth": 1, "dropout": dropout, "dropout.rate": 0.4}
    trials = [make_trial(seed=seed, activation="identity", **settings) for seed in (0, 3, 8)]
    for step in (1, 2):
        together = dropout_noise(trials, program, step)
        assert 0.2 < float((together < 0.5).double().mean()) < 0.6
        for index, trial in enumerate(trials):
            assert torch.equal(dropout_noise([trial], program, step)[0], together[index])
    assert not torch.equal(dropout_noise(trials, program, 1), dropout_noise(trials, program, 2))
    assert not torch.equal(together[0], together[1])
