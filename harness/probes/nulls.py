"""Null distributions: the size of each measure of Gaussianity for samples that are Gaussian.

Mean and standard deviation are fitted to each sample, so that the tables of the Kolmogorov
distribution do not hold (Lilliefors 1967), and no closed form is known. `gaussian_nulls.json` was
simulated once by scripts/simulate_nulls.py and says with which settings.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import numpy as np


def null_quantile(measure: str, level: float, samples: int) -> float:
    """Quantile of |measure| over Gaussian samples of this size; NaN below the smallest simulated.

    Quantiles times sqrt(samples) are interpolated over log(samples), and are constant beyond the
    largest simulated size.

    Args:
        measure: a key of `harness.probes.statistics.gaussianity.measures`.
        level: 0.5, 0.9, 0.95 or 0.99.
        samples: number of values of one sample.
    """
    table = _table()
    sizes = table["samples"]
    if samples < sizes[0]:
        return float("nan")
    scaled = table["quantiles"][measure][table["levels"].index(level)]
    return float(np.interp(np.log(samples), np.log(sizes), scaled)) / samples**0.5


def fewest_samples() -> int:
    """The smallest sample that has a null distribution; a measure of fewer values is absent."""
    return _table()["samples"][0]


@functools.cache
def _table() -> dict[str, Any]:
    path = resources.files("harness.probes").joinpath("gaussian_nulls.json")
    return json.loads(path.read_text(encoding="utf-8"))
