"""Predictions against means over many simulated networks, sample by sample and pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.theory.activations.functions import activation
from harness.theory.networks.description import Activation, Convolution, Dense, Flatten, Pool
from harness.theory.networks.predictions import Inputs, predict

SAMPLES = 12
WIDTH = 400
DENSE_COLUMNS = (
    "pre_activation_variance",
    "activation_mean",
    "activation_variance",
    "q",
    "q_cv",
    "cosine",
    "between_unit_share",
)
CONVOLUTION_COLUMNS = ("pre_activation_variance", "activation_mean", "activation_variance")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(7))


def dense_statistics(z: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Returns DENSE_COLUMNS of pre-activations z and activations y, both (samples, units)."""
    samples = len(z)
    q = np.square(z).mean(1)
    unit_vectors = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine_sum = np.square(unit_vectors.sum(0)).sum() - samples
    cosine = cosine_sum / (samples * (samples - 1))
    share = np.square(z.mean(0)).mean() / np.square(z).mean()
    return z.var(), y.mean(), y.var(), q.mean(), q.std() / q.mean(), cosine, share


def test_a_network_is_followed_for_every_sample_and_pair(random):
    """The samples have very different norms, and the layers have biases."""
    scale = np.geomspace(0.3, 3.0, SAMPLES)[:, None, None, None]
    x = random.standard_normal((SAMPLES, 1, 5, 4)) * scale + 0.4
    gelu = Activation("gelu")
    network = (
        Flatten(),
        Dense(20, WIDTH, WIDTH, 1.5, 0.1),
        gelu,
        Dense(WIDTH, WIDTH, WIDTH, 1.5, 0.1),
        gelu,
        Dense(WIDTH, 10, 10, 1.0),
    )
    simulated = []
    for _ in range(60):
        y = x.reshape(SAMPLES, 20)
        layers = []
        for fan_in in (20, WIDTH):
            weights = random.standard_normal((fan_in, WIDTH)) * math.sqrt(1.5 / fan_in)
            z = y @ weights + math.sqrt(0.1) * random.standard_normal(WIDTH)
            y = activation("gelu").value(z)
            layers.append(dense_statistics(z, y))
        simulated.append(layers)
    mean = np.mean(simulated, axis=0)
    error = np.std(simulated, axis=0) / math.sqrt(60)
    predicted = predict(network, Inputs(x), samples=SAMPLES)
    for layer, prediction in enumerate(predicted):
        for number, name in enumerate(DENSE_COLUMNS):
            tolerance = 4 * error[layer, number] + 0.01 * abs(prediction[name])
            assert prediction[name] == pytest.approx(mean[layer, number], abs=tolerance), name


@pytest.mark.parametrize("pool", ["none", "average", "max"])
def test_convolutions_are_followed_through_borders_and_pools(pool, random):
    torch = pytest.importorskip("torch")
    x = random.standard_normal((10, 2, 8, 8)) + 0.5 * random.standard_normal((10, 2, 1, 1))
    pools = {"average": torch.nn.AvgPool2d(2), "max": torch.nn.MaxPool2d(2)}
    module = pools.get(pool, torch.nn.Identity())
    size = 8 if pool == "none" else 4
    network = (
        Convolution(18, 9 * 96, 96, 1.0, height=8, width=8),
        Activation("selu"),
        *([] if pool == "none" else [Pool(pool)]),
        Convolution(96 * 9, 96 * 9, 96, 1.0, height=size, width=size),
        Activation("selu"),
        Flatten(),
        Dense(96 * size**2, 10, 10, 1.0),
    )
    generator = torch.Generator().manual_seed(1)
    simulated = []
    for _ in range(25):
        y = torch.as_tensor(x, dtype=torch.float32)
        layers = []
        for channels in (2, 96):
            noise = torch.randn(96, channels, 3, 3, generator=generator)
            z = torch.nn.functional.conv2d(y, noise / math.sqrt(9 * channels), padding=1)
            y = torch.selu(z)
            layers.append((float(z.var()), float(y.mean()), float(y.var())))
            y = module(y) if channels == 2 else y
        simulated.append(layers)
    mean = np.mean(simulated, axis=0)
    error = np.std(simulated, axis=0) / 5
    predicted = predict(network, Inputs(x), samples=10)
    for layer, prediction in enumerate(predicted):
        # Positions of a block count as exchangeable, which is an approximation.
        slack = 0.01 if layer == 0 or pool == "none" else 0.05
        for number, name in enumerate(CONVOLUTION_COLUMNS):
            tolerance = 4 * error[layer, number] + slack
            assert prediction[name] == pytest.approx(mean[layer, number], abs=tolerance), name
