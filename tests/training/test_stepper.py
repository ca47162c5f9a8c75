"""A training step works on fixed tensors alone and never waits, so that a GPU can replay it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.feeds import ResidentFeed, StreamedFeed, feed
from harness.training.packs import Pack
from harness.training.programs import TRAIN
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU = torch.device("cpu")
SHAPE, CLASSES, SAMPLES = (1, 8, 8), 10, 130
# An epoch has 4 steps.
SMALL = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 9,
    "budget.batch_size": 32,
    "budget.evaluations": 2,
    "budget.probes": 3,
}
CASES = {
    "plain": {},
    "batch": {"normalization": "batch"},
    "alpha": {"dropout": "alpha", "dropout.rate": 0.2},
    "adam": {"optimizer": "adam"},
    "cosine": {"schedule": "cosine"},
    "cnn": {"architecture": "cnn", "architecture.pool": "max"},
}
# Operations that on a GPU would make the host wait for a number or for a shape.
WAITING_OPERATIONS = {
    "_local_scalar_dense",
    "item",
    "nonzero",
    "_unique2",
    "unique_dim",
    "is_nonzero",
    "equal",
    "masked_select",
}


@pytest.fixture
def make_stepper(make_data):
    """A stepper of trials: `make_stepper(trials, residency)`."""

    def make(trials, residency: str = "auto") -> Stepper:
        pack = Pack(trials, SHAPE, CLASSES, CPU)
        data = make_data([SAMPLES] * len(trials), residency=residency)
        return Stepper(pack, data, plan(trials[0].spec, SAMPLES))

    return make


class OperationNames(TorchDispatchMode):
    """Collects the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("case", CASES)
def test_no_operation_of_a_step_waits_for_the_device(make_stepper, make_trial, case):
    stepper = make_stepper([make_trial(seed=seed, **SMALL | CASES[case]) for seed in (0, 1)])
    stepper.take_steps(5)  # past the end of an epoch
    with OperationNames() as operations:
        stepper.take_steps(8)
    # The step was seen.
    assert {"index_select", "add_"} <= operations.names
    assert not operations.names & WAITING_OPERATIONS


def tensors_of(stepper: Stepper) -> dict[str, torch.Tensor]:
    """All tensors that a step reads or changes, by name."""
    return {
        **stepper.pack.state,
        **stepper.pack.buffers,
        "parameters": stepper.pack.parameters,
        "step": stepper.pack.step,
        "loss": stepper.loss_sum,
        "diverged": stepper.divergence.step,
        "rates": stepper.optimizer.rates,
        "order": stepper.batches.orders.order,
        "next": stepper.batches.orders.position,
        "position": stepper.position,
    }


@pytest.mark.parametrize("case", CASES)
def test_tensors_of_a_step_stay_where_they_are(make_stepper, make_trial, case):
    stepper = make_stepper([make_trial(seed=seed, **SMALL | CASES[case]) for seed in (0, 1)])
    before = tensors_of(stepper)
    places = {name: tensor.data_ptr() for name, tensor in before.items()}
    stepper.take_steps(6)
    stepper.mean_loss()
    stepper.take_steps(9)
    after = tensors_of(stepper)
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == places
    assert stepper.pack.step.tolist() == [9, 9]
    assert stepper.position.tolist() == [9]


@pytest.mark.parametrize("doses", [(SAMPLES, SAMPLES, SAMPLES), (SAMPLES, 70, SAMPLES)])
def test_resident_and_streamed_batches_are_equal_to_the_bit(make_data, make_trial, doses):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 7, 0)]
    seeds = [trial.seed for trial in trials]
    trial_plan = plan(trials[0].spec, SAMPLES)
    resident = feed(make_data(list(doses), residency="resident").source, seeds, trial_plan)
    streamed = feed(make_data(list(doses), residency="streamed").source, seeds, trial_plan)
    assert isinstance(resident, ResidentFeed)
    assert isinstance(streamed, StreamedFeed)
    for done in range(9):
        resident.prepare(done)
        streamed.prepare(done)
        for from_device, from_host in zip(resident.take(), streamed.take(), strict=True):
            assert torch.equal(from_device, from_host)
            # Trials 0 and 2 have one seed, trial 1 has another.
            assert torch.equal(from_device[0], from_device[2])
            assert not torch.equal(from_device[0], from_device[1])


def test_training_with_streamed_and_resident_images_is_equal_to_the_bit(make_stepper, make_trial):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    losses = []
    for residency in ("resident", "streamed"):
        stepper = make_stepper(trials, residency)
        stepper.take_steps(9)
        losses.append(stepper.mean_loss())
    assert torch.equal(*losses)


def test_pack_is_freed_with_its_stepper(make_stepper, make_trial):
    """And with it the memory of a GPU: no garbage collection runs before the next pack is made."""
    gc.collect()
    gc.disable()
    try:
        stepper = make_stepper([make_trial(**SMALL)])
        stepper.take_steps(4)
        pack = weakref.ref(stepper.pack)
        del stepper
        assert pack() is None
    finally:
        gc.enable()


def test_steps_are_the_plain_loop_to_the_bit(make_stepper, make_trial):
    """A batch, forward, backward and an update, written out."""
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    stepper = make_stepper(trials)
    stepper.take_steps(9)
    written_out = make_stepper(trials)
    pack = written_out.pack
    loss_sum = torch.zeros(2)
    for done in range(9):
        written_out.batches.prepare(done)
        x, labels = written_out.batches.take()
        pack.step.add_(1)
        logits = pack.program(pack.state, pack.buffers, x, TRAIN)
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none"
        )
        loss = losses.view(2, -1).mean(1)
        gradients = torch.autograd.grad(loss.sum(), list(pack.state.values()))
        written_out.optimizer.step(gradients, written_out.multipliers[done])
        loss_sum += loss.detach()
    assert torch.equal(stepper.pack.parameters, pack.parameters)
    assert torch.equal(stepper.mean_loss(), loss_sum / 9)
