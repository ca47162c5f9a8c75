"""Data and a short way to train a pack, for the tests of training.

Images are (samples, 1, 8, 8) with ten classes: a prototype of each class and noise. The first 130
of 200 are for training, so that an epoch has four batches of 32 and leaves a partial batch out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.configuration.trial import Trial
from harness.data.batches import make_source
from harness.training.events import Event, PackData, Samples
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
