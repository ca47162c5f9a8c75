"""JAX trains the networks that the harness trains: same weights, same batches, same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.benchmark import jax_peer
from harness.benchmark.jax_peer import JaxTrials
from harness.sweeps import cells, runner
from harness.sweeps.inputs import pack_data
from harness.training.feeds import Orders
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper

CPU = torch.device("cpu")
STEPS = 6

pytestmark = pytest.mark.skipif(
    jax_peer.why_absent(CPU) is not None, reason="needs JAX, the extra peers"
)


def test_jax_takes_the_steps_of_the_harness(make_config):
    cell = cells.cell(make_config(depth=3, width=16, seeds=2, **{"optimizer.learning_rate": 0.05}))
    trials = [job.trial for job in cell.jobs]
    pack = Pack(trials, cell.info.shape, cell.info.classes, CPU)
    prepared = runner.view_of(cell.jobs[0]).prepared
    trial_plan = plan(trials[0].spec, cell.info.training_samples)
    in_jax = JaxTrials(pack, prepared.training.images, prepared.training.labels)
    samples = [cell.info.training_samples] * 2
    orders = Orders([trial.seed for trial in trials], samples, trial_plan, CPU)
    orders.prepare(0)
    batches = torch.stack([orders.take() for _ in range(STEPS)])
    losses = in_jax.run(batches.numpy())
    stepper = Stepper(pack, pack_data([prepared] * 2, 2, CPU, "auto"), trial_plan)
    stepper.take_steps(STEPS)
    np.testing.assert_allclose(losses.mean(0), stepper.mean_loss(), rtol=1e-4)
    in_torch = [tensor.detach().numpy() for tensor in pack.state.values()]
    for (weight, bias), expected, expected_bias in zip(
        in_jax.weights, in_torch[::2], in_torch[1::2], strict=True
    ):
        np.testing.assert_allclose(weight.swapaxes(1, 2), expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(bias, expected_bias, rtol=1e-3, atol=1e-5)


def test_jax_is_compared_on_a_cpu_only():
    assert "CPU only" in jax_peer.why_absent(torch.device("cuda"))
