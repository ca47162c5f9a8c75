"""Growth is timed on stores of real trials with synthetic results."""

from __future__ import annotations

import math

import pytest

from harness.benchmark import growth
from harness.benchmark.synthetic_trials import cell_configs, sweep_axes
from harness.sweeps.cells import cell


def test_growth_is_measured_on_a_store_of_real_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "BASIC_JOBS", 4)
    lines = []
    measured = growth.measure(10, tmp_path, lines.append)
    assert measured.trials == 12
    assert measured.jobs == 4
    assert measured.store_bytes > 10_000
    assert set(measured.seconds) == {
        "checking the cells",
        "storing",
        "skipping all of them",
        "composing, checking, skipping by Hydra",
        "collecting",
        "writing the tables",
        "reporting",
    }
    assert len(lines) == 7
    # The sweep by Hydra is the sweep that was stored: it trained nothing and stored no trial.
    assert len(list((tmp_path / "runs-10" / "trials").iterdir())) == 12
    assert measured.basic_job > 0
    assert len(list((tmp_path / "runs-basic" / "trials").iterdir())) == 12
    assert not (tmp_path / "runs-basic" / "packs").exists()


@pytest.mark.parametrize("cells, crossed", [(4, 4), (5, 8), (34, 48), (334, 432), (3334, 3456)])
def test_sweep_crosses_as_many_axes_as_the_number_of_cells_allows(cells, crossed):
    axes = sweep_axes(cells)
    assert math.prod(axis.count(",") + 1 for axis in axes) == crossed
    assert axes[-1].startswith("optimizer.learning_rate=")


def test_synthetic_cells_are_those_of_the_sweep_in_its_order(tmp_path):
    """As many as the axes cross, all different."""
    configs = cell_configs(5, tmp_path)
    trial_ids = {cell(config).jobs[0].trial.trial_id for config in configs}
    assert len(configs) == len(trial_ids) == 8
    # Hydra varies the last axis fastest.
    assert configs[0].activation == configs[1].activation
    assert configs[0].optimizer.learning_rate < configs[1].optimizer.learning_rate
