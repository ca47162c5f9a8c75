"""The documents are those that the code and the files in conf generate, and conf is commented."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from harness.configuration.options import CONF_DIR
from harness.configuration.reference import description

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(CONF_DIR.glob("*/*.yaml"))
# Axes on which something was published; what is no paper's says so.
SOURCED = ("activation", "arm", "architecture", "initializer", "optimizer", "preprocessing")
OPTION = re.compile(r"^(?P<key>\w+): .*")


def label(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def documents():
    place = importlib.util.spec_from_file_location("document", ROOT / "scripts" / "document.py")
    script = importlib.util.module_from_spec(place)
    place.loader.exec_module(script)
    return script.DOCUMENTS


@pytest.mark.parametrize("path, text", documents(), ids=lambda value: getattr(value, "name", ""))
def test_committed_documents_are_up_to_date(path, text):
    assert path.read_text(encoding="utf-8") == text(), "run `python scripts/document.py`"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_every_file_says_what_it_is(path):
    assert len(description(path).split()) >= 2
    assert max(map(len, path.read_text().splitlines())) <= 110


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in SOURCED], ids=label)
def test_every_published_thing_names_its_source(path):
    assert "\n# Source: " in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=label)
def test_every_option_has_a_comment(path):
    if path.parent.name in ("arm", "experiment"):
        return
    for line in path.read_text().splitlines():
        match = OPTION.match(line)
        if match and match["key"] != "name":
            assert "  # " in line, line


@pytest.mark.parametrize("path", sorted((CONF_DIR / "experiment").rglob("*.yaml")), ids=label)
def test_every_experiment_begins_with_its_question_and_command(path):
    text = path.read_text()
    assert description(path).startswith("Question: ")
    assert description(path).endswith("?")
    name = path.relative_to(CONF_DIR / "experiment").with_suffix("").as_posix()
    assert f"# Command: python -m harness.train --multirun experiment={name}" in text
