"""A pack on a GPU goes on from a checkpoint with everything on its device.

The device is pretended; see `conftest.py` beside this file.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.training import checkpoints
from harness.training import stepper as stepping
from harness.training.events import Evaluated, Probed, Stepped
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CUDA = torch.device("cuda")
SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130
SMALL = {
    "depth": 2,
    "width": 9,
    "budget.epochs": None,
    "budget.steps": 5,
    "budget.batch_size": 32,
    "budget.evaluations": 1,
    "budget.probes": 2,
}
CASES = {
    "momentum": {},
    "adam batch": {"optimizer": "adam", "normalization": "batch"},
    "streamed": {"residency": "streamed"},
}


def tensors(event: Evaluated | Probed) -> list[Tensor]:
    if isinstance(event, Evaluated):
        return [event.train_loss, event.validation_loss, event.validation_accuracy]
    found = [layer.histogram for layer in event.layers]
    for layer in event.layers:
        found += layer.columns.values()
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_pack_goes_on_on_its_device(gpu, make_trial, make_data, monkeypatch, case):
    monkeypatch.setattr(stepping, "_REPORT_EVERY", 1)
    settings = dict(CASES[case])
    residency = settings.pop("residency", "auto")
    trials = [make_trial(seed=seed, **SMALL | settings) for seed in (0, 1)]
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)

    def stepper_and_data():
        pack = Pack(trials, SHAPE, CLASSES, CUDA)
        data = make_data([TRAINING_SAMPLES] * 2, CUDA, residency)
        return Stepper(pack, data, trial_plan), data

    with gpu:
        stepper, data = stepper_and_data()
        measured = []
        for event in train(stepper.pack, data, trial_plan, stepper):
            if not isinstance(event, Stepped):
                measured.append(event)
            elif event.step == 3:
                plain = checkpoints.to_plain(checkpoints.capture(stepper, measured))
        assert not any(gpu.has(tensor) for tensor in plain["tensors"].values())
        resumed, data = stepper_and_data()
        state = checkpoints.from_plain(plain)
        checkpoints.restore(resumed, state)
        assert gpu.has(resumed.pack.parameters)
        assert all(gpu.has(tensor) for tensor in resumed.optimizer.state().values())
        events = checkpoints.events_on(CUDA, state)
        for event in events:
            assert all(gpu.has(tensor) for tensor in tensors(event))
        events += list(train(resumed.pack, data, trial_plan, resumed))
    assert resumed.done == stepper.done == 5
    difference = resumed.pack.parameters - stepper.pack.parameters
    assert float(difference.abs().max()) == 0
