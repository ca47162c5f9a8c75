"""Commands run in the process of the tests, in which their libraries are loaded already.

A process of its own takes seconds for that. Every command has a test that starts one.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from harness import train as training_command
from harness.sweeps import command_line


def train(*arguments: str | Path) -> CompletedProcess[str]:
    """Runs `python -m harness.train` with these arguments."""
    words = ["harness.train", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, _logging_as_before():
        patch.setattr("sys.argv", words)
        # Set first, so that the value of the command is taken back.
        patch.setenv("HYDRA_FULL_ERROR", "1")
        patch.delenv("HYDRA_FULL_ERROR")
        return _ended(words, lambda: command_line.run(training_command.main))


def command(main: Callable[[list[str]], int], *arguments: str | Path) -> CompletedProcess[str]:
    """Runs the `main` of another command with these arguments."""
    words = list(map(str, arguments))
    return _ended(words, lambda: main(words))


def _ended(words: list[str], work: Callable[[], int]) -> CompletedProcess[str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = work()
        except SystemExit as end:
            code = end.code
    return CompletedProcess(words, code, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _logging_as_before() -> Iterator[None]:
    """Takes back what Hydra sets for the logs of its jobs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
