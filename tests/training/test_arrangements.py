"""The fastest arrangement is measured, kept for the next sweep, and bounded by memory."""

from __future__ import annotations

import pytest
import torch

from harness.errors import RequestError
from harness.sweeps import choices
from harness.sweeps.cells import cell, check_options
from harness.training import arrangements, devices
from harness.training.arrangements import Arrangement, fastest_arrangement
from harness.training.stepper import Stepper
from harness.training.workers import most_workers

SIZES = (1, 2, 4, 8, 16, 32)


def test_fastest_arrangement_of_all_is_returned():
    rates = {
        ("batched", 2): {1: 10, 2: 20, 4: 40, 8: 50, 16: 49, 32: 48},
        ("stacked", 2): {1: 12, 2: 25, 4: 45, 8: 60, 16: 80, 32: 70},
        ("batched", 1): {1: 5, 2: 5, 4: 5, 8: 5, 16: 5, 32: 5},
    }
    measured = []

    def measure(arrangement: Arrangement) -> float:
        measured.append((arrangement.program, arrangement.workers, arrangement.pack))
        return float(rates[arrangement.program, arrangement.workers][arrangement.pack])

    candidates = [
        Arrangement("batched", 1, workers=2),
        Arrangement("batched", 1, workers=1),
        Arrangement("stacked", 1, workers=2),
    ]
    best = fastest_arrangement(candidates, measure, SIZES)
    assert best == Arrangement("stacked", 16, 2, 80.0)
    # A hopeless candidate is measured once, at the best size so far.
    hopeless = [pack for program, workers, pack in measured if (program, workers) == ("batched", 1)]
    assert hopeless == [8]


def test_larger_packs_are_not_tried_once_they_stop_paying():
    measured = []

    def measure(arrangement: Arrangement) -> float:
        measured.append(arrangement.pack)
        return {1: 10.0, 2: 20.0}.get(arrangement.pack, 19.0)

    best = fastest_arrangement([Arrangement("batched", 1, 1)], measure, SIZES)
    assert best.pack == 2
    assert measured == [1, 2, 4, 8]


def test_arrangement_that_cannot_run_is_not_returned():
    best = fastest_arrangement(
        [Arrangement("batched", 1, 1), Arrangement("stacked", 1, 1)],
        lambda arrangement: 0.0 if arrangement.program == "batched" else 3.0,
        SIZES,
    )
    assert best.program == "stacked"


@pytest.fixture
def jobs(make_config):
    """The trials of a cell of 40 seeds: `jobs(depth=3)`."""
    defaults = {
        "depth": 2,
        "width": 8,
        "budget.epochs": None,
        "budget.steps": 20,
        "seeds": 40,
        "probe.samples": 64,
    }

    def make(**settings):
        request = cell(make_config(**defaults | settings))
        return request.jobs

    return make


@pytest.fixture
def always_measured(monkeypatch) -> None:
    """Lets short sweeps be measured, and each reading be short."""
    monkeypatch.setattr(choices, "_WORTH_MEASURING_SECONDS", 0.0)
    monkeypatch.setattr(choices, "_BRIEF_SECONDS", 0.0)
    monkeypatch.setattr(arrangements, "_READING_SECONDS", 0.005)


@pytest.fixture
def never_measured(monkeypatch) -> None:
    """Fails the test when an arrangement is measured."""
    forbid_measuring(monkeypatch)


def forbid_measuring(monkeypatch) -> None:
    def fail(*arguments):
        pytest.fail("an arrangement was measured")

    monkeypatch.setattr(arrangements, "fastest_arrangement", fail)


@pytest.mark.usefixtures("always_measured")
def test_measured_arrangement_is_kept_and_used_again(jobs, tmp_path, monkeypatch, capsys):
    chosen = choices.choose(jobs(), tmp_path)
    assert chosen.program in ("batched", "stacked")
    assert chosen.rate > 0
    assert 1 <= chosen.pack <= 40
    assert "mlp depth 2 width 8" in capsys.readouterr().err
    forbid_measuring(monkeypatch)
    assert choices.choose(jobs(), tmp_path) == chosen
    # What only changes numbers needs no new measurement; what changes a step does.
    same_speed = jobs(initializer="orthogonal", activation="relu")
    assert choices.choose(same_speed, tmp_path) == chosen
    with pytest.raises(pytest.fail.Exception):
        choices.choose(jobs(depth=3), tmp_path)


@pytest.mark.usefixtures("always_measured")
def test_damaged_file_of_arrangements_is_measured_anew(jobs, tmp_path):
    choices.choose(jobs(), tmp_path)
    path = tmp_path / "packs" / "choices.json"
    path.write_text("{")
    assert choices.choose(jobs(), tmp_path).rate > 0
    assert path.read_text() != "{"


@pytest.mark.usefixtures("always_measured")
def test_options_that_the_user_fixed_are_kept_without_a_measurement(jobs, tmp_path, monkeypatch):
    forbid_measuring(monkeypatch)
    for program, pack, workers in (("stacked", 3, 1), ("batched", 5, 2), ("stacked", 7, 2)):
        chosen = choices.choose(jobs(), tmp_path, program, pack, workers)
        assert (chosen.program, chosen.pack, chosen.workers) == (program, pack, workers)


@pytest.mark.usefixtures("never_measured")
@pytest.mark.parametrize(
    "precision, asked, workers",
    [("float32", None, 2), ("float32", 6, 6), ("bfloat16", 3, 3), ("tf32", 6, 1)],
)
def test_packs_of_other_shapes_train_beside_a_single_trial_on_a_gpu(
    jobs, tmp_path, monkeypatch, precision, asked, workers
):
    monkeypatch.setattr(devices, "resolve", lambda *request: torch.device("cuda"))
    monkeypatch.setattr(devices, "free_memory", lambda device: 2**33)
    monkeypatch.setattr(choices, "_BRIEF_SECONDS", 0.0)
    monkeypatch.setattr("harness.training.workers.cores", lambda: 16)
    single = jobs(seeds=1, device="cuda", precision=precision)
    assert choices.choose(single, tmp_path, workers=asked).workers == workers


@pytest.mark.usefixtures("never_measured")
def test_only_long_sweeps_are_measured(jobs, tmp_path):
    brief = choices.choose(jobs(), tmp_path)
    assert brief.workers == 1
    assert brief.rate == 0.0
    assert brief.threads == 1
    assert not (tmp_path / "packs").exists()
    # A longer one is shared out among workers.
    longer = choices.choose(jobs(**{"budget.steps": 2000, "width": 64}), tmp_path)
    assert longer.workers == most_workers(torch.device("cpu"))
    longest = jobs(**{"budget.steps": 2_000_000, "width": 512})
    with pytest.raises(pytest.fail.Exception):
        choices.choose(longest, tmp_path)


@pytest.mark.usefixtures("always_measured")
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
    ids=str,
)
def test_sizes_for_which_memory_does_not_suffice_are_passed_over(
    jobs, tmp_path, monkeypatch, error
):
    def take_steps(stepper: Stepper, to: int) -> None:
        if len(stepper.pack.trials) > 2:
            raise error

    monkeypatch.setattr(Stepper, "take_steps", take_steps)
    assert choices.choose(jobs(), tmp_path).pack <= 2


@pytest.mark.usefixtures("always_measured")
def test_other_errors_while_measuring_are_raised(jobs, tmp_path, monkeypatch):
    def take_steps(stepper: Stepper, to: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Stepper, "take_steps", take_steps)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        choices.choose(jobs(), tmp_path)


def test_memory_bounds_a_pack_that_the_user_asked_for(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda device: 2 * 6 * 200_000)
    chosen = choices.choose(jobs(), tmp_path, "batched", 1000, 2)
    assert 1 <= chosen.pack < 40


@pytest.mark.parametrize(
    "option, message",
    [
        ({"pack": 0}, "hydra.launcher.pack=0: expected auto or an integer of at least 1"),
        ({"pack": "many"}, "hydra.launcher.pack=many"),
        ({"pack": True}, "hydra.launcher.pack=True"),
        ({"workers": 0}, "hydra.launcher.workers=0"),
        ({"workers": 1.5}, "hydra.launcher.workers=1.5"),
        ({"program": "magic"}, "expected one of auto, batched, stacked"),
    ],
)
def test_meaningless_options_are_refused(option, message):
    options = {"pack": "auto", "program": "auto", "workers": "auto"} | option
    with pytest.raises(RequestError, match=message.replace(".", r"\.")):
        check_options(**options)
