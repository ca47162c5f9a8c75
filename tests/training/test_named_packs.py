"""Named networks in packs: alone or together, looped or stacked, probed as the stacks are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.networks.architectures import build_network
from harness.training.events import Event, Probed, ProbedLayer
from harness.training.program_choice import programs_for, why_not_stacked
from harness.training.programs import PROBE
from harness.training.repairs import apply

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 10
MODULES = Path(__file__).parents[1] / "networks"
BUDGET = {
    "budget.epochs": None,
    "budget.steps": 4,
    "budget.batch_size": 32,
    "budget.evaluations": 2,
    "budget.probes": 2,
}
STACK = {"depth": 3, "width": 12}
FUNCTIONAL = {"architecture.name": "named_modules:Functional"}


@pytest.fixture(autouse=True)
def modules_on_the_path(monkeypatch) -> None:
    monkeypatch.syspath_prepend(MODULES)


@pytest.fixture
def make_named(make_trial):
    """Makes a trial of a factory, as `make_trial` does."""

    def make(seed: int, **choices):
        settings = {"architecture": "factory", "width": "own"} | BUDGET | choices
        return make_trial(seed=seed, **settings)

    return make


def test_a_named_trial_alone_is_the_trial_in_a_pack(
    train_pack, make_named, assert_same_losses_and_columns
):
    kinds = ["selu", "tanh", "selu"]
    trials = [make_named(seed, activation=kind, **FUNCTIONAL) for seed, kind in enumerate(kinds)]
    _, together = train_pack(trials)
    _, alone = train_pack([trials[1]])
    # Trials are sorted by their activation.
    assert_same_losses_and_columns(together, alone, trial=2, tolerance=(1e-5, 1e-8))


def test_the_stacked_program_trains_a_named_network_as_the_looped_one(
    train_pack, make_named, assert_same_losses_and_columns
):
    trials = [make_named(seed, **FUNCTIONAL) for seed in range(2)]
    _, looped = train_pack(trials, "looped")
    _, stacked = train_pack(trials, "stacked")
    assert_same_losses_and_columns(looped, stacked, trial=None)


@pytest.mark.parametrize(
    "settings",
    [{"normalization": "batch", "dropout": "alpha"}, {"architecture": "cnn", "width": 6}],
    ids=["dense", "convolutional"],
)
def test_a_module_that_is_a_stack_trains_and_measures_as_the_stack(
    train_pack, make_trial, make_named, assert_same_losses_and_columns, monkeypatch, settings
):
    """The same modules, found by a traced pass, and by their names."""
    stacks = [make_trial(seed=seed, **STACK | BUDGET | settings) for seed in range(2)]
    monkeypatch.setattr(
        "named_modules.dense", lambda: build_network(stacks[0].spec, SHAPE, CLASSES)
    )
    named = [make_named(seed, **{"architecture.name": "named_modules:dense"}) for seed in range(2)]
    _, expected = train_pack(stacks)
    _, events = train_pack(named)
    measured = [_named_as_in_a_stack(event) for event in events]
    assert_same_losses_and_columns(measured, expected, trial=None)
    for own, of_stack in zip(measured, expected, strict=True):
        if isinstance(own, Probed):
            layers = [_about(layer) for layer in own.layers]
            assert layers == [_about(layer) for layer in of_stack.layers]


def _named_as_in_a_stack(event: Event) -> Event:
    """An event whose layers are named as those of a stack, without the part `weights`."""
    if not isinstance(event, Probed):
        return event
    layers = [replace(layer, name=layer.name.removesuffix(".weights")) for layer in event.layers]
    return replace(event, layers=layers)


def _about(layer: ProbedLayer) -> tuple:
    """Everything about a layer but its numbers."""
    return layer.kind, layer.units, layer.fan_in, layer.absent, sorted(layer.columns)


def test_repairs_mend_a_named_network(train_pack, make_named, make_data):
    names = ["center_rows", "rescale_tau", "lsuv", "zero_bias"]
    trials = [make_named(7, **FUNCTIONAL | {"budget.steps": 0}) for _ in names]
    pack, _ = train_pack(trials)
    assert pack.hidden_weights == ["first.weight", "second.weight", "third.weight"]
    before = pack.state["second.weight"].detach().clone()
    data = make_data([130] * len(names))
    apply(pack, names, data.training)
    rows = pack.state["second.weight"].detach().flatten(2)
    assert rows[0].sum(1).abs().max() < 1e-5
    assert torch.allclose(rows[1].norm(dim=1), torch.ones(4))
    deviations: list[float] = []
    program, parameters, buffers = pack.part(2, 3)

    def record(name, module, x, y, entry) -> None:
        deviations.append(float(y.std()))

    program(parameters, buffers, data.training.images_of(2, 3), PROBE, record)
    assert deviations == pytest.approx([1.0] * 3, abs=0.01)
    assert torch.equal(rows[3], before[3].flatten(1))
    assert not pack.state["first.bias"][3].any()


def test_a_program_is_guessed_by_what_a_network_is_made_of(make_named):
    convolutional = make_named(0, **FUNCTIONAL)
    dense = make_named(0, **{"architecture.name": "named_modules:dense"})
    assert programs_for(convolutional, SHAPE, CLASSES, CPU) == ["looped", "stacked"]
    assert programs_for(dense, SHAPE, CLASSES, CPU) == ["stacked", "looped"]


def test_a_network_that_looks_at_its_values_is_looped(make_named):
    trial = make_named(0, **{"architecture.name": "named_modules:Deciding"})
    assert why_not_stacked(trial, SHAPE, CLASSES).startswith("vmap: ")
    assert programs_for(trial, SHAPE, CLASSES, CPU) == ["looped"]
