"""The record of one trial, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from harness.errors import RequestError
from harness.store import claims, writes

FINISHED = ("done", "diverged")
STATUSES = ("done", "diverged", "failed", "running", "interrupted")

_OF_TRIAL = {
    "trial_id": str,
    "cell_id": str,
    "seed": int,
    "rules_version": int,
    "axes": dict,
    "spec": dict,
}
# Each may be None.
_OF_STATUS = {"diverged_step": int, "error": str, "traceback": str, "started": str, "ended": str}
# Errors that a missing or damaged file causes while it is read.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True)
class Record:
    """One trial; `status` is one of STATUSES, times are ISO 8601 in UTC or None.

    `summary` is empty for a trial without a result; a value that was NaN is None.
    """

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
        """True for a trial with a result: done or diverged."""
        return self.status in FINISHED

    def table(self, name: str, wanted: Collection[str] | None = None) -> pyarrow.Table:
        """Returns the trial's table `curves` or `layers`.

        Args:
            name: `curves` or `layers`.
            wanted: only these columns, as far as the table has them.

        Raises:
            RequestError: the file is missing or damaged.
        """
        path = self.folder / f"{name}.parquet"
        try:
            # For one small file, opening it plainly costs a third of what the data set reader does.
            with pyarrow.parquet.ParquetFile(
                path, memory_map=False, page_checksum_verification=True
            ) as file:
                columns = None
                if wanted is not None:
                    names = file.schema_arrow.names
                    columns = [column for column in names if column in wanted]
                table = file.read(columns, use_threads=False)
                # Text that is no UTF-8 would fail later, where nobody knows the file.
                table.validate(full=True)
                return table
        except (OSError, pyarrow.ArrowException) as error:
            raise damaged(path, error) from None

    def columns(self, name: str, wanted: Collection[str]) -> dict[str, NDArray]:
        """Returns the wanted columns of a table as arrays, as far as it has them.

        NaN where a number is missing. Quicker than a frame of all columns.
        """
        table = self.table(name, wanted)
        return {column: table[column].to_numpy() for column in table.column_names}

    def curves(self) -> pandas.DataFrame:
        """Returns the curves: one row per evaluation."""
        return self.table("curves").to_pandas()

    def layers(self) -> pandas.DataFrame:
        """Returns the layers: one row per (step, layer)."""
        return self.table("layers").to_pandas()


def read_record(folder: Path) -> Record:
    """Reads everything about one trial but its tables.

    A trial neither finished nor failed is `running` while somebody holds its claim and
    `interrupted` otherwise.

    Raises:
        RequestError: a file is missing or damaged.
    """
    trial = _read_trial(folder / "trial.json")
    done = (folder / "done").exists()
    state = _read_state(folder / "status.json") if done else read_status(folder)
    summary = read_object(folder / "summary.json") if done else {}
    from_trial: dict[str, Any] = {name: trial[name] for name in _OF_TRIAL}
    from_status: dict[str, Any] = {name: state.get(name) for name in _OF_STATUS}
    return Record(
        folder=folder,
        status=_status(folder, done, state.get("status")),
        summary={name: writes.read_number(value) for name, value in summary.items()},
        **from_trial,
        **from_status,
    )


def read_status(folder: Path) -> dict[str, Any]:
    """Returns the content of `status.json`; empty where it is missing or damaged.

    It was never written then, or was lost with the power: the trial will be trained again.
    """
    try:
        return _read_state(folder / "status.json")
    except RequestError:
        return {}


def _read_trial(path: Path) -> dict[str, Any]:
    """Returns the content of `trial.json`; RequestError where a value is missing or another."""
    trial = read_object(path)
    for name, kind in _OF_TRIAL.items():
        if type(trial.get(name)) is not kind:
            raise damaged(path, TypeError(f"{name} is no {kind.__name__}"))
    return trial


def _read_state(path: Path) -> dict[str, Any]:
    """Returns the content of `status.json`; RequestError where a value is another."""
    state = read_object(path)
    for name, kind in _OF_STATUS.items():
        value = state.get(name)
        if value is not None and type(value) is not kind:
            raise damaged(path, TypeError(f"{name} is no {kind.__name__}"))
    return state


def _status(folder: Path, done: bool, written: object) -> str:
    if done and written in FINISHED:
        return str(written)
    if written == "failed":
        return "failed"
    return "running" if claims.is_locked(folder / "lock") else "interrupted"


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        RequestError: the file is missing or damaged.
    """
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
        if not isinstance(content, dict):
            raise ValueError(f"holds a {type(content).__name__} where an object belongs")
        return content
    except _UNREADABLE as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> RequestError:
    """Returns the error for a file of a trial that cannot be read."""
    if isinstance(error, FileNotFoundError):
        reason = "is missing"
    else:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = f"is damaged ({lines[0]})"
    return RequestError(f"{path} {reason}; the next sweep trains that trial again")
