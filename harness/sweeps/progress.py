"""The progress of a sweep and the other lines that a command shows.

They are written to a stream and not logged: a terminal rewrites them, and Hydra sends log records
to files of its own. A reader that goes away (`| head`, a closed terminal) changes nothing about a
sweep.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two updates of the bar in a terminal, and between two lines elsewhere.
LIVE_SECONDS = 0.2
PLAIN_SECONDS = 10.0

_BAR_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {rate_noinv_fmt}  {remaining} left"


class Progress:
    """Counts trials and trial-steps (one step of one trial) and shows them.

    A terminal shows a bar; elsewhere a line is written every ten seconds.
    """

    def __init__(self, trials: int, trial_steps: int, stream: TextIO | None = None) -> None:
        self.trials = trials
        self.trial_steps = trial_steps
        self.stream = stream or sys.stderr
        self.trials_done = 0
        self.steps_done = 0
        self.started = time.monotonic()
        self._shown = self.started
        self._bar: _Bar | None = None
        if trials and trial_steps and self.stream.isatty():
            self._bar = _Bar(
                total=trial_steps,
                desc=f"0/{trials} trials",
                file=_QuietStream(self.stream),
                bar_format=_BAR_FORMAT,
                unit=" trial-steps",
                unit_scale=True,
                mininterval=LIVE_SECONDS,
                smoothing=0,
                dynamic_ncols=True,
            )

    def stepped(self, trial_steps: int) -> None:
        """Counts trial-steps as done; a negative number takes back steps that were lost."""
        self.steps_done += trial_steps
        if self._bar is not None:
            self._bar.update(trial_steps)
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_SECONDS:
            self._shown = now
            say(self.line(now), self.stream)

    def skipped(self, trial_steps: int) -> None:
        """Leaves out trial-steps that were done earlier; a negative number adds them again."""
        self.trial_steps -= trial_steps
        if self._bar is not None:
            self._bar.total = self.trial_steps
            self._bar.refresh()

    def trials_finished(self, count: int) -> None:
        """Counts trials that have an outcome."""
        self.trials_done += count
        if self._bar is not None:
            self._bar.set_description_str(f"{self.trials_done}/{self.trials} trials", refresh=False)

    def close(self) -> None:
        """Shows the final line, unless there was nothing to do."""
        if self._bar is not None:
            self._bar.leave = False
            self._bar.close()
        if self.trials:
            say(self.line(time.monotonic()), self.stream)

    def line(self, now: float) -> str:
        """Returns the plain line for a time of the monotonic clock."""
        seconds = max(now - self.started, 1e-9)
        parts = [f"{self.trials_done}/{self.trials} trials"]
        if self.trial_steps:
            parts.append(f"{_rate_text(self.steps_done / seconds)} trial-steps/s")
        if self.trials_done == self.trials:
            parts.append(f"took {_clock(seconds)}")
        elif self.steps_done:
            steps_left = self.trial_steps - self.steps_done
            parts.append(f"{_clock(steps_left * seconds / self.steps_done)} left")
        return "  ".join(parts)


def say(line: str, stream: TextIO) -> None:
    """Writes a line at once, above the bar if there is one."""
    quiet = _QuietStream(stream)
    tqdm.write(line, file=quiet)
    quiet.flush()


def answer(text: str) -> bool:
    """Writes a command's answer to standard output.

    It is no error that the reader of a pipe has seen enough (`| head`); it returns False then.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        forget_reader()
        return False
    return True


def complain(line: str) -> None:
    """Writes a line to standard error, as far as anybody takes it.

    A closed terminal, the end of a pipe and a full disk are no errors.
    """
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
    settle_errors()


def settle_errors() -> None:
    """Writes what standard error holds back; where that is refused, it leads nowhere from then."""
    try:
        sys.stderr.flush()
    except OSError:
        forget_reader(sys.stderr)


def forget_reader(stream: TextIO | None = None) -> None:
    """Lets a stream lead nowhere once nobody takes what is written; standard output by default.

    Python flushes its streams once more when it ends; it would complain, and end with another code.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


class _Bar(tqdm):
    # No thread that refreshes the bar while nothing is reported.
    monitor_interval = 0


class _QuietStream:
    """A stream that ignores errors of writing; it equals every wrapper of the same stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _QuietStream) and other._stream is self._stream

    def __hash__(self) -> int:
        return hash(id(self._stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rate_text(rate: float) -> str:
    """Returns a rate with two digits where it is low, as that of large networks."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
