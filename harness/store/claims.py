"""Claims: the right to train one trial, held by a lock that the operating system frees when its holder dies.

So two sweeps on one folder never train a trial twice, and a killed sweep blocks nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import sys
import time
from pathlib import Path

# `is_locked` of another process holds the lock for microseconds, or for milliseconds where it loses its core meanwhile, a trainer for as long as it trains.
_PAUSES_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016)
# Files that a process opens besides: its data, its tables, its libraries, the tracker's store.
_OTHER_FILES = 200


class Claim:
    """A held lock, until `release` or the end of the process; a context manager. It keeps one file open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the claim back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def most_held() -> int:
    """How many claims this process may hold at once, with room for its other files; its limit of open files is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(
            OSError, ValueError
        ):  # some systems name a hard limit that they do not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        sys.maxsize
        if soft == resource.RLIM_INFINITY
        else max(1, soft - min(_OTHER_FILES, soft // 2))
    )


def take(path: Path) -> Claim | None:
    """Lock the file `path`, made if need be; None while somebody else, this process included, holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for pause in _PAUSES_SECONDS:
        if _lock(descriptor, fcntl.LOCK_EX):
            return Claim(descriptor)
        time.sleep(pause)
    os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock `path` at this moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
