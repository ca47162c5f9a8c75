"""After every fault the same command ends with the tables of an undisturbed sweep.

The long form disturbs real processes at a hundred random moments; see `endurance`.
"""

from __future__ import annotations

import random
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from harness.store import trials, writes
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import pack_checkpoints, sweep
from tests.faults import endurance

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 20,
    "budget.evaluations": 2,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 2,
    "checkpoint_minutes": 1e-9,
}


class Killed(BaseException):
    """Stands for the end of the process: nothing is cleaned up behind it."""


# What else is written: the record of a search, and trained weights.
SEARCHED = TINY | {
    "search": "learning_rate",
    "search.draws": 2,
    "search.seeds": 1,
    "keep_weights": "best",
    "seeds": 1,
}


@pytest.fixture
def undisturbed(make_config, tmp_path):
    """The tables of the sweep that the tests disturb."""
    return undisturbed_tables(make_config, tmp_path, TINY)


def undisturbed_tables(make_config, tmp_path, choices):
    config = make_config(**choices, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([config])
    return collect(Store(config.runs))


def outcome_of(config, expected):
    return endurance.compare(endurance.Outcome("", 1), expected, Store(config.runs).runs)


def torn_write(step, number):
    """Returns a way to write files that ends the process at one step of one write."""
    written = []

    def write_bytes(path, content, *, sync=True):
        written.append(path.name)
        torn = len(written) == number
        temporary = path.with_name(f".{path.name}.1.{number}.tmp")
        if torn and step == "before it":
            raise Killed
        if torn and step == "in the middle of it":
            temporary.write_bytes(content[: len(content) // 2])
            raise Killed
        temporary.write_bytes(content)
        if torn and step == "before it gets its name":
            raise Killed
        temporary.replace(path)
        if torn:
            raise Killed

    return write_bytes, written


# Before a write is after the one before it, and a whole temporary file is as good as half of one.
_ALIKE = [
    pytest.param("before it", marks=pytest.mark.slow),
    pytest.param("before it gets its name", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("step", ["in the middle of it", "after it", *_ALIKE])
def test_a_sweep_that_is_killed_at_any_write_goes_on(make_config, tmp_path, step):
    # trial.json and status.json of two trials, two checkpoints, and five files of each result.
    assert kill_at_every_write(make_config, tmp_path, step, TINY) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before it", "in the middle of it", "after it"])
def test_a_search_that_is_killed_at_any_write_goes_on(make_config, tmp_path, step):
    # Six to seven files of each of three trials, the record of the search twice.
    assert kill_at_every_write(make_config, tmp_path, step, SEARCHED) >= 20


def kill_at_every_write(make_config, tmp_path, step, choices):
    """Kills sweeps at one write after the other, lets each go on, and returns their number."""
    undisturbed = undisturbed_tables(make_config, tmp_path, choices)
    number = 0
    while True:
        number += 1
        config = make_config(**choices, runs=str(tmp_path / f"{number}"))
        write_bytes, written = torn_write(step, number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writes, "write_bytes", write_bytes)
            try:
                sweep.prefetch([config])
            except Killed:
                was_killed = True
            else:
                was_killed = False
        sweep.prefetch([config])
        outcome = outcome_of(config, undisturbed)
        assert outcome.is_clean, (written, outcome)
        folder = pack_checkpoints.PackCheckpoints(Store(config.runs).runs).folder
        assert not list(folder.glob("[!.]*"))
        if not was_killed:
            return number - 1


def test_a_clock_that_jumps_changes_nothing(make_config, monkeypatch, undisturbed):
    chance = random.Random(0)

    def jumping():
        now = datetime.now(UTC) + timedelta(days=chance.uniform(-9000, 9000))
        return now.isoformat(timespec="milliseconds")

    monkeypatch.setattr(trials, "_now", jumping)
    config = make_config(**TINY)
    sweep.prefetch([config])
    assert outcome_of(config, undisturbed).is_clean
    monkeypatch.undo()
    sweep.prefetch([config])
    assert outcome_of(config, undisturbed).is_clean


def test_the_comparison_sees_what_is_lost_doubled_or_changed(make_config, tmp_path, undisturbed):
    fewer = make_config(**TINY | {"seeds": 1}, runs=str(tmp_path / "fewer"))
    more = make_config(**TINY | {"seeds": 3}, runs=str(tmp_path / "more"))
    for config in (fewer, more):
        sweep.prefetch([config])
    assert outcome_of(fewer, undisturbed).lost == 1
    assert outcome_of(more, undisturbed).doubled == 1
    assert {name.split()[0] for name in outcome_of(more, undisturbed).unequal} == {
        "trials",
        "curves",
        "layers",
    }


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tmp_path, make_config):
    """The process is killed as soon as it has written a checkpoint."""
    settings = TINY | {"budget.steps": 1500, "device": "cpu"}
    words = [f"{key}={'null' if value is None else value}" for key, value in settings.items()]
    words += ["budget=short", "tracking=none"]
    runs = tmp_path / "killed"
    folder = pack_checkpoints.PackCheckpoints(runs).folder

    process = endurance.Sweep(runs, words)
    until = time.monotonic() + 120
    while not list(folder.glob("[!.]*")) and time.monotonic() < until:
        assert not process.ended, process.finish()[1]
        time.sleep(0.005)
    process.send(signal.SIGKILL)
    process.finish()
    assert not list((runs / "trials").glob("*/done"))
    config = make_config(**settings, runs=str(runs))
    sweep.prefetch([config])
    alone = make_config(**settings | {"checkpoint_minutes": 0})
    sweep.prefetch([alone])
    assert outcome_of(config, collect(Store(alone.runs))).is_clean


@pytest.mark.slow
@pytest.mark.parametrize("fault", endurance.FAULTS)
def test_sweeps_endure_faults_at_random_moments(tmp_path, fault):
    course = endurance.Course(tmp_path, random.Random(0))
    try:
        outcome = course.endure(fault, rounds=3)
    finally:
        course.close()
    assert outcome.is_clean, outcome
