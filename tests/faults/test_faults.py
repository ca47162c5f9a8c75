"""After every fault the same command ends with the tables of an undisturbed sweep.

The long form disturbs real processes at a hundred random moments; see `endurance`.
"""

from __future__ import annotations

import random
import signal
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


@pytest.fixture
def undisturbed(make_config, tmp_path):
    """The tables of the sweep that the tests disturb."""
    config = make_config(**TINY, runs=str(tmp_path / "undisturbed"))
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


@pytest.mark.parametrize(
    "step", ["before it", "in the middle of it", "before it gets its name", "after it"]
)
def test_a_sweep_that_is_killed_at_any_write_goes_on(make_config, tmp_path, undisturbed, step):
    number = 0
    while True:
        number += 1
        config = make_config(**TINY, runs=str(tmp_path / f"{number}"))
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
            break
    # trial.json and status.json of two trials, two checkpoints, and five files of each result.
    assert number - 1 >= 16


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


def test_a_killed_process_loses_nothing(tmp_path):
    words = [*endurance.WORDS, "tracking=none", "depth=2"]
    expected, seconds = endurance.undisturbed(tmp_path / "undisturbed", words)
    runs = tmp_path / "killed"
    # Late moments, in which packs are trained and stored.
    disturb = endurance.killed_at_random(signal.SIGKILL, seconds, _Late())
    outcome = endurance.endure("SIGKILL", runs, words, disturb, 1)
    assert endurance.compare(outcome, expected, runs).is_clean, outcome


class _Late(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return super().uniform(0.7 * b, b)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda each: each.name)
def test_sweeps_endure_signals_at_random_moments(tmp_path, number):
    expected, seconds = endurance.undisturbed(tmp_path / "undisturbed", endurance.WORDS)
    disturb = endurance.killed_at_random(number, seconds, random.Random(0))
    runs = tmp_path / "disturbed"
    outcome = endurance.endure(number.name, runs, endurance.WORDS, disturb, 5)
    outcome = endurance.verify(endurance.compare(outcome, expected, runs), runs)
    assert outcome.is_clean, outcome
