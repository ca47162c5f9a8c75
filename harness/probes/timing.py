"""How long all statistics take on a plain SELU network, and their intervals besides: `python -m harness.probes.timing [--depth 32] [--threads 2]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import nn
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
    """Readings of LeCun-normal dense networks with equal layers on Gaussian inputs, one forward and one backward pass included."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(trials, samples, width, generator=generator)
    weights = [
        torch.randn(trials, width, width, generator=generator).mul_(width**-0.5).requires_grad_()
        for _ in range(depth)
    ]
    readout = torch.randn(trials, width, 10, generator=generator) * width**-0.5
    module = activation()
    inputs, entries, outputs = [], [], []
    for weight in weights:
        inputs.append(x)
        entries.append(x @ weight.transpose(1, 2))
        x = module(entries[-1])
        outputs.append(x)
    labels = torch.arange(samples).remainder(10).repeat(trials)
    loss = functional.cross_entropy((x @ readout).flatten(0, 1), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, entries + weights)
    return [
        LayerReading(
            f"layer_{index + 1:02d}",
            "linear",
            module,
            inputs[index].detach(),
            entries[index].detach(),
            outputs[index].detach(),
            gradients[index],
            weights[index].detach(),
            gradients[depth + index] / samples,
            None,
        )
        for index in range(depth)
    ]


def seconds(
    depth: int = 32, width: int = 256, samples: int = 2048, trials: int = 1, repeats: int = 7
) -> dict[str, float]:
    """Time of all statistics on given readings, fastest and median, and without what other processes took (`processor`, of all cores
    together); what their intervals add to the median (`intervals`); and the fastest of the passes that make the readings (`passes`).
    """
    passes, statistics, processor, full = [], [], [], []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        readings = dense_readings(depth, width, samples, trials)
        read, used = time.perf_counter(), time.process_time()
        measure(readings, STANDARD)
        passes.append(read - started)
        statistics.append(time.perf_counter() - read)
        processor.append(time.process_time() - used)
        readings = [replace(reading) for reading in readings]  # nothing that was computed is kept
        started = time.perf_counter()
        measure(readings, FULL)
        full.append(time.perf_counter() - started)
    usual = median(statistics[1:])
    return {
        "fastest": min(statistics[1:]),
        "median": usual,
        "processor": min(processor[1:]),
        "intervals": median(full[1:]) - usual,
        "passes": min(passes[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("depth", 32),
        ("width", 256),
        ("samples", 2048),
        ("trials", 1),
        ("repeats", 7),
        ("threads", 2),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    torch.set_num_threads(options.pop("threads"))
    found = seconds(**options)
    print(
        f"all statistics, {options['depth']} layers of {options['width']} units, {options['samples']} samples, {options['trials']} trial(s), {torch.get_num_threads()} threads: "
        f"fastest {found['fastest']:.3f} s, median {found['median']:.3f} s, processor time {found['processor']:.3f} s; "
        f"besides: their intervals {found['intervals']:.3f} s, forward and backward pass {found['passes']:.3f} s"
    )


if __name__ == "__main__":
    main()
