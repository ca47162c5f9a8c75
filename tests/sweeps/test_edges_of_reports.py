"""Sweeps at the edges of what can be measured are collected, judged and reported."""

from __future__ import annotations

import numpy
import pytest

from harness.reports import report
from harness.reports.evidence import gather
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.verdicts.judging import judge_tables

TINY = {
    "depth": 2,
    "width": 8,
    "seeds": 2,
    "budget.epochs": None,
    "budget.steps": 2,
    "budget.evaluations": 1,
    "budget.probes": 2,
}
EDGES = {
    "no probes": {"budget.probes": 0},
    "one probe": {"budget.probes": 1},
    "one unit": {"width": 1, "probe": "full"},
    "no steps": {"budget.steps": 0},
}


# The edge of no steps has a single probe as well, so that this one adds little to it.
ONE_PROBE = pytest.param("one probe", marks=pytest.mark.slow)


@pytest.mark.parametrize("edge", [*(edge for edge in EDGES if edge != "one probe"), ONE_PROBE])
def test_an_edge_of_what_can_be_measured_is_reported(make_config, tmp_path, edge):
    cells = [make_config(**TINY | EDGES[edge] | {"activation": name}) for name in ("selu", "relu")]
    sweep.prefetch(cells)
    tables = collect(Store(cells[0].runs))
    tables.write(tmp_path / "tables")
    trials, layers = judge_tables(tables.trials, tables.layers)
    assert trials["status"].tolist() == ["done"] * 4
    expected_probes = {"no probes": 0, "one probe": 1, "one unit": 2, "no steps": 1}[edge]
    assert len(layers) == 4 * 2 * expected_probes
    if edge == "one unit":
        assert layers[["tau_sd", "omega_sd", "unit_variance_cv"]].isna().all(axis=None)
        assert numpy.isfinite(layers["tau_mean"]).all()
    path = report.write(gather(collect(Store(cells[0].runs))), tmp_path / "report", None)
    assert "Does it matter" in path.read_text()
