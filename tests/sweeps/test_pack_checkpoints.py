"""A pack that was stopped goes on from its checkpoint, with the numbers of one that was not."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle

import pandas
import pytest
import torch

from harness.errors import RequestError
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import pack_checkpoints, sweep
from harness.sweeps.pack_checkpoints import Keeper, PackCheckpoints
from harness.training.workers import Stopped

ALWAYS = 1e-9
TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 40,
    "budget.evaluations": 4,
    "budget.probes": 3,
    "probe.samples": 16,
    "seeds": 4,
    "checkpoint_minutes": ALWAYS,
}
SEARCH = {"search": "learning_rate", "search.draws": 2, "search.seeds": 2, "seeds": 2}
# Columns that say when a trial was trained and how long that took.
CIRCUMSTANCES = ["started", "ended", "seconds", "pack_id"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def stop_at(monkeypatch):
    """Makes a context that ends a sweep behind its first checkpoint from a step on."""
    ordinary = Keeper.save_if_due

    def arrange(step):
        def save(self, stepper, *rest):
            ordinary(self, stepper, *rest)
            if stepper.done >= step:
                raise Killed

        patch = pytest.MonkeyPatch()
        patch.setattr(Keeper, "save_if_due", save)
        return _Stopping(patch)

    return arrange


class _Stopping:
    def __init__(self, patch):
        self._patch = patch

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._patch.undo()
        assert kind in (Killed, Stopped)
        return True


def files(config):
    folder = PackCheckpoints(Store(config.runs).runs).folder
    return sorted(path.name for path in folder.glob("*"))


def assert_same_tables(first, second, circumstances=()):
    one, other = (collect(Store(config.runs)) for config in (first, second))
    left_out = [*CIRCUMSTANCES, *circumstances]
    pandas.testing.assert_frame_equal(
        one.trials.drop(columns=left_out), other.trials.drop(columns=left_out)
    )
    pandas.testing.assert_frame_equal(one.curves, other.curves)
    pandas.testing.assert_frame_equal(one.layers, other.layers)
    assert one.histograms.equals(other.histograms)


@pytest.mark.parametrize(
    "settings, options",
    [
        ({}, {}),
        ({"optimizer": "adam"}, {"workers": 2, "pack": 2}),
        ({"dataset.residency": "streamed"}, {"program": "stacked"}),
        (SEARCH, {"pack": 4}),
    ],
    ids=["plain", "workers", "streamed and stacked", "search"],
)
def test_a_stopped_sweep_goes_on_with_the_same_numbers(
    make_config, tmp_path, capsys, stop_at, settings, options
):
    undisturbed = make_config(**TINY | settings, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([undisturbed], **options)
    config = make_config(**TINY | settings)
    with stop_at(16):
        sweep.prefetch([config], **options)
    assert files(config)
    assert "goes on" not in capsys.readouterr().err
    sweep.prefetch([config], **options)
    assert " goes on from step 16 of 40" in capsys.readouterr().err
    assert files(config) == []
    assert_same_tables(config, undisturbed)


def test_a_sweep_that_is_stopped_again_and_again_gets_to_its_end(
    make_config, tmp_path, capsys, stop_at
):
    undisturbed = make_config(**TINY, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([undisturbed])
    config = make_config(**TINY)
    for step in (16, 32, 40):
        with stop_at(step):
            sweep.prefetch([config])
    capsys.readouterr()
    sweep.prefetch([config])
    lines = capsys.readouterr().err.splitlines()
    assert "a pack of 4 goes on from step 40 of 40" in lines
    assert_same_tables(config, undisturbed)


def test_some_trials_go_on_when_only_they_are_asked_for(make_config, capsys, stop_at):
    config = make_config(**TINY)
    with stop_at(16):
        sweep.prefetch([config])
    sweep.prefetch([make_config(**TINY | {"seeds": [1, 3]})])
    assert "a pack of 2 goes on from step 16 of 40" in capsys.readouterr().err
    # The checkpoint still serves the other two.
    assert len(files(config)) == 1
    sweep.prefetch([config])
    assert "a pack of 2 goes on from step 16 of 40" in capsys.readouterr().err
    assert files(config) == []
    assert len(collect(Store(config.runs)).trials) == 4


def test_a_pack_that_fails_goes_on_in_halves(make_config, monkeypatch, capsys):
    config = make_config(**TINY)
    ordinary = Keeper.save_if_due

    def fail(self, stepper, trials, events):
        ordinary(self, stepper, trials, events)
        if stepper.done >= 16 and len(trials) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Keeper, "save_if_due", fail)
    sweep.prefetch([config])
    lines = capsys.readouterr().err
    assert lines.count("a pack of 2 goes on from step 16 of 40") == 2
    assert files(config) == []
    assert {record.status for record in Store(config.runs).records()} == {"done"}


def replaced_header(content, **changes):
    line, _, body = content.partition(b"\n")
    return json.dumps(json.loads(line) | changes).encode() + b"\n" + body


class _Harmful:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


def _sealed(content, body):
    import hashlib

    return replaced_header(
        content.partition(b"\n")[0] + b"\n" + body, sha256=hashlib.sha256(body).hexdigest()
    )


def _plain(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _named(content, change):
    """Changes the names of the trials in the first line."""
    return replaced_header(
        content, trials=change(json.loads(content.partition(b"\n")[0])["trials"])
    )


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "cut in its first line": lambda content: content[:40],
    "emptied": lambda content: b"",
    "overwritten": lambda content: content[:-9] + b"123456789",
    "another format": lambda content: replaced_header(content, format="of tomorrow"),
    "another program": lambda content: replaced_header(content, program="x"),
    "no trials": lambda content: replaced_header(content, trials=None),
    "an empty list of trials": lambda content: replaced_header(content, trials=[]),
    "a trial twice": lambda content: _named(content, lambda names: [*names, names[0]]),
    "a path for a trial": lambda content: _named(content, lambda names: [*names, "../x"]),
    "a trial that no folder can have": lambda content: _named(content, lambda _: ["\x00"]),
    "a number for a trial": lambda content: _named(content, lambda names: [*names, 3]),
    "a text of trials": lambda content: replaced_header(content, trials="ab"),
    "endless steps": lambda content: replaced_header(content, done=float("inf")),
    "too many steps": lambda content: content.replace(b'"done": ', b'"done": 1e999, "x": ', 1),
    "no step": lambda content: replaced_header(content, done=0),
    "steps below zero": lambda content: replaced_header(content, done=-3),
    "a text of steps": lambda content: replaced_header(content, done="16"),
    "time below zero": lambda content: replaced_header(content, seconds=-1.0),
    "no number of time": lambda content: replaced_header(content, seconds=float("nan")),
    "too much time": lambda content: replaced_header(content, seconds=10**400),
    "trials doubled": lambda content: replaced_header(
        content, trials=[*json.loads(content.partition(b"\n")[0])["trials"], "x"][::-1]
    ),
    "a pickle": lambda content: _sealed(content, pickle.dumps(_Harmful())),
    "something else": lambda content: _sealed(content, _plain({"a": torch.zeros(3)})),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_or_foreign_checkpoint_is_refused_and_told(
    make_config, tmp_path, monkeypatch, capsys, stop_at, how
):
    monkeypatch.chdir(tmp_path)
    config = make_config(**TINY | {"seeds": 2, "budget.steps": 20})
    with stop_at(16):
        sweep.prefetch([config])
    (name,) = files(config)
    path = PackCheckpoints(Store(config.runs).runs).folder / name
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    sweep.prefetch([config])
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if " is refused (" in line]) == 1
    assert not any("goes on" in line for line in lines)
    assert files(config) == [f"{name}.refused"]
    assert not (tmp_path / "harmed").exists()
    assert {record.status for record in Store(config.runs).records()} == {"done"}


def test_a_checkpoint_that_cannot_be_opened_for_a_moment_is_kept(
    make_config, monkeypatch, capsys, stop_at
):
    config = make_config(**TINY)
    with stop_at(16):
        sweep.prefetch([config])
    before = files(config)
    with monkeypatch.context() as moment:
        moment.setattr(pack_checkpoints, "_read_header", _raise_stale)
        assert PackCheckpoints(Store(config.runs).runs).saved() == []
    assert files(config) == before
    sweep.prefetch([config])
    errors = capsys.readouterr().err
    assert "goes on from step 16 of 40" in errors
    assert " is refused (" not in errors


def test_a_checkpoint_that_cannot_be_read_is_told_and_kept(
    make_config, monkeypatch, capsys, stop_at
):
    config = make_config(**TINY)
    with stop_at(16):
        sweep.prefetch([config])
    monkeypatch.setattr(pack_checkpoints, "_read", _raise_stale)
    monkeypatch.setattr(pack_checkpoints, "refuse", lambda *_: pytest.fail("refused"))
    sweep.prefetch([config])
    assert f"{os.strerror(errno.ESTALE)}; its trials start again" in capsys.readouterr().err
    assert {record.status for record in Store(config.runs).records()} == {"done"}


def _raise_stale(*_):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_disk_that_takes_no_checkpoint_ends_no_training(make_config, monkeypatch, capsys):
    config = make_config(**TINY)
    from harness.store import writes

    ordinary = writes.write_bytes

    def full(path, *rest, **options):
        if path.suffix == ".checkpoint":
            raise OSError(28, "No space left on device", str(path))
        ordinary(path, *rest, **options)

    monkeypatch.setattr(pack_checkpoints.writes, "write_bytes", full)
    sweep.prefetch([config])
    assert capsys.readouterr().err.count("No space left on device; training goes on") == 1
    assert {record.status for record in Store(config.runs).records()} == {"done"}


def test_without_a_schedule_no_checkpoint_is_written(make_config, monkeypatch):
    config = make_config(**TINY | {"checkpoint_minutes": 0})
    monkeypatch.setattr(pack_checkpoints, "_content", lambda *_: pytest.fail("written"))
    sweep.prefetch([config])


def test_what_killed_writers_left_is_deleted_after_a_while(make_config):
    config = make_config(**TINY)
    checkpoints = PackCheckpoints(Store(config.runs).runs)
    checkpoints.folder.mkdir(parents=True)
    old, new = (checkpoints.folder / f".{name}.checkpoint.1.2.tmp" for name in "ab")
    for path in (old, new):
        path.write_bytes(b"torn")
    os.utime(old, (0, 0))
    sweep.prefetch([config])
    assert files(config) == [new.name]


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf")])
def test_an_impossible_time_between_checkpoints_is_refused(make_config, minutes):
    with pytest.raises(RequestError, match="checkpoint_minutes="):
        sweep.prefetch([make_config(**TINY | {"checkpoint_minutes": minutes})])
