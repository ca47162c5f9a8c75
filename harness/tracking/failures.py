"""Failures of MLflow in words."""

from __future__ import annotations

import re

# What the layers below say at length, by what it means.
_CAUSES = {
    r"Connection refused": "connection refused",
    r"Name or service not known|nodename nor servname|Temporary failure in name": "unknown host",
    r"[Tt]imed out|TimeoutError|timeout expired": "no answer in time",
    r"Connection reset|Connection aborted|RemoteDisconnected|server closed the connection": (
        "the connection broke off"
    ),
    r"database or disk is full|No space left|ENOSPC": "no space left on the disk",
    r"database is locked": "the database is locked by another program",
    r"password authentication failed": "the password is wrong",
}


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def cause(error: BaseException) -> str:
    """Returns the cause of an error in a few words where it is a common one.

    Libraries wrap a refused connection several times; the whole message is searched.
    """
    message = str(error)
    for pattern, words in _CAUSES.items():
        if re.search(pattern, message):
            return words
    return first_line(error)
