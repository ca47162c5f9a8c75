"""The folder that receives results, checked before anything trains."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import RequestError


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """Returns the absolute folder for results, once it is certain that it can be written.

    Nothing is created: of a folder that does not exist, the nearest existing parent is checked.

    Raises:
        RequestError: the folder, or the nearest existing parent, cannot be written.
    """
    if str(path).strip() == "":
        raise RequestError("runs is empty; give the folder for results with runs=FOLDER")
    folder = Path(path).expanduser().resolve()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(
            f"runs={folder}: {existing} cannot be written; choose another folder with runs=FOLDER"
        )
    return folder
