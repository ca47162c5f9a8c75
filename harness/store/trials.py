"""One folder per trial: `trial.json`, `status.json`, `summary.json`, `curves.parquet`, `layers.parquet`, and `done` last.

A trial is claimed by a lock that the operating system frees when its holder dies, so two sweeps on one folder never
train a trial twice and a killed sweep blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from harness.errors import RequestError
from harness.store import writes

FINISHED = ("done", "diverged")
STATUSES = ("done", "diverged", "failed", "running", "interrupted")

_INTEGERS = ("step", "layer", "units", "fan_in")
_TEXTS = ("phase", "name", "kind")
_DAMAGED = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class Record:
    """What the store knows of one trial; `status` is one of STATUSES, times are ISO 8601 in UTC or None."""

    folder: Path
    trial_id: str
    cell_id: str
    seed: int
    rules_version: int
    axes: dict[str, Any]
    spec: dict[str, Any]
    status: str
    summary: dict[str, Any]
    diverged_step: int | None = None
    error: str | None = None
    traceback: str | None = None
    started: str | None = None
    ended: str | None = None

    @property
    def finished(self) -> bool:
        """Whether there is a result: done or diverged."""
        return self.status in FINISHED

    def table(self, name: str) -> pyarrow.Table:
        """The trial's own table, `curves` or `layers`; RequestError when the file is missing or damaged."""
        path = self.folder / f"{name}.parquet"
        try:
            # One small file: opening it plainly costs a third of what the data set reader does.
            with pyarrow.parquet.ParquetFile(path, memory_map=False) as file:
                return file.read(use_threads=False)
        except (OSError, pyarrow.ArrowException) as error:
            raise _damaged(path, self.folder, error) from None

    def curves(self) -> pandas.DataFrame:
        """One row per evaluation."""
        return self.table("curves").to_pandas()

    def layers(self) -> pandas.DataFrame:
        """One row per (step, layer)."""
        return self.table("layers").to_pandas()


class Claim:
    """The right to train one trial, until `release` or the end of the process; a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the claim back; a second call does nothing."""
        if self._descriptor is None:
            return
        # Deleted while still held: whoever waits for this file finds it gone and opens a new one.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Store:
    """The trials below `runs`. `sync=False` leaves the disk to itself: faster where that is slow, not safe against power failure."""

    def __init__(self, runs: Path | str, *, sync: bool = True) -> None:
        self.runs = Path(runs)
        self.trials = self.runs / "trials"
        self._sync = sync

    def folder(self, trial_id: str) -> Path:
        """Where the trial lies, whether it exists or not."""
        return self.trials / trial_id

    def check_writable(self) -> None:
        """Make the folder and write a file into it; RequestError where that is not possible."""
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.trials / f".writable.{os.getpid()}"
            writes.write_bytes(probe, b"", sync=False)
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise RequestError(f"cannot write to the runs folder {self.runs}: {reason}; give a writable folder with runs=") from None

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has its result (done or diverged); one look at the disk."""
        return os.path.exists(f"{self.trials}/{trial_id}/done")

    def claim(self, trial_id: str) -> Claim | None:
        """The right to train the trial, or None when another process has it or the trial is done meanwhile."""
        folder = self.folder(trial_id)
        path = folder / "lock"
        refusals = 0
        while refusals < 3:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _lock(descriptor, fcntl.LOCK_EX):
                os.close(descriptor)
                refusals += 1  # `_is_locked` of another process holds it for microseconds, a trainer for long
                time.sleep(0.001)
            elif not _same_file(descriptor, path):
                os.close(descriptor)  # its last holder deleted it between our two calls
            elif self.is_done(trial_id):
                Claim(path, descriptor).release()
                return None
            else:
                return Claim(path, descriptor)
        return None

    def begin(self, trial: Mapping[str, Any]) -> None:
        """Write `trial.json` and the status `running`, and clear what an earlier attempt left.

        `trial` holds trial_id, cell_id, rules_version, seed, axes and spec. Call it while holding the claim.
        """
        folder = self.folder(trial["trial_id"])
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("done", "summary.json", "curves.parquet", "layers.parquet"):
            (folder / name).unlink(missing_ok=True)
        writes.remove_temporaries(folder)
        writes.write_json(folder / "trial.json", trial, sync=False)
        self._write_status(folder, "running", started=_now(), sync=False)

    def finish(
        self,
        trial_id: str,
        status: str,
        summary: Mapping[str, Any],
        curves: pandas.DataFrame | Mapping[str, Any],
        layers: pandas.DataFrame | Mapping[str, Any],
        diverged_step: int | None = None,
    ) -> None:
        """Write the result of a trial that was begun and mark it done; `status` is `done` or `diverged`.

        `curves` has one row per evaluation, `layers` one per (step, layer), as a frame or as columns of equal length.
        """
        if status not in FINISHED:
            raise ValueError(f"a finished trial is one of {', '.join(FINISHED)}, not {status!r}")
        folder = self.folder(trial_id)
        writes.write_json(folder / "summary.json", summary, sync=self._sync)
        writes.write_parquet(folder / "curves.parquet", typed(curves), sync=self._sync)
        writes.write_parquet(folder / "layers.parquet", typed(layers), sync=self._sync)
        self._write_status(folder, status, started=_started(folder), ended=_now(), diverged_step=diverged_step)
        if self._sync:
            _sync_file(folder / "trial.json")
        # Lost in a power failure, the marker costs one more training; everything it vouches for is on the disk.
        writes.write_bytes(folder / "done", b"", sync=False)

    def fail(self, trial_id: str, error: str, traceback: str | None = None) -> None:
        """Keep why a trial that was begun could not be trained; the next sweep tries it again."""
        folder = self.folder(trial_id)
        self._write_status(folder, "failed", started=_started(folder), ended=_now(), error=error, traceback=traceback)

    def trial_ids(self) -> list[str]:
        """The trials that were ever begun, sorted."""
        try:
            with os.scandir(self.trials) as entries:
                names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if os.path.exists(f"{self.trials}/{name}/trial.json"))

    def read(self, trial_id: str) -> Record:
        """Everything about one trial but its tables.

        A trial neither finished nor failed is `running` while somebody holds its claim and `interrupted` otherwise.
        Raises RequestError, which names the file and the mend, for one that is missing or damaged.
        """
        folder = self.folder(trial_id)
        trial = _read(folder, "trial.json")
        done = self.is_done(trial_id)
        state = _read(folder, "status.json") if done else _read_if_whole(folder / "status.json")
        status = state.get("status")
        if not (done if status in FINISHED else status == "failed"):
            status = "running" if _is_locked(folder / "lock") else "interrupted"
        summary = _read(folder, "summary.json") if done else {}
        try:
            return Record(
                folder=folder,
                status=status,
                summary={name: writes.read_number(value) for name, value in summary.items()},
                **{name: trial[name] for name in ("trial_id", "cell_id", "seed", "rules_version", "axes", "spec")},
                **{name: state.get(name) for name in ("diverged_step", "error", "traceback", "started", "ended")},
            )
        except _DAMAGED as error:
            raise _damaged(folder / "trial.json", folder, error) from None

    def records(self) -> Iterator[Record]:
        """Every trial that was ever begun, in the order of the ids."""
        return map(self.read, self.trial_ids())

    def _write_status(self, folder: Path, status: str, *, sync: bool | None = None, **known: Any) -> None:
        blank = dict.fromkeys(("diverged_step", "error", "traceback", "started", "ended"))
        writes.write_json(folder / "status.json", {"status": status} | blank | known, sync=self._sync if sync is None else sync)


def typed(columns: pandas.DataFrame | Mapping[str, Any]) -> pyarrow.Table:
    """A trial's table with the same column types in every trial: int64, text, and float64 with NaN for absent."""
    fields, arrays = [], []
    for name, values in columns.items():
        kind = pyarrow.int64() if name in _INTEGERS else pyarrow.string() if name in _TEXTS else pyarrow.float64()
        fields.append(pyarrow.field(str(name), kind))
        arrays.append(pyarrow.array(values, type=kind, from_pandas=False))
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _started(folder: Path) -> str | None:
    return _read_if_whole(folder / "status.json").get("started")


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return _parsed(folder / name)
    except _DAMAGED as error:
        raise _damaged(folder / name, folder, error) from None


def _read_if_whole(path: Path) -> dict[str, Any]:
    """Nothing for a status that a killed process never wrote: the trial is not done and will be trained again."""
    try:
        return _parsed(path)
    except _DAMAGED:
        return {}


def _parsed(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        content = json.loads(file.read())
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__} where an object belongs")
    return content


def _damaged(path: Path, folder: Path, error: Exception) -> RequestError:
    reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({str(error).splitlines()[0]})"
    return RequestError(f"{path} {reason}; delete the folder {folder} and the next sweep trains that trial again")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
