"""Tidy tables over all trials: `trials` (one row each), `curves` and `layers` (join on trial_id for the axes)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import pyarrow

from harness.errors import RequestError
from harness.store import writes
from harness.store.records import Record
from harness.store.trials import Store

_TEXT = ("trial_id", "cell_id", "status", "error", "started", "ended")
_ALWAYS_FLOAT = ("diverged_step",)
_READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Tables:
    """`trials`: ids, seed, status, one column per axis, `spec.*`, the summary. `curves`, `layers`: trial_id, then the trial's own rows."""

    trials: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame

    def write(self, folder: Path) -> list[Path]:
        """Write `trials.parquet`, `curves.parquet` and `layers.parquet` into `folder`, each in one step.

        Raises RequestError where the folder cannot be written.
        """
        paths = [folder / f"{name}.parquet" for name in ("trials", "curves", "layers")]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                writes.write_parquet(path, getattr(self, path.stem), sync=False)
        except OSError as error:
            raise RequestError(
                f"cannot write the tables to {folder}: {error.strerror or error}"
            ) from None
        return paths


def collect(store: Store) -> Tables:
    """Read every trial of the store; failed, running and interrupted ones have a row in `trials` and nothing else.

    A value a trial does not have is NaN. Numbers of the summary are float64 in every collection; axes and settings
    that are whole numbers in every trial are int64. Raises RequestError for a damaged trial.
    """
    records = list(store.records())
    finished = [record for record in records if record.finished]
    return Tables(trials_table(records), joined(finished, "curves"), joined(finished, "layers"))


def trials_table(records: Iterable[Record]) -> pandas.DataFrame:
    """One row per trial; see `collect`."""
    rows = list(records)
    parts = [
        _frame([_identity(record) for record in rows], whole=("seed",)),
        _frame([dict(flat(record.axes)) for record in rows], whole=None),
        _frame([dict(flat(record.spec, "spec.")) for record in rows], whole=None),
        _frame([dict(flat(record.summary)) for record in rows], whole=()),
    ]
    parts[3] = parts[3].drop(
        columns=[name for name in parts[3] if name in parts[0] or name in parts[1]]
    )
    return pandas.concat(parts, axis="columns")


def joined(records: Iterable[Record], name: str) -> pandas.DataFrame:
    """The tables `name` of all records below each other, with the trial's id as the first column."""
    with ThreadPoolExecutor(_READERS) as readers:
        pieces = list(
            readers.map(lambda record: _with_id(record.table(name), record.trial_id), records)
        )
    if not pieces:
        return pandas.DataFrame({"trial_id": pandas.Series(dtype="str")})
    return pyarrow.concat_tables(pieces, promote_options="permissive").to_pandas()


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dict under dotted names; a list is one leaf, as JSON text."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value


def _identity(record: Record) -> dict[str, Any]:
    names = ("trial_id", "cell_id", "seed", "status", "diverged_step", "error", "started", "ended")
    return {name: getattr(record, name) for name in names}


def _with_id(table: pyarrow.Table, trial_id: str) -> pyarrow.Table:
    ids = pyarrow.repeat(pyarrow.scalar(trial_id), len(table))
    return table.add_column(0, "trial_id", ids)


def _frame(rows: list[dict[str, Any]], whole: tuple[str, ...] | None) -> pandas.DataFrame:
    """Columns in order of first appearance; `whole` names those that may be int64 (None: all)."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: _column(name, [row.get(name) for row in rows], whole is None or name in whole)
        for name in names
    }
    return pandas.DataFrame(columns, index=pandas.RangeIndex(len(rows)))


def _column(name: str, values: list[Any], may_be_whole: bool) -> pandas.Series:
    """One dtype from the kinds of values present: text if there is any text, else bool, int64 or float64."""
    kinds = {type(value) for value in values if value is not None}
    if name in _TEXT or str in kinds:
        return pandas.Series(
            [None if value is None else _word(value) for value in values], dtype="str"
        )
    complete = None not in values and bool(values)
    if complete and kinds == {bool}:
        return pandas.Series(values, dtype="bool")
    if complete and kinds == {int} and may_be_whole and name not in _ALWAYS_FLOAT:
        return pandas.Series(values, dtype="int64")
    return pandas.Series(
        [None if value is None else float(value) for value in values], dtype="float64"
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
