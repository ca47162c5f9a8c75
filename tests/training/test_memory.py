"""The model of a pack's memory against what packs take."""

from __future__ import annotations

import gc

import pytest
import torch

from harness.benchmark import machine
from harness.sweeps import runner
from harness.sweeps.cells import cell
from harness.sweeps.inputs import pack_data
from harness.training.loop import Stepper
from harness.training.memory import bytes_per_trial, largest_pack
from harness.training.packs import Pack
from harness.training.schedules import plan

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
CASES = {
    "wide": {"width": 256},
    "adam": {"width": 256, "depth": 3, "optimizer": "adam"},
    "gelu": {"width": 128, "activation": "gelu", "budget.batch_size": 512},
    **{
        normalization: {"width": 128, "budget.batch_size": 512, "normalization": normalization}
        for normalization in ("batch", "layer", "rms", "weight_standardization")
    },
    **{
        dropout: {"width": 128, "budget.batch_size": 512, "dropout": dropout}
        for dropout in ("alpha", "standard")
    },
    "cnn": {"architecture": "cnn", "width": 12, "depth": 3, "budget.batch_size": 64},
    "cnn batch": {
        "architecture": "cnn",
        "width": 12,
        "depth": 3,
        "budget.batch_size": 64,
        "normalization": "batch",
        "dropout": "standard",
    },
    "pooled": {
        "architecture": "cnn",
        "width": 12,
        "depth": 4,
        "budget.batch_size": 64,
        "architecture.pool": "max",
    },
}
# The model may count too much by this, and never too little by more than the other.
MOST, LEAST = 2.1, 0.95


def peak(one, trials: int, device: torch.device) -> int:
    """Bytes allocated at once while a pack is made and takes some steps, its data not counted."""
    members = one.jobs[:trials]
    data = pack_data([runner.view_of(member).prepared for member in members], 2, device, "auto")

    def work() -> None:
        pack = Pack([member.trial for member in members], one.info.shape, one.info.classes, device)
        Stepper(pack, data, plan(pack.trials[0].spec, data.source.samples[0])).take_steps(4)

    if device.type == "cuda":
        machine.reset_peak_memory(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return machine.peak_memory(device) - before
    gc.collect()  # what earlier tests left would be counted when it goes
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    events = sorted(
        (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most


def measured_per_trial(one, device: torch.device) -> float:
    """Two sizes, so that what every pack needs once drops out, and what the process needs once before both."""
    peak(one, 1, device)
    return (peak(one, 8, device) - peak(one, 2, device)) / 6


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_an_upper_bound_and_not_a_loose_one(make_config, case):
    one = cell(make_config(**BASE | CASES[case], seeds=8))
    measured = measured_per_trial(one, CPU)
    model = bytes_per_trial(one.jobs[0].trial.spec, one.info.shape, one.info.classes)
    assert LEAST * measured <= model <= MOST * measured, (
        f"measured {measured:,.0f}, model {model:,.0f}, ratio {model / measured:.2f}"
    )


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)
@pytest.mark.parametrize("case", ["wide", "adam", "batch", "alpha", "cnn"])
def test_the_model_on_a_gpu(make_config, case):
    one = cell(make_config(**BASE | CASES[case], seeds=8, device="cuda"))
    measured = measured_per_trial(one, torch.device("cuda"))
    model = bytes_per_trial(one.jobs[0].trial.spec, one.info.shape, one.info.classes)
    assert LEAST * measured <= model <= MOST * measured


def test_at_least_one_trial_is_tried_however_little_memory_there_is(make_config):
    one = cell(make_config(**BASE))
    spec, facts = one.jobs[0].trial.spec, one.info
    assert largest_pack(spec, facts.shape, facts.classes, free=0) == 1
    assert (
        50
        < largest_pack(spec, facts.shape, facts.classes, free=2**32)
        < largest_pack(spec, facts.shape, facts.classes, free=2**33)
        < 4000
    )
