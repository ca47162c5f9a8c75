"""`scripts/benchmark.py` as a user starts it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from harness.benchmark import growth

ROOT = Path(__file__).resolve().parents[2]


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/benchmark.py", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--device", "cuda:77"], "device=cuda:77 is not there"),
        (["--repeats", "0"], "--repeats 0: expected"),
        (["--out", str(Path(__file__) / "inside")], "cannot be written"),
    ],
)
def test_a_wrong_request_is_one_line(arguments, message):
    answer = benchmark("--quick", *arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert message in answer.stderr


def test_growth_is_of_real_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "_BASIC_JOBS", 4)
    told = []
    grown = growth.measure(10, tmp_path, told.append)
    assert (grown.trials, grown.jobs) == (12, 4)
    assert grown.store_bytes > 10_000
    assert set(grown.seconds) == {
        "checking the cells",
        "storing",
        "skipping all of them",
        "composing, checking, skipping by Hydra",
        "collecting",
        "writing the tables",
        "reporting",
    }
    # The sweep by Hydra is the sweep that was stored: it trained nothing and left nothing new but its own log.
    assert len(list((tmp_path / "runs-10" / "trials").iterdir())) == 12
    assert len(told) == 7
    assert 0 < grown.in_run_job < grown.seconds["composing, checking, skipping by Hydra"]
    assert grown.basic_job > 0
    assert len(list((tmp_path / "runs-basic" / "trials").iterdir())) == 12
    assert not (tmp_path / "runs-basic" / "packs").exists()


def test_a_large_sweep_has_as_many_axes_as_cells_allow():
    for cells, made in ((4, 4), (34, 48), (334, 432), (3334, 3456)):
        axes = growth._axes(cells)
        assert math.prod(axis.count(",") + 1 for axis in axes) == made
        assert axes[-1].startswith("optimizer.learning_rate=")


@pytest.mark.slow
def test_what_a_user_waits_for(tmp_path):
    answer = benchmark("--part", "jobs", "--json", "--device", "cpu", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    main, probe, diagnosis = json.loads(answer.stdout)["jobs"]
    assert "144 trials" in main["name"]
    assert 0.1 < main["shares"]["training steps"] < 1
    assert 0 < main["shares"]["tracking"] < 1
    assert probe["seconds"] > 0
    assert diagnosis["peak_bytes"] > 2**28
    assert "| diagnose vgg11_bn" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_the_quick_benchmark(tmp_path):
    answer = benchmark("--quick", "--json", "--device", "cpu", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    numbers = json.loads(answer.stdout)
    assert [case["case"].split(",")[0] for case in numbers["cases"]] == ["digits", "MNIST-shaped"]
    for case in numbers["cases"]:
        assert all(
            reading["trials_per_minute"] > 0 and reading["steps_per_second"] > 0
            for reading in case["readings"]
        )
    assert [grown["trials"] for grown in numbers["growth"]] == [12, 102]
    page = (tmp_path / "benchmark.md").read_text()
    assert "| (b) tensors on the device, no tracking |" in page
    assert (tmp_path / "throughput.png").stat().st_size > 10_000
