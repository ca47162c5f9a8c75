"""Atomic writes: a reader sees the old file or the new one, never a part of one, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from harness.errors import NotStored

_TEMPORARY_SUFFIX = ".tmp"
_serial = itertools.count()


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `content` in one step.

    The temporary file lies in the same folder under a name nobody else uses, so one that a killed process left
    never blocks. `sync` waits until the bytes are on the disk; without it a power failure may lose them.
    An OSError names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_serial)}{_TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):  # of a full disk it names no file, else the temporary one
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


@contextlib.contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Around the writing of a result into `folder`: NotStored where the system refuses a file."""
    try:
        yield
    except OSError as error:
        raise NotStored(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Replace `path` by `text` as UTF-8, in one step.

    Half a surrogate pair, as in the name of a file that is not UTF-8, has no UTF-8; it becomes its escape, which JSON reads back.
    """
    write_bytes(path, text.encode(errors="backslashreplace"), sync=sync)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:
    """Replace `path` by `value` as strict JSON, in one step; see `plain` for what becomes of NaN and infinities."""
    write_text(
        path,
        json.dumps(plain(value), allow_nan=False, ensure_ascii=False, indent=1) + "\n",
        sync=sync,
    )


def write_parquet(
    path: Path, table: pyarrow.Table | pandas.DataFrame, *, sync: bool = True
) -> None:
    """Replace `path` by a table in Parquet, in one step."""
    buffer = io.BytesIO()
    if isinstance(table, pandas.DataFrame):
        table = pyarrow.Table.from_pandas(table, preserve_index=False)
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue(), sync=sync)


def sync_folder(folder: Path, names: Iterable[str]) -> None:
    """Wait until the named files and the folder that lists them are on the disk."""
    for path in [*(folder / name for name in names), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers left in `folder`; call it only while nobody else writes there."""
    for leftover in folder.glob(f".*{_TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """`value` with NumPy scalars unwrapped, NaN as None (there is no number) and infinities as "inf" and "-inf".

    JSON has neither; `read_number` undoes it. Raises TypeError for what JSON cannot hold.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(
        value, "tolist"
    ):  # NumPy scalars and arrays, and tensors, without importing either library
        return plain(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def read_number(value: Any) -> Any:
    """Undo `plain` for one value: "inf" and "-inf" become floats again."""
    return float(value) if value in ("inf", "-inf") else value
