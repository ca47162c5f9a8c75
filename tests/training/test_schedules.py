"""When the learning rate is what, and when a trial is looked at."""

from __future__ import annotations

import math

import pytest

from harness.training.schedules import evaluation_steps, multiplier, plan, probe_steps


def test_shapes():
    assert multiplier({"name": "constant"}, 3, 10) == 1.0
    cosine = [
        multiplier({"name": "cosine", "final_share": 0.1}, step, 100) for step in range(1, 101)
    ]
    assert cosine[0] == pytest.approx(1.0, abs=1e-3)
    assert cosine[-1] == pytest.approx(0.1, abs=1e-3)
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[49] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.495)))
    warm = {"name": "warmup_cosine", "warmup_share": 0.2, "final_share": 0.0}
    rates = [multiplier(warm, step, 100) for step in range(1, 101)]
    assert rates[:20] == pytest.approx([(step - 0.5) / 20 for step in range(1, 21)])
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_a_warmup_share_of_zero_is_a_cosine():
    assert multiplier(
        {"name": "warmup_cosine", "warmup_share": 0.0, "final_share": 0.0}, 7, 20
    ) == multiplier({"name": "cosine", "final_share": 0.0}, 7, 20)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 480, 12345])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_first_and_last_steps_are_looked_at(steps, count):
    assert {0, steps} <= set(evaluation_steps(steps, count))
    looked = probe_steps(steps, count)
    assert looked[0] == 0
    assert len(looked) <= max(count, 1)
    assert looked == sorted(set(looked))
    if count > 1:
        assert looked[-1] == steps


def test_probes_are_log_spaced():
    assert probe_steps(1000, 5) == [0, 1, 10, 100, 1000]
    assert probe_steps(1000, 0) == []


def test_plan_leaves_out_partial_batches():
    budget = {"epochs": 1.5, "batch_size": 64, "evaluations": 2, "probes": 2}
    made = plan({"budget": budget}, 1078)
    assert (made.steps_per_epoch(1078), made.steps, made.batch_size) == (16, 24, 64)
    small = plan({"budget": budget | {"batch_size": 5000}}, 1078)
    assert (small.steps_per_epoch(1078), small.batch_size) == (1, 1078)
    assert (
        plan({"budget": {"steps": 7, "batch_size": 64, "evaluations": 2, "probes": 2}}, 1078).steps
        == 7
    )
