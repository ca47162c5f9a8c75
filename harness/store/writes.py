"""Atomic writes: a reader sees the old file or the new one, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

from harness.errors import NotStored

_TEMPORARY_SUFFIX = ".tmp"
_serial = itertools.count()


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replaces `path` by `content` in one step.

    The temporary file lies in the same folder under a name that nobody else uses, so one that a
    killed process left never blocks.

    Args:
        path: the file to replace.
        content: its new content.
        sync: waits until the bytes are on the disk; without it a power failure may lose them.

    Raises:
        OSError: the system refused; the error names `path`.
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
        if isinstance(error, OSError):
            # The error of a full disk names no file, others name the temporary one.
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


@contextlib.contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turns errors of the system into `NotStored` while a result is written into `folder`.

    Raises:
        NotStored: the system refused a file.
    """
    try:
        yield
    except NotStored:
        raise
    except OSError as error:
        path = error.filename or folder
        raise NotStored(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Replaces `path` by `text` as UTF-8, in one step.

    Half a surrogate pair, as in the name of a file that is not UTF-8, cannot be encoded; it becomes
    its escape, which JSON reads back.
    """
    write_bytes(path, text.encode(errors="backslashreplace"), sync=sync)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:
    """Replaces `path` by `value` as strict JSON, in one step.

    See `plain` for NaN and infinities.
    """
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False, indent=1)
    write_text(path, f"{text}\n", sync=sync)


def write_parquet(
    path: Path, table: pyarrow.Table | pandas.DataFrame, *, sync: bool = True
) -> None:
    """Replaces `path` by a table in Parquet, in one step."""
    if isinstance(table, pandas.DataFrame):
        table = pyarrow.Table.from_pandas(table, preserve_index=False)
    # Dictionaries and statistics of numbers cost a fourth of the time and save nothing.
    texts = [
        field.name
        for field in table.schema
        if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
    ]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=texts,
        write_statistics=False,
        # A flipped bit may decode without an error.
        write_page_checksum=True,
    )
    write_bytes(path, buffer.getvalue(), sync=sync)


def sync_paths(paths: Iterable[Path]) -> None:
    """Waits until files, and folders as the lists of what is in them, are on the disk.

    The system writes what is waited for at one time together: six times as fast as one by one.
    """
    together = list(paths)
    with ThreadPoolExecutor(len(together)) as pool:
        list(pool.map(_sync, together))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Deletes the temporary files of killed writers.

    To be called only while nobody else writes into `folder`.
    """
    for leftover in folder.glob(f".*{_TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Returns `value` in types that JSON has.

    NumPy scalars and arrays, and tensors, become numbers and lists; NaN becomes None (there is no
    number), and infinities become "inf" and "-inf", which `read_number` turns back.

    Raises:
        TypeError: JSON cannot hold the value.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # NumPy's and torch's values have it; so neither library is imported here.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def _plain_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isfinite(value):
        return float(value)
    return "inf" if value > 0 else "-inf"


def read_number(value: Any) -> Any:
    """Undoes `plain` for one value: "inf" and "-inf" become floats again."""
    return float(value) if value in ("inf", "-inf") else value
