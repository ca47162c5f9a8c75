"""The README of the reports against the code: version, statistics, and measured coverages."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy
import pytest

import harness.reports
from harness.reports import rules, statistics

README = Path(harness.reports.__path__[0], "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the README's table whose first heading is this, without heading and rule."""
    lines = README.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_readme_names_the_version_of_the_rules():
    assert re.search(r"^Rules version: (\d+)$", README, re.MULTILINE)[1] == str(rules.VERSION)


def test_readme_has_the_statistics_of_the_rules():
    declared = [
        [entry.question, entry.statistic, entry.uncertainty, f"`{entry.function}`"]
        for entry in rules.STATISTICS
    ]
    assert table("question") == declared


@pytest.mark.parametrize("entry", rules.STATISTICS, ids=lambda entry: entry.function)
def test_every_statistic_of_the_rules_is_computed(entry):
    module, name = entry.function.split(".")
    assert callable(getattr(importlib.import_module(f"harness.reports.{module}"), name))


def test_readme_names_functions_and_files_that_exist():
    section = README.partition("## Not in a report")[2]
    functions, _, files = section.partition("## Files")
    for name in re.findall(r"`(\w+)`", functions):
        assert callable(getattr(statistics, name))
    folder = Path(harness.reports.__path__[0])
    for name in re.findall(r"`([\w*/.]+)`", files):
        assert list(folder.glob(name)), name


def test_readme_gives_the_coverage_that_is_measured():
    generator = numpy.random.default_rng(0)
    stated = {name: cells for name, *cells in table("interval")}
    for column, seeds in enumerate((3, 5, 10)):
        scores = generator.normal(size=(3000, seeds))
        draws = generator.integers(seeds, size=(3000, 800, seeds))
        means = numpy.take_along_axis(scores[:, None, :], draws, axis=2).mean(axis=2)
        low, high = numpy.quantile(means, (0.025, 0.975), axis=1)
        half = statistics.half_width(scores.std(axis=1, ddof=1), seeds)
        measured = {
            "Student-t": numpy.mean(numpy.abs(scores.mean(axis=1)) <= half),
            "percentile bootstrap": numpy.mean((low <= 0) & (high >= 0)),
        }
        for name, coverage in measured.items():
            percent = float(stated[name][column].removesuffix(" %"))
            assert 100 * coverage == pytest.approx(percent, abs=3)


def test_readme_gives_the_coverage_of_the_plain_deviation():
    scores = numpy.random.default_rng(0).normal(size=(20000, 3))
    bars = scores.std(axis=1) / numpy.sqrt(3)
    coverage = numpy.mean(numpy.abs(scores.mean(axis=1)) <= bars)
    percent = float(re.search(r"covers (\d+) % at 3 seeds", README)[1])
    assert 100 * coverage == pytest.approx(percent, abs=1.5)


def test_readme_gives_wilsons_interval_of_no_divergence_in_three():
    interval = statistics.wilson(0, 3)
    assert f"Wilson's is {interval.low:.0f} to {interval.high:.2f}" in README
