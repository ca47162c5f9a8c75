"""Null distributions against a fresh simulation and theory, and quadrature against closed forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.probes.expectations import gaussian_moments
from harness.probes.nulls import fewest_samples, null_quantile
from harness.probes.statistics.gaussianity import measures
from harness.theory.selu import moment_map as selu

ROOT = Path(__file__).resolve().parents[2]
KEPT = json.loads((ROOT / "harness/probes/gaussian_nulls.json").read_text())
LEVELS = KEPT["levels"]


def scaled_quantile(measure: str, level: float, samples: int) -> float:
    """Quantile times sqrt(samples)."""
    return null_quantile(measure, level, samples) * samples**0.5


def kept_quantile(measure: str, level: float, samples: int) -> float:
    """The entry of the kept table, which is times sqrt(samples)."""
    row = KEPT["quantiles"][measure][LEVELS.index(level)]
    return row[KEPT["samples"].index(samples)]


@pytest.mark.parametrize("samples", [64, 1024])
def test_a_fresh_simulation_agrees_with_the_kept_quantiles(normal, samples):
    z = normal(20_000, samples, seed=11).double()
    standard = (z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True)
    for name, values in measures(standard.float()).items():
        for level in (0.5, 0.9, 0.95):
            # The standard error of the quantile of 20,000 draws is below 1 %; five of them.
            expected = pytest.approx(null_quantile(name, level, samples), rel=0.05)
            assert float(values.abs().quantile(level)) == expected, (name, level)


def test_kolmogorov_quantiles_are_the_published_ones():
    """With fitted moments 0.895 at 95 % and 1.035 at 99 % (Stephens 1974, case 3).

    Stephens fitted samples of up to 100, in terms of (sqrt(n) - 0.01 + 0.85 / sqrt(n)) D. The fit
    does not reach large samples: an independent simulation in float64 gives 0.905 and 1.055 at
    1,000 values.
    """
    for level, simulated in ((0.95, 0.905), (0.99, 1.055)):
        assert scaled_quantile("kolmogorov", level, 1000) == pytest.approx(simulated, rel=0.005)
    for samples in (64, 128):
        modified = samples**0.5 - 0.01 + 0.85 / samples**0.5
        for level, published in ((0.95, 0.895), (0.99, 1.035)):
            statistic = null_quantile("kolmogorov", level, samples) * modified
            assert statistic == pytest.approx(published, rel=0.02)


def test_skewness_and_kurtosis_have_their_exact_variances():
    """Exact variances of normal samples (Fisher 1930)."""
    n = np.array(KEPT["samples"], dtype=float)
    skewness = np.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)) * n)
    numerator = 24 * n * (n - 2) * (n - 3)
    variance = numerator / ((n + 1) ** 2 * (n + 3) * (n + 5))
    # The signed kurtosis has mean -6 / (n + 1), which a root mean square contains.
    kurtosis = np.sqrt(variance * n + n * (6 / (n + 1)) ** 2)
    sd = KEPT["sd_of_signed_measure"]
    np.testing.assert_allclose(sd["skewness"], skewness, rtol=0.01)
    np.testing.assert_allclose(sd["excess_kurtosis"], kurtosis, rtol=0.015)


def test_quantiles_are_interpolated_and_constant_beyond_the_largest_sample():
    at_1024 = kept_quantile("wasserstein", 0.5, 1024)
    at_2048 = kept_quantile("wasserstein", 0.5, 2048)
    assert null_quantile("wasserstein", 0.5, 1024) == pytest.approx(at_1024 / 32)
    assert at_1024 < scaled_quantile("wasserstein", 0.5, 1448) < at_2048
    largest = kept_quantile("skewness", 0.9, 8192)
    assert null_quantile("skewness", 0.9, 10**6) == pytest.approx(largest / 1000)
    assert np.isnan(null_quantile("skewness", 0.9, fewest_samples() - 1))


def test_the_script_writes_the_same_form(tmp_path):
    out = tmp_path / "nulls.json"
    script = str(ROOT / "scripts/simulate_nulls.py")
    arguments = ["--replicates", "50", "--seed", "3", "--out", str(out)]
    subprocess.run([sys.executable, script, *arguments], check=True, cwd=tmp_path)
    fresh = json.loads(out.read_text())
    assert fresh.keys() == KEPT.keys()
    assert fresh["how"]["replicates"] == 50
    assert KEPT["how"]["replicates"] == 100_000
    shapes = {name: np.shape(rows) for name, rows in fresh["quantiles"].items()}
    assert shapes == dict.fromkeys(KEPT["quantiles"], (4, 9))


def test_quadrature_agrees_with_the_closed_form_of_selu():
    generator = np.random.default_rng(0)
    mean = generator.normal(0, 3, 4000)
    variance = 10 ** generator.uniform(-6, 3, 4000)
    expected_mean, expected_variance = selu.gaussian_moments(mean, variance)
    moments = gaussian_moments(nn.SELU(), torch.from_numpy(mean), torch.from_numpy(variance))
    by_quadrature_mean, by_quadrature_variance = (part.numpy() for part in moments)
    np.testing.assert_allclose(by_quadrature_variance, expected_variance, rtol=1e-6)
    size = np.maximum(abs(expected_mean), np.sqrt(expected_variance))
    assert (abs(by_quadrature_mean - expected_mean) / size).max() < 1e-6
    near = abs(np.log10(variance)) < 1
    np.testing.assert_allclose(by_quadrature_variance[near], expected_variance[near], rtol=1e-9)


@pytest.mark.parametrize(
    "module, mean, variance, expected",
    [
        (nn.ReLU(), 0.0, 2.0, (1 / np.pi**0.5, 1 - 1 / np.pi)),
        (nn.Identity(), 1.5, 4.0, (1.5, 4.0)),
        (nn.Tanh(), 0.7, 0.0, (np.tanh(0.7), 0.0)),
        (nn.ReLU(), -3.0, 0.0, (0.0, 0.0)),
        (nn.LeakyReLU(0.5), 0.0, 1.0, (0.5 / (2 * np.pi) ** 0.5, 0.625 - 0.125 / np.pi)),
    ],
)
def test_quadrature_gives_moments_that_have_a_formula(module, mean, variance, expected):
    moments = gaussian_moments(module, torch.tensor([mean]), torch.tensor([variance]))
    np.testing.assert_allclose([float(part[0]) for part in moments], expected, atol=1e-12)


def test_quadrature_of_impossible_moments_is_not_finite():
    mean = torch.tensor([0.0, float("nan"), 0.0])
    variance = torch.tensor([-1.0, 1.0, float("inf")])
    moments = gaussian_moments(nn.SELU(), mean, variance)
    assert not any(torch.isfinite(part).any() for part in moments)
