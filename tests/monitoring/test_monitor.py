"""A monitor reads a model in its user's own loop and leaves everything as it was."""

from __future__ import annotations

import copy
import json
import math

import numpy
import pandas
import pytest
import torch
from torch import nn
from torch.nn import functional

from harness import Cadence, Monitor, diagnose
from harness.errors import RequestError

EVERY_DUE_STEP = Cadence(share_of_time=None)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 24),
        nn.SELU(),
        nn.AlphaDropout(0.1),
        nn.Linear(24, 24),
        nn.SELU(),
        nn.Linear(24, 4),
    )


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(128, 12, generator=generator), torch.arange(128) % 4


def train(model, batch, steps, after_step=lambda: None, rate=0.05):
    """A plain loop; `after_step` is called after every step."""
    inputs, labels = batch
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        after_step()
    return optimizer


def test_layers_are_read_at_the_start_at_log_spaced_steps_and_at_the_end(model, batch):
    monitor = Monitor(model, batch, cadence=EVERY_DUE_STEP)
    read = []
    train(model, batch, 60, lambda: read.append(monitor.step()))
    report = monitor.close()
    assert [step for step, due in enumerate(read, 1) if due] == [1, 2, 5, 10, 22, 46]
    assert report.summary()["probed_steps"] == [0, 1, 2, 5, 10, 22, 46, 60]
    assert list(report.layers["name"].unique()) == ["0", "3"]
    assert not monitor.step()
    assert monitor.close() is report


def test_due_steps_are_evenly_spaced_in_the_logarithm():
    cadence = Cadence(per_decade=1)
    assert [cadence.due_after(step) for step in (1, 9, 10, 11, 5000)] == [10, 10, 100, 100, 10_000]
    due, steps = 1, [1]
    while due < 1000:
        due = Cadence().due_after(due)
        steps.append(due)
    assert steps == [1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]


def test_a_training_is_the_same_to_the_bit_with_a_monitor(model, batch):
    alone, watched = copy.deepcopy(model), model
    torch.manual_seed(3)
    train(alone, batch, 12)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with Monitor(watched, batch, cadence=EVERY_DUE_STEP) as monitor:
        train(watched, batch, 12, monitor.step)
    assert torch.equal(torch.rand(3), expected)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name])
    assert watched.training


def test_columns_are_those_of_a_diagnosis(model, batch):
    monitor = Monitor(model, batch)
    card = diagnose(model, batch)
    for name in ("activation_mean", "tau_mean", "gradient_square", "weight_gradient_norm", "q"):
        assert monitor.layers[name].tolist() == pytest.approx(card.layers[name].tolist())


def test_only_chosen_layers_are_read(model, batch):
    assert Monitor(model, batch, layers=["3"]).layers["name"].tolist() == ["3"]
    assert Monitor(model, batch, layers=["[0-2]"]).layers["name"].tolist() == ["0"]
    with pytest.raises(RequestError, match="no activated layer is called .*; there are 0, 3"):
        Monitor(model, batch, layers=["body"])


def test_a_single_name_or_pattern_of_layers_stands_for_itself():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(4, 8), nn.SELU(), nn.Linear(8, 8), nn.SELU())
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("head", nn.Sequential(nn.Linear(8, 8), nn.SELU(), nn.Linear(8, 2)))
    monitor = Monitor(model, torch.randn(32, 4), layers="features.*")
    assert monitor.layers["name"].tolist() == ["features.0", "features.2"]


@pytest.mark.parametrize(
    "layers, message",
    [
        (["3", "body"], "no activated layer is called body; there are 0, 3"),
        ("body", "no activated layer is called body; there are 0, 3"),
        ([], r"layers=\[\]: no layer is chosen; give names, or None for all"),
    ],
    ids=["one of two", "alone", "none"],
)
def test_every_name_must_be_that_of_a_layer(model, batch, layers, message):
    with pytest.raises(RequestError, match=message):
        Monitor(model, batch, layers=layers)


def test_the_margin_is_the_share_of_the_edge_of_stability(model, batch):
    """Against the Gauss-Newton matrix of all samples, made whole."""
    inputs, labels = batch
    few = (inputs[:40], labels[:40])
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.5)
    stability = Monitor(model, few, optimizer=optimizer).close().stability
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    model.eval()
    jacobians = torch.func.jacrev(
        lambda values: torch.func.functional_call(model, values, (few[0],))
    )(parameters)
    jacobian = torch.cat([part.reshape(40, 4, -1) for part in jacobians.values()], 2).double()
    share = torch.softmax(model(few[0]).detach(), 1).double()
    curvature = torch.diag_embed(share) - share[:, :, None] * share[:, None, :]
    matrix = torch.einsum("sip,sij,sjq->pq", jacobian, curvature, jacobian) / 40
    expected = float(torch.linalg.eigvalsh(matrix)[-1])
    assert stability.sharpness == pytest.approx(expected, rel=0.02)
    assert stability.margin == pytest.approx(0.05 * stability.sharpness / (2 * 1.5))
    assert stability.reason is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dampening": 0.5},  # Ignored without momentum.
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.3, "nesterov": True},
    ],
    ids=str,
)
def test_a_quadratic_diverges_just_above_a_margin_of_one(model, batch, options):
    optimizer = torch.optim.SGD(model.parameters(), 1.0, **options)
    stability = Monitor(model, batch, optimizer=optimizer).close().stability
    # The learning rate at which the loss x^2 / 2, whose curvature is 1, has the margin 1.
    limit = stability.sharpness / stability.margin
    for share, converges in ((0.97, True), (1.03, False)):
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        descent = torch.optim.SGD([x], share * limit, **options)
        for _ in range(3000):
            x.grad = x.detach().clone()
            descent.step()
        assert (abs(x.item()) < 1e-3) == converges


class Attending(nn.Module):
    """A classifier whose attention has a fast kernel without second derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 8)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = functional.selu(self.read(x.reshape(len(x), 1, 3, 4)))
        return self.classify(functional.scaled_dot_product_attention(h, h, h).mean((1, 2)))


def test_the_margin_of_a_network_with_attention_is_measured(batch):
    model = Attending()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    stability = Monitor(model, batch, optimizer=optimizer).close().stability
    assert stability.reason is None
    assert stability.margin > 0


@pytest.mark.parametrize(
    "optimizer, labelled, reason",
    [
        (None, True, "no optimizer was given"),
        (torch.optim.Adam, True, "Adam preconditions gradients"),
        (torch.optim.SGD, False, "no labels that are classes"),
    ],
    ids=["no optimizer", "adam", "no labels"],
)
def test_a_margin_that_is_not_measured_has_its_reason(model, batch, optimizer, labelled, reason):
    made = None if optimizer is None else optimizer(model.parameters(), 0.01)
    report = Monitor(model, batch if labelled else batch[0], optimizer=made).close()
    assert math.isnan(report.stability.margin)
    assert reason in str(report)


def test_the_folder_holds_every_probe_and_the_summary(model, batch, tmp_path):
    with Monitor(model, batch, folder=tmp_path / "watched", cadence=EVERY_DUE_STEP) as monitor:
        train(model, batch, 5, monitor.step)
        stored = pandas.read_parquet(tmp_path / "watched" / "layers.parquet")
        assert sorted(stored["step"].unique()) == [0, 1, 2, 5]
    stored = pandas.read_parquet(tmp_path / "watched" / "layers.parquet")
    assert len(stored) == 8
    summary = json.loads((tmp_path / "watched" / "summary.json").read_text())
    assert summary["steps"] == 5
    assert summary["verdict_sentence"].startswith("Of the premises")
    assert summary["verdict_input_end"] in ("holds", "mixed", "fails")
    assert 0 <= summary["share_weights_init"] <= 1


def test_a_training_that_diverges_is_watched_to_its_end(model, batch):
    with Monitor(model, batch, cadence=EVERY_DUE_STEP) as monitor:
        train(model, batch, 10, monitor.step, rate=1e12)
    report = monitor.close()
    last = report.layers[report.layers["step"] == 10]
    assert last["absent"].str.contains("not finite").all()
    assert last["activation_mean"].isna().all()
    assert math.isnan(report.stability.sharpness)
    assert "Of the premises" in str(report)


def test_a_probe_waits_until_it_takes_little_of_the_loops_time(model, batch, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("harness.monitoring.monitor.time.perf_counter", lambda: clock[0])
    monitor = Monitor(model, batch, cadence=Cadence(share_of_time=0.1))
    read = monitor._read

    def slow_read(*arguments):
        clock[0] += 1.0
        return read(*arguments)

    monkeypatch.setattr(monitor, "_read", slow_read)
    taken = []
    for step in range(1, 200):
        clock[0] += 0.5  # seconds of the loop
        if monitor.step():
            taken.append(step)
    assert monitor.seconds == len(taken)
    assert monitor.seconds <= 0.1 * clock[0] + 1.0
    assert len(taken) >= 3
    report = monitor.close()
    due = [1, 2, 5, 10, 22, 46, 100]
    late = len(set(due) - set(taken))
    assert report.summary()["postponed_probes"] == late > 0
    assert f"{late} due readings were put off, so that all take at most 10%" in str(report)


def test_the_printed_report_has_both_ends_of_the_course(model, batch, tmp_path):
    with Monitor(model, batch, folder=tmp_path, cadence=EVERY_DUE_STEP) as monitor:
        train(model, batch, 30, monitor.step)
    report = monitor.close()
    text = str(report)
    assert text.startswith("30 steps; 2 layers read at steps 0, 1, 2, 5, 10, 22 and 1 more.")
    for phase, step in (("At the start", 0), ("At the end", 30)):
        rows = report.layers[report.layers["step"] == step]
        variances = rows["input_variance"].iloc[0], rows["activation_variance"].iloc[-1]
        assert "{}: variance {:.3g} to {:.3g} over 2 layers".format(phase, *variances) in text
    assert "put off" not in text
    assert "1 of 3 weight layers have no activation of their own and no row: 5" in text
    assert f"layers.parquet and summary.json in {tmp_path}" in " ".join(text.split())
    assert max(map(len, text.split("\n"))) <= 100


def test_a_network_without_selu_is_told_that_verdicts_are_no_faults():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    report = Monitor(model, torch.randn(32, 4)).close()
    assert "No SELU in this model" in str(report)
    assert "None of them is a fault" in " ".join(str(report).split())


def test_steps_may_be_counted_by_the_loop(model, batch):
    monitor = Monitor(model, batch, cadence=EVERY_DUE_STEP)
    assert [monitor.step(step) for step in (1, 1, 40, 45, 47)] == [True, False, True, False, True]
    assert numpy.unique(monitor.layers["step"]).tolist() == [0, 1, 40, 47]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"samples": 1}, "at least 2"),
        ({"per_decade": 0}, "per_decade=0"),
        ({"share_of_time": 0}, "share_of_time=0"),
    ],
)
def test_a_cadence_that_means_nothing_is_refused(wrong, message):
    with pytest.raises(RequestError, match=message):
        Cadence(**wrong)


def test_a_folder_that_cannot_be_made_is_refused(model, batch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be made"):
        Monitor(model, batch, folder=tmp_path / "file" / "watched")


def test_the_active_run_receives_the_columns(model, batch, tmp_path):
    import mlflow

    with pytest.raises(RequestError, match="no active MLflow run"):
        Monitor(model, batch, mlflow=True)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/store.db")
    try:
        experiment = mlflow.create_experiment("watched", (tmp_path / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment) as run:
            optimizer = torch.optim.SGD(model.parameters(), 0.05)
            monitor = Monitor(
                model, batch, optimizer=optimizer, mlflow=True, folder=tmp_path / "watched"
            )
            monitor.step(1)
            report = monitor.close()
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run.info.run_id, "layers/3/activation_mean")
        assert [entry.step for entry in history] == [0, 1]
        assert history[-1].value == pytest.approx(report.layers["activation_mean"].iloc[-1])
        metrics = client.get_run(run.info.run_id).data.metrics
        assert metrics["stability_margin"] == pytest.approx(report.stability.margin)
        assert (tmp_path / "watched" / "layers.parquet").exists()
        stored = next((tmp_path / "artifacts").rglob("monitor.json"))
        assert json.loads(stored.read_text())["steps"] == 1
    finally:
        mlflow.set_tracking_uri(before)
