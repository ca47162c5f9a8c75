"""Tables that an earlier collection left: their rows need not be read from the trials again.

All files of one collection carry one stamp, made from the trials that they hold. Rows are taken
over only while every trial of that collection is still there as it was; else all are read anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness.store import checksums
from harness.store.records import FINISHED, Record

# Part of every stamp; a change of how tables are made from trials raises it.
_VERSION = 2
_STAMP_KEY = b"harness_collection"
_ROW_TABLES = ("curves", "layers", "histograms")

# When trials with a result ended, by id.
Ended = Mapping[str, str | None]


@dataclass(frozen=True)
class Collected:
    """Rows of an earlier collection.

    `ended` names the trials, `tables` holds their rows in the order of the ids by the name of the
    table; both are empty where nothing can be taken over.
    """

    ended: Ended
    tables: Mapping[str, pyarrow.Table]

    def with_new(self, name: str, new: Mapping[str, pyarrow.Table]) -> list[pyarrow.Table]:
        """Returns the pieces of a table in the order of the ids.

        Args:
            name: `curves`, `layers` or `histograms`.
            new: the rows of other trials by id, in the order of the ids.
        """
        if name not in self.tables:
            return list(new.values())
        table = self.tables[name]
        ids, ends = _runs(table)
        pieces = []
        taken = 0
        for trial_id, rows in new.items():
            trials_before = numpy.searchsorted(ids, trial_id)
            end = int(ends[trials_before - 1]) if trials_before else 0
            pieces += [table.slice(taken, end - taken), rows]
            taken = end
        return [*pieces, table.slice(taken)]


NOTHING = Collected({}, {})


def ended(records: Iterable[Record]) -> Ended:
    """Returns when the trials with a result ended, by id."""
    return {record.trial_id: record.ended for record in records if record.finished}


def stamped(table: pyarrow.Table, trials: Ended) -> pyarrow.Table:
    """Returns a table that says which collection it belongs to."""
    metadata = dict(table.schema.metadata or {})
    return table.replace_schema_metadata(metadata | {_STAMP_KEY: _stamp(trials)})


def read(folder: Path, now: Ended) -> Collected:
    """Returns what can be taken over from the tables in a folder.

    Args:
        folder: the folder of the tables; it may be missing or hold anything.
        now: the trials with a result that the store has now.
    """
    try:
        trials = pyarrow.parquet.read_table(
            folder / "trials.parquet",
            columns=["trial_id", "status", "ended"],
        )
        earlier = _finished(trials)
        if any(now.get(trial_id, "") != when for trial_id, when in earlier.items()):
            return NOTHING
        stamp = _stamp(earlier)
        tables = {}
        for name in _ROW_TABLES:
            path = folder / f"{name}.parquet"
            checksums.check(path)
            table = pyarrow.parquet.read_table(path)
            if (table.schema.metadata or {}).get(_STAMP_KEY) != stamp:
                return NOTHING
            tables[name] = table.replace_schema_metadata(None)
    except (OSError, ValueError, KeyError, pyarrow.ArrowException):
        return NOTHING
    return Collected(earlier, tables)


def _finished(trials: pyarrow.Table) -> Ended:
    columns = (trials[name].to_pylist() for name in ("trial_id", "status", "ended"))
    return {
        trial_id: when
        for trial_id, status, when in zip(*columns, strict=True)
        if status in FINISHED
    }


def _stamp(trials: Ended) -> bytes:
    content = repr((_VERSION, sorted(trials.items(), key=str)))
    return hashlib.sha256(content.encode()).hexdigest().encode()


def _runs(table: pyarrow.Table) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Returns the trials of a table in order, and the row after the last one of each."""
    column = table["trial_id"].combine_chunks()
    encoded = pyarrow.compute.run_end_encode(column, run_end_type=pyarrow.int64())
    ids = encoded.values.to_numpy(zero_copy_only=False).astype(str)
    return ids, encoded.run_ends.to_numpy()
