"""The top Gauss-Newton eigenvalue of a pack's trials, against dense matrices and known limits."""

from __future__ import annotations

import math

import pytest
import torch

from harness.configuration.composing import compose
from harness.sweeps.cells import cell
from harness.sweeps.inputs import pack_data
from harness.sweeps.runner import view_of
from harness.training import sharpness as measuring
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE
from harness.training.sharpness import SAMPLES, STEPS, sharpness, stability_margin

CPU = torch.device("cpu")


def make(*overrides, program="auto", samples=48):
    """A pack at initialisation and its probe set, by default one that is read as a whole."""
    request = cell(compose([*overrides, "tracking=none"]))
    jobs = request.jobs
    shape, classes = request.info.shape, request.info.classes
    pack = Pack([job.trial for job in jobs], shape, classes, CPU, program)
    prepared = [view_of(job).prepared for job in jobs]
    return pack, pack_data(prepared, samples, CPU, "auto").probe


def measured(pack, samples, steps=STEPS):
    return sharpness(pack, 0, len(pack.trials), samples, steps)


def dense_eigenvalue(pack, samples, trial):
    """The top eigenvalue of (1/n) sum J' (diag(p) - p p') J from the whole Jacobian, in float64."""
    program, parameters, buffers = pack.part(trial, trial + 1)
    parameters = {name: tensor.double() for name, tensor in parameters.items()}
    buffers = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in buffers.items()
    }
    images = samples.images_of(trial, trial + 1).double()

    def logits(*tensors):
        named = dict(zip(parameters, tensors, strict=True))
        return program(named, buffers, images, PROBE, lambda *tap: None)[0]

    values = tuple(parameters.values())
    jacobian = torch.autograd.functional.jacobian(logits, values, vectorize=True)
    count, classes = jacobian[0].shape[:2]
    rows = torch.cat([block.reshape(count, classes, -1) for block in jacobian], dim=2)
    probabilities = torch.softmax(logits(*values), dim=-1)
    outer = probabilities[:, :, None] * probabilities[:, None, :]
    curvature = torch.diag_embed(probabilities) - outer
    matrix = torch.einsum("sap,sab,sbq->pq", rows, curvature, rows) / count
    return float(torch.linalg.eigvalsh(matrix)[-1])


@pytest.mark.parametrize(
    "overrides",
    [
        ("depth=2", "width=8"),
        ("depth=6", "width=8", "activation=tanh", "initializer=orthogonal"),
        ("depth=3", "width=8", "activation=relu", "normalization=layer"),
        ("depth=2", "width=8", "normalization=weight_standardization"),
        ("depth=2", "width=8", "normalization=weight_norm"),
        ("depth=2", "width=8", "normalization=spectral_norm"),
        ("depth=2", "width=4", "architecture=cnn", "architecture.pool=max"),
        ("depth=2", "width=4", "architecture=cnn", "architecture.head=average"),
    ],
)
def test_sharpness_is_the_top_eigenvalue_of_the_dense_gauss_newton_matrix(overrides):
    pack, samples = make(*overrides, "seeds=2")
    found = measured(pack, samples)
    wanted = [dense_eigenvalue(pack, samples, trial) for trial in range(2)]
    assert found.tolist() == pytest.approx(wanted, rel=0.02)
    assert (found <= torch.tensor(wanted) * (1 + 1e-5)).all()  # a Ritz value is never above


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_drawn_samples_stand_for_the_whole_probe_set(monkeypatch, scale):
    # A large readout leaves few samples uncertain, as the end of a training does.
    pack, samples = make("depth=4", "width=32", "seeds=6", samples=359)
    pack.state["readout.weight"].detach().mul_(scale)
    drawn = measured(pack, samples, 16)
    first = Samples([samples.images[0][:SAMPLES]], samples.labels[:SAMPLES], [0] * 6)
    of_the_first = measured(pack, first, 16)
    monkeypatch.setattr(measuring, "SAMPLES", 359)
    whole = measured(pack, samples, 16)
    error = float((drawn / whole).log().abs().mean())
    error_of_the_first = float((of_the_first / whole).log().abs().mean())
    assert error < 0.1
    assert (error_of_the_first > 0.5) == (scale > 1)


def test_samples_of_a_batch_normalization_are_drawn_evenly(monkeypatch):
    monkeypatch.setattr(measuring, "SAMPLES_OF_BATCH_STATISTICS", 24)
    pack, samples = make("depth=2", "width=8", "normalization=batch", "seeds=1")
    drawn = measured(pack, samples)
    images = samples.images[0][torch.linspace(0, 47, 24).round().long()]
    assert float(drawn) == pytest.approx(
        float(measured(pack, Samples([images], samples.labels[:24], [0]))), rel=1e-5
    )


def test_more_lanczos_steps_leave_no_error():
    pack, samples = make("depth=3", "width=8", "normalization=batch", "seeds=1")
    wanted = dense_eigenvalue(pack, samples, 0)
    assert float(measured(pack, samples, 16)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_sharpness_of_a_trial_depends_on_no_companion(program):
    pack, samples = make("depth=4", "width=16", "seeds=3", program=program)
    together = measured(pack, samples)
    for trial in range(3):
        alone, samples = make("depth=4", "width=16", f"seeds=[{trial}]", program=program)
        assert float(measured(alone, samples)) == pytest.approx(float(together[trial]), rel=1e-4)


def test_with_a_vanishing_readout_only_its_own_weights_curve_the_loss():
    # All gradients of other weights pass through the readout; its own do not depend on its scale.
    pack, samples = make("depth=1", "width=8", "activation=identity", "seeds=1")
    weight = pack.state["readout.weight"].detach()
    weight.mul_(1e-4)
    small = float(measured(pack, samples))
    weight.mul_(10)
    assert float(measured(pack, samples)) == pytest.approx(small, rel=1e-2)
    weight.mul_(1e3)
    assert float(measured(pack, samples)) > 2 * small


def test_sharpness_of_a_diverged_trial_is_nan_and_its_companions_is_not():
    pack, samples = make("depth=3", "width=8", "seeds=2")
    before = measured(pack, samples)
    pack.state["layer_02.weights.weight"].detach()[0] = math.nan
    after = measured(pack, samples)
    assert math.isnan(float(after[0]))
    assert float(after[1]) == pytest.approx(float(before[1]), rel=1e-6)


def test_a_network_that_passes_nothing_has_the_readouts_bias_alone():
    # All weights 0: logits are the bias, so G is that of the bias: (diag(p) - p p') with p = 1/10.
    pack, samples = make("depth=2", "width=8", "seeds=1")
    for name, tensor in pack.state.items():
        if name.endswith("weight"):
            tensor.detach().zero_()
    assert float(measured(pack, samples)) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        ({"name": "sgd"}, 0.01 * 100 / 2),
        ({"name": "momentum", "momentum": 0.9}, 0.01 * 100 / 3.8),
    ],
)
def test_stability_margin_is_the_share_of_the_limit(optimizer, expected):
    assert stability_margin(100.0, 0.01, optimizer) == pytest.approx(expected)


def test_stability_margin_is_absent_for_adam():
    assert math.isnan(stability_margin(100.0, 0.01, {"name": "adam"}))


def test_gradient_descent_on_a_quadratic_diverges_beyond_the_margin():
    # The limit 2 (1 + beta) / eta of heavy-ball momentum, seen on the quadratic curvature x^2 / 2.
    for margin, bounded in ((0.98, True), (1.02, False)):
        curvature, momentum = 7.0, 0.9
        rate = margin * 2 * (1 + momentum) / curvature
        position, velocity = 1.0, 0.0
        for _ in range(3000):
            velocity = momentum * velocity + curvature * position
            position -= rate * velocity
        assert (abs(position) < 10) is bounded
        assert stability_margin(curvature, rate, {"name": "momentum", "momentum": momentum}) == (
            pytest.approx(margin)
        )
