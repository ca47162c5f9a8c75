"""Tidy tables over all trials: `trials` (one row each), `curves`, `layers` and `histograms`.

The others join with the first on `trial_id`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet

from harness.errors import RequestError
from harness.probes.histogram_bins import BINS, COUNT_COLUMNS
from harness.store import checksums, collected, writes
from harness.store.records import FINISHED, Record
from harness.store.searches import with_searches
from harness.store.trials import TEXT_COLUMNS, Store

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
_TABLES = ("trials", "curves", "layers", "histograms")
_TEXT = ("trial_id", "cell_id", "status", "error", "started", "ended")
_ALWAYS_FLOAT = ("diverged_step",)
# A file that was damaged, or written by hand, may hold a larger one.
_LARGEST_INTEGER = 2**63 - 1
_HISTOGRAM = "histogram"
_HISTOGRAM_KEYS = ("trial_id", "step", "phase", "layer")
_HISTOGRAM_SCHEMA = pyarrow.schema(
    [
        ("trial_id", pyarrow.string()),
        ("step", pyarrow.int64()),
        ("phase", pyarrow.string()),
        ("layer", pyarrow.int64()),
        *((name, pyarrow.int32()) for name in COUNT_COLUMNS),
    ]
)
_EMPTY_HISTOGRAMS = _HISTOGRAM_SCHEMA.empty_table()
# What pyarrow raises at damaged files. Names and types of pandas' columns, which stand in a file
# as JSON, give ValueError and KeyError.
_DAMAGE = (OSError, ValueError, KeyError, pyarrow.ArrowException)
# Folders that a message lists.
_READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Tables:
    """The tables of a store.

    `trials` has the ids, the seed, the status, one column per axis, `spec.*`, and the summary.
    `curves` and `layers` have `trial_id`, then the trial's own rows. `histograms` has `trial_id`,
    `step`, `phase`, `layer` and `count_00` to `count_63`, int32; the counts of a layer without a
    histogram are null. It is an Arrow table, because it is by far the largest. `set_aside` has the
    reason for every folder that is in none of them, and for every damaged record of a search, by
    its name.
    """

    trials: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame
    histograms: pyarrow.Table
    set_aside: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> list[Path]:
        """Writes each table to a file of its name, such as `trials.parquet`, in one step.

        Their sums stand beside them (`checksums`), because a table of which some bits changed may
        be read without an error.

        Raises:
            RequestError: the folder cannot be written.
        """
        paths = [folder / f"{name}.parquet" for name in _TABLES]
        finished = self.trials[self.trials["status"].isin(FINISHED)]
        trials = dict(zip(finished["trial_id"], finished["ended"], strict=True))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                table = collected.stamped(_arrow(getattr(self, path.stem)), trials)
                writes.write_parquet(path, table, sync=False)
            checksums.write(folder, paths)
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

    Curves, layers and histograms of trials that the tables in the store's folder `tables` hold
    already are taken from there. A folder that is damaged, or a copy, is set aside, and so is the
    record of a search that is damaged.
    """
    records, set_aside = store.read_all()
    earlier = collected.read(store.runs / "tables", collected.ended(records))
    new = [record for record in records if record.finished and record.trial_id not in earlier.ended]
    read = {name: _read_all(new, name, set_aside) for name in ("curves", "layers")}
    records = [record for record in records if record.trial_id not in set_aside]
    new_curves, new_layers = [_without(tables, set_aside) for tables in read.values()]
    layers, histograms = _split_layers(new_layers)
    all_histograms = earlier.with_new("histograms", histograms)
    trials, damaged_searches = with_searches(trials_table(records), store.runs)
    return Tables(
        trials=trials,
        curves=_below_each_other(earlier.with_new("curves", new_curves)),
        layers=_below_each_other(earlier.with_new("layers", layers)),
        histograms=pyarrow.concat_tables([_EMPTY_HISTOGRAMS, *all_histograms]),
        set_aside=set_aside | dict(damaged_searches),
    )


def read(folder: Path) -> Tables:
    """Reads tables that were written to a folder; see `Tables.write`.

    The folder may come from another machine, and needs no trials beside it. Only the table of
    trials must be there: the others are empty where their file is missing.

    Raises:
        RequestError: there is no table of trials, or a file is damaged.
    """
    if not (folder / "trials.parquet").is_file():
        raise RequestError(f"no table of trials: {folder / 'trials.parquet'} is missing")
    empty = pyarrow.table({"trial_id": pyarrow.array([], pyarrow.string())})
    frames = {}
    histograms = _EMPTY_HISTOGRAMS
    for name in _TABLES:
        path = folder / f"{name}.parquet"
        try:
            table = None
            if path.is_file():
                checksums.check(path)
                table = pyarrow.parquet.read_table(path)
            if name != "histograms":
                frames[name] = (table or empty).to_pandas()
            elif table is not None:
                histograms = table
        except _DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RequestError(f"{path} cannot be read: {reason}") from None
    return Tables(**frames, histograms=histograms)


def trials_table(records: Iterable[Record]) -> pandas.DataFrame:
    """Returns one row per trial; see `collect`."""
    rows = list(records)
    if not rows:
        return pandas.DataFrame(columns=list(_IDENTITY))
    identity = _frame([_identity(record) for record in rows], integers=("seed",))
    axes = _frame([dict(flat(record.axes)) for record in rows], integers=None)
    spec = _frame([dict(flat(record.spec, "spec.")) for record in rows], integers=None)
    summary = _frame([dict(flat(record.summary)) for record in rows], integers=())
    duplicates = [name for name in summary if name in identity or name in axes]
    summary = summary.drop(columns=duplicates)
    return pandas.concat([identity, axes, spec, summary], axis="columns")


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a nested dict under dotted names; a list is one leaf, as JSON text."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, json.dumps(value)
        else:
            yield prefix + key, value


def _read_all(
    records: Iterable[Record], name: str, set_aside: dict[str, str]
) -> dict[str, pyarrow.Table]:
    """Returns the tables `name` of records by id, each with `trial_id` first.

    The reason for one that cannot be read goes into `set_aside`.
    """

    def read(record: Record) -> pyarrow.Table | None:
        try:
            return _with_id(_with_texts(record.table(name)), record.trial_id)
        except RequestError as error:
            set_aside[record.trial_id] = str(error)
            return None

    records = list(records)
    with ThreadPoolExecutor(_READERS) as readers:
        tables = list(readers.map(read, records))
    read_tables = zip(records, tables, strict=True)
    return {record.trial_id: table for record, table in read_tables if table is not None}


def _without(tables: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: table for name, table in tables.items() if name not in names}


def _split_layers(
    tables: Mapping[str, pyarrow.Table],
) -> tuple[dict[str, pyarrow.Table], dict[str, pyarrow.Table]]:
    """Returns tables of layers without the histograms, and those of the histograms, by id."""
    layers = {}
    histograms = {}
    for trial_id, table in tables.items():
        if _HISTOGRAM in table.column_names:
            histograms[trial_id] = _counts_table(table)
            table = table.drop_columns([_HISTOGRAM])
        layers[trial_id] = table
    return layers, histograms


def _arrow(table: pandas.DataFrame | pyarrow.Table) -> pyarrow.Table:
    if isinstance(table, pandas.DataFrame):
        return pyarrow.Table.from_pandas(table, preserve_index=False)
    return table


def _below_each_other(pieces: list[pyarrow.Table]) -> pandas.DataFrame:
    if not pieces:
        return pandas.DataFrame({"trial_id": pandas.Series(dtype="str")})
    return pyarrow.concat_tables(pieces, promote_options="permissive").to_pandas()


def _counts_table(layers: pyarrow.Table) -> pyarrow.Table:
    """Returns a trial's histograms with one column for each bin."""
    lists = layers[_HISTOGRAM].combine_chunks()
    starts = numpy.asarray(lists.offsets)[:-1]
    known = numpy.asarray(lists.is_valid())
    counts = numpy.zeros((len(lists), BINS), numpy.int32)
    if known.any():
        positions = starts[known, None] + numpy.arange(BINS)
        counts[known] = lists.values.to_numpy()[positions]
    columns = [layers[name] for name in _HISTOGRAM_KEYS]
    for values in numpy.ascontiguousarray(counts.T):
        columns.append(pyarrow.array(values, mask=~known))
    return pyarrow.table(columns, schema=_HISTOGRAM_SCHEMA)


def _with_texts(table: pyarrow.Table) -> pyarrow.Table:
    """Returns a trial's table whose columns of text are text.

    Earlier versions stored those of a table without rows as numbers.
    """
    for index, column in enumerate(table.schema):
        if column.name in TEXT_COLUMNS and not pyarrow.types.is_string(column.type):
            texts = pyarrow.nulls(len(table), pyarrow.string())
            table = table.set_column(index, column.name, texts)
    return table


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
    is_integer = complete and types == {int} and may_be_integer and name not in _ALWAYS_FLOAT
    if is_integer and all(abs(value) <= _LARGEST_INTEGER for value in values):
        return pandas.Series(values, dtype="int64")
    numbers = [None if value is None else _float(value) for value in values]
    return pandas.Series(numbers, dtype="float64")


def _float(value: float) -> float:
    """Returns a number as a float: infinite for an integer beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
