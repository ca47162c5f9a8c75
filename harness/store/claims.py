"""Claims: the right to train one trial, held by a lock that the operating system frees.

Two sweeps on one folder therefore never train a trial twice, and a killed sweep blocks nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import sys
from pathlib import Path

from filelock import FileLock, Timeout

# `is_locked` of another process holds the lock for microseconds, or for milliseconds where that
# process loses its core meanwhile; a trainer holds it for as long as it trains.
_PATIENCE_SECONDS = 0.03
_PAUSE_SECONDS = 0.002
# Files that a process opens besides: its data, its tables, its libraries, the tracker's store.
_OTHER_FILES = 200


class Claim:
    """A held lock, until `release` or the end of the process; a context manager.

    It keeps one file open.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def release(self) -> None:
        """Gives the claim back; a second call does nothing."""
        self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def most_held() -> int:
    """Returns the number of claims that this process may hold at once.

    Leaves room for its other files, after raising its limit of open files as far as it may be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a hard limit that they do not grant.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, soft - min(_OTHER_FILES, soft // 2))


def take(path: Path) -> Claim | None:
    """Locks the file `path`, made if need be.

    Returns None while somebody else, this process included, holds the lock.
    """
    lock = FileLock(
        path,
        timeout=_PATIENCE_SECONDS,
        poll_interval=_PAUSE_SECONDS,
        mode=0o644,
        thread_local=False,
    )
    try:
        lock.acquire()
    except Timeout:
        return None
    return Claim(lock)


def is_locked(path: Path) -> bool:
    """Returns whether somebody holds the lock `path` at this moment.

    The system is asked directly for a shared lock: filelock has no way to look without making the
    file, opening it for writing and locking out others, and a survey may read a folder in which it
    can write nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
