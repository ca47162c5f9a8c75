"""Checkpoints of packs as files: `runs/packs/checkpoints/KEY.checkpoint`.

A file is a line that says what it is, with the SHA-256 of the rest, and the state of a pack as
torch writes tensors and plain values. Nothing else is ever read from it. A file that is torn, or
that is something else, is refused, renamed and named in one line; its trials then start again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.configuration.messages import first_line
from harness.store import writes
from harness.sweeps.cells import PROGRAMS
from harness.sweeps.progress import say
from harness.sweeps.signal_requests import requests
from harness.training import checkpoints, devices
from harness.training.checkpoints import PackState, Unfit
from harness.training.events import Event
from harness.training.stepper import Stepper

_SUFFIX = ".checkpoint"
_REFUSED_SUFFIX = ".refused"
_FORMAT = "harness pack checkpoint 1"
# A header names some thousand trials at most.
_LONGEST_HEADER = 2**20
# Torch writes a zip archive; its older format is a bare pickle.
_ARCHIVE_MAGIC = b"PK\x03\x04"
# A temporary file this old belongs to a writer that was killed.
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class Saved:
    """A checkpoint that a file has, by its first line.

    Attributes:
        path: the file.
        trials: the ids of its trials, in the order of its state.
        program: the program that trained the pack.
        done: the steps taken.
        seconds: how long that took.
    """

    path: Path
    trials: tuple[str, ...]
    program: str
    done: int
    seconds: float


class PackCheckpoints:
    """The checkpoints in one `runs` folder."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs / "packs" / "checkpoints"

    def saved(self) -> list[Saved]:
        """Returns the checkpoints there are, those with the most steps first.

        A file that holds something else is refused. One that the system does not give is left out:
        that may pass, as with a shared disk or too many open files.
        """
        found = []
        for path in sorted(self.folder.glob(f"[!.]*{_SUFFIX}")):
            try:
                found.append(_read_header(path))
            except OSError:
                continue
            except Unfit as error:
                refuse(path, error)
        return sorted(found, key=lambda saved: -saved.done)

    def clean(self, is_done: Callable[[str], bool]) -> None:
        """Deletes checkpoints whose trials all have a result, and what killed writers left."""
        for path in self.folder.glob(f"[!.]*{_SUFFIX}"):
            with contextlib.suppress(OSError, Unfit):
                if all(is_done(trial_id) for trial_id in _read_header(path).trials):
                    path.unlink()
        for path in self.folder.glob(f".*{_SUFFIX}.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def find(self, trials: Collection[str]) -> Path | None:
        """Returns the checkpoint with the most steps that has all these trials, or None."""
        for saved in self.saved():
            if set(trials) <= set(saved.trials):
                return saved.path
        return None

    def path(self, trials: Sequence[str]) -> Path:
        """Returns the file of a pack of these trials."""
        key = hashlib.sha256(" ".join(sorted(trials)).encode()).hexdigest()[:16]
        return self.folder / f"{key}{_SUFFIX}"


class Keeper:
    """Writes the checkpoints of one attempt at a pack, and reads the one that it goes on from.

    Args:
        checkpoints: where they are.
        trials: the ids of the pack's trials.
        program: the program that trains it.
        minutes: the time between two checkpoints; 0 writes them only when a signal asks for one.
    """

    def __init__(
        self, checkpoints: PackCheckpoints, trials: Sequence[str], program: str, minutes: float
    ) -> None:
        self.resumed_steps = 0
        self._checkpoints = checkpoints
        self._path = checkpoints.path(trials)
        self._program = program
        self._interval = minutes * 60
        self._asked = requests.checkpoints
        self._began = self._written = time.monotonic()
        self._seconds_before = 0.0
        self._told = False

    @property
    def seconds(self) -> float:
        """The time that the pack has taken so far, in earlier attempts too."""
        return self._seconds_before + time.monotonic() - self._began

    def restore(self, stepper: Stepper, trials: Sequence[str]) -> list[Event]:
        """Lets a pack go on from the best checkpoint that has all its trials, if there is one.

        Args:
            stepper: the pack before its first step.
            trials: the ids of its trials, in the pack's order.

        Returns:
            The measurements so far.
        """
        path = self._checkpoints.find(trials)
        if path is None:
            return []
        try:
            saved, state = _read(path)
            state = state.part([saved.trials.index(trial_id) for trial_id in trials])
            events = checkpoints.events_on(stepper.pack.device, state)
            # Last, as it refuses a state or takes all of it.
            checkpoints.restore(stepper, state)
        except FileNotFoundError:
            return []
        except OSError as error:
            say(f"cannot read {path}: {_reason(error)}; its trials start again", sys.stderr)
            return []
        except Exception as error:  # of many kinds, for a file that somebody made to look right
            if devices.out_of_memory(error):
                raise
            refuse(path, error)
            return []
        self.resumed_steps = state.done
        self._seconds_before = saved.seconds * len(trials) / len(saved.trials)
        steps = stepper.plan.steps
        say(f"a pack of {len(trials)} goes on from step {state.done} of {steps}", sys.stderr)
        return events

    def save_if_due(self, stepper: Stepper, trials: Sequence[str], events: Sequence[Event]) -> None:
        """Writes a checkpoint where the time has come or a signal asks for one.

        A disk that takes no checkpoint ends no training: it is said once.

        Args:
            stepper: the pack between two steps.
            trials: the ids of its trials, in the pack's order.
            events: the measurements so far.
        """
        asked = requests.checkpoints
        is_time = 0 < self._interval <= time.monotonic() - self._written
        # A signal to end may have come before this attempt began.
        is_asked = asked != self._asked or requests.ending is not None
        if not is_asked and not is_time:
            return
        self._asked = asked
        about = {"trials": list(trials), "program": self._program, "seconds": self.seconds}
        try:
            write(self._path, checkpoints.capture(stepper, events), about)
        except OSError as error:
            if not self._told:
                self._told = True
                say(f"cannot write {self._path}: {_reason(error)}; training goes on", sys.stderr)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Deletes the checkpoint of this pack, which has its outcome."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def write(path: Path, state: PackState, about: dict[str, Any]) -> None:
    """Writes a checkpoint and waits until it is on the disk.

    Args:
        path: its file.
        state: the state of the pack.
        about: what the first line says besides: `trials`, `program` and `seconds`.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writes.write_bytes(path, _content(state, about))


def refuse(path: Path, error: Exception) -> None:
    """Renames a checkpoint that cannot be used, so that it is told once, and tells it."""
    with contextlib.suppress(OSError):
        os.replace(path, path.with_name(f"{path.name}{_REFUSED_SUFFIX}"))
    say(f"{path} is refused ({first_line(error)}); its trials start again", sys.stderr)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _content(state: PackState, about: dict[str, Any]) -> bytes:
    payload = io.BytesIO()
    torch.save(checkpoints.to_plain(state), payload)
    body = payload.getvalue()
    header = {
        "format": _FORMAT,
        "done": state.done,
        "sha256": hashlib.sha256(body).hexdigest(),
        **about,
    }
    return json.dumps(header).encode() + b"\n" + body


def _read_header(path: Path) -> Saved:
    """Reads the first line of a checkpoint.

    Raises:
        OSError: the file cannot be read.
        Unfit: it is torn, or no checkpoint.
    """
    with open(path, "rb") as file:
        return _header(path, file.readline(_LONGEST_HEADER))[0]


def _read(path: Path) -> tuple[Saved, PackState]:
    """Reads a checkpoint.

    Raises:
        OSError: the file cannot be read.
        Unfit: it is torn, it was changed, or it is no checkpoint.
    """
    # Read in one go: the file may be replaced meanwhile.
    line, _, body = path.read_bytes().partition(b"\n")
    saved, digest = _header(path, line)
    if hashlib.sha256(body).hexdigest() != digest:
        raise Unfit("it is torn: its content is not what was written")
    if not body.startswith(_ARCHIVE_MAGIC):
        raise Unfit("it is no archive of tensors")
    # Refuses everything but tensors and plain values.
    content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return saved, checkpoints.from_plain(content)


def _header(path: Path, line: bytes) -> tuple[Saved, str]:
    """Returns what the first line says, and the digest of the rest."""
    try:
        header = json.loads(line)
        if header["format"] != _FORMAT:
            raise Unfit(f"it is a {header['format']}, not a {_FORMAT}")
        if header["program"] not in PROGRAMS:
            raise Unfit(f"there is no program {header['program']}")
        trials, done, seconds = _trials(header["trials"]), header["done"], header["seconds"]
        if type(done) is not int or done < 1:
            raise Unfit(f"{done} is no number of steps")
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise Unfit(f"{seconds} is no time in seconds")
        return Saved(path, trials, header["program"], done, float(seconds)), header["sha256"]
    except Unfit:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise Unfit("it is torn, or no checkpoint") from None


def _trials(names: Any) -> tuple[str, ...]:
    """Returns the ids of trials that a first line names.

    Raises:
        Unfit: they are no ids, of which folders may be made, or one is there twice.
    """
    if not isinstance(names, list) or not names:
        raise Unfit("it names no trials")
    for name in names:
        if not isinstance(name, str) or not name.isascii() or not name.isalnum():
            raise Unfit("it names a trial by what is no id")
    if len(set(names)) < len(names):
        raise Unfit("it names a trial twice")
    return tuple(names)


def matching(saved: Sequence[Saved], waiting: Iterable[str]) -> Iterator[tuple[Saved, list[str]]]:
    """Gives each checkpoint that has trials which wait, with those trials in its order.

    Args:
        saved: the checkpoints, the best first; a trial goes on from the first that has it.
        waiting: the ids of the trials that wait.
    """
    left = set(waiting)
    for checkpoint in saved:
        trials = [trial_id for trial_id in checkpoint.trials if trial_id in left]
        if trials:
            left.difference_update(trials)
            yield checkpoint, trials
