"""The yardstick does the same work: the statistics and the training of the harness, written plainly."""

from __future__ import annotations

import pytest
import torch

from harness.benchmark.cases import DIGITS, step_flops
from harness.benchmark.plain import PlainData, PlainTrial
from harness.benchmark.stopwatch import Stopwatch
from harness.sweeps import cells, runner
from harness.training.schedules import plan

CPU = torch.device("cpu")


@pytest.fixture
def member(make_config):
    config = make_config(
        depth=3,
        width=16,
        seeds=1,
        **{
            "budget.epochs": 3.0,
            "budget.batch_size": 32,
            "probe.samples": 128,
            "optimizer.learning_rate": 0.05,
        },
    )
    one = cells.cell(config)
    return one.jobs[0], one.info


@pytest.fixture
def plain(member):
    one, facts = member
    prepared = runner.view_of(one).prepared
    training, validation, test = (
        (split.images, split.labels)
        for split in (prepared.training, prepared.validation, prepared.test)
    )
    data = PlainData(training, validation, test, (validation[0][:128], validation[1][:128]))
    schedule = plan(one.trial.spec, facts.training_samples)
    return lambda logged: PlainTrial(
        one.trial, data, schedule, facts.shape, facts.classes, CPU, logged
    )


@pytest.mark.parametrize("logged", [True, False])
def test_statistics_at_initialisation_are_the_harness_own(member, plain, logged):
    told: dict[int, dict[str, float]] = {}
    scores = plain(logged).run(lambda metrics, step: told.setdefault(step, {}).update(metrics))
    result = runner.run_pack([member[0]], "batched", lambda steps: None)[0]
    checked = 0
    for row, (phase, name) in enumerate(zip(result.layers["phase"], result.layers["name"])):
        if phase == "init":
            for column in (
                "pre_activation_variance",
                "activation_mean",
                "activation_unit_variance_q50",
                "tau_q95",
                "gradient_product",
                "saturated_share",
            ):
                assert told[0][f"{name}/{column}"] == pytest.approx(
                    float(result.layers[column][row]), rel=1e-4, abs=1e-6
                )
                checked += 1
    assert checked == 18
    assert {step for step, metrics in told.items() if "layer_01/tau_q50" in metrics} == set(
        result.layers["step"]
    )
    # The order of its batches is its own, so it ends near, not at, the harness's score.
    assert scores["test_accuracy"] == pytest.approx(result.summary["test_accuracy"], abs=0.08)


def test_operations_of_a_step():
    members, facts = DIGITS.members(1, "runs")
    layers = [64 * 64] * 8 + [64 * 10]
    assert step_flops(members[0].trial, facts) == 2 * 64 * (3 * sum(layers) - 64 * 64)


def test_the_stopwatch_times_and_lets_go():
    class Work:
        def do(self) -> int:
            return 7

    original = Work.do
    watch = Stopwatch(CPU)
    with watch.watching({"work": (Work, "do")}):
        assert Work().do() == 7
    assert watch.seconds["work"] > 0
    assert watch.at_once["work"] == 1
    assert Work.do is original
