"""The folder that receives results, checked before anything trains."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import RequestError


def expanded(path: str | os.PathLike[str], option: str) -> Path:
    """Returns the path that an option names, with `~` replaced by the home folder.

    Raises:
        RequestError: no home folder is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{option}={path}: {error}; give the whole path") from error


def absolute(path: str | os.PathLike[str], option: str) -> Path:
    """Returns the absolute path that an option names.

    Raises:
        RequestError: no home folder is known, or links lead in a circle.
    """
    folder = expanded(path, option)
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:
        raise RequestError(f"{option}={path}: {error}; give another folder") from error


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Returns the absolute folder for results, once it is certain that it can be written.

    Nothing is created: of a folder that does not exist, the nearest existing parent is checked.

    Raises:
        RequestError: the folder, or the nearest existing parent, cannot be written.
    """
    if str(path).strip() == "":
        raise RequestError("runs is empty; give the folder for results with runs=FOLDER")
    folder = absolute(path, "runs")
    existing = folder
    try:
        while not existing.exists():
            existing = existing.parent
    except OSError as error:
        raise RequestError(
            f"runs={path}: {error.strerror}; choose another folder with runs=FOLDER"
        ) from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(
            f"runs={folder}: {existing} cannot be written; choose another folder with runs=FOLDER"
        )
    return folder
