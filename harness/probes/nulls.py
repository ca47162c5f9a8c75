"""Null distributions: how large each measure of Gaussianity is for samples that are Gaussian, mean and sd fitted to the sample.

`gaussian_nulls.json` was simulated once by scripts/simulate_nulls.py and says how. With fitted moments the tables of the
Kolmogorov distribution do not hold (Lilliefors 1967), and no closed form is known.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import numpy as np


def null_quantile(measure: str, level: float, samples: int) -> float:
    """The `level` quantile of |measure| for `samples` Gaussian values; NaN below the smallest simulated size.

    Quantiles times sqrt(samples) are interpolated over log(samples), and are constant beyond the largest simulated size.
    """
    table = _table()
    sizes = table["samples"]
    if samples < sizes[0]:
        return float("nan")
    scaled = table["quantiles"][measure][table["levels"].index(level)]
    return float(np.interp(np.log(samples), np.log(sizes), scaled)) / samples**0.5


def fewest_samples() -> int:
    """The smallest sample for which there is a null distribution; a measure of fewer values is absent."""
    return _table()["samples"][0]


@functools.cache
def _table() -> dict[str, Any]:
    return json.loads(
        resources.files("harness.probes")
        .joinpath("gaussian_nulls.json")
        .read_text(encoding="utf-8")
    )
