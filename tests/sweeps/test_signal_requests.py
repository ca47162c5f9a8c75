"""A signal lets a sweep write checkpoints; SIGTERM and SIGHUP end it after that."""

from __future__ import annotations

import contextlib
import os
import pkgutil
import signal

import pytest

from harness.store.trials import Store
from harness.sweeps import command_line, signal_requests, sweep
from harness.sweeps.pack_checkpoints import Keeper, PackCheckpoints
from harness.sweeps.signal_requests import Requests, Terminated, requests
from tests.sweeps.test_processes import ended, start, wait_until

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 64,
    "budget.evaluations": 1,
    "budget.probes": 1,
    "seeds": 2,
    "checkpoint_minutes": 0,
}


@pytest.fixture(autouse=True)
def nothing_is_asked_afterwards():
    """Lets a sweep of a later test train, which no signal ends."""
    yield
    requests.ending = None


@pytest.fixture
def signalled(monkeypatch):
    """Sends a signal to this process, once or more often, at step 16 of the first pack."""
    ordinary = Keeper.save_if_due
    before = []

    def arrange(number, times=1):
        # A test run in the background may ignore the hang-up, and so would the sweep.
        before.append((number, signal.signal(number, signal.SIG_DFL)))
        # A later signal would end this very process: `pop` gives it to one of the packs alone.
        waiting = [number]

        def save(self, stepper, *rest):
            if stepper.done == 16:
                with contextlib.suppress(IndexError):
                    sent = waiting.pop()
                    for _ in range(times):
                        os.kill(os.getpid(), sent)
            ordinary(self, stepper, *rest)

        monkeypatch.setattr(Keeper, "save_if_due", save)

    yield arrange
    for number, handler in before:
        signal.signal(number, handler)


def checkpoints(config):
    return PackCheckpoints(Store(config.runs).runs).saved()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ending_signal_writes_checkpoints_and_ends(make_config, signalled, number, workers):
    config = make_config(**TINY)
    signalled(number)
    with requests.handled(), pytest.raises(Terminated):
        sweep.prefetch([config], workers=workers, pack=2 // workers)
    assert requests.exit_code == 128 + number
    assert len(checkpoints(config)) >= 1
    assert all(saved.done >= 16 for saved in checkpoints(config))
    assert {record.status for record in Store(config.runs).records()} == {"interrupted"}


def test_a_closed_terminal_that_hangs_up_twice_still_gets_a_checkpoint(
    make_config, monkeypatch, signalled
):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended without a checkpoint"))
    config = make_config(**TINY)
    signalled(signal.SIGHUP, times=2)
    with requests.handled(), pytest.raises(Terminated):
        sweep.prefetch([config])
    assert [saved.done for saved in checkpoints(config)] == [16]


DIVERGING = {"optimizer.learning_rate": 1e30, "budget.evaluations": 4}


@pytest.mark.parametrize(
    "place",
    ["harness.training.loop.final_scores", "harness.store.trials.Store.finish"],
    ids=["scoring", "storing"],
)
@pytest.mark.parametrize("settings, status", [({}, "done"), (DIVERGING, "diverged")])
def test_a_signal_behind_the_last_step_ends_the_sweep_with_its_results_stored(
    make_config, monkeypatch, settings, status, place
):
    config = make_config(**TINY | settings)
    ordinary = pkgutil.resolve_name(place)

    def signalling(*rest, **options):
        if requests.ending is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return ordinary(*rest, **options)

    monkeypatch.setattr(place, signalling)
    with requests.handled(), pytest.raises(Terminated):
        sweep.prefetch([config], workers=1)
    assert requests.exit_code == 143
    assert {record.status for record in Store(config.runs).records()} == {status}
    assert checkpoints(config) == []


def test_only_a_later_signal_ends_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    asked = Requests()
    with asked.handled(), asked.training():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert codes == []
        monkeypatch.setattr(signal_requests, "_ONE_EVENT_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert codes == [143]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_write_a_checkpoint_and_the_sweep_goes_on(
    make_config, monkeypatch, signalled, number
):
    config = make_config(**TINY)
    signalled(number)
    written = []
    from harness.store import writes

    ordinary = writes.write_bytes

    def watched(path, *rest, **options):
        written.append(path.suffix)
        ordinary(path, *rest, **options)

    monkeypatch.setattr(writes, "write_bytes", watched)
    with requests.handled():
        sweep.prefetch([config])
    assert written.count(".checkpoint") == 1
    assert {record.status for record in Store(config.runs).records()} == {"done"}


def test_outside_training_an_ending_signal_ends_at_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["train", f"runs={tmp_path}"])

    def main():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")

    assert command_line.run(main) == 143
    errors = capsys.readouterr().err
    assert errors == (
        "ended by SIGTERM: finished trials are kept, and the same command goes on from here\n"
    )


def test_the_handlers_of_others_come_back_and_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with requests.handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == requests._end
        assert signal.getsignal(signal.SIGTERM) is not requests._end
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, others)


def test_a_terminated_process_ends_with_143_and_the_same_command_goes_on(tmp_path):
    runs = tmp_path / "runs"
    words = ("seeds=2", "budget.steps=3000", "hydra.launcher.workers=1", "hydra.launcher.pack=2")
    process = start(runs, *words, "checkpoint_minutes=0.001")
    # The pack is in training once it has written a checkpoint by itself.
    wait_until(lambda: bool(PackCheckpoints(runs).saved()), process)
    process.send_signal(signal.SIGTERM)
    code, errors = ended(process)
    assert code == 143, errors
    assert errors.count("ended by SIGTERM: finished trials are kept") == 1
    assert "Traceback" not in errors
    assert len(PackCheckpoints(runs).saved()) == 1
    code, errors = ended(start(runs, *words))
    assert code == 0, errors
    assert "a pack of 2 goes on from step " in errors
    assert {record.status for record in Store(runs).records()} == {"done"}
    assert PackCheckpoints(runs).saved() == []
