"""Simulate the null distributions of the measures of Gaussianity and write harness/probes/gaussian_nulls.json.

    python scripts/simulate_nulls.py [--replicates 100000] [--seed 1706] [--out FILE]

A few minutes on one core. The result is versioned; run this again only when the measures themselves change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from harness.probes.statistics.gaussianity import measures

SAMPLES = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
LEVELS = [0.5, 0.9, 0.95, 0.99]
_BLOCK_NUMBERS = 2**21


def simulate(samples: int, replicates: int, seed: int) -> dict[str, np.ndarray]:
    """|measure| of `replicates` standard normal samples, mean and sd fitted to each."""
    generator = torch.Generator().manual_seed(seed * 100_003 + samples)
    blocks = []
    for start in range(0, replicates, max(1, _BLOCK_NUMBERS // samples)):
        count = min(max(1, _BLOCK_NUMBERS // samples), replicates - start)
        z = torch.randn(count, samples, dtype=torch.float64, generator=generator)
        standard = (z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True)
        blocks.append(measures(standard.float()))
    return {
        name: np.abs(torch.cat([block[name] for block in blocks]).numpy()) for name in blocks[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1706)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent.parent
        / "harness"
        / "probes"
        / "gaussian_nulls.json",
    )
    options = parser.parse_args()
    found = {samples: simulate(samples, options.replicates, options.seed) for samples in SAMPLES}
    names = list(found[SAMPLES[0]])
    table = {
        "version": 1,
        "what": "Quantiles of |measure| times sqrt(samples) for independent standard normal samples whose mean and population sd were fitted. Rows of a measure are levels, columns are samples.",
        "how": {
            "script": "scripts/simulate_nulls.py",
            "replicates": options.replicates,
            "seed": options.seed,
            "generator": "torch mt19937",
            "torch": torch.__version__.split("+")[0],
        },
        "samples": SAMPLES,
        "levels": LEVELS,
        "quantiles": {
            name: [
                [round(float(np.quantile(found[n][name], level)) * n**0.5, 4) for n in SAMPLES]
                for level in LEVELS
            ]
            for name in names
        },
        "sd_of_signed_measure": {
            name: [round(float(np.sqrt(np.mean(found[n][name] ** 2))) * n**0.5, 4) for n in SAMPLES]
            for name in ("skewness", "excess_kurtosis")
        },
    }
    options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
