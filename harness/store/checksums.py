"""SHA-256 of the files of a folder, in a file that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from harness.store import writes

NAME = "SHA256SUMS"


def write(folder: Path, paths: Iterable[Path]) -> None:
    """Writes the sums of files that stand in the folder.

    Raises:
        OSError: a file cannot be read, or the sums cannot be written.
    """
    lines = [f"{_sum(path)}  {path.name}\n" for path in paths]
    writes.write_text(folder / NAME, "".join(lines), sync=False)


def check(path: Path) -> None:
    """Refuses a file that is another than the one whose sum was written; any without sums passes.

    Raises:
        ValueError: the file has another sum, or none among those that there are.
        OSError: the file or the sums cannot be read.
    """
    try:
        text = (path.parent / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    if f"{_sum(path)}  {path.name}" not in text.splitlines():
        raise ValueError(f"its sum is not the one in {NAME}; run selu-collect again")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
