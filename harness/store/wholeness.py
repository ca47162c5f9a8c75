"""Whole trials: what the marker `done` vouches for, and what is wrong with a folder.

The marker holds the SHA-256 of every file that it vouches for. Earlier versions left it empty; such
a trial is whole where its files can be read. It also says which weights the trial keeps, if any.
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
# Trained weights, of a trial that keeps some.
WEIGHTS = "weights.safetensors"
_DIGESTS = "sha256"
_KEPT = "kept_weights"
_BYTES = "weights_bytes"
_TABLES = ("curves.parquet", "layers.parquet")
_PARQUET_MAGIC = b"PAR1"


def marker(folder: Path, kept_weights: str = "none") -> bytes:
    """Returns the content of the marker for a folder whose files are complete.

    Args:
        folder: the folder of a trial.
        kept_weights: which weights `weights.safetensors` has; `none` where there is no such file.

    Raises:
        OSError: a file cannot be read.
    """
    content: dict[str, Any] = {}
    names: tuple[str, ...] = VOUCHED_FOR
    if kept_weights != "none":
        names = (*VOUCHED_FOR, WEIGHTS)
        content = {_KEPT: kept_weights, _BYTES: (folder / WEIGHTS).stat().st_size}
    content[_DIGESTS] = {name: _digest(folder / name) for name in names}
    return f"{json.dumps(content, indent=1)}\n".encode()


def kept_weights(folder: Path) -> str:
    """Returns which weights a done trial keeps: `none`, `best` or `last`.

    Raises:
        RequestError: the marker is damaged.
    """
    return _read_marker(folder / MARKER).get(_KEPT, "none")


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
        thorough: reads the trained weights too, of which otherwise only the size is looked at,
            because they are large and most readers of a store do not use them. Where the marker
            vouches for nothing, reads the tables too, of which otherwise only the beginnings and
            ends are looked at, which a file cut short does not have.

    Raises:
        RequestError: a file is missing or damaged, or the folder holds another trial.
    """
    content = _read_marker(folder / MARKER)
    if content:
        digests = content[_DIGESTS]
        for name in VOUCHED_FOR:
            _check_digest(folder / name, digests.get(name))
        if _KEPT in content:
            _check_weights(folder / WEIGHTS, content, thorough)
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
    """Returns the content, digests included; nothing for the empty marker of earlier versions."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(path, error) from None
    if not content:
        return {}
    marker = read_object(path)
    digests = marker.get(_DIGESTS)
    if not isinstance(digests, dict) or not digests:
        raise damaged(path, ValueError(f"has no {_DIGESTS}"))
    return marker


def _check_digest(path: Path, digest: str | None) -> None:
    try:
        found = _digest(path)
    except OSError as error:
        raise damaged(path, error) from None
    if found != digest:
        raise damaged(path, ValueError("its content is not what was written"))


def _check_weights(path: Path, marker: Mapping[str, Any], thorough: bool) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise damaged(path, error) from None
    if not path.is_file() or size != marker.get(_BYTES):
        raise damaged(path, ValueError("its size is not that of what was written"))
    if thorough:
        _check_digest(path, marker[_DIGESTS].get(WEIGHTS))


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
                pyarrow.parquet.read_table(
                    path, use_threads=False, memory_map=False, page_checksum_verification=True
                )
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


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
