"""The fastest way to train is measured, and workers do what a loop would."""

from __future__ import annotations

import threading

import pytest
import torch

from harness.errors import RequestError
from harness.sweeps import choices as cached
from harness.sweeps.cells import cell, check_options
from harness.training import fastest as choices
from harness.training.fastest import Choice, fastest
from harness.training.workers import Stopped, Workers

SIZES = (1, 2, 4, 8, 16, 32)


def test_the_fastest_of_all_is_found():
    rates = {
        ("batched", 2): {1: 10, 2: 20, 4: 40, 8: 50, 16: 49, 32: 48},
        ("stacked", 2): {1: 12, 2: 25, 4: 45, 8: 60, 16: 80, 32: 70},
        ("batched", 1): {1: 5, 2: 5, 4: 5, 8: 5, 16: 5, 32: 5},
    }
    asked = []

    def measure(choice: Choice) -> float:
        asked.append((choice.program, choice.workers, choice.pack))
        return float(rates[choice.program, choice.workers][choice.pack])

    best = fastest(
        [Choice("batched", 1, 2), Choice("batched", 1, 1), Choice("stacked", 1, 2)], measure, SIZES
    )
    assert best == Choice("stacked", 16, 2, 80.0)
    # A hopeless one is asked once, at the best size so far.
    assert [size for program, workers, size in asked if (program, workers) == ("batched", 1)] == [8]


def test_larger_packs_are_not_tried_once_they_stop_paying():
    asked = []
    best = fastest(
        [Choice("batched", 1, 1)],
        lambda choice: asked.append(choice.pack) or {1: 10.0, 2: 20.0}.get(choice.pack, 19.0),
        SIZES,
    )
    assert (best.pack, asked) == (2, [1, 2, 4, 8])


def test_one_that_does_not_run_is_not_chosen():
    best = fastest(
        [Choice("batched", 1, 1), Choice("stacked", 1, 1)],
        lambda choice: 0.0 if choice.program == "batched" else 3.0,
        SIZES,
    )
    assert best.program == "stacked"


@pytest.fixture
def members(make_config):
    def make(**changes):
        one = cell(
            make_config(
                **{
                    "depth": 2,
                    "width": 8,
                    "budget.epochs": None,
                    "budget.steps": 20,
                    "seeds": 40,
                    "probe.samples": 64,
                }
                | changes
            )
        )
        return (one.jobs,)

    return make


@pytest.fixture
def worth_measuring(monkeypatch):
    monkeypatch.setattr(cached, "_WORTH_MEASURING_SECONDS", 0.0)
    monkeypatch.setattr(cached, "_BRIEF_SECONDS", 0.0)
    monkeypatch.setattr(choices, "_READING_SECONDS", 0.005)


def test_what_was_measured_is_kept_and_used_again(
    members, tmp_path, worth_measuring, monkeypatch, capsys
):
    chosen = cached.choose(*members(), tmp_path)
    assert chosen.program in ("batched", "stacked")
    assert chosen.rate > 0
    assert 1 <= chosen.pack <= 40
    assert "fastest here for mlp depth 2 width 8" in capsys.readouterr().err
    monkeypatch.setattr(
        choices, "fastest", lambda *arguments: pytest.fail("it was measured before")
    )
    assert cached.choose(*members(), tmp_path) == chosen
    # What only changes numbers is the same kind; what changes a step is another.
    assert cached.choose(*members(initializer="orthogonal", activation="relu"), tmp_path) == chosen
    with pytest.raises(pytest.fail.Exception):
        cached.choose(*members(depth=3), tmp_path)


def test_a_damaged_cache_is_measured_anew(members, tmp_path, worth_measuring):
    cached.choose(*members(), tmp_path)
    path = tmp_path / "packs" / "choices.json"
    path.write_text("{")
    assert cached.choose(*members(), tmp_path).rate > 0
    assert path.read_text() != "{"


def test_what_the_user_fixed_is_kept(members, tmp_path, worth_measuring):
    for program, pack, workers in (("stacked", 3, 1), ("batched", 5, 2), ("stacked", 7, 2)):
        chosen = cached.choose(*members(), tmp_path, program, pack, workers)
        assert (chosen.program, chosen.pack, chosen.workers) == (program, pack, workers)


def test_short_sweeps_are_not_measured(members, tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "fastest", lambda *arguments: pytest.fail("not worth it"))
    chosen = cached.choose(*members(), tmp_path)
    assert (chosen.workers, chosen.rate, chosen.threads) == (1, 0.0, 1)
    assert not (tmp_path / "packs").exists()
    # Longer ones are shared out; only the longest are measured.
    assert cached.choose(
        *members(**{"budget.steps": 2000, "width": 64}), tmp_path
    ).workers == cached.most_workers(cached.torch.device("cpu"))
    long = {"budget.steps": 2_000_000, "width": 512}
    with pytest.raises(pytest.fail.Exception):
        cached.choose(*members(**long), tmp_path)


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
    members, tmp_path, worth_measuring, monkeypatch, error
):
    def scarce(stepper, to):
        if len(stepper.pack.trials) > 2:
            raise error

    monkeypatch.setattr(choices.Stepper, "take_steps", scarce)
    assert cached.choose(*members(), tmp_path).pack <= 2


def test_another_error_while_measuring_is_told(members, tmp_path, worth_measuring, monkeypatch):
    monkeypatch.setattr(
        choices.Stepper,
        "take_steps",
        lambda stepper, to: (_ for _ in ()).throw(
            RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        ),
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        cached.choose(*members(), tmp_path)


def test_memory_bounds_a_pack_whoever_asked_for_it(members, tmp_path, monkeypatch):
    monkeypatch.setattr(cached.devices, "free_memory", lambda device: 2 * 6 * 200_000)
    chosen = cached.choose(*members(), tmp_path, "batched", 1000, 2)
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
def test_options_that_mean_nothing_are_refused(option, message):
    with pytest.raises(RequestError, match=message.replace(".", r"\.")):
        check_options(**{"pack": "auto", "program": "auto", "workers": "auto"} | option)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_workers_do_everything_once(count):
    before = torch.get_num_threads()
    assert sorted(Workers(count, 1).map(lambda task: task**2, range(20))) == [
        task**2 for task in range(20)
    ]
    assert torch.get_num_threads() == before


def test_workers_work_at_the_same_time_with_their_share_of_threads():
    both = threading.Barrier(2, timeout=20)
    seen = list(
        Workers(2, 1).map(lambda task: (both.wait() is not None, torch.get_num_threads()), range(4))
    )
    assert seen == [(True, 1)] * 4


def test_an_error_or_an_interruption_stops_the_other_workers():
    workers, started, ended = Workers(2, 1), threading.Event(), []

    def task(number: int) -> int:
        if number == 0:
            started.wait(20)
            raise KeyboardInterrupt
        started.set()
        try:
            while True:
                workers.check()
        except Stopped:
            ended.append(number)
            raise

    with pytest.raises(KeyboardInterrupt):
        list(workers.map(task, range(6)))
    assert ended == [1]  # the running one stopped, the waiting ones never began
