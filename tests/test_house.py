"""The project's rules for readable code, checked by tools and by a few counts."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (*FUNCTIONS, ast.ClassDef, ast.Module)
OPENING = re.compile(r"(What|How|Whether|Where|Which|Why|Of|So)\b")

MOST_LINES_OF_FILE = 400
MOST_LINES_OF_FUNCTION = 60
MOST_LONG_FUNCTIONS = 6
MOST_FILES_AT_THE_ROOT = 6
MOST_WORDS_OF_FIRST_PARAGRAPH = 12


def run_tool(*command: str) -> None:
    """Runs a development tool of this environment and shows what it says where it objects."""
    tool = shutil.which(command[0], path=str(Path(sys.executable).parent)) or shutil.which(
        command[0]
    )
    if tool is None:
        pytest.skip(f"{command[0]} is not installed; pip install -e .[dev]")
    answer = subprocess.run([tool, *command[1:]], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_code_is_formatted():
    run_tool("ruff", "format", "--check", ".")


def test_the_linter_has_no_objection():
    run_tool("ruff", "check", ".")


def test_imports_go_one_way():
    run_tool("lint-imports")


def test_public_interfaces_have_consistent_types():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; pip install -e .[dev]")
    run_tool("mypy")


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every Python file of the product, by its path."""
    paths = [path for folder in ("harness", "scripts") for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(paths)}


@pytest.fixture(scope="module")
def trees(sources) -> dict[str, ast.Module]:
    return {path: ast.parse(text) for path, text in sources.items()}


def docstrings(trees: dict[str, ast.Module]) -> list[tuple[str, str]]:
    """Every docstring with the place of its owner."""
    rows = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
                rows.append((f"{path}:{getattr(node, 'lineno', 1)}", text))
    return rows


def test_docstrings_are_sentences(trees):
    odd = [place for place, text in docstrings(trees) if OPENING.match(text)]
    assert odd == []


def test_docstrings_begin_with_a_short_paragraph(trees):
    counts = sorted(len(text.split("\n\n")[0].split()) for _, text in docstrings(trees))
    assert counts[len(counts) // 2] <= MOST_WORDS_OF_FIRST_PARAGRAPH


def test_no_comprehension_stands_inside_another(trees):
    nested = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, COMPREHENSIONS):
                inner = [part for part in ast.walk(node) if isinstance(part, COMPREHENSIONS)]
                if len(inner) > 1:
                    nested.append(f"{path}:{node.lineno}")
    assert nested == []


def test_no_file_is_long(sources):
    lengths = {path: text.count("\n") for path, text in sources.items()}
    long = {path: length for path, length in lengths.items() if length > MOST_LINES_OF_FILE}
    assert long == {}


def length(node: ast.stmt) -> int:
    """The number of lines of a statement."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_few_functions_are_long(trees):
    long = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and length(node) > MOST_LINES_OF_FUNCTION:
                long.append(f"{path}:{node.lineno} {node.name}")
    assert len(long) <= MOST_LONG_FUNCTIONS, long


def test_no_two_files_have_one_name(sources):
    stems = Counter(
        Path(path).stem
        for path in sources
        if path.startswith("harness/") and not path.endswith("__init__.py")
    )
    assert [stem for stem, count in stems.items() if count > 1] == []


def test_few_files_stand_at_the_root_of_the_package():
    files = [path.name for path in (ROOT / "harness").glob("*.py") if path.stem != "__init__"]
    assert len(files) <= MOST_FILES_AT_THE_ROOT, files


def test_only_commands_and_scripts_print(trees):
    printing = []
    for path, tree in trees.items():
        if path.startswith(("scripts/", "harness/commands/")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                printing.append(f"{path}:{node.lineno}")
    assert printing == []
