"""An installed harness works away from its checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("harness", "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")
TINY = [
    "depth=2",
    "width=8",
    "budget.epochs=null",
    "budget.steps=3",
    "budget.evaluations=1",
    "budget.probes=2",
    "seeds=2",
    "tracking=none",
]
NETWORK = """\
from torch import nn


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.SELU(), nn.Linear(16, 10))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None,
        reason="building a wheel without network needs pip and setuptools in the environment",
    ),
]


def run(*command: object, **options) -> str:
    """Runs a command that must succeed, and returns its output."""
    words = [str(word) for word in command]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=300, **options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / "sources" / name, ignore=ignored)
        else:
            shutil.copy(source, folder / "sources" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", folder, folder / "sources")
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installation(wheel, tmp_path_factory) -> Path:
    """A folder into which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installation")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    run(*pip, "--target", folder, wheel)
    return folder


def test_the_wheel_carries_every_file_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    plugins = ROOT / "harness" / "plugins"
    expected = {"harness/conf/README.md"}
    expected |= {
        f"harness/conf/{path.relative_to(ROOT / 'conf')}"
        for path in (ROOT / "conf").rglob("*.yaml")
    }
    for path in (ROOT / "harness").rglob("*"):
        if path.is_dir() or path.suffix in (".pyc", ".md"):
            continue
        base = plugins if plugins in path.parents else ROOT
        expected.add(str(path.relative_to(base)))
    assert expected - names == set()
    assert not [name for name in names if "__pycache__" in name or name.startswith("conf/")]


def test_an_installed_harness_sweeps_and_reports_in_the_working_directory(installation, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installation)}
    environment.pop("HYDRA_FULL_ERROR", None)

    def command(name: str, *arguments: str) -> str:
        script = installation / "bin" / name
        return run(sys.executable, script, *arguments, cwd=tmp_path, env=environment)

    where = run(
        sys.executable,
        "-c",
        "import harness; print(harness.__file__)",
        cwd=tmp_path,
        env=environment,
    )
    assert Path(where.strip()).is_relative_to(installation)
    command("selu-train", "--multirun", *TINY, "activation=selu,relu")
    assert len(list((tmp_path / "runs" / "trials").glob("*/done"))) == 4
    assert command("selu-status").startswith("4 trials: 4 done")
    assert "trials.parquet: 4 rows" in command("selu-collect")
    report = Path(command("selu-report", "--quiet").strip())
    assert report.is_relative_to(tmp_path / "runs" / "reports")
    assert "activation=selu,relu" in report.read_text()
    assert "1.78" in command("selu-theory", "fixed-points", "--omega", "0", "--tau", "2")
    (tmp_path / "networks.py").write_text(NETWORK)
    words = ["networks:network", "--data", "digits", "--samples", "128"]
    assert "1 activated layers" in command("selu-diagnose", *words)
    results = {path.name for path in tmp_path.iterdir()} - {"networks.py", "__pycache__"}
    assert results == {"runs"}
