"""Tidy tables over all trials: `trials` (one row each), `curves` and `layers`.

The last two join with the first on `trial_id`.
"""

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
from harness.store.searches import with_searches
from harness.store.trials import Store

_IDENTITY = (
    "trial_id",
    "cell_id",
    "seed",
    "status",
    "diverged_step",
    "error",
    "started",
    "ended",
)
_TEXT = ("trial_id", "cell_id", "status", "error", "started", "ended")
_ALWAYS_FLOAT = ("diverged_step",)
_READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Tables:
    """The tables of a store.

    `trials` has the ids, the seed, the status, one column per axis, `spec.*`, and the summary.
    `curves` and `layers` have `trial_id`, then the trial's own rows.
    """

    trials: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame

    def write(self, folder: Path) -> list[Path]:
        """Writes `trials.parquet`, `curves.parquet` and `layers.parquet`, each in one step.

        Raises:
            RequestError: the folder cannot be written.
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
    """Reads every trial of the store.

    Failed, running and interrupted trials have a row in `trials` and nothing else. A value that a
    trial does not have is NaN. Numbers of the summary are float64 in every collection; axes and
    settings that are whole numbers in every trial are int64.

    Raises:
        RequestError: a trial is damaged.
    """
    records = list(store.records())
    finished = [record for record in records if record.finished]
    trials = with_searches(trials_table(records), store.runs)
    return Tables(trials, joined(finished, "curves"), joined(finished, "layers"))


def trials_table(records: Iterable[Record]) -> pandas.DataFrame:
    """Returns one row per trial; see `collect`."""
    rows = list(records)
    identity = _frame([_identity(record) for record in rows], integers=("seed",))
    axes = _frame([dict(flat(record.axes)) for record in rows], integers=None)
    spec = _frame([dict(flat(record.spec, "spec.")) for record in rows], integers=None)
    summary = _frame([dict(flat(record.summary)) for record in rows], integers=())
    duplicates = [name for name in summary if name in identity or name in axes]
    summary = summary.drop(columns=duplicates)
    return pandas.concat([identity, axes, spec, summary], axis="columns")


def joined(records: Iterable[Record], name: str) -> pandas.DataFrame:
    """Returns the tables `name` of all records below each other, with `trial_id` first."""

    def read(record: Record) -> pyarrow.Table:
        return _with_id(record.table(name), record.trial_id)

    with ThreadPoolExecutor(_READERS) as readers:
        pieces = list(readers.map(read, records))
    if not pieces:
        return pandas.DataFrame({"trial_id": pandas.Series(dtype="str")})
    return pyarrow.concat_tables(pieces, promote_options="permissive").to_pandas()


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a nested dict under dotted names; a list is one leaf, as JSON text."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, json.dumps(value)
        else:
            yield prefix + key, value


def _identity(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _IDENTITY}


def _with_id(table: pyarrow.Table, trial_id: str) -> pyarrow.Table:
    ids = pyarrow.repeat(pyarrow.scalar(trial_id), len(table))
    return table.add_column(0, "trial_id", ids)


def _frame(rows: list[dict[str, Any]], integers: tuple[str, ...] | None) -> pandas.DataFrame:
    """Returns a frame with columns in order of first appearance.

    `integers` names the columns that may be int64; None stands for all.
    """
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        may_be_integer = integers is None or name in integers
        columns[name] = _column(name, values, may_be_integer)
    return pandas.DataFrame(columns, index=pandas.RangeIndex(len(rows)))


def _column(name: str, values: list[Any], may_be_integer: bool) -> pandas.Series:
    """Returns a column of one dtype.

    Text where there is any text, else bool, int64 or float64.
    """
    types = {type(value) for value in values if value is not None}
    if name in _TEXT or str in types:
        texts = [None if value is None else _text(value) for value in values]
        return pandas.Series(texts, dtype="str")
    complete = None not in values and bool(values)
    if complete and types == {bool}:
        return pandas.Series(values, dtype="bool")
    if complete and types == {int} and may_be_integer and name not in _ALWAYS_FLOAT:
        return pandas.Series(values, dtype="int64")
    numbers = [None if value is None else float(value) for value in values]
    return pandas.Series(numbers, dtype="float64")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
