"""Learning-rate schedules have their shapes, and plans look at the first and the last step."""

from __future__ import annotations

import math

import pytest

from harness.training.schedules import evaluation_steps, multiplier, plan, probe_steps


def multipliers(spec: dict, steps: int) -> list[float]:
    return [multiplier(spec, step, steps) for step in range(1, steps + 1)]


def test_constant_schedule_is_one():
    assert multiplier({"name": "constant"}, 3, 10) == 1.0


def test_cosine_schedule_falls_from_one_to_its_final_share():
    cosine = multipliers({"name": "cosine", "final_share": 0.1}, 100)
    assert cosine[0] == pytest.approx(1.0, abs=1e-3)
    assert cosine[-1] == pytest.approx(0.1, abs=1e-3)
    assert cosine == sorted(cosine, reverse=True)
    # SGDR, equation 5, at the middle of step 50.
    assert cosine[49] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.495)))


def test_warmup_rises_linearly_and_a_cosine_follows():
    spec = {"name": "warmup_cosine", "warmup_share": 0.2, "final_share": 0.0}
    rates = multipliers(spec, 100)
    assert rates[:20] == pytest.approx([(step - 0.5) / 20 for step in range(1, 21)])
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_warmup_share_of_zero_is_a_cosine():
    without_warmup = {"name": "warmup_cosine", "warmup_share": 0.0, "final_share": 0.0}
    cosine = {"name": "cosine", "final_share": 0.0}
    assert multiplier(without_warmup, 7, 20) == multiplier(cosine, 7, 20)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 480, 12345])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_first_and_last_steps_are_evaluated_and_probed(steps, count):
    assert {0, steps} <= set(evaluation_steps(steps, count))
    probes = probe_steps(steps, count)
    assert probes[0] == 0
    assert len(probes) <= max(count, 1)
    assert probes == sorted(set(probes))
    if count > 1:
        assert probes[-1] == steps


def test_probes_are_logarithmically_spaced():
    assert probe_steps(1000, 5) == [0, 1, 10, 100, 1000]
    assert probe_steps(1000, 0) == []


def test_plan_leaves_out_partial_batches():
    budget = {"epochs": 1.5, "batch_size": 64, "evaluations": 2, "probes": 2}
    trial_plan = plan({"budget": budget}, 1078)
    assert trial_plan.steps_per_epoch(1078) == 16
    assert trial_plan.steps == 24
    assert trial_plan.batch_size == 64


def test_batches_are_no_larger_than_the_training_split():
    budget = {"epochs": 1.5, "batch_size": 5000, "evaluations": 2, "probes": 2}
    trial_plan = plan({"budget": budget}, 1078)
    assert trial_plan.steps_per_epoch(1078) == 1
    assert trial_plan.batch_size == 1078


def test_budget_in_steps_is_taken_as_it_is():
    budget = {"steps": 7, "batch_size": 64, "evaluations": 2, "probes": 2}
    assert plan({"budget": budget}, 1078).steps == 7
