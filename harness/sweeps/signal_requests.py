"""Signals to a sweep: write checkpoints, and end or go on.

SIGTERM and SIGHUP end a sweep after its packs have written checkpoints; SIGUSR1 and SIGUSR2 let it
go on. A second SIGTERM or SIGHUP, a second later or more, ends it at once. SIGHUP stays ignored
where it was (`nohup`).

A handler runs between any two instructions of the main thread, so it only takes note while a pack
is in training; elsewhere there is nothing to save, and it ends the sweep there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# A terminal that is closed hangs up twice within milliseconds: by its shell, then by the kernel. A
# service manager may send SIGHUP right behind SIGTERM.
_ONE_EVENT_SECONDS = 1.0


class Terminated(BaseException):
    """Ends a sweep that a signal asked to end; exit code 128 and the signal's number."""


class Requests:
    """Requests of signals to the packs in training.

    Attributes:
        ending: the signal that asked the sweep to end, or None.
        checkpoints: how often a checkpoint was asked for.
    """

    def __init__(self) -> None:
        self.ending: signal.Signals | None = None
        self.checkpoints = 0
        self._asked_at = 0.0
        self._in_training = 0
        self._lock = threading.Lock()

    @property
    def exit_code(self) -> int:
        """The exit code of a sweep that a signal has ended."""
        return 0 if self.ending is None else 128 + self.ending

    def check(self) -> None:
        """Raises `Terminated` where a signal asked the sweep to end."""
        if self.ending is not None:
            raise Terminated

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Marks that a pack is in training in this thread, which calls `check` now and then."""
        with self._lock:
            self._in_training += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_training -= 1

    @contextlib.contextmanager
    def handled(
        self, ending: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGHUP)
    ) -> Iterator[None]:
        """Handles the signals of this process in the context; only the main thread can.

        Args:
            ending: the signals that end a sweep; the others of `SIGNALS` let it go on.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.ending = None
        for number in SIGNALS:
            if number != signal.SIGHUP or before[number] is not signal.SIG_IGN:
                signal.signal(number, self._end if number in ending else self._checkpoint)
        try:
            yield
        finally:
            for number, earlier in before.items():
                signal.signal(number, signal.SIG_DFL if earlier is None else earlier)

    def _checkpoint(self, number: int, _: object) -> None:
        self.checkpoints += 1

    def _end(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self.ending is not None:
            if now - self._asked_at < _ONE_EVENT_SECONDS:
                return
            os._exit(128 + number)
        self._asked_at = now
        self.ending = signal.Signals(number)
        self.checkpoints += 1
        # No lock: the main thread may hold it in this moment, and reading a number needs none.
        if not self._in_training:
            raise Terminated


# Signals are sent to a process, so there is one of these.
requests = Requests()
