"""The theory stands alone: NumPy, SciPy, our errors and registry, and no torch."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

from harness import theory

FOLDER = Path(theory.__file__).parent
ALLOWED = {"numpy", "scipy", "harness.errors", "harness.registry", "harness.theory"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def test_imports_go_one_way():
    for path in FOLDER.rglob("*.py"):
        for name in imported(path):
            own = any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED)
            assert own or name.split(".")[0] in sys.stdlib_module_names, (
                f"{path.name} imports {name}"
            )


def test_no_torch_is_loaded():
    modules = ", ".join(
        module.name for module in pkgutil.walk_packages([str(FOLDER)], "harness.theory.")
    )
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=FOLDER.parents[1]).returncode == 0
