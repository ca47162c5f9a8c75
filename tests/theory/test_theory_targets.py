"""The benchmark of the theory: its accuracies on a few points, and its printed lines."""

from __future__ import annotations

import importlib.util
import json

import mpmath
import pytest

from harness.benchmark import theory_targets
from harness.benchmark.theory_targets import Measurement
from harness.configuration.schema import PROJECT_ROOT

MEASUREMENTS = [Measurement("first", 1e-14, 1e-12, "error"), Measurement("second", 2.0, 1.0, "s")]


@pytest.fixture
def script(monkeypatch):
    """Returns scripts/benchmark_theory.py with fixed measurements."""
    path = PROJECT_ROOT / "scripts" / "benchmark_theory.py"
    spec = importlib.util.spec_from_file_location("benchmark_theory", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "measure_all", lambda: MEASUREMENTS)
    return module


def test_the_printed_formulas_have_the_fixed_point():
    with mpmath.workdps(30):
        mean, variance = theory_targets.exact_map(0.0, 1.0, 0.0, 1.0)
    assert float(mean) == pytest.approx(0.0, abs=1e-15)
    assert float(variance) == pytest.approx(1.0, abs=1e-15)


def test_g_meets_its_accuracy():
    measurements = theory_targets.map_accuracy(points=50)
    assert len(measurements) == 2
    assert all(measurement.met for measurement in measurements)


def test_mean_field_theory_meets_its_accuracy():
    measurements = theory_targets.mean_field_accuracy(("selu", "tanh"))
    assert len(measurements) == 3
    assert all(measurement.met for measurement in measurements)


def test_a_missed_target_is_printed_and_told_by_the_exit_code(script, capsys):
    assert script.main([]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "met" in first
    assert "MISSED" in second


def test_measurements_are_printed_as_json(script, capsys):
    assert script.main(["--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["met"] for row in rows] == [True, False]
    assert rows[1]["measured"] == 2.0
