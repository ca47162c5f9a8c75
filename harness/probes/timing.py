"""Duration of all statistics, and of their intervals, on a plain SELU network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.probes.measurement import FULL, STANDARD, measure
from harness.probes.readings import LayerReading


def dense_readings(
    depth: int,
    width: int,
    samples: int,
    trials: int = 1,
    activation: Callable[[], nn.Module] = nn.SELU,
    seed: int = 0,
) -> list[LayerReading]:
    """Returns readings of LeCun-normal dense networks with equal layers on Gaussian inputs.

    One forward and one backward pass are included.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(trials, samples, width, generator=generator)
    weights = [_lecun_weight(trials, width, generator) for _ in range(depth)]
    readout = torch.randn(trials, width, 10, generator=generator) * width**-0.5
    module = activation()
    inputs = []
    pre_activations = []
    outputs = []
    for weight in weights:
        inputs.append(x)
        pre_activations.append(x @ weight.transpose(1, 2))
        x = module(pre_activations[-1])
        outputs.append(x)
    labels = torch.arange(samples).remainder(10).repeat(trials)
    loss = functional.cross_entropy((x @ readout).flatten(0, 1), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, pre_activations + weights)
    return [
        LayerReading(
            name=f"layer_{index + 1:02d}",
            kind="linear",
            activation_module=module,
            inputs=inputs[index].detach(),
            pre_activation=pre_activations[index].detach(),
            activation=outputs[index].detach(),
            gradient=gradients[index],
            weight=weights[index].detach(),
            weight_gradient=gradients[depth + index] / samples,
            update=None,
        )
        for index in range(depth)
    ]


def _lecun_weight(trials: int, width: int, generator: torch.Generator) -> Tensor:
    weight = torch.randn(trials, width, width, generator=generator)
    return weight.mul_(width**-0.5).requires_grad_()


@dataclass
class _Repeats:
    """Seconds of each repeat."""

    passes: list[float]
    statistics: list[float]
    processor: list[float]
    full: list[float]


def seconds(
    depth: int = 32, width: int = 256, samples: int = 2048, trials: int = 1, repeats: int = 7
) -> dict[str, float]:
    """Returns the times in seconds of all statistics on given readings, over several repeats.

    Returns:
        `fastest` and `median`, `processor` (of all cores together, without what other processes
        took), `intervals` (what they add to the median), and `passes` (the fastest of the passes
        that make the readings).
    """
    measured = _Repeats([], [], [], [])
    # One more than asked for: the first is a warm-up and is not counted.
    for _ in range(repeats + 1):
        _time_once(measured, depth, width, samples, trials)
    typical = median(measured.statistics[1:])
    return {
        "fastest": min(measured.statistics[1:]),
        "median": typical,
        "processor": min(measured.processor[1:]),
        "intervals": median(measured.full[1:]) - typical,
        "passes": min(measured.passes[1:]),
    }


def _time_once(measured: _Repeats, depth: int, width: int, samples: int, trials: int) -> None:
    started = time.perf_counter()
    readings = dense_readings(depth, width, samples, trials)
    read = time.perf_counter()
    processor_started = time.process_time()
    measure(readings, STANDARD)
    measured.passes.append(read - started)
    measured.statistics.append(time.perf_counter() - read)
    measured.processor.append(time.process_time() - processor_started)
    # Copies, which remember nothing of what was computed.
    readings = [replace(reading) for reading in readings]
    started = time.perf_counter()
    measure(readings, FULL)
    measured.full.append(time.perf_counter() - started)
