"""A pack that goes on from a checkpoint ends with the numbers of one that was never stopped."""

from __future__ import annotations

import io

import pytest
import torch

from harness.training import checkpoints
from harness.training.checkpoints import Unfit
from harness.training.events import Stepped
from harness.training.loop import train
from harness.training.optimizers import optimizers
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 10
# An epoch has 4 steps of 32 samples, or 2 with half the samples; steps 0, 1 and 12 are probed.
SMALL = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 12,
    "budget.batch_size": 32,
    "budget.evaluations": 3,
    "budget.probes": 3,
    "probe.samples": 8,
}
CASES = {
    "momentum": {},
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam", "schedule": "cosine"},
    "nadam residual": {
        "optimizer": "nadam",
        "architecture": "resnet",
        "architecture.residual": "skip_init",
    },
    "adadelta": {"optimizer": "adadelta"},
    "adamw batch": {"optimizer": "adamw", "normalization": "batch"},
    "alpha dropout": {"dropout": "alpha", "dropout.rate": 0.2},
    "cnn": {"architecture": "cnn", "width": 4, "normalization": "batch"},
    "weight standardization": {"normalization": "weight_standardization"},
    "spectral norm": {"normalization": "spectral_norm"},
    "full probes": {"probe": "full"},
}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch):
    """Every step may be the last before a checkpoint, those before a probe included."""
    monkeypatch.setattr("harness.training.stepper._REPORT_EVERY", 1)


@pytest.fixture
def make_stepper(make_data):
    def make(trials, program="auto", residency="auto", doses=None):
        pack = Pack(trials, SHAPE, CLASSES, CPU, program)
        doses = doses or [130] * len(trials)
        data = make_data([doses[index] for index in pack.order], residency=residency)
        return Stepper(pack, data, plan(trials[0].spec, 130)), data

    return make


def follow(stepper, data, events=(), stop_at=None):
    """Trains to the end, or until as many steps are done; returns the measurements."""
    measured = list(events)
    for event in train(stepper.pack, data, stepper.plan, stepper):
        if not isinstance(event, Stepped):
            measured.append(event)
        elif stop_at is not None and event.step >= stop_at:
            break
    return measured


def written_and_read(state):
    """What comes back from a file that unpickles nothing but tensors and plain values."""
    file = io.BytesIO()
    torch.save(checkpoints.to_plain(state), file)
    file.seek(0)
    return checkpoints.from_plain(torch.load(file, weights_only=True))


def assert_equal(first, second):
    """Compares events to the bit, the order of columns included."""
    assert [type(event) for event in first] == [type(event) for event in second]
    for event, other in zip(first, second, strict=True):
        for name, value in vars(event).items():
            _assert_equal_values(value, getattr(other, name))


def _assert_equal_values(value, other):
    if isinstance(value, torch.Tensor):
        assert value.dtype == other.dtype
        torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(value, dict):
        assert list(value) == list(other)
        for name in value:
            _assert_equal_values(value[name], other[name])
    elif isinstance(value, list):
        for one, another in zip(value, other, strict=True):
            for name in vars(one):
                _assert_equal_values(getattr(one, name), getattr(another, name))
    else:
        assert value == other


@pytest.mark.parametrize(
    "case, stop_at", [*((case, 7) for case in CASES), ("momentum", 1), ("momentum", 12)]
)
def test_a_pack_goes_on_as_if_it_had_not_been_stopped(make_stepper, make_trial, case, stop_at):
    trials = [make_trial(seed=seed, **SMALL | CASES[case]) for seed in (0, 1)]
    stepper, data = make_stepper(trials)
    measured = follow(stepper, data, stop_at=stop_at)
    state = written_and_read(checkpoints.capture(stepper, measured))
    # The one that was stopped goes on as well: it is the one that was never stopped.
    whole = follow(stepper, data, measured)
    resumed, data = make_stepper(trials)
    checkpoints.restore(resumed, state)
    assert resumed.done == stop_at
    assert_equal(follow(resumed, data, state.events), whole)
    assert torch.equal(resumed.pack.parameters, stepper.pack.parameters)


@pytest.mark.parametrize("residency", ["resident", "streamed"])
@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_every_program_goes_on_in_the_middle_of_epochs_of_several_lengths(
    make_stepper, make_trial, residency, program
):
    rates = {"optimizer.learning_rate": 0.02}
    trials = [make_trial(seed=seed, **SMALL | (rates if seed % 2 else {})) for seed in range(4)]
    settings = {"program": program, "residency": residency, "doses": [130, 130, 70, 70]}
    stepper, data = make_stepper(trials, **settings)
    measured = follow(stepper, data, stop_at=7)
    state = written_and_read(checkpoints.capture(stepper, measured))
    whole = follow(stepper, data, measured)
    resumed, data = make_stepper(trials, **settings)
    checkpoints.restore(resumed, state)
    assert_equal(follow(resumed, data, state.events), whole)


def test_some_trials_of_a_pack_go_on_without_the_others(
    make_stepper, make_trial, assert_same_losses_and_columns
):
    trials = [make_trial(seed=seed, **SMALL, optimizer="adam") for seed in range(2)]
    stepper, data = make_stepper(trials)
    measured = follow(stepper, data, stop_at=6)
    state = checkpoints.from_plain(checkpoints.to_plain(checkpoints.capture(stepper, measured)))
    whole = follow(stepper, data, measured)
    for index, trial in enumerate(trials):
        alone, data = make_stepper([trial])
        own = written_and_read(state.part([index]))
        checkpoints.restore(alone, own)
        events = follow(alone, data, own.events)
        assert_same_losses_and_columns(whole, events, index)


def test_divergence_is_kept(make_stepper, make_trial):
    rates = (0.01, 1e30)
    trials = [make_trial(**SMALL, **{"optimizer.learning_rate": rate}) for rate in rates]
    stepper, data = make_stepper(trials)
    measured = follow(stepper, data, stop_at=8)
    state = written_and_read(checkpoints.capture(stepper, measured))
    whole = follow(stepper, data, measured)
    assert (state.tensors["diverged_step"] >= 0).sum() == 1
    resumed, data = make_stepper(trials)
    checkpoints.restore(resumed, state)
    assert_equal(follow(resumed, data, state.events), whole)


@pytest.mark.parametrize(
    "other",
    [
        {"width": 9},
        {"depth": 3},
        {"normalization": "batch"},
        {"optimizer": "adam", "width": 9},
        {"budget.steps": 4},
    ],
    ids=str,
)
def test_the_state_of_another_pack_is_refused_and_changes_nothing(make_stepper, make_trial, other):
    stepper, data = make_stepper([make_trial(**SMALL)])
    state = checkpoints.capture(stepper, follow(stepper, data, stop_at=8))
    another, _ = make_stepper([make_trial(**SMALL | other)])
    before = another.pack.parameters.clone()
    with pytest.raises(Unfit):
        checkpoints.restore(another, state)
    assert torch.equal(another.pack.parameters, before)
    assert another.done == 0


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"done": 3, "losses": 1, "tensors": {"a": 1}, "events": []},
        {"done": "x", "losses": 1, "tensors": {}, "events": []},
        {"done": 3, "losses": 1, "tensors": {}, "events": [{}]},
        {"done": 3, "losses": 1, "tensors": {}, "events": [{"kind": "evaluated", "step": 3}]},
        {"done": 3, "losses": 1, "tensors": {}, "events": [{"kind": "probed", "layers": 3}]},
    ],
    ids=str,
)
def test_content_that_is_no_state_is_refused(content):
    with pytest.raises(Unfit):
        checkpoints.from_plain(content)


def test_a_state_with_broken_tensors_is_refused(make_stepper, make_trial):
    stepper, data = make_stepper([make_trial(**SMALL)])
    state = checkpoints.capture(stepper, follow(stepper, data, stop_at=8))
    for name in state.tensors:
        tensors = {key: tensor for key, tensor in state.tensors.items() if key != name}
        fresh, _ = make_stepper([make_trial(**SMALL)])
        with pytest.raises(Unfit):
            checkpoints.restore(fresh, checkpoints.PackState(8, 1, tensors, []))


def _refused_and_unchanged(make_stepper, trial, state):
    fresh, _ = make_stepper([trial])
    untouched, _ = make_stepper([trial])
    with pytest.raises(Unfit):
        checkpoints.restore(fresh, state)
    assert torch.equal(fresh.pack.parameters, untouched.pack.parameters)
    assert fresh.before is None
    assert not fresh.optimizer.state()
    assert (fresh.done, fresh.losses) == (0, 0)


@pytest.mark.parametrize("missing", ["one", "all"])
def test_a_state_before_a_probe_has_all_earlier_parameters(make_stepper, make_trial, missing):
    trial = make_trial(**SMALL)
    stepper, data = make_stepper([trial])
    # Step 1 is probed.
    state = checkpoints.capture(stepper, follow(stepper, data, stop_at=1))
    before = [name for name in state.tensors if name.startswith("before/")]
    assert before
    for name in before[:1] if missing == "one" else before:
        del state.tensors[name]
    _refused_and_unchanged(make_stepper, trial, state)


def test_a_state_of_other_numbers_is_refused(make_stepper, make_trial):
    trial = make_trial(**SMALL, optimizer="adam")
    stepper, data = make_stepper([trial])
    state = checkpoints.capture(stepper, follow(stepper, data, stop_at=8))
    for name, tensor in state.tensors.items():
        others = state.tensors | {name: tensor.to(torch.float16)}
        other = checkpoints.PackState(state.done, state.losses, others, state.events)
        _refused_and_unchanged(make_stepper, trial, other)


@pytest.mark.parametrize("name", [name for name in optimizers.names() if name != "sgd"])
def test_a_state_without_an_entry_of_the_optimizer_is_refused(make_stepper, make_trial, name):
    trial = make_trial(**SMALL, optimizer=name)
    stepper, data = make_stepper([trial])
    state = checkpoints.capture(stepper, follow(stepper, data, stop_at=8))
    entries = {key.split("/")[1] for key in state.tensors if key.startswith("optimizer/")}
    assert entries
    for left_out in [*({entry} for entry in entries), entries]:
        tensors = {
            key: tensor
            for key, tensor in state.tensors.items()
            if not (key.startswith("optimizer/") and key.split("/")[1] in left_out)
        }
        other = checkpoints.PackState(state.done, state.losses, tensors, state.events)
        _refused_and_unchanged(make_stepper, trial, other)


def test_a_pack_without_momentum_goes_on_without_a_state_of_it(make_stepper, make_trial):
    trial = make_trial(**SMALL, **{"optimizer.momentum": 0.0})
    stepper, data = make_stepper([trial])
    measured = follow(stepper, data, stop_at=8)
    state = written_and_read(checkpoints.capture(stepper, measured))
    resumed, data = make_stepper([trial])
    checkpoints.restore(resumed, state)
    assert resumed.done == 8
