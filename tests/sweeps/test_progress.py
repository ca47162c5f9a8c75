"""Progress is a bar in a terminal and plain lines elsewhere; a closed stream is no error."""

from __future__ import annotations

import io
import time

import pytest

from harness.sweeps import progress as progress_module
from harness.sweeps.progress import Progress, answer, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads")


class ClosedTerminal(Closed):
    def isatty(self) -> bool:
        return True


def test_progress_in_plain_lines():
    stream = io.StringIO()
    progress = Progress(4, 1000, stream)
    progress.stepped(500)
    progress.trials_finished(2)
    assert progress.line(progress.started + 10.0) == "2/4 trials  50 trial-steps/s  0:10 left"
    progress.stepped(500)
    progress.trials_finished(2)
    progress.close()
    assert stream.getvalue().startswith("4/4 trials")
    assert "took 0:00" in stream.getvalue()
    assert Progress(2, 0, stream).line(progress.started) == "0/2 trials"


def test_plain_lines_come_every_few_seconds(monkeypatch):
    monkeypatch.setattr(progress_module, "PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    progress = Progress(4, 1000, stream)
    progress.stepped(100)
    progress.stepped(-100)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("0/4 trials") for line in lines)


def test_a_terminal_shows_a_bar_with_messages_above_it(monkeypatch):
    monkeypatch.setattr(progress_module, "LIVE_SECONDS", 0.0)
    stream = Terminal()
    progress = Progress(4, 1000, stream)
    progress.trials_finished(1)
    time.sleep(0.01)
    progress.stepped(250)
    say("a pack failed", stream)
    progress.trials_finished(3)
    progress.stepped(750)
    progress.close()
    shown = stream.getvalue()
    assert "1/4 trials  25% |" in shown
    # The message stands on a line of its own, and the bar is drawn anew below it.
    before, _, after = shown.partition("a pack failed\n")
    assert before.endswith("\r")
    assert "trials  25% |" in after
    last = shown.rstrip("\n").rpartition("\r")[2]
    assert last.startswith("4/4 trials")
    assert "took 0:00" in last
    assert shown.endswith("\n")


def test_a_sweep_with_nothing_to_do_shows_nothing():
    for stream in (io.StringIO(), Terminal()):
        Progress(0, 0, stream).close()
        assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [Closed(), ClosedTerminal()], ids=["plain", "terminal"])
def test_a_closed_stream_is_no_error(monkeypatch, stream):
    monkeypatch.setattr(progress_module, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress_module, "LIVE_SECONDS", 0.0)
    progress = Progress(2, 10, stream)
    progress.stepped(5)
    say("a message", stream)
    progress.trials_finished(2)
    progress.close()


def test_an_answer_is_printed(capsys):
    answer("two\nlines")
    assert capsys.readouterr().out == "two\nlines\n"
