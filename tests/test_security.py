"""Nothing that a stranger could have written runs code, and nothing listens to others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "harness").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

# Calls that run what they read. A configuration that Hydra composed is kept compressed within one
# process, and never leaves it.
UNSAFE = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "dill.load",
    "eval",
    "exec",
    "os.system",
    "pandas.read_pickle",
    "yaml.unsafe_load",
    "yaml.full_load",
}
WITHIN_A_PROCESS = {"compose_once.py": {"pickle.loads"}}
# Readers that run what they read unless an argument forbids it.
GUARDED = {
    "torch.load": ("weights_only", "True"),
    "numpy.load": ("allow_pickle", "False"),
    "np.load": ("allow_pickle", "False"),
    "yaml.load": ("Loader", "_LOADER"),
}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a file with the dotted name of what is called."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.append((ast.unparse(node.func), node))
    return found


def test_no_file_runs_what_it_reads():
    unsafe = []
    for path in SOURCES:
        allowed = WITHIN_A_PROCESS.get(path.name, set())
        for name, call in calls(path):
            options = {option.arg: ast.unparse(option.value) for option in call.keywords}
            option, value = GUARDED.get(name, ("shell", options.get("shell")))
            is_guarded = options.get(option) == value and options.get("shell") != "True"
            if name in UNSAFE - allowed or not is_guarded:
                unsafe.append(f"{path}:{call.lineno} {name}")
    assert unsafe == []


@pytest.mark.parametrize("line", ["torch.load(f)", "eval(x)", "run(c, shell=True)", "yaml.load(f)"])
def test_the_check_sees_what_runs_what_it_reads(tmp_path, monkeypatch, line):
    path = tmp_path / "unsafe.py"
    path.write_text(line)
    monkeypatch.setitem(globals(), "SOURCES", [path])
    with pytest.raises(AssertionError, match="unsafe.py:1"):
        test_no_file_runs_what_it_reads()


def test_yaml_is_read_by_a_safe_loader():
    from harness.configuration import options

    assert "Safe" in options._LOADER.__name__


def test_nothing_listens_to_other_machines():
    """Servers are MLflow's; the commands that the project prints and documents bind to loopback."""
    documents = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "harness").rglob("*.md")]
    documents += [*(ROOT / "scripts").rglob("*.sh"), *(ROOT / "conf").rglob("*.yaml")]
    for path in documents:
        text = path.read_text(encoding="utf-8")
        assert "0.0.0.0" not in text, path
        for host in re.findall(r"--host[ =]([\w.]+)", text):
            assert host == "127.0.0.1", path
