"""The kept null distributions against a fresh simulation and theory's own values, and quadrature against harness.theory."""

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
from harness.probes.gaussianity import measures
from harness.probes.nulls import fewest_samples, null_quantile
from harness.theory.selu import moment_map as selu

ROOT = Path(__file__).resolve().parents[2]
KEPT = json.loads((ROOT / "harness/probes/gaussian_nulls.json").read_text())


@pytest.mark.parametrize("samples", [64, 1024])
def test_a_fresh_simulation_agrees(normal, samples):
    z = normal(20_000, samples, seed=11).double()
    standard = (z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True)
    for name, values in measures(standard.float()).items():
        for level in (0.5, 0.9, 0.95):
            # Standard error of the quantile of 20,000 draws below 1 %; five of them.
            assert float(values.abs().quantile(level)) == pytest.approx(
                null_quantile(name, level, samples), rel=0.05
            ), (name, level)


def test_scaled_quantiles_are_the_published_ones():
    """Kolmogorov with fitted moments: 0.895 at 95 % and 1.035 at 99 % (Stephens 1974, case 3, fitted to samples of up to 100 and in
    terms of (sqrt(n) - 0.01 + 0.85 / sqrt(n)) D); skewness and kurtosis have exact variances (Fisher 1930). The fit does not reach
    large samples: an independent simulation in float64 gives 0.905 and 1.055 at 1,000 values.
    """
    assert [
        null_quantile("kolmogorov", level, 1000) * 1000**0.5 for level in (0.95, 0.99)
    ] == pytest.approx([0.905, 1.055], rel=0.005)
    for samples in (64, 128):
        modified = (samples**0.5 - 0.01 + 0.85 / samples**0.5) / samples**0.5
        for level, published in ((0.95, 0.895), (0.99, 1.035)):
            assert null_quantile(
                "kolmogorov", level, samples
            ) * samples**0.5 * modified == pytest.approx(published, rel=0.02)
    n = np.array(KEPT["samples"], dtype=float)
    skewness = np.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)) * n)
    kurtosis = np.sqrt(24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5)) * n)
    # The signed kurtosis has mean -6 / (n + 1), which a root mean square contains.
    kurtosis = np.sqrt(kurtosis**2 + n * (6 / (n + 1)) ** 2)
    np.testing.assert_allclose(KEPT["sd_of_signed_measure"]["skewness"], skewness, rtol=0.01)
    np.testing.assert_allclose(
        KEPT["sd_of_signed_measure"]["excess_kurtosis"], kurtosis, rtol=0.015
    )


def test_interpolation_and_ends():
    assert null_quantile("wasserstein", 0.5, 1024) == pytest.approx(
        KEPT["quantiles"]["wasserstein"][0][5] / 32
    )
    between = null_quantile("wasserstein", 0.5, 1448) * 1448**0.5
    assert KEPT["quantiles"]["wasserstein"][0][5] < between < KEPT["quantiles"]["wasserstein"][0][6]
    assert null_quantile("skewness", 0.9, 10**6) == pytest.approx(
        KEPT["quantiles"]["skewness"][1][-1] / 1000
    )
    assert np.isnan(null_quantile("skewness", 0.9, fewest_samples() - 1))


def test_the_script_writes_the_same_form(tmp_path):
    out = tmp_path / "nulls.json"
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts/simulate_nulls.py"),
            "--replicates",
            "50",
            "--seed",
            "3",
            "--out",
            str(out),
        ],
        check=True,
        cwd=tmp_path,
    )
    fresh = json.loads(out.read_text())
    assert fresh.keys() == KEPT.keys()
    assert fresh["how"]["replicates"] == 50
    assert KEPT["how"]["replicates"] == 100_000
    assert {name: np.shape(rows) for name, rows in fresh["quantiles"].items()} == dict.fromkeys(
        KEPT["quantiles"], (4, 9)
    )


def test_quadrature_against_the_closed_form_of_selu():
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(0, 3, 4000), 10 ** generator.uniform(-6, 3, 4000)
    expected_mean, expected_variance = selu.gaussian_moments(mean, variance)
    found_mean, found_variance = (
        part.numpy()
        for part in gaussian_moments(nn.SELU(), torch.from_numpy(mean), torch.from_numpy(variance))
    )
    np.testing.assert_allclose(found_variance, expected_variance, rtol=1e-6)
    assert (
        abs(found_mean - expected_mean) / np.maximum(abs(expected_mean), np.sqrt(expected_variance))
    ).max() < 1e-6
    near = abs(np.log10(variance)) < 1
    np.testing.assert_allclose(found_variance[near], expected_variance[near], rtol=1e-9)


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
def test_quadrature_of_known_moments(module, mean, variance, expected):
    found = gaussian_moments(module, torch.tensor([mean]), torch.tensor([variance]))
    np.testing.assert_allclose([float(part[0]) for part in found], expected, atol=1e-12)


def test_quadrature_of_nonsense_is_no_number():
    found = gaussian_moments(
        nn.SELU(), torch.tensor([0.0, float("nan"), 0.0]), torch.tensor([-1.0, 1.0, float("inf")])
    )
    assert not any(torch.isfinite(part).any() for part in found)
