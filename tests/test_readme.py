"""README.md: every command runs, in a short form where it is long, and links lead to files."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 150

# The short form of a sweep: these settings stand in place of the command's own, or beside them.
TINY = {
    "depth": "2,3",
    "width": "8",
    "seeds": "1",
    "budget.epochs": "null",
    "budget.steps": "2",
    "budget.evaluations": "1",
    "tracking": "none",
}
TINY_QUICKSTART = {
    "activation": "selu,relu",
    "initializer": "lecun_normal",
    "normalization": "none",
}
# Words that a long command gets.
FURTHER_WORDS = {
    "scripts/test.sh": ["-n", "0", "-q", "-p", "no:cacheprovider", "tests/test_errors.py"],
    "scripts/diagnose.py": ["--samples", "64"],
}
# Commands that take long even so, or do what a quick one does as well.
SLOW = (
    "scripts/test.sh",
    "--multirun activation=selu,relu",
    "harness.train depth=4",
    "harness.train width=",
    "scripts/report.py",
    "scripts/answer.py",
    "scripts/sync_mlflow.py",
    "scripts/theory.py predict",
    "scripts/theory.py figures",
    "scripts/diagnose.py",
    "scripts/benchmark",
)
SERVER = "mlflow ui"


def commands() -> list[str]:
    """The commands of README.md in their order, without comments."""
    lines = []
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL):
        lines += [re.sub(r"\s+# .*$", "", line) for line in block.splitlines()]
    return lines


def is_slow(command: str) -> bool:
    return any(part in command for part in SLOW)


def shortened(command: str) -> str:
    """The command with tiny settings; the same command where it is short already."""
    for script, words in FURTHER_WORDS.items():
        if script in command:
            return f"{command} {shlex.join(words)}"
    sweeps = "quickstart.sh" in command or "harness.train" in command
    if not sweeps or "--help" in command:
        # A report of some depths names one of those that were trained.
        return command.replace("depth=16", "depth=3")
    settings = TINY | (TINY_QUICKSTART if "quickstart.sh" in command else {})
    if "quickstart.sh" not in command and "--multirun" not in command:
        settings = settings | {"depth": "2"}
    words = [word for word in command.split(" ") if word.partition("=")[0] not in settings]
    return " ".join([*words, *(f"{key}={value}" for key, value in settings.items())])


@pytest.fixture(scope="module")
def project(copy_project, tmp_path_factory) -> Path:
    """A copy of the project whose `.venv` is the environment of the tests."""
    folder = tmp_path_factory.mktemp("readme") / "project"
    copy_project(folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    paths = f"{folder}{os.pathsep}{folder / 'harness' / 'plugins'}"
    for name, words in {"python": "", "mlflow": "-m mlflow"}.items():
        program = programs / name
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{paths}" '
            f'exec "{sys.executable}" {words} "$@"\n'
        )
        program.chmod(0o755)
    stamp = "cat pyproject.toml setup.py constraints.txt | cksum >.venv/installed-test"
    subprocess.run(["bash", "-c", stamp], cwd=folder, check=True)
    return folder


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(project: Path, command: str) -> str:
    """Runs a command as a shell does, which must succeed, and returns its output."""
    answer = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=project,
        env=environment(),
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout}{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="module")
def outputs(project) -> dict[str, str]:
    """The output of every quick command, run in the order of README.md."""
    quick = [command for command in commands() if not is_slow(command) and SERVER not in command]
    return {command: run(project, shortened(command)) for command in quick}


def test_every_quick_command_runs(project, outputs):
    def output(words: str) -> str:
        (text,) = [text for command, text in outputs.items() if words in command]
        return text

    assert "Report:" in output("quickstart.sh")
    assert "activation: celu, " in output("--help")
    assert " done" in output("status.py")
    assert "1.78" in output("fixed-points")
    assert (project / "runs" / "reports" / "latest" / "report.html").exists()
    assert (project / "runs" / "tables" / "layers.parquet").exists()
    specifications = (project / "runs" / "trials").glob("*/trial.json")
    assert any("shapes:softsign" in path.read_text() for path in specifications)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in commands() if is_slow(command)])
def test_a_slow_command_runs(project, outputs, command):
    run(project, shortened(command))
    folder = re.search(r"--out (\S+)", command)
    assert folder is None or any((project / folder[1]).iterdir())


@pytest.mark.slow
def test_the_server_shows_the_experiment(project, outputs):
    (command,) = [command for command in commands() if SERVER in command]
    run(project, ".venv/bin/python scripts/sync_mlflow.py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*shlex.split(command), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(words, cwd=project, env=environment(), start_new_session=True)
    try:
        assert "MLflow" in page(f"http://127.0.0.1:{port}/")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(30)


def page(address: str) -> str:
    """The text at an address, as soon as a server answers."""
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert time.monotonic() < end, f"nothing answers at {address}"
            time.sleep(0.5)


def test_every_kind_of_long_command_stands_in_the_readme():
    for part in (*SLOW, *FURTHER_WORDS, SERVER):
        assert any(part in command for command in commands()), part


def test_the_python_block_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    model = nn.Sequential(nn.Linear(16, 12), nn.SELU(), nn.Linear(12, 3))
    inputs = torch.randn(128, 16, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [(inputs, torch.arange(128) % 3)]
    exec(block, {"model": model, "loader": loader, "optimizer": optimizer})
    printed = capsys.readouterr().out
    assert "1 activated layers" in printed
    assert "stability margin" in printed.lower()


def test_links_lead_to_files():
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(targets) >= 5
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []


def test_the_readme_is_short_and_has_one_place_for_the_answer():
    assert TEXT.count("\n") <= MOST_LINES
    assert TEXT.count("<!-- answer:begin -->") == 1
    assert TEXT.count("<!-- answer:end -->") == 1
    assert TEXT.index("<!-- answer:begin -->") < TEXT.index("<!-- answer:end -->")
