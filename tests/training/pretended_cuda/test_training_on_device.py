"""Training on a GPU mixes no devices, never waits within steps, and ends as on a CPU.

The device is pretended; see `conftest.py` beside this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.benchmark.plain import PlainData, PlainTrial
from harness.data.batches import Resident, Streamed, make_source
from harness.sweeps import cells, runner
from harness.training import stepper as stepping
from harness.training.events import Event, Stepped
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130
# An epoch has 4 steps.
SMALL = {
    "depth": 2,
    "width": 9,
    "budget.epochs": None,
    "budget.steps": 5,
    "budget.batch_size": 32,
    "budget.evaluations": 1,
    "budget.probes": 1,
}


@pytest.fixture
def waits_in_steps(gpu, monkeypatch) -> list[str]:
    """Calls that waited for the device within training steps and their preparation."""
    take_steps = Stepper.take_steps
    waits = []

    def watched(stepper: Stepper, *arguments: float) -> None:
        before = len(gpu.waits)
        take_steps(stepper, *arguments)
        waits.extend(gpu.waits[before:])

    monkeypatch.setattr(Stepper, "take_steps", watched)
    return waits


def measured_events(events: Iterable[Event]) -> list[Event]:
    """Returns the events but for those of progress, whose number depends on the machine."""
    return [event for event in events if not isinstance(event, Stepped)]


def columns(event: Any) -> dict[str, Tensor]:
    """All tensors of an event by name, as they lie."""
    tensors = {name: value for name, value in vars(event).items() if isinstance(value, Tensor)}
    tensors |= getattr(event, "scores", {})
    for layer in getattr(event, "layers", []):
        for name, value in layer.columns.items():
            tensors[f"{layer.name} {name}"] = value
    return tensors


TWO_EQUAL = [{}, {}]
MIXED = [
    {"activation": "selu"},
    {"activation": "relu", "optimizer.learning_rate": 0.05},
    {"activation": "selu", "schedule": "cosine", "optimizer.weight_decay": 0.01},
]
# Settings of all trials, what differs between them, and the program.
CASES = {
    "mixed": ({"budget.probes": 2, "dropout": "alpha", "dropout.rate": 0.2}, MIXED, "auto"),
    "intervals": (
        {"probe.statistics": "full", "optimizer": "adamw", "activation": "gelu"},
        TWO_EQUAL,
        "auto",
    ),
    "intervals of a cnn": (
        {
            "architecture": "cnn",
            "architecture.pool": "max",
            "normalization": "batch",
            "probe.statistics": "full",
        },
        TWO_EQUAL,
        "auto",
    ),
    "standardized cnn": (
        {
            "architecture": "cnn",
            "architecture.padding": "circular",
            "normalization": "weight_standardization",
            "optimizer": "adam",
            "dropout": "standard",
            "dropout.rate": 0.2,
        },
        TWO_EQUAL,
        "auto",
    ),
    "augmented": (
        {
            "budget.probes": 2,
            "augmentation": "crop_flip",
            "augmentation.padding": 2,
            "normalization": "spectral_norm",
        },
        TWO_EQUAL,
        "auto",
    ),
    "stacked": (
        {
            "budget.probes": 2,
            "normalization": "rms",
            "dropout": "alpha",
            "dropout.rate": 0.2,
            "optimizer": "sgd",
        },
        [{}, {"optimizer.learning_rate": 0.05}],
        "stacked",
    ),
    "stacked cnn": (
        {
            "architecture": "cnn",
            "architecture.head": "average",
            "normalization": "layer",
            "normalization.position": "after",
            "optimizer": "adam",
        },
        TWO_EQUAL,
        "stacked",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_pack_is_made_trained_probed_and_evaluated_on_the_device(
    gpu, waits_in_steps, make_trial, make_data, case
):
    settings, differences, program = CASES[case]
    trials = [
        make_trial(seed=seed, **SMALL | settings | own) for seed, own in enumerate(differences)
    ]
    doses = [TRAINING_SAMPLES] * len(trials)
    trial_plan = plan(trials[0].spec, TRAINING_SAMPLES)
    pack = Pack(trials, SHAPE, CLASSES, CPU, program)
    on_host = measured_events(train(pack, make_data(doses), trial_plan))
    with gpu:
        pack = Pack(trials, SHAPE, CLASSES, CUDA, program)
        on_device = measured_events(train(pack, make_data(doses, CUDA), trial_plan))
        assert gpu.has(pack.parameters)
        for event in on_device:
            assert all(gpu.has(value) for value in columns(event).values())
    assert waits_in_steps == []
    assert gpu.waits
    for event, expected in zip(on_device, on_host, strict=True):
        torch.testing.assert_close(
            columns(event), columns(expected), rtol=2e-3, atol=2e-5, equal_nan=True
        )


@pytest.fixture
def host_autocast(monkeypatch) -> None:
    """Lets autocasting for "cuda" act on the host's operations, which are what runs."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device_type, dtype: autocast("cpu", dtype))


@pytest.mark.usefixtures("host_autocast")
@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_steps_in_bfloat16_are_near_those_in_float32(
    gpu, waits_in_steps, make_trial, make_data, program, normalization
):
    losses = []
    for precision in ("float32", "bfloat16"):
        settings = SMALL | {"normalization": normalization, "precision": precision}
        trials = [make_trial(seed=seed, **settings) for seed in (0, 1)]
        with gpu:
            pack = Pack(trials, SHAPE, CLASSES, CUDA, program)
            data = make_data([TRAINING_SAMPLES] * 2, CUDA)
            stepper = Stepper(pack, data, plan(trials[0].spec, TRAINING_SAMPLES))
            stepper.take_steps(5)
            losses.append(stepper.mean_loss().cpu())
    assert waits_in_steps == []
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.0)


@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_whole_packs_run_from_their_data_to_their_results(
    gpu, waits_in_steps, make_config, residency
):
    """Numbers of samples, preprocessings and repairs differ within the pack."""
    differences = [
        {"seeds": [0, 1]},
        {"dataset.training_samples": 100, "preprocessing": "zca"},
        {"repair": "lsuv"},
        {"initializer": "lsuv"},
        {"repair": "center_rows"},
        {"repair": "per_sample"},
    ]
    outcomes = {}
    for device in ("cpu", "cuda"):
        jobs = []
        for own in differences:
            settings = SMALL | {"dataset.residency": residency} | own
            cell = cells.cell(make_config(**settings))
            for job in cell.jobs:
                config = dataclasses.replace(job.config, device=device)
                jobs.append(dataclasses.replace(job, config=config))
        if device == "cpu":
            outcomes[device] = runner.run_pack(jobs, "auto", lambda steps: None)
        else:
            with gpu:
                outcomes[device] = runner.run_pack(jobs, "auto", lambda steps: None)
    assert waits_in_steps == []
    for on_host, on_device in zip(outcomes["cpu"], outcomes["cuda"], strict=True):
        assert on_host.layers.keys() == on_device.layers.keys()
        assert on_device.summary["device"] == "pretended"
        for name in (
            "pre_activation_variance",
            "unit_wasserstein_q50",
            "saturated_share",
            "entropy_rank",
            "gradient_square",
        ):
            assert on_device.layers[name] == pytest.approx(
                on_host.layers[name], rel=2e-3, abs=1e-5, nan_ok=True
            ), name
        assert on_device.summary["test_loss"] == pytest.approx(
            on_host.summary["test_loss"], rel=1e-3
        )


@pytest.mark.parametrize("free, source_type", [(2**40, Resident), (2**10, Streamed)])
def test_images_lie_on_the_device_where_there_is_room(gpu, images, monkeypatch, free, source_type):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    pixels, labels = images
    with gpu:
        source = make_source([pixels], labels, [0], CUDA)
        assert isinstance(source, source_type)
        indices = torch.zeros(1, 4, dtype=torch.int64, device=source.index_device)
        assert all(gpu.has(tensor) for tensor in source.gather(indices))


@pytest.mark.parametrize("logged", [False, True])
def test_plain_trial_of_the_benchmark_runs_on_the_device(gpu, make_trial, images, logged):
    pixels, labels = images
    trial = make_trial(**SMALL)
    training = pixels[:TRAINING_SAMPLES], labels[:TRAINING_SAMPLES]
    held_out = pixels[TRAINING_SAMPLES:], labels[TRAINING_SAMPLES:]
    data = PlainData(training, held_out, held_out, held_out)
    scores = []
    for device in (CPU, CUDA):
        torch.manual_seed(0)
        with gpu:
            plain = PlainTrial(
                trial, data, plan(trial.spec, TRAINING_SAMPLES), CLASSES, device, logged
            )
            scores.append(plain.run(lambda metrics, step: None))
            on_device = device == CUDA
            for parameter in plain.network.parameters():
                assert gpu.has(parameter) == on_device
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


@pytest.fixture
def make_stepper(make_trial, make_data):
    """A stepper of one trial on the device; called within `with gpu:`."""

    def make() -> Stepper:
        trial = make_trial(**SMALL)
        pack = Pack([trial], SHAPE, CLASSES, CUDA)
        data = make_data([TRAINING_SAMPLES], CUDA)
        return Stepper(pack, data, plan(trial.spec, TRAINING_SAMPLES))

    return make


def test_pretended_device_refuses_a_misplaced_tensor(gpu, make_stepper, monkeypatch):
    losses = stepping.trial_losses

    def misplacing(logits: Tensor, labels: Tensor) -> Tensor:
        return losses(logits, labels) + torch.zeros(len(labels))

    monkeypatch.setattr(stepping, "trial_losses", misplacing)
    with gpu, pytest.raises(gpu.error, match="aten.add"):
        make_stepper().take_steps(1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda loss: loss.sum().item(),
        lambda loss: loss[loss > 0],
        lambda loss: loss.cpu(),
        lambda loss: torch.tensor([1.0], device=loss.device),
        lambda loss: bool(loss.isfinite().all()),
    ],
    ids=["item", "mask", "copy to the host", "numbers from the host", "condition"],
)
def test_pretended_device_notices_a_wait(gpu, waits_in_steps, make_stepper, monkeypatch, wait):
    note = stepping.Divergence.note

    def waiting(divergence, loss: Tensor, step) -> None:
        wait(loss)
        note(divergence, loss, step)

    monkeypatch.setattr(stepping.Divergence, "note", waiting)
    with gpu:
        make_stepper().take_steps(2)
    assert len(waits_in_steps) == 2
