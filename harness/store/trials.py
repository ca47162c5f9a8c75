"""The folders of trials: writing, claiming and listing them.

A folder holds `trial.json`, `status.json`, `summary.json`, `curves.parquet`, `layers.parquet`,
`weights.safetensors` where trained weights are kept, and `done`, which is written last and vouches
for the others. A folder that is not whole costs no other
trial: it does not count as done, and whoever reads the store sets it aside and names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow

from harness.errors import RequestError
from harness.store import claims, wholeness, writes
from harness.store.claims import Claim
from harness.store.records import Record, read_object, read_record, read_status

_INTEGERS = ("step", "layer", "units", "fan_in")
# Text even where a table has no row, or no row with a text.
TEXT_COLUMNS = ("phase", "name", "kind", "absent")
# Lists of whole numbers; a row without a list is null.
_LISTS = ("histogram",)
# Files that an earlier attempt may have left. `mlflow.json` stays: it names the run that the next
# result replaces.
_RESULTS = ("done", "summary.json", "curves.parquet", "layers.parquet", wholeness.WEIGHTS)


class Store:
    """The trials below the folder `runs`.

    `sync=False` leaves the time of writing to the operating system: faster where the disk is slow,
    and not safe against power failure.
    """

    def __init__(self, runs: Path | str, *, sync: bool = True) -> None:
        self.runs = Path(runs)
        self.trials = self.runs / "trials"
        self._sync = sync
        # Signatures of the markers of trials that were found whole, by id.
        self._whole: dict[str, tuple[int, int]] = {}

    @classmethod
    def existing(cls, runs: Path | str) -> Store:
        """Returns the store in an existing folder.

        Raises:
            RequestError: there is no such folder.
        """
        if not Path(runs).is_dir():
            raise RequestError(f"there is no runs folder {runs}; give one with --runs")
        return cls(runs)

    def folder(self, trial_id: str) -> Path:
        """Returns the trial's folder, whether it exists or not.

        Raises:
            RequestError: the id is a path, which may lead out of the store.
        """
        if os.path.basename(trial_id) != trial_id or trial_id in ("", ".", ".."):
            raise RequestError(f"{trial_id!r} is no id of a trial")
        return self.trials / trial_id

    def check_writable(self) -> None:
        """Makes the folder and writes a file into it.

        Raises:
            RequestError: that is not possible.
        """
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.trials / f".writable.{os.getpid()}"
            writes.write_bytes(probe, b"", sync=False)
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise RequestError(
                f"cannot write to the runs folder {self.runs}: {reason}; "
                "give a writable folder with runs="
            ) from None

    def is_done(self, trial_id: str, weights: str = "none") -> bool:
        """Returns whether the trial has its whole result (done or diverged).

        Its files are read once; after that it is one look at the disk.

        Args:
            trial_id: the trial.
            weights: the weights that it has to keep as well, `best` or `last`. A diverged trial
                keeps none, so it has everything that it can have.
        """
        folder = self.folder(trial_id)
        if wholeness.signature(folder) is None or self.damage(trial_id):
            return False
        if weights == "none" or wholeness.kept_weights(folder) == weights:
            return True
        return read_status(folder).get("status") == "diverged"

    def damage(self, trial_id: str, *, thorough: bool = False) -> str | None:
        """Returns what is wrong with a trial that is marked as done; None where nothing is.

        Args:
            trial_id: the trial.
            thorough: reads everything anew; see `wholeness.check`.
        """
        folder = self.folder(trial_id)
        signature = wholeness.signature(folder)
        if signature is None or (self._whole.get(trial_id) == signature and not thorough):
            return None
        try:
            wholeness.check(folder, thorough=thorough)
        except RequestError as error:
            return str(error)
        self._whole[trial_id] = signature
        return None

    def has_failed(self, trial_id: str) -> bool:
        """Returns whether the trial was tried and could not be trained; see `failed_at`."""
        return self.failed_at(trial_id) is not None

    def failed_at(self, trial_id: str) -> str | None:
        """Returns when the trial was tried and could not be trained, or None.

        None also where the folder is empty or damaged: the next attempt writes it anew. Only the
        status is read, as another sweep may have claimed the trial, which makes its folder, and not
        have begun it yet.
        """
        if self.is_done(trial_id):
            return None
        status = read_status(self.folder(trial_id))
        if status.get("status") != "failed":
            return None
        return status.get("ended") or "unknown"

    def ended(self, trial_id: str) -> str | None:
        """Returns when the trial ended, in ISO 8601; None where that is unknown."""
        ended = read_status(self.folder(trial_id)).get("ended")
        return ended if isinstance(ended, str) else None

    def cell_of(self, trial_id: str) -> str | None:
        """Returns the id of the trial's cell; None where that cannot be read."""
        try:
            cell_id = read_object(self.folder(trial_id) / "trial.json").get("cell_id")
        except RequestError:
            return None
        return cell_id if isinstance(cell_id, str) else None

    def claim(self, trial_id: str, weights: str = "none") -> Claim | None:
        """Takes the right to train the trial.

        A held claim keeps one file open, so claim what trains next and not a whole sweep.

        Args:
            trial_id: the trial.
            weights: the weights that it has to keep; see `is_done`.

        Returns:
            The claim, or None where another process has it or the trial is done meanwhile.

        Raises:
            NotStored: the lock file cannot be made.
        """
        folder = self.folder(trial_id)
        with writes.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            claim = claims.take(folder / "lock")
        if claim is not None and self.is_done(trial_id, weights):
            claim.release()
            return None
        return claim

    def begin(self, trial: Mapping[str, Any]) -> None:
        """Writes `trial.json` and the status `running`, and clears what an earlier attempt left.

        To be called while holding the claim. `trial` holds trial_id, cell_id, rules_version, seed,
        axes and spec.

        Raises:
            NotStored: a file cannot be written.
        """
        folder = self.folder(trial["trial_id"])
        with writes.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in _RESULTS:
                (folder / name).unlink(missing_ok=True)
            writes.remove_temporaries(folder)
            writes.write_json(folder / "trial.json", trial, sync=False)
            _write_status(folder, "running", started=_now())

    def finish(
        self,
        trial_id: str,
        *,
        summary: Mapping[str, Any],
        curves: pandas.DataFrame | Mapping[str, Any],
        layers: pandas.DataFrame | Mapping[str, Any],
        diverged_step: int | None = None,
        weights: tuple[str, bytes] | None = None,
    ) -> None:
        """Writes the result of a trial that was begun, and marks it done.

        What it was trained from may be deleted then: result and mark are on the disk, unless the
        store does not wait for it.

        Args:
            trial_id: the trial.
            summary: its final values by name.
            curves: one row per evaluation, as a frame or as columns of equal length.
            layers: one row per (step, layer), likewise.
            diverged_step: the step at which the trial diverged; its status says so.
            weights: which weights are kept, `best` or `last`, and the content of their file.

        Raises:
            NotStored: a file cannot be written, and the trial is not done; or the disk does not
                confirm the mark, and a power failure may take it back.
        """
        folder = self.folder(trial_id)
        with writes.storing(folder):
            writes.write_json(folder / "summary.json", summary, sync=False)
            writes.write_parquet(folder / "curves.parquet", typed(curves), sync=False)
            writes.write_parquet(folder / "layers.parquet", typed(layers), sync=False)
            _write_status(
                folder,
                "done" if diverged_step is None else "diverged",
                started=_started(folder),
                ended=_now(),
                diverged_step=diverged_step,
            )
            names = list(wholeness.VOUCHED_FOR)
            if weights is not None:
                names.append(wholeness.WEIGHTS)
                writes.write_bytes(folder / wholeness.WEIGHTS, weights[1], sync=False)
            if self._sync:
                # First, so that whenever the power fails, what a marker vouches for is there.
                writes.sync_paths(folder / name for name in names)
            marker = wholeness.marker(folder, "none" if weights is None else weights[0])
            writes.write_bytes(folder / wholeness.MARKER, marker, sync=False)
            if self._sync:
                # The folder lists the files under their names, the marker among them.
                writes.sync_paths([folder / wholeness.MARKER, folder])
        written = wholeness.signature(folder)
        if written is not None:
            self._whole[trial_id] = written

    def fail(self, trial_id: str, error: str, traceback: str | None = None) -> None:
        """Keeps why a trial that was begun could not be trained; the next sweep tries it again.

        Raises:
            NotStored: the status cannot be written.
        """
        folder = self.folder(trial_id)
        with writes.storing(folder):
            _write_status(
                folder,
                "failed",
                started=_started(folder),
                ended=_now(),
                error=error,
                traceback=traceback,
            )

    def trial_ids(self) -> list[str]:
        """Returns the names of all folders in which a trial was ever begun, sorted."""
        try:
            with os.scandir(self.trials) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir()
                ]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if self._was_begun(name))

    def read(self, trial_id: str) -> Record:
        """Reads everything about one trial but its tables; see `read_record`.

        Raises:
            RequestError: the trial is damaged; the message says what becomes of it.
        """
        reason = self.damage(trial_id)
        if reason is not None:
            raise RequestError(reason)
        record = read_record(self.folder(trial_id))
        wholeness.check_name(record.folder, {"trial_id": record.trial_id})
        return record

    def read_all(self) -> tuple[list[Record], dict[str, str]]:
        """Reads every trial that was ever begun.

        Returns:
            The records in the order of the ids, and the reason for each folder that is set aside
            because it is damaged or a copy, by its name.
        """
        records = []
        set_aside = {}
        for trial_id in self.trial_ids():
            try:
                records.append(self.read(trial_id))
            except RequestError as error:
                set_aside[trial_id] = str(error)
        return records, set_aside

    def records(self) -> list[Record]:
        """Returns the records of all trials that can be read, in the order of the ids."""
        return self.read_all()[0]

    def _was_begun(self, name: str) -> bool:
        folder = f"{self.trials}/{name}"
        return any(os.path.exists(f"{folder}/{file}") for file in ("trial.json", wholeness.MARKER))


def typed(columns: pandas.DataFrame | Mapping[str, Any]) -> pyarrow.Table:
    """Returns a trial's table with the same column types in every trial.

    The types are int64, text, lists of int32, and float64 with NaN for absent values.
    """
    arrays = {str(name): _array(str(name), values) for name, values in columns.items()}
    return pyarrow.table(arrays)


def _write_status(folder: Path, status: str, **values: Any) -> None:
    content: dict[str, Any] = {"status": status}
    content |= dict.fromkeys(("diverged_step", "error", "traceback", "started", "ended"))
    writes.write_json(folder / "status.json", content | values, sync=False)


def _array(name: str, values: Any) -> pyarrow.Array:
    if name in _INTEGERS:
        return pyarrow.array(numpy.asarray(values, dtype=numpy.int64))
    if name in _LISTS:
        return pyarrow.array(list(values), type=pyarrow.list_(pyarrow.int32()))
    if name in TEXT_COLUMNS:
        texts = [value if isinstance(value, str) else None for value in values]
        return pyarrow.array(texts, type=pyarrow.string())
    array = numpy.asarray(values)
    if array.dtype.kind not in "biufO":
        return pyarrow.array(array.tolist(), type=pyarrow.string())
    if array.dtype.kind == "O":
        return _mixed(array.tolist())
    return pyarrow.array(array.astype(numpy.float64))


def _mixed(values: list[Any]) -> pyarrow.Array:
    """Returns text with gaps, numbers with gaps, or a column of nulls, which joins with either."""
    present = [value for value in values if value is not None]
    if not present:
        return pyarrow.nulls(len(values))
    if any(isinstance(value, str) for value in present):
        texts = [value if isinstance(value, str) else None for value in values]
        return pyarrow.array(texts, type=pyarrow.string())
    numbers = [float("nan") if value is None else float(value) for value in values]
    return pyarrow.array(numbers, type=pyarrow.float64())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _started(folder: Path) -> str | None:
    return read_record(folder).started
