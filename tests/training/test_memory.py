"""The model of a pack's memory is a close upper bound of what packs take."""

from __future__ import annotations

import gc

import pytest
import torch

from harness.benchmark import machine
from harness.networks.layout import layer_sizes
from harness.sweeps import runner
from harness.sweeps.cells import Cell, cell
from harness.sweeps.inputs import pack_data
from harness.training.memory import bytes_per_trial, largest_pack
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU = torch.device("cpu")
BASE = {
    "dataset": "gaussian",
    "dataset.samples": 2000,
    "budget.epochs": None,
    "budget.steps": 20,
    "budget.probes": 5,
    "budget.batch_size": 128,
    "depth": 6,
}
LARGE_BATCH = {"width": 128, "budget.batch_size": 512}
CNN = {"architecture": "cnn", "width": 12, "depth": 3, "budget.batch_size": 64}
CASES = {
    "wide": {"width": 256},
    "adam": {"width": 256, "depth": 3, "optimizer": "adam"},
    "gelu": LARGE_BATCH | {"activation": "gelu"},
    "batch": LARGE_BATCH | {"normalization": "batch"},
    "layer": LARGE_BATCH | {"normalization": "layer"},
    "rms": LARGE_BATCH | {"normalization": "rms"},
    "weight_standardization": LARGE_BATCH | {"normalization": "weight_standardization"},
    "alpha": LARGE_BATCH | {"dropout": "alpha"},
    "standard": LARGE_BATCH | {"dropout": "standard"},
    "cnn": CNN,
    "cnn batch": CNN | {"normalization": "batch", "dropout": "standard"},
    "residual": LARGE_BATCH | {"architecture": "resnet", "depth": 7},
    "listed": {
        "architecture": "stack",
        "architecture.layers": [
            {"conv": 8, "pool": "max", "pool_size": 3, "pool_stride": 1},
            {"conv": 12, "padding": "valid", "stride": 2},
            {"dense": 64},
        ],
        "depth": 3,
        "width": [8, 12, 64],
    },
    "pooled": CNN | {"depth": 4, "architecture.pool": "max"},
}
# The model divided by the measurement must lie between these.
LEAST_RATIO, MOST_RATIO = 0.95, 2.1


def peak_bytes(cell: Cell, trials: int, device: torch.device) -> int:
    """The most bytes allocated at once while a pack is made and takes steps, without its data."""
    jobs = cell.jobs[:trials]
    prepared = [runner.view_of(job).prepared for job in jobs]
    data = pack_data(prepared, 2, device, "auto")

    def work() -> None:
        trials_of_pack = [job.trial for job in jobs]
        pack = Pack(trials_of_pack, cell.info.shape, cell.info.classes, device)
        trial_plan = plan(pack.trials[0].spec, data.source.samples[0])
        Stepper(pack, data, trial_plan).take_steps(4)

    if device.type == "cuda":
        machine.reset_peak_memory(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return machine.peak_memory(device) - before
    gc.collect()  # what earlier tests left would be counted when it is freed
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    events.sort(key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most


def measured_bytes_per_trial(cell: Cell, device: torch.device) -> float:
    """The difference between two sizes, in which what every pack needs once drops out."""
    peak_bytes(cell, 1, device)  # allocates what the process needs once
    return (peak_bytes(cell, 8, device) - peak_bytes(cell, 2, device)) / 6


def assert_bound(cell: Cell, device: torch.device) -> None:
    measured = measured_bytes_per_trial(cell, device)
    spec = cell.jobs[0].trial.spec
    model = bytes_per_trial(spec, cell.info.shape, cell.info.classes)
    assert LEAST_RATIO <= model / measured <= MOST_RATIO, (
        f"measured {measured:,.0f}, model {model:,.0f}, ratio {model / measured:.2f}"
    )


@pytest.mark.parametrize("case", CASES)
def test_model_of_memory_is_a_close_upper_bound_on_a_cpu(make_config, case):
    assert_bound(cell(make_config(**BASE | CASES[case], seeds=8)), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)
@pytest.mark.parametrize("case", ["wide", "adam", "batch", "alpha", "cnn"])
def test_model_of_memory_is_a_close_upper_bound_on_a_gpu(make_config, case):
    config = make_config(**BASE | CASES[case], seeds=8, device="cuda")
    assert_bound(cell(config), torch.device("cuda"))


def test_at_least_one_trial_fits_however_little_memory_there_is(make_config):
    request = cell(make_config(**BASE))
    spec, info = request.jobs[0].trial.spec, request.info
    sizes = [largest_pack(spec, info.shape, info.classes, free) for free in (0, 2**32, 2**33)]
    assert sizes[0] == 1
    assert 50 < sizes[1] < sizes[2] < 4000


def test_weights_that_are_kept_while_training_are_counted(make_config):
    request = cell(make_config(**BASE))
    network = request.jobs[0].trial.spec, request.info.shape, request.info.classes
    sizes = layer_sizes(*network)
    parameters = sum((size.fan_in + 1) * size.units for size in sizes)
    added = bytes_per_trial(*network, kept_copies=1) - bytes_per_trial(*network)
    assert added == 4 * parameters
