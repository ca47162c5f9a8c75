"""Requests that mean nothing are refused in one line, before data are read."""

from __future__ import annotations

import math

import pytest

from harness.configuration.validation import seed_list, validate
from harness.errors import RequestError

REFUSED = {
    "depth": ({"depth": 0}, "depth=0: expected an integer of at least 1"),
    "width": ({"width": "wide"}, "width=wide: expected an integer of at least 1, or 'input'"),
    "precision": ({"precision": "float16"}, "precision=float16: expected one of float32, tf32"),
    "repair": ({"repair": "all"}, "repair=all: expected one of none, center_rows"),
    "position": (
        {"normalization": "batch", "normalization.position": "behind"},
        "normalization.position=behind: expected one of before, after",
    ),
    "residency": ({"dataset.residency": "disk"}, "dataset.residency=disk: expected one of auto"),
    "statistics": ({"probe.statistics": "all"}, "probe.statistics=all: expected one of standard"),
    "probe samples": ({"probe.samples": 1}, "probe.samples=1: at least 2 samples are needed"),
    "learning rate": ({"optimizer.learning_rate": 0.0}, "expected a number above 0"),
    "momentum": ({"optimizer.momentum": 1.0}, r"optimizer.momentum=1.0: expected a number in \[0"),
    "weight decay": ({"optimizer.weight_decay": -1.0}, "expected a number of at least 0"),
    "epsilon": (
        {"optimizer": "adam", "optimizer.epsilon": 0.0},
        "optimizer.epsilon=0.0: expected a number above 0",
    ),
    "infinite epsilon": (
        {"optimizer": "adadelta", "optimizer.epsilon": math.inf},
        "optimizer.epsilon=inf: expected a number above 0",
    ),
    "shift": (
        {"preprocessing.shift": math.nan},
        "preprocessing.shift=nan: expected a finite number",
    ),
    "infinite shift": (
        {"preprocessing.shift": -math.inf},
        "preprocessing.shift=-inf: expected a finite number",
    ),
    "epsilon of zca": (
        {"preprocessing": "zca", "preprocessing.epsilon": math.inf},
        "preprocessing.epsilon=inf: expected a number above 0",
    ),
    "validation share": ({"dataset.validation_share": 1.0}, "expected a number between 0 and 1"),
    "two lengths": ({"budget.steps": 3}, "give either budget.steps or budget.epochs"),
    "no length": ({"budget.epochs": None}, "give either budget.steps or budget.epochs"),
    "epochs": ({"budget.epochs": 0.0}, "budget.epochs=0.0: expected a number above 0"),
    "many epochs": (
        {"budget.epochs": 1e308},
        r"budget.epochs=1e\+308: expected at most 1,000,000 epochs",
    ),
    "many steps": (
        {"budget.epochs": None, "budget.steps": 10**8 + 1},
        "budget.steps=100000001: expected at most 100,000,000 steps",
    ),
    "batch size": ({"budget.batch_size": 0}, "budget.batch_size=0: expected an integer"),
    "evaluations": ({"budget.evaluations": 0}, "budget.evaluations=0: expected an integer"),
    "probes": ({"budget.probes": -1}, "budget.probes=-1: expected an integer of at least 0"),
    "device": ({"device": "tpu"}, "device=tpu: expected auto, cpu, cuda or cuda:N"),
    "batch of one": (
        {"normalization": "batch", "budget.batch_size": 1},
        "a batch of one has no variance",
    ),
    "no dropout": ({"repair": "neutral_dropout"}, "there is no dropout to repair"),
    "another's option": (
        {"activation.alpha": 0.5},
        "activation.alpha=0.5: activation=selu takes no such option; it belongs to celu, elu",
    ),
    "missing option": (
        {"activation": "elu", "activation.alpha": None},
        "activation.alpha is missing: activation=elu needs it",
    ),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_an_impossible_request_is_refused(make_config, changes, message):
    with pytest.raises(RequestError, match=message) as refusal:
        validate(make_config(**changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": "input"},
        {"budget": "initialization"},
        {"optimizer": "adamw", "schedule": "warmup_cosine", "dropout": "alpha"},
        {"optimizer": "adadelta", "optimizer.epsilon": 1e-12, "preprocessing": "zca"},
        {"normalization.position": "after"},  # A sweep may have it for other normalizations.
    ],
)
def test_a_possible_request_passes(make_config, changes):
    validate(make_config(**changes))


def test_seeds_are_a_count_or_a_list():
    assert seed_list(3) == [0, 1, 2]
    assert seed_list([7, 3]) == [7, 3]


@pytest.mark.parametrize(
    "seeds, message",
    [
        (0, "at least one seed is needed"),
        ([], "expected a count or a list of integers"),
        ("37", "expected a count or a list of integers"),
        (True, "expected a count or a list of integers"),
        (1.5, "expected a count or a list of integers"),
        ([-1], "expected a count or a list of integers"),
        ([2**31], "expected a count or a list of integers"),
        ([3, 3], "a seed is listed twice"),
    ],
)
def test_other_seeds_are_refused(seeds, message):
    with pytest.raises(RequestError, match=message):
        seed_list(seeds)
