"""Whole trials: what the marker `done` vouches for, and what is wrong with a folder.

The marker holds the SHA-256 of every file that it vouches for. Earlier versions left it empty; such
a trial is whole where its files can be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from harness.errors import RequestError
from harness.store.records import FINISHED, damaged, read_object

MARKER = "done"
# Files that must be on the disk before the trial is marked as done.
VOUCHED_FOR = (
    "trial.json",
    "status.json",
    "summary.json",
    "curves.parquet",
    "layers.parquet",
)
_DIGESTS = "sha256"
_TABLES = ("curves.parquet", "layers.parquet")
_PARQUET_MAGIC = b"PAR1"


def marker(folder: Path) -> bytes:
    """Returns the content of the marker for a folder whose files are complete.

    Raises:
        OSError: a file cannot be read.
    """
    digests = {name: _digest((folder / name).read_bytes()) for name in VOUCHED_FOR}
    return f"{json.dumps({_DIGESTS: digests}, indent=1)}\n".encode()


def signature(folder: Path) -> tuple[int, int] | None:
    """Returns what tells a marker from one that replaced it; None where there is no marker."""
    try:
        state = os.stat(f"{folder}/{MARKER}")
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


def check(folder: Path, *, thorough: bool = False) -> None:
    """Refuses the folder of a done trial that is not whole.

    Args:
        folder: a folder with a marker.
        thorough: reads the tables too where the marker vouches for nothing. Otherwise only their
            beginnings and ends are looked at, which a file cut short does not have.

    Raises:
        RequestError: a file is missing or damaged, or the folder holds another trial.
    """
    digests = _read_marker(folder / MARKER)
    if digests:
        for name in VOUCHED_FOR:
            _check_digest(folder / name, digests.get(name))
    else:
        _check_readable(folder, thorough)
    check_name(folder, read_object(folder / "trial.json"))


def check_name(folder: Path, trial: Mapping[str, Any]) -> None:
    """Refuses a folder whose name is not the id of the trial in it.

    A folder that was copied beside its original would otherwise count twice.

    Raises:
        RequestError: the folder has another name.
    """
    trial_id = trial.get("trial_id")
    if trial_id != folder.name:
        raise RequestError(
            f"{folder} holds trial {trial_id} under another name; move it out of {folder.parent}"
        )


def _read_marker(path: Path) -> Mapping[str, Any]:
    """Returns the digests by name; none for the empty marker of an earlier version."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(path, error) from None
    if not content:
        return {}
    digests = read_object(path).get(_DIGESTS)
    if not isinstance(digests, dict) or not digests:
        raise damaged(path, ValueError(f"has no {_DIGESTS}"))
    return digests


def _check_digest(path: Path, digest: str | None) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(path, error) from None
    if _digest(content) != digest:
        raise damaged(path, ValueError("its content is not what was written"))


def _check_readable(folder: Path, thorough: bool) -> None:
    read_object(folder / "summary.json")
    status = read_object(folder / "status.json").get("status")
    if status not in FINISHED:
        reason = f"its status is {status} beside the marker {MARKER}"
        raise damaged(folder / "status.json", ValueError(reason))
    for name in _TABLES:
        path = folder / name
        try:
            if thorough:
                pyarrow.parquet.read_table(path, use_threads=False, memory_map=False)
            else:
                _check_ends(path)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise damaged(path, error) from None


def _check_ends(path: Path) -> None:
    """Refuses a file that does not begin and end as Parquet does."""
    with open(path, "rb") as file:
        beginning = file.read(len(_PARQUET_MAGIC))
        file.seek(0, os.SEEK_END)
        # The magic stands at both ends, and the length of the footer before the second one.
        file.seek(-min(file.tell(), len(_PARQUET_MAGIC)), os.SEEK_END)
        end = file.read()
        size = file.tell()
    if beginning != _PARQUET_MAGIC or end != _PARQUET_MAGIC or size < 12:
        raise ValueError("is no whole Parquet file")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
