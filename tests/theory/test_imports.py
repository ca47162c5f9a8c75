"""Theory stands alone: NumPy, SciPy, the harness's errors and registry, and no torch."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

from harness import theory

FOLDER = Path(theory.__file__).parent
ALLOWED = ("numpy", "scipy", "harness.errors", "harness.registry", "harness.theory")


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def is_allowed(name: str) -> bool:
    if name.split(".")[0] in sys.stdlib_module_names:
        return True
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED)


def test_theory_imports_no_other_package_of_the_harness():
    paths = list(FOLDER.rglob("*.py"))
    assert paths
    for path in paths:
        forbidden = [name for name in imported_modules(path) if not is_allowed(name)]
        assert not forbidden, f"{path.name} imports {forbidden}"


def test_importing_all_of_theory_loads_no_torch():
    modules = [module.name for module in pkgutil.walk_packages([str(FOLDER)], "harness.theory.")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parents[1]).returncode == 0
