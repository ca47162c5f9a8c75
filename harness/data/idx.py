"""The IDX file format of the MNIST family.

A header of big-endian 32-bit numbers, then one byte a pixel.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError

FILES = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 0x08


def find(folders: list[Path]) -> dict[str, tuple[Path, Path]] | None:
    """Returns images and labels of both splits in the first folder that has all four files.

    Each file may be plain or `.gz`. None where no folder has them all.
    """
    for folder in folders:
        if not missing(folder):
            return {
                split: (_plain_or_packed(folder / images), _plain_or_packed(folder / labels))
                for split, (images, labels) in FILES.items()
            }
    return None


def missing(folder: Path) -> list[str]:
    """Returns the names of the files that `folder` has neither plain nor as `.gz`."""
    return [
        name
        for names in FILES.values()
        for name in names
        if not _plain_or_packed(folder / name).is_file()
    ]


def read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns the array in `path`, which must have this shape.

    Raises:
        RequestError: the file cannot be read, is cut short, or holds something else.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"cannot be read: {error}") from error
    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    if content[: len(header)] != header:
        expected = "x".join(str(size) for size in shape)
        raise damaged(path, f"its header is not that of an IDX file of shape {expected}")
    size = len(header) + int(np.prod(shape))
    if len(content) != size:
        raise damaged(path, f"{len(content)} bytes where {size} are expected")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)


def damaged(path: Path, reason: str) -> RequestError:
    """Returns the error for a damaged data file, which says how to mend it."""
    return RequestError(
        f"{path} is damaged: {reason}; delete it and run again with dataset.download=true, "
        "or put a good copy in its place"
    )


def _plain_or_packed(path: Path) -> Path:
    return path if path.is_file() else path.with_name(path.name + ".gz")
