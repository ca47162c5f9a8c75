"""Optimizers and schedules of a pack are torch's own, whatever its companions' options are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.configuration.schema import known_names
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.training.events import Evaluated
from harness.training.feeds import feed
from harness.training.optimizers import PackOptimizer, optimizers
from harness.training.schedules import multiplier, plan, schedules

SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130
STEPS = 5
_ADAM_OPTIONS = {"optimizer.beta1": 0.8, "optimizer.beta2": 0.99, "optimizer.epsilon": 1e-3}
# Options of the trial that is compared, and of a companion that differs only in these and in its
# schedule.
OPTIONS = {
    "sgd": ({}, {"schedule.final_share": 0.5}),
    "momentum": ({"optimizer.momentum": 0.7}, {"optimizer.momentum": 0.2}),
    "adam": (_ADAM_OPTIONS, {"optimizer.beta1": 0.5}),
    "adamw": (_ADAM_OPTIONS, {"optimizer.epsilon": 1e-6}),
    "nadam": (_ADAM_OPTIONS | {"optimizer.momentum_decay": 0.1}, {"optimizer.beta1": 0.5}),
    "adadelta": (
        {"optimizer.rho": 0.7, "optimizer.epsilon": 1e-4},
        {"optimizer.rho": 0.5},
    ),
}


def plain_optimizer(name: str, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of the compared trial, as anyone would write it."""
    shared = {"lr": learning_rate, "weight_decay": 0.02}
    adam = {"betas": (0.8, 0.99), "eps": 1e-3}
    parameters = network.parameters()
    if name == "sgd":
        return torch.optim.SGD(parameters, **shared)
    if name == "momentum":
        return torch.optim.SGD(parameters, momentum=0.7, **shared)
    if name == "adam":
        return torch.optim.Adam(parameters, **adam, **shared)
    if name == "nadam":
        return torch.optim.NAdam(parameters, momentum_decay=0.1, **adam, **shared)
    if name == "adadelta":
        return torch.optim.Adadelta(parameters, rho=0.7, eps=1e-4, **shared)
    assert name == "adamw"
    return torch.optim.AdamW(parameters, **adam, **shared)


@pytest.mark.parametrize("optimizer", optimizers.names())
def test_training_in_a_pack_is_a_plain_loop_of_torch(
    train_pack, make_data, make_trial, budget, optimizer
):
    own_options, companion_options = OPTIONS[optimizer]
    cosine = budget | {"optimizer": optimizer, "schedule": "cosine"}
    warmup = budget | {"optimizer": optimizer, "schedule": "warmup_cosine"}
    trial = make_trial(seed=2, **cosine | {"optimizer.weight_decay": 0.02} | own_options)
    other_rate = make_trial(seed=1, **cosine | {"optimizer.learning_rate": 0.3})
    other_options = make_trial(seed=2, **warmup | companion_options)
    pack, events = train_pack([other_rate, trial, other_options])
    assert len(PackOptimizer(pack).runs) == 3

    learning_rate = trial.spec["optimizer"]["learning_rate"]
    network = build_network(trial.spec, SHAPE, CLASSES)
    initialize(network, trial.spec["initializer"], trial.seed)
    own_optimizer = plain_optimizer(optimizer, network, learning_rate)
    data = make_data([TRAINING_SAMPLES])
    batches = feed(data.source, [trial.seed], plan(trial.spec, TRAINING_SAMPLES))
    for step in range(1, STEPS + 1):
        batches.prepare(step - 1)
        x, labels = batches.take()
        factor = multiplier(trial.spec["schedule"], step, STEPS)
        own_optimizer.param_groups[0]["lr"] = learning_rate * factor
        own_optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[0]), labels[0]).backward()
        own_optimizer.step()
    with torch.no_grad():
        logits = network(data.validation.images[0])
    loss = float(nn.functional.cross_entropy(logits, data.validation.labels))
    last_evaluation = [event for event in events if isinstance(event, Evaluated)][-1]
    place = pack.order.index(1)
    assert float(last_evaluation.validation_loss[place]) == pytest.approx(loss, rel=1e-4)


def test_configuration_and_registries_name_the_same_optimizers_and_schedules():
    assert known_names("optimizer") == optimizers.names()
    assert known_names("schedule") == schedules.names()
