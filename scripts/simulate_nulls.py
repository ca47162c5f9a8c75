"""Simulate the null distributions of the measures of Gaussianity.

    python scripts/simulate_nulls.py [--replicates 100000] [--seed 1706] [--out FILE]

Writes harness/probes/gaussian_nulls.json, which is versioned; a few minutes on one core. Run this
again only when the measures themselves change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.probes.columns import joined
from harness.probes.statistics.gaussianity import measures

SAMPLES = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
LEVELS = [0.5, 0.9, 0.95, 0.99]
# Numbers that are drawn at a time.
_BLOCK_NUMBERS = 2**21
_OUT = Path(__file__).resolve().parent.parent / "harness" / "probes" / "gaussian_nulls.json"

# |measure| of every replicate, by name of the measure.
Sizes = dict[str, NDArray[np.float64]]


def simulate(samples: int, replicates: int, seed: int) -> Sizes:
    """Returns |measure| of `replicates` standard normal samples, mean and sd fitted to each."""
    generator = torch.Generator().manual_seed(seed * 100_003 + samples)
    most = max(1, _BLOCK_NUMBERS // samples)
    blocks = []
    for start in range(0, replicates, most):
        count = min(most, replicates - start)
        z = torch.randn(count, samples, dtype=torch.float64, generator=generator)
        standard = (z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True)
        blocks.append(measures(standard.float()))
    return {name: np.abs(values.numpy()) for name, values in joined(blocks, 0).items()}


def quantile_rows(by_samples: dict[int, Sizes], name: str) -> list[list[float]]:
    """Returns quantiles times sqrt(samples): a row for each level, a column for each size."""
    rows = []
    for level in LEVELS:
        quantiles = [np.quantile(by_samples[samples][name], level) for samples in SAMPLES]
        rows.append(scaled(quantiles))
    return rows


def root_mean_squares(by_samples: dict[int, Sizes], name: str) -> list[float]:
    """Returns the root mean square of a measure times sqrt(samples), for each sample size."""
    return scaled([np.sqrt(np.mean(by_samples[samples][name] ** 2)) for samples in SAMPLES])


def scaled(values: list[Any]) -> list[float]:
    """Returns values, one for each sample size, times sqrt(samples), to four decimals."""
    return [
        round(float(value) * samples**0.5, 4)
        for value, samples in zip(values, SAMPLES, strict=True)
    ]


def main() -> None:
    """Parses the arguments, simulates, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1706)
    parser.add_argument("--out", type=Path, default=_OUT)
    options = parser.parse_args()
    by_samples = {
        samples: simulate(samples, options.replicates, options.seed) for samples in SAMPLES
    }
    table = {
        "version": 1,
        "what": (
            "Quantiles of |measure| times sqrt(samples) for independent standard normal samples "
            "whose mean and population sd were fitted. Rows of a measure are levels, columns are "
            "samples."
        ),
        "how": {
            "script": "scripts/simulate_nulls.py",
            "replicates": options.replicates,
            "seed": options.seed,
            "generator": "torch mt19937",
            "torch": torch.__version__.split("+")[0],
        },
        "samples": SAMPLES,
        "levels": LEVELS,
        "quantiles": {name: quantile_rows(by_samples, name) for name in by_samples[SAMPLES[0]]},
        "sd_of_signed_measure": {
            name: root_mean_squares(by_samples, name) for name in ("skewness", "excess_kurtosis")
        },
    }
    options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
