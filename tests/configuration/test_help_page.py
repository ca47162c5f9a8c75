"""The page of `--help`: what there is to choose, read from the files that are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.configuration.help_page import help_page
from harness.configuration.schema import CONF_DIR


def test_every_axis_is_listed_with_every_choice():
    lines = help_page().splitlines()
    files = [path for path in CONF_DIR.rglob("*.yaml") if path.parent != CONF_DIR]
    assert len(files) > 80
    for path in files:
        group = path.parent.relative_to(CONF_DIR).as_posix()
        if group.partition("/")[0] == "hydra":
            continue
        (line,) = [line for line in lines if line.startswith(f"{group}: ")]
        assert path.stem in line.removeprefix(f"{group}: ").split(", ")


def test_options_of_every_cell_stand_there_with_their_defaults():
    page = help_page()
    assert "\ndepth: 8  # hidden layers" in page
    assert "\nseeds: 3  # a count" in page
    assert "${" not in page
    assert "hydra:" not in page


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_whatever_stands_beside_it(tmp_path, flag):
    answer = subprocess.run(
        [sys.executable, "-m", "harness.train", "--multirun", "depth=0", flag, f"runs={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == help_page().strip()
    assert list(tmp_path.iterdir()) == []
