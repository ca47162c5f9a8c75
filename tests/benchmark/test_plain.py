"""The yardstick does the same work as the harness: its network, its statistics, its score."""

from __future__ import annotations

import pytest
import torch

from harness.benchmark.cases import DIGITS, step_flops
from harness.benchmark.plain import PlainData, PlainTrial
from harness.benchmark.stopwatch import Stopwatch
from harness.sweeps import cells, runner
from harness.training.schedules import plan

CPU = torch.device("cpu")
PROBE_SAMPLES = 128
COLUMNS = (
    "pre_activation_variance",
    "activation_mean",
    "activation_unit_variance_q50",
    "tau_q95",
    "gradient_product",
    "saturated_share",
)


@pytest.fixture
def cell(make_config) -> cells.Cell:
    """One trial on the digits."""
    return cells.cell(
        make_config(
            depth=3,
            width=16,
            seeds=1,
            **{
                "budget.epochs": 3.0,
                "budget.batch_size": 32,
                "probe.samples": PROBE_SAMPLES,
                "optimizer.learning_rate": 0.05,
            },
        )
    )


@pytest.fixture
def make_plain(cell):
    """The same trial as a yardstick: `make_plain(logged=True)`."""
    job = cell.jobs[0]
    prepared = runner.view_of(job).prepared
    images, labels = prepared.validation.images, prepared.validation.labels
    data = PlainData(
        training=(prepared.training.images, prepared.training.labels),
        validation=(images, labels),
        test=(prepared.test.images, prepared.test.labels),
        probe=(images[:PROBE_SAMPLES], labels[:PROBE_SAMPLES]),
    )
    trial_plan = plan(job.trial.spec, cell.info.training_samples)

    def make(logged: bool) -> PlainTrial:
        return PlainTrial(job.trial, data, trial_plan, cell.info.classes, CPU, logged)

    return make


@pytest.mark.parametrize("logged", [True, False])
def test_yardstick_measures_what_the_harness_measures(cell, make_plain, logged):
    logged_at_step: dict[int, dict[str, float]] = {}

    def log(metrics: dict[str, float], step: int) -> None:
        logged_at_step.setdefault(step, {}).update(metrics)

    scores = make_plain(logged).run(log)
    result = runner.run_pack(cell.jobs, "batched", lambda steps: None)[0]
    layers = result.layers
    initial_rows = [row for row, phase in enumerate(layers["phase"]) if phase == "init"]
    assert len(initial_rows) == 3
    for row in initial_rows:
        name = layers["name"][row]
        for column in COLUMNS:
            assert logged_at_step[0][f"{name}/{column}"] == pytest.approx(
                float(layers[column][row]), rel=1e-4, abs=1e-6
            )
    probed_steps = {
        step for step, metrics in logged_at_step.items() if "layer_01/tau_q50" in metrics
    }
    assert probed_steps == set(layers["step"])
    # The order of its batches is its own, so it ends near the harness's score, not at it.
    assert scores["test_accuracy"] == pytest.approx(result.summary["test_accuracy"], abs=0.08)


def test_operations_of_a_step_are_three_products_per_layer_but_the_first():
    members, facts = DIGITS.jobs(1, "runs")
    layers = [64 * 64] * 8 + [64 * 10]
    assert step_flops(members[0].trial, facts) == 2 * 64 * (3 * sum(layers) - 64 * 64)


def test_stopwatch_times_a_function_and_restores_it():
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
