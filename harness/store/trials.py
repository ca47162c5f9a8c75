"""One folder per trial: `trial.json`, `status.json`, `summary.json`, `curves.parquet`, `layers.parquet`, and `done` last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow

from harness.errors import RequestError
from harness.store import claims, writes
from harness.store.claims import Claim
from harness.store.records import Record, read_record, read_status

_INTEGERS = ("step", "layer", "units", "fan_in")
_TEXTS = ("phase", "name", "kind")
_RESULTS = ("done", "summary.json", "curves.parquet", "layers.parquet", "mlflow.json")


class Store:
    """The trials below `runs`. `sync=False` leaves the disk to itself: faster where that is slow, not safe against power failure."""

    def __init__(self, runs: Path | str, *, sync: bool = True) -> None:
        self.runs = Path(runs)
        self.trials = self.runs / "trials"
        self._sync = sync

    @classmethod
    def existing(cls, runs: Path | str) -> Store:
        """The store in a folder that must be there; RequestError otherwise."""
        if not Path(runs).is_dir():
            raise RequestError(f"there is no runs folder {runs}; give one with --runs")
        return cls(runs)

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
            raise RequestError(
                f"cannot write to the runs folder {self.runs}: {reason}; give a writable folder with runs="
            ) from None

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has its result (done or diverged); one look at the disk."""
        return os.path.exists(f"{self.trials}/{trial_id}/done")

    def has_failed(self, trial_id: str) -> bool:
        """Whether the trial was tried and could not be trained; see `failed_at`."""
        return self.failed_at(trial_id) is not None

    def failed_at(self, trial_id: str) -> str | None:
        """When the trial was tried and could not be trained; None for one whose folder is empty or damaged, which the next attempt writes anew.

        It reads the status alone: another sweep may have claimed the trial, which makes its folder, and not have begun it yet.
        """
        status = {} if self.is_done(trial_id) else read_status(self.folder(trial_id))
        return (status.get("ended") or "unknown") if status.get("status") == "failed" else None

    def claim(self, trial_id: str) -> Claim | None:
        """The right to train the trial, or None when another process has it or the trial is done meanwhile.

        A held claim keeps one file open, so claim what trains next, not a whole sweep. NotStored where there can be no claim.
        """
        folder = self.folder(trial_id)
        with writes.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            claim = claims.take(folder / "lock")
        if claim is not None and self.is_done(trial_id):
            claim.release()
            return None
        return claim

    def begin(self, trial: Mapping[str, Any]) -> None:
        """Write `trial.json` and the status `running`, and clear what an earlier attempt left.

        `trial` holds trial_id, cell_id, rules_version, seed, axes and spec. Call it while holding the claim. NotStored where it cannot be written.
        """
        folder = self.folder(trial["trial_id"])
        with writes.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in _RESULTS:
                (folder / name).unlink(missing_ok=True)
            writes.remove_temporaries(folder)
            writes.write_json(folder / "trial.json", trial, sync=False)
            self._write_status(folder, "running", started=_now())

    def finish(
        self,
        trial_id: str,
        *,
        summary: Mapping[str, Any],
        curves: pandas.DataFrame | Mapping[str, Any],
        layers: pandas.DataFrame | Mapping[str, Any],
        diverged_step: int | None = None,
    ) -> None:
        """Write the result of a trial that was begun and mark it done; it is `diverged` where `diverged_step` is given.

        `curves` has one row per evaluation, `layers` one per (step, layer), as a frame or as columns of equal length.
        NotStored where a file cannot be written; the trial is not done then.
        """
        folder = self.folder(trial_id)
        with writes.storing(folder):
            writes.write_json(folder / "summary.json", summary, sync=False)
            writes.write_parquet(folder / "curves.parquet", typed(curves), sync=False)
            writes.write_parquet(folder / "layers.parquet", typed(layers), sync=False)
            status = "done" if diverged_step is None else "diverged"
            self._write_status(
                folder, status, started=_started(folder), ended=_now(), diverged_step=diverged_step
            )
            if self._sync:
                writes.sync_folder(
                    folder,
                    (
                        "trial.json",
                        "status.json",
                        "summary.json",
                        "curves.parquet",
                        "layers.parquet",
                    ),
                )
            # Lost in a power failure, the marker costs one more training; everything it vouches for is on the disk.
            writes.write_bytes(folder / "done", b"", sync=False)

    def fail(self, trial_id: str, error: str, traceback: str | None = None) -> None:
        """Keep why a trial that was begun could not be trained; the next sweep tries it again. NotStored where that cannot be written."""
        folder = self.folder(trial_id)
        with writes.storing(folder):
            self._write_status(
                folder,
                "failed",
                started=_started(folder),
                ended=_now(),
                error=error,
                traceback=traceback,
            )

    def trial_ids(self) -> list[str]:
        """The trials that were ever begun, sorted."""
        try:
            with os.scandir(self.trials) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir()
                ]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if os.path.exists(f"{self.trials}/{name}/trial.json"))

    def read(self, trial_id: str) -> Record:
        """Everything about one trial but its tables; see `read_record`."""
        return read_record(self.folder(trial_id))

    def records(self) -> Iterator[Record]:
        """Every trial that was ever begun, in the order of the ids."""
        return map(self.read, self.trial_ids())

    def _write_status(self, folder: Path, status: str, **known: Any) -> None:
        blank = dict.fromkeys(("diverged_step", "error", "traceback", "started", "ended"))
        writes.write_json(folder / "status.json", {"status": status} | blank | known, sync=False)


def typed(columns: pandas.DataFrame | Mapping[str, Any]) -> pyarrow.Table:
    """A trial's table with the same column types in every trial: int64, text, and float64 with NaN for absent."""
    arrays = {str(name): _array(str(name), values) for name, values in columns.items()}
    return pyarrow.table(arrays)


def _array(name: str, values: Any) -> pyarrow.Array:
    if name in _INTEGERS:
        return pyarrow.array(numpy.asarray(values, dtype=numpy.int64))
    values = numpy.asarray(values)
    if name in _TEXTS or values.dtype.kind not in "biufO":
        return pyarrow.array(values.tolist(), type=pyarrow.string())
    if values.dtype.kind == "O":
        return _mixed(values.tolist())
    return pyarrow.array(values.astype(numpy.float64))


def _mixed(values: list[Any]) -> pyarrow.Array:
    """Text with gaps, numbers with gaps, or nothing at all, which joins with either."""
    present = [value for value in values if value is not None]
    if not present:
        return pyarrow.nulls(len(values))
    if any(isinstance(value, str) for value in present):
        return pyarrow.array(
            [value if isinstance(value, str) else None for value in values], type=pyarrow.string()
        )
    return pyarrow.array(
        [float("nan") if value is None else float(value) for value in values],
        type=pyarrow.float64(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _started(folder: Path) -> str | None:
    return read_record(folder).started
