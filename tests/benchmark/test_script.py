"""`scripts/benchmark.py` as a user starts it, and the page that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.benchmark.growth import Growth
from harness.benchmark.headline import headline
from harness.benchmark.jobs import Job
from harness.benchmark.network_kinds import KindSpeed
from harness.benchmark.summary import Results, as_dict, markdown
from harness.benchmark.throughput import (
    PLAIN,
    PLAIN_EACH_DICT,
    PLAIN_EACH_VALUE,
    PLAIN_IN_PROCESSES,
    PLAIN_UNTRACKED,
    Peer,
    Reading,
    Throughput,
)
from harness.benchmark.throughput_figure import plot
from harness.reports.marks import with_part

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
        (["--readme", "nowhere.md"], "--readme nowhere.md: No such file or directory"),
        (["--readme", "LICENSE"], "the page has no lines <!-- speed:begin -->"),
        (["--readme", "README.md", "--part", "growth"], "--part growth measures no number of it"),
    ],
)
def test_wrong_request_is_answered_by_one_line(arguments, message):
    answer = benchmark("--quick", *arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert message in answer.stderr


@pytest.fixture
def results() -> Results:
    """Made-up results whose medians and ratios are round numbers."""
    shares = {"training steps": 0.5, "Hydra": 0.25}
    readings = [
        Reading(PLAIN_EACH_VALUE, 1, 1, PLAIN, 1, [30.0, 60.0, 90.0], [100.0], [0]),
        Reading(PLAIN_EACH_DICT, 1, 1, PLAIN, 1, [45.0], [100.0], [0]),
        Reading(PLAIN_UNTRACKED, 1, 1, PLAIN, 1, [20.0], [200.0], [0]),
        Reading(PLAIN_IN_PROCESSES, 1, 2, PLAIN, 2, [24.0], [400.0], [0]),
        Reading("(d) packs of 4", 4, 2, "batched", 8, [24.0], [800.0], [2**21], [shares]),
        Reading(
            "harness, as it chooses", 16, 2, "stacked", 32, [32.0], [1000.0], [2**22], [shares]
        ),
    ]
    peers = [Peer("(e) JAX, 4 at once", 4, [800.0, 900.0, 950.0])]
    throughput = Throughput("a case", 480, 2_000_000, readings, [1e9, 4e9, 8e9], 2e9, peers)
    multirun = "composing, checking, skipping by Hydra"
    return Results(
        {"processor": "made up", "cores": 2, "torch": "2.1"},
        [Job("a job", 12.5, 2**20, {"Hydra": 0.125})],
        [throughput],
        [KindSpeed("a network", "stacked", [50.0], {1: [60.0, 70.0, 80.0], 4: [140.0]})],
        [
            Growth(12, 4, {multirun: 1.0}, 0.05, 2**20),
            Growth(102, 34, {multirun: 2.5}, 0.05, 2**23),
        ],
    )


def test_page_shows_medians_and_ratios_to_the_yardsticks(results):
    page = markdown(results, repeats=3)
    assert "processor made up; cores 2; torch 2.1. Medians of 3 repeats" in page
    assert "| a job | 12.50 | 1 | Hydra 12.5 % |" in page
    packs = "140.0 in packs of 4 (2.00 x one trial)"
    assert f"| a network | stacked | 50.0 | 70.0 | 1.40 | {packs} |" in page
    # (a) takes 60 s, so 1 trial a minute; the packs make 20, 20 and 6.7 times as many.
    # (b2) takes 24 s for two trials, so 5 a minute.
    assert "| (d) packs of 4 | 8 | 20 | 20.0 | 6.7 | 4.0 | 800 | 4.0 | 2.0 | 40 % | 2 |" in page
    assert "| (e) JAX, 4 at once |  |  |  |  |  | 900 |  |  |  |  |" in page
    assert "packs of 16, 2 at a time. Logging each value by a call of its own, instead" in page
    assert "takes 25% of the time of (a)." in page
    assert "50 ms for every further job" in page


def test_page_leaves_out_parts_that_were_not_measured(results):
    page = markdown(Results(results.machine, growth=results.growth), repeats=1)
    assert "## Growth with the number of trials" in page
    assert page.count("##") == 1


def test_numbers_hold_every_reading_with_its_ratios(results):
    numbers = as_dict(results)
    assert numbers["machine"]["cores"] == 2
    assert numbers["jobs"][0]["seconds"] == 12.5
    assert [row["trials"] for row in numbers["growth"]] == [12, 102]
    (case,) = numbers["cases"]
    assert case["product_flops_per_second"] == 4e9
    chosen = case["readings"][-1]
    assert chosen["program"] == "stacked"
    assert chosen["times_a"] == pytest.approx(60.0)
    assert chosen["steps_times_b"] == pytest.approx(5.0)
    assert chosen["times_b2"] == pytest.approx(12.0)
    assert case["peers"][0]["steps_per_second"] == 900.0
    assert chosen["share_of_product_rate"] == pytest.approx(0.5)


def test_headline_sets_what_the_harness_chooses_beside_each_yardstick(results):
    numbers = as_dict(results)
    assert headline(numbers) == (
        "These are medians on 2 cores of made up, torch 2.1. **a case**: 60 trials a minute with "
        "everything logged, 60 times a plain loop that logs every value, 20.0 times plain tensors "
        "without a log and 12.0 times these in a process for each core. Training steps alone are "
        "5.0 times plain tensors, 2.5 times these in a process for each core and 1.1 times JAX."
    )


def test_headline_leaves_out_yardsticks_that_were_not_measured(results):
    (throughput,) = results.throughput
    throughput.peers.clear()
    throughput.readings.remove(throughput.reading(PLAIN_IN_PROCESSES))
    said = headline(as_dict(results))
    assert "JAX" not in said
    assert "process" not in said


def test_the_readme_has_the_numbers_of_the_reference_benchmark():
    numbers = json.loads((ROOT / "runs/reference/benchmark/benchmark.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_part(readme, "speed", headline(numbers)) == readme


def test_figure_is_written(results, tmp_path):
    plot(results.throughput, tmp_path / "throughput.png")
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


@pytest.mark.slow
def test_jobs_are_measured_and_written(tmp_path):
    answer = benchmark("--part", "jobs", "--json", "--device", "cpu", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    main_job, probe, diagnosis = json.loads(answer.stdout)["jobs"]
    assert "144 trials" in main_job["name"]
    assert 0.1 < main_job["shares"]["training steps"] < 1
    assert 0 < main_job["shares"]["tracking"] < 1
    assert probe["seconds"] > 0
    assert diagnosis["peak_bytes"] > 2**28
    assert "| diagnose vgg11_bn" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_quick_benchmark_measures_both_cases_and_growth(tmp_path):
    answer = benchmark("--quick", "--json", "--device", "cpu", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    numbers = json.loads(answer.stdout)
    assert [case["case"].split(",")[0] for case in numbers["cases"]] == ["digits", "MNIST-shaped"]
    for case in numbers["cases"]:
        for reading in case["readings"]:
            assert reading["trials_per_minute"] > 0
            assert reading["steps_per_second"] > 0
    # 100 trials are 34 cells of three seeds, and whole axes cross to 48 cells.
    assert [growth["trials"] for growth in numbers["growth"]] == [12, 144]
    page = (tmp_path / "benchmark.md").read_text()
    assert "| (b) tensors on the device, no tracking |" in page
    assert (tmp_path / "throughput.png").stat().st_size > 10_000
