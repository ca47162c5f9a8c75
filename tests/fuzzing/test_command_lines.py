"""Random command lines train with finite statistics, or are refused with one line.

The long form, with what became of the examples:
    FUZZ_EXAMPLES=500 pytest -n 0 -s -m slow tests/fuzzing
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from harness import train
from harness.store.records import Record
from harness.store.trials import Store
from harness.sweeps import command_line
from tests.fuzzing.command_lines import command_lines

# What a trial that did not diverge must have a number for.
_SCORES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss")
# An example takes a second, so that none is made smaller, and all that go wrong are listed.
EXAMPLES = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A score counts what cannot be told apart from a limit as infinitely far outside.
_MAY_BE_INFINITE = re.compile("score_")


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory) -> str:
    """Ten images in each of two classes."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for index in range(10):
            pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return str(root)


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """A new folder, which is the working directory meanwhile."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name)


def run(words: list[str]) -> tuple[int, str, str]:
    """Runs a command line in this process; returns its exit code, its output and its errors."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["harness.train", *words])
        patch.setenv("HYDRA_FULL_ERROR", "1")
        patch.delenv("HYDRA_FULL_ERROR")
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = command_line.run(train.main)
    return code, output.getvalue(), errors.getvalue()


def check_trial(record: Record) -> None:
    """A trial diverged at a step, or its statistics are finite."""
    assert record.status in ("done", "diverged"), record.traceback
    curves, layers = record.curves(), record.layers()
    for table in (curves, layers):
        values = table.select_dtypes("number")
        infinite = values.columns[np.isinf(values.to_numpy(float)).any(0)]
        assert [name for name in infinite if not _MAY_BE_INFINITE.match(name)] == []
    if record.status == "diverged":
        assert 0 <= record.diverged_step <= 3
        return
    assert [name for name in _SCORES if not np.isfinite(record.summary[name])] == []
    assert np.isfinite(curves[["validation_loss", "validation_accuracy"]]).all(axis=None)
    if len(layers):
        assert np.isfinite(layers[["activation_mean", "activation_variance"]]).all(axis=None)


def try_out(words: list[str]) -> list[str]:
    """Runs a command line and checks its end; returns `refused`, or the statuses of its trials."""
    with empty_folder() as folder:
        code, output, errors = run(words)
        if code == 2:
            assert errors.startswith("error: ")
            assert errors.count("\n") == 1
            assert output == ""
            assert list(folder.iterdir()) == []
            return ["refused"]
        assert code == 0, errors
        stores = [Store(path.parent) for path in folder.rglob("trials")]
        records = [record for store in stores for record in store.records()]
        assert records
        for record in records:
            check_trial(record)
        return [record.status for record in records]


def try_examples(count: int, folder_of_images: str, **changes: Any) -> None:
    """Tries so many command lines, all of them, and fails with those that went wrong."""
    outcomes: Counter[str] = Counter()
    failures = []

    @settings(EXAMPLES, max_examples=count, **changes)
    @given(words=command_lines(folder_of_images))
    def attempt(words: list[str]) -> None:
        outcomes["command lines"] += 1
        try:
            outcomes.update(try_out(words))
        except Exception:
            failures.append(f"{shlex.join(words)}\n{traceback.format_exc()}")

    attempt()
    print(dict(outcomes))
    assert failures == [], "\n\n".join(failures)


def test_a_random_command_line_trains_or_is_refused(folder_of_images):
    try_examples(6, folder_of_images, derandomize=True)


@pytest.mark.slow
def test_many_random_command_lines_train_or_are_refused(folder_of_images):
    try_examples(int(os.environ.get("FUZZ_EXAMPLES", "500")), folder_of_images)
