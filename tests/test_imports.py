"""Modules that a newcomer waits for load nothing heavy, and only tracking imports MLflow."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Modules that must load without these libraries, whatever they import in turn. Those of a list are
# loaded one after another by one process, so that none may load what a later one must not.
LIGHT = {
    "with Hydra": [
        ("harness", ("torch", "mlflow", "pandas", "hydra")),
        ("harness.train", ("torch", "mlflow", "pandas", "scipy", "matplotlib")),
        ("harness.commands.selu_train", ("torch", "mlflow", "pandas", "scipy", "matplotlib")),
        ("harness.sweeps.cells", ("torch", "mlflow", "pandas")),
        ("harness.networks.trial_prediction", ("torch", "mlflow")),
        ("harness.verdicts.evaluation", ("torch", "mlflow")),
        ("harness.tracking", ("torch", "mlflow")),
    ],
    "without Hydra": [
        ("harness.commands.selu_report", ("torch", "mlflow", "hydra", "matplotlib")),
        ("harness.commands.selu_status", ("torch", "mlflow", "hydra")),
        ("harness.store.tables", ("torch", "mlflow", "hydra")),
        ("harness.reports.report", ("torch", "mlflow", "hydra")),
    ],
}
LOADING = """
import importlib, json, sys
for module, heavy in json.loads(sys.argv[1]):
    importlib.import_module(module)
    print(module, *(name for name in heavy if name in sys.modules))
"""


class ImportFinder(ast.NodeVisitor):
    """Collects the modules that a file imports, `from a import b` as both a and a.b.

    Imports for a type checker alone are left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()
        self.visit(ast.parse(path.read_text()))

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.path}: relative import"
        self.names.add(str(node.module))
        self.names.update(f"{node.module}.{alias.name}" for alias in node.names)


def imports_mlflow(path: Path) -> bool:
    return any(name.partition(".")[0] == "mlflow" for name in ImportFinder(path).names)


def test_only_tracking_imports_mlflow():
    package = ROOT / "harness"
    users = {
        path.relative_to(package).parts[0] for path in package.rglob("*.py") if imports_mlflow(path)
    }
    # The benchmark compares with a program that logs as a user without this harness would.
    assert users == {"tracking", "benchmark"}


@pytest.mark.parametrize("modules", LIGHT.values(), ids=LIGHT)
def test_modules_load_nothing_heavy(modules):
    command = [sys.executable, "-c", LOADING, json.dumps(modules)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.stdout.splitlines() == [name for name, _ in modules], answer.stderr
