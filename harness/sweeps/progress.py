"""What a command shows: the live line of a sweep (trials done of all, steps per second, time left), messages and answers."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TextIO

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 10.0


class Progress:
    """Counts trial-steps (one step of one trial). In a terminal one line is rewritten; elsewhere a line every ten seconds."""

    def __init__(self, trials: int, trial_steps: int, stream: TextIO | None = None) -> None:
        self.trials, self.trial_steps = trials, trial_steps
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.finished = 0
        self.steps_done = 0
        self.started = self.shown = time.monotonic()

    def stepped(self, trial_steps: int) -> None:
        """`trial_steps` more are done."""
        self.steps_done += trial_steps
        now = time.monotonic()
        if now - self.shown >= (_LIVE_SECONDS if self.live else _PLAIN_SECONDS):
            self.shown = now
            self._show(now)

    def trials_finished(self, count: int) -> None:
        """`count` more trials have an outcome."""
        self.finished += count

    def close(self) -> None:
        """Show the end, unless there was nothing to do."""
        if self.trials:
            self._show(time.monotonic())
            if self.live:
                say("\n", self.stream)

    def line(self, now: float) -> str:
        """What is shown at a time of the monotonic clock."""
        seconds = max(now - self.started, 1e-9)
        parts = [f"{self.finished}/{self.trials} trials"]
        if self.trial_steps:
            parts.append(f"{self.steps_done / seconds:,.0f} trial-steps/s")
        if self.finished == self.trials:
            parts.append(f"took {_clock(seconds)}")
        elif self.steps_done:
            parts.append(
                f"{_clock((self.trial_steps - self.steps_done) * seconds / self.steps_done)} left"
            )
        return "  ".join(parts)

    def _show(self, now: float) -> None:
        text = self.line(now)
        say(f"\r\033[K{text}" if self.live else f"{text}\n", self.stream)


def say(text: str, stream: TextIO) -> None:
    """Write at once, unless nobody reads any more (`| head`, a closed terminal): what is trained does not depend on who watches."""
    with contextlib.suppress(OSError):
        stream.write(text)
        stream.flush()


def answer(text: str) -> None:
    """Print what a command was asked for; the reader of a pipe who has seen enough (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python would complain at its end


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
