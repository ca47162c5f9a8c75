"""What a newcomer waits for loads nothing heavy, and only tracking imports MLflow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Modules that must come without these, whatever they import in turn.
LIGHT = {
    "harness": ("torch", "mlflow", "pandas", "hydra"),
    "harness.train": ("torch", "mlflow", "pandas", "scipy", "matplotlib"),
    "harness.sweeps.cells": ("torch", "mlflow", "pandas"),
    "harness.networks.trial_prediction": ("torch", "mlflow"),
    "harness.verdicts.evaluation": ("torch", "mlflow"),
    "harness.reports.report": ("torch", "mlflow", "hydra"),
    "harness.store.tables": ("torch", "mlflow", "hydra"),
    "harness.tracking": ("torch", "mlflow"),
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, `from a import b` as both a and a.b; what only a type checker sees is left out."""
    names: set[str] = set()

    class Finder(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            names.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"{path}: relative import"
            names.update(
                {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
            )

    Finder().visit(ast.parse(path.read_text()))
    return names


def test_only_tracking_imports_mlflow():
    users = {
        path.relative_to(ROOT / "harness").parts[0]
        for path in (ROOT / "harness").rglob("*.py")
        if any(name.partition(".")[0] == "mlflow" for name in imported(path))
    }
    assert users == {
        "tracking",
        "benchmark",
    }  # the benchmark's yardstick logs as a user without this harness would


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_waited_for_is_light(module):
    code = f"import sys, {module}\nprint([name for name in {LIGHT[module]} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr
