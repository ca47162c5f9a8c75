"""The benchmark of the monitor measures a loop with it and without it."""

from __future__ import annotations

import pytest

from harness.benchmark.monitor_cost import MonitorCost, measure_monitor


def test_a_loop_is_timed_alone_and_watched():
    cost = measure_monitor(steps=4, depth=2, width=8)
    assert cost.steps == 4
    assert cost.probes >= 2
    assert min(cost.alone, cost.watched, cost.ends) > 0


def test_the_share_is_that_of_the_time_with_a_monitor():
    cost = MonitorCost(100, 5, alone=9.6, watched=10.0, inside=0.5, ends=1.0)
    assert cost.share == pytest.approx(0.05)
