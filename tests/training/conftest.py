"""Data, short trainings and comparisons for the tests of training.

Images are (samples, 1, 8, 8) with ten classes: a prototype of each class and noise. The first 130
of 200 are for training, so that an epoch has four batches of 32 and leaves a partial batch out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.configuration.trial import Trial
from harness.data.batches import make_source
from harness.networks.normalization_kinds import normalizations
from harness.training.events import Evaluated, Event, Finished, PackData, Probed, Samples
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
CLASSES = 10
SAMPLES = 200
TRAINING_SAMPLES = 130


@pytest.fixture(scope="session")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (samples, 1, 8, 8) and labels (samples,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    prototypes = torch.randn(CLASSES, *SHAPE, generator=generator)
    noise = torch.randn(SAMPLES, *SHAPE, generator=generator)
    return prototypes[labels] + 0.5 * noise, labels


@pytest.fixture
def make_data(images) -> Callable[..., PackData]:
    """The data of a pack: `make_data(doses, device, residency)`.

    Trial t trains on the first `doses[t]` samples. The other splits are the held-out images.
    """
    pixels, labels = images

    def make(doses: list[int], device: torch.device = CPU, residency: str = "auto") -> PackData:
        distinct = sorted(set(doses))
        variants = [pixels[:dose] for dose in distinct]
        variant_of_trial = [distinct.index(dose) for dose in doses]
        training_labels = labels[: max(distinct)]
        source = make_source(variants, training_labels, variant_of_trial, device, residency)
        training = Samples(
            [variant.to(device) for variant in variants],
            training_labels.to(device),
            variant_of_trial,
        )
        held_out = Samples(
            [pixels[TRAINING_SAMPLES:].to(device)],
            labels[TRAINING_SAMPLES:].to(device),
            [0] * len(doses),
        )
        return PackData(source, training, held_out, held_out, held_out)

    return make


@pytest.fixture
def train_pack(make_data) -> Callable[..., tuple[Pack, list[Event]]]:
    """Trains trials on all training samples: `train_pack(trials, program)` -> (pack, events)."""

    def run(trials: list[Trial], program: str = "auto") -> tuple[Pack, list[Event]]:
        pack = Pack(trials, SHAPE, CLASSES, CPU, program)
        data = make_data([TRAINING_SAMPLES] * len(trials))
        events = list(train(pack, data, plan(trials[0].spec, TRAINING_SAMPLES)))
        return pack, events

    return run


# Settings of a short training of a small network.
BUDGET = {
    "budget.epochs": None,
    "budget.steps": 5,
    "budget.batch_size": 32,
    "budget.evaluations": 2,
    "budget.probes": 3,
    "depth": 3,
    "width": 12,
}
_LISTED = {
    "architecture": "stack",
    "architecture.layers": [
        {"conv": 4, "padding": "valid", "pool": "max", "pool_size": 3, "pool_stride": 1},
        {"conv": 6, "padding": "reflect", "pool": "average", "pool_position": "before"},
        {"conv": 4, "groups": 2, "stride": 2},
        {"dense": 9, "dropout": 0.4},
    ],
    "depth": "${listed_depth:8}",
    "width": "${listed_width:64}",
}
_SMALL_CNN = {"architecture": "cnn", "width": 6, "architecture.pool": "max"}


def _network_cases() -> dict[str, dict[str, Any]]:
    cases = {}
    for architecture in ("mlp", "cnn"):
        for normalization in normalizations.names():
            if architecture == "mlp" and normalizations[normalization].needs_maps:
                continue
            case = {"architecture": architecture, "normalization": normalization}
            if normalization == "group":
                # Deviations of very few units would magnify rounding.
                case["normalization.groups"] = 2
            cases[f"{architecture} {normalization}"] = case
        for dropout in ("alpha", "standard", "feature_alpha"):
            cases[f"{architecture} {dropout}"] = {
                "architecture": architecture,
                "dropout": dropout,
                "dropout.rate": 0.3,
            }
    for normalization in ("batch", "layer", "rms"):
        cases[f"after {normalization}"] = {
            "normalization": normalization,
            "normalization.position": "after",
        }
    average_head = {"architecture.pool": "average", "architecture.head": "average"}
    cases["pooled"] = _SMALL_CNN
    cases["average head"] = _SMALL_CNN | average_head
    cases["circular"] = _SMALL_CNN | {"architecture.padding": "circular"}
    cases["listed layers"] = _LISTED | {"dropout": "alpha"}
    cases["listed layers batch"] = _LISTED | {"normalization": "batch", "dropout": "standard"}
    residual = {"architecture": "resnet", "depth": 4}
    cases["residual batch"] = residual | {"normalization": "batch", "dropout": "alpha"}
    cases["residual skip_init"] = residual | {"architecture.residual": "skip_init"}
    cases["residual fixup"] = residual | {"architecture.residual": "fixup"}
    cases["residual maps"] = residual | {"architecture.layer": "conv", "width": 6}
    for name in ("selu_fixed_point", "leaky_selu", "scaled_selu", "gpn", "dks", "tat"):
        cases[name] = {"activation": name}
    cases["widths"] = {"width": [12, 5, 8], "readout.bias": "none"}
    return cases


NETWORK_CASES = _network_cases()


@pytest.fixture
def budget() -> dict[str, Any]:
    """Settings of a short training: 5 steps of 32 samples, 2 evaluations, 3 probes."""
    return dict(BUDGET)


@pytest.fixture(params=NETWORK_CASES)
def network_settings(request) -> dict[str, Any]:
    """Settings of every kind of network: normalizations, dropouts, convolutions."""
    return BUDGET | NETWORK_CASES[request.param]


@pytest.fixture
def assert_same_losses_and_columns() -> Callable[..., None]:
    """Compares the losses and measured columns of two packs, event by event.

    `assert_same_losses_and_columns(events, others, trial, tolerance)` compares trial `trial` of
    the first pack with the only trial of the second, or all trials if `trial` is None. Float32
    sums are added in another order in another pack, which a few steps do not amplify beyond the
    tolerances (relative, absolute).
    """

    def compare(
        events: list[Event],
        others: list[Event],
        trial: int | None,
        tolerance: tuple[float, float] = (2e-3, 2e-5),
    ) -> None:
        relative, absolute = tolerance
        for event, other in zip(events, others, strict=True):
            expected = _columns(other)
            for name, values in _columns(event).items():
                torch.testing.assert_close(
                    values if trial is None else values[trial : trial + 1],
                    expected[name],
                    rtol=relative,
                    atol=absolute,
                    equal_nan=True,
                    msg=lambda text, name=name: f"{name}: {text}",
                )

    return compare


# Counts and order statistics jump where a number is rounded otherwise.
_JUMPING_COLUMNS = ("_share", "_q05", "_q50", "_q95")


def _columns(event: Event) -> dict[str, torch.Tensor]:
    """The tensors of an event that change continuously with its numbers, by name."""
    if isinstance(event, Evaluated):
        return {"train_loss": event.train_loss, "validation_loss": event.validation_loss}
    if isinstance(event, Finished):
        return {name: event.scores[name] for name in ("train_loss", "test_loss")}
    columns = {}
    if isinstance(event, Probed):
        for layer in event.layers:
            for name, values in layer.columns.items():
                if not name.endswith(_JUMPING_COLUMNS):
                    columns[f"{layer.name} {name}"] = values
    return columns
