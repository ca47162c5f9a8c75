"""Convolutions and poolings of every geometry, followed through simulated networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.theory.networks.convolution_taps import spread_over_taps, sum_over_taps
from harness.theory.networks.description import Activation, Convolution, Dense, Flatten, Pool
from harness.theory.networks.predictions import Inputs, predict

torch = pytest.importorskip("torch")

UNITS, NETWORKS, SIDE = 96, 25, 9
COLUMNS = (
    "pre_activation_variance",
    "activation_mean",
    "activation_variance",
    "between_unit_share",
)
# Stride and padding of both convolutions, and what stands after the first activation, or before it.
CASES = {
    "valid": {"padding": "none"},
    "reflected": {"padding": "reflect"},
    "strided": {"stride": 2},
    "strided and pooled": {"stride": 2, "pool": Pool("average", 2)},
    "overlapping maxima": {"pool": Pool("max", 3, 2)},
    "overlapping averages": {"pool": Pool("average", 3, 2)},
    "averages with gaps": {"pool": Pool("average", 2, 3)},
    "averages before the activation": {"pool": Pool("average", 2), "before": True},
}


def convolve(module_options: dict, z: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns a convolution with the padding of a description."""
    padding = module_options["padding"]
    if padding != "none":
        mode = "constant" if padding == "zeros" else padding
        z = torch.nn.functional.pad(z, (1, 1, 1, 1), mode=mode)
    return torch.nn.functional.conv2d(z, weight, stride=module_options["stride"])


def pooled(pool: Pool, y: torch.Tensor) -> torch.Tensor:
    functions = {"max": torch.nn.functional.max_pool2d, "average": torch.nn.functional.avg_pool2d}
    return functions[pool.kind](y, pool.size, pool.stride or pool.size)


def statistics(z: torch.Tensor, y: torch.Tensor) -> tuple[float, ...]:
    """Returns COLUMNS of z and y, both (samples, units, height, width).

    The share is that of pairs of different samples, as of very many samples.
    """
    means = z.mean((2, 3))
    of_pairs = means.sum(0).square() - means.square().sum(0)
    share = of_pairs.mean() / (len(z) * (len(z) - 1)) / z.square().mean()
    return float(z.var()), float(y.mean()), float(y.var()), float(share)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_geometry_is_followed(case):
    pool, before = case.get("pool"), case.get("before", False)
    options = {"padding": case.get("padding", "zeros"), "stride": case.get("stride", 1)}
    random = np.random.Generator(np.random.PCG64(7))
    noise = random.standard_normal((20, 2, SIDE, SIDE))
    x = noise + 0.7 * random.standard_normal((20, 2, 1, 1)) + 0.3
    generator = torch.Generator().manual_seed(1)
    simulated, sides = [], []
    for _ in range(NETWORKS):
        y = torch.as_tensor(x, dtype=torch.float32)
        layers = []
        sides = []
        for channels in (2, UNITS):
            weight = torch.randn(UNITS, channels, 3, 3, generator=generator)
            sides.append(y.shape[-1])
            z = convolve(options, y, weight / math.sqrt(9 * channels))
            if before and pool is not None and channels == 2:
                z = pooled(pool, z)
            y = torch.selu(z)
            layers.append(statistics(z, y))
            if not before and pool is not None and channels == 2:
                y = pooled(pool, y)
        simulated.append(layers)
    mean = np.mean(simulated, axis=0)
    error = np.std(simulated, axis=0) / math.sqrt(NETWORKS)
    pools = [] if pool is None else [pool]
    network = (
        Convolution(18, 9 * UNITS, UNITS, 1.0, height=SIDE, width=SIDE, **options),
        *(pools if before else []),
        Activation("selu"),
        *([] if before else pools),
        Convolution(9 * UNITS, 9 * UNITS, UNITS, 1.0, height=sides[1], width=sides[1], **options),
        Activation("selu"),
        Flatten(),
        Dense(UNITS * y.shape[-1] ** 2, 10, 10, 1.0),
    )
    predicted = predict(network, Inputs(x))
    for layer, prediction in enumerate(predicted):
        # Positions of a window count as exchangeable, which is an approximation.
        slack = 0.05 if pools and layer else 0.012
        for number, name in enumerate(COLUMNS):
            tolerance = 4 * error[layer, number] + slack
            assert prediction[name] == pytest.approx(mean[layer, number], abs=tolerance), name


@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "none"])
def test_gradients_go_back_by_the_transpose_of_the_taps(padding):
    """The inner product of a with T b is that of T' a with b."""
    random = np.random.Generator(np.random.PCG64(3))
    layer = Convolution(9, 9, 1, 1.0, height=6, width=5, padding=padding)
    maps = random.standard_normal((2, 6, 5))
    summed = sum_over_taps(maps, layer)
    gradient = random.standard_normal(summed.shape)
    spread = spread_over_taps(gradient, layer, 6, 5)
    assert float((gradient * summed).sum()) == pytest.approx(float((spread * maps).sum()))


@pytest.mark.parametrize("padding", ["zeros", "circular", "reflect", "none"])
def test_sums_over_taps_are_convolutions_with_ones(padding):
    maps = np.random.Generator(np.random.PCG64(3)).standard_normal((2, 1, 6, 5))
    layer = Convolution(9, 9, 1, 1.0, height=6, width=5, padding=padding)
    options = {"padding": padding, "stride": 1}
    expected = convolve(options, torch.as_tensor(maps), torch.ones(1, 1, 3, 3).double())
    np.testing.assert_allclose(sum_over_taps(maps[:, 0], layer), expected[:, 0], atol=1e-12)


def test_a_grouped_convolution_is_not_followed():
    network = (
        Convolution(9, 36, 4, 1.0, height=4, width=4, groups=2),
        Activation("selu"),
        Flatten(),
        Dense(64, 10, 10, 1.0),
    )
    images = np.random.Generator(np.random.PCG64(3)).standard_normal((8, 2, 4, 4))
    (layer,) = predict(network, Inputs(images))
    assert layer.reason == "a grouped convolution, whose units see different inputs"
    assert layer.units == 4
