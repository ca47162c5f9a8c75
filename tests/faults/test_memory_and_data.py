"""Memory or a data file fails: the same command ends with the tables of an undisturbed sweep."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from harness import train
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import command_line, runner, sweep
from harness.training import loop, stepper
from tests.faults import endurance
from tests.sweeps.test_processes import environment

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 20,
    "budget.evaluations": 2,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 4,
    "checkpoint_minutes": 1e-9,
}
# Where memory ends, and how the host, a GPU and torch's own allocator say so.
PLACES = {
    "weights": (runner, "Pack"),
    "steps": (stepper.Stepper, "take_steps"),
    "probe": (loop, "probe"),
    "evaluation": (loop, "evaluate"),
    "results": (runner, "results"),
}
ERRORS = {
    "weights": MemoryError(),
    "steps": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    "probe": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 GiB"),
    "evaluation": MemoryError(),
    "results": torch.OutOfMemoryError("CUDA out of memory."),
}


@pytest.fixture
def undisturbed(make_config, tmp_path):
    config = make_config(**TINY, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([config], workers=1)
    return collect(Store(config.runs))


def assert_equal(config, undisturbed):
    runs = Store(config.runs).runs
    outcome = endurance.compare(endurance.Outcome("", 1), undisturbed, runs)
    assert outcome.is_clean, outcome


def fail_at(patch, place, calls):
    """Lets these calls of a function, counted from 1, find no memory."""
    owner, name = PLACES[place]
    ordinary = getattr(owner, name)
    count = []

    def scarce(*args, **options):
        count.append(name)
        if len(count) in calls:
            raise ERRORS[place]
        return ordinary(*args, **options)

    patch.setattr(owner, name, scarce)


@pytest.mark.parametrize("place", PLACES)
def test_a_pack_without_memory_goes_on_in_halves(make_config, undisturbed, place, capsys):
    config = make_config(**TINY)
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, place, calls=(1,))
        sweep.prefetch([config], workers=1)
    assert "trying it in halves" in capsys.readouterr().err
    assert_equal(config, undisturbed)
    assert set(collect(Store(config.runs)).trials["pack_size"]) == {2}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_trials_for_which_memory_ends_altogether_are_trained_later(make_config, undisturbed, place):
    config = make_config(**TINY)
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, place, calls=range(1, 1000))
        sweep.prefetch([config], workers=1)
    assert {record.status for record in Store(config.runs).records()} == {"failed"}
    sweep.prefetch([config], workers=1)
    assert_equal(config, undisturbed)


# The process may take this much more than it has when everything is imported.
LIMITED = """
import resource, sys, runpy
import torch, harness.sweeps.sweep, scipy.stats, statsmodels.api
torch.ones(64, 64) @ torch.ones(64, 64)
used = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = (int(used.split()[1]) << 10) + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv = ["train", *sys.argv[2:]]
runpy.run_module("harness.train", run_name="__main__")
"""
LARGE = (
    *("--multirun", "depth=6", "width=512", "seeds=16", "device=cpu", "tracking=none"),
    *("budget.epochs=null", "budget.steps=2", "budget.evaluations=1", "budget.probes=1"),
    *("probe.samples=64", "hydra.launcher.pack=16", "hydra.launcher.workers=1"),
)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [40, 120, 250])
def test_a_limit_of_the_system_costs_no_trial(tmp_path, megabytes):
    """How it ends depends on where memory ends; the same command without the limit goes on."""
    expected = endurance.undisturbed(tmp_path / "undisturbed", LARGE[1:])[0]
    runs = tmp_path / "runs"
    command = [sys.executable, "-c", LIMITED, str(megabytes << 20), *LARGE, f"runs={runs}"]
    limited = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert limited.returncode != 2, limited.stderr
    if limited.returncode == 0:
        assert "trying it in halves" in limited.stderr
    code, errors = endurance.Sweep(runs, LARGE[1:]).finish()
    assert code == 0, errors
    outcome = endurance.compare(endurance.Outcome("", 1), expected, runs)
    assert outcome.is_clean, outcome


@pytest.fixture
def images(tmp_path):
    """Twelve images in each of two classes."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 256, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


def test_a_data_file_cut_short_is_refused_and_nothing_is_changed(
    tmp_path, images, monkeypatch, capsys
):
    def run(runs):
        words = [f"{name}={'null' if value is None else value}" for name, value in TINY.items()]
        words += ["dataset=image_folder", f"dataset.root={images}", "tracking=none"]
        monkeypatch.setattr("sys.argv", ["harness.train", *words, f"runs={runs}"])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        return command_line.run(train.main)

    def files():
        return {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}

    assert run(tmp_path / "undisturbed") == 0
    runs = tmp_path / "runs"
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, "steps", calls=range(2, 6))
        assert run(runs) == 1
    before = files()
    done = len(list(runs.glob("trials/*/done")))
    assert 0 < done < 4
    path = images / "dog" / "7.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    capsys.readouterr()
    assert run(runs) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert f"{path}: not a readable image" in errors
    assert files() == before
    path.write_bytes(whole)
    assert run(runs) == 0
    expected = collect(Store(tmp_path / "undisturbed"))
    outcome = endurance.compare(endurance.Outcome("", 1), expected, runs)
    assert outcome.is_clean, outcome
