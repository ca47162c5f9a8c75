"""Intervals of measured columns: how often they hold what endless samples and units would give, and what is drawn as one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from harness.probes.bootstrap import _draws, _Table, bands
from harness.probes.contraction import contraction, empirical_slope
from harness.probes.gaussianity import pooled_gaussianity
from harness.probes.moments import inputs, moments
from harness.probes.readings import unit_moments, why_absent
from harness.probes.weights import inside_theorem_1, theorem_shares
from harness.theory.selu.moment_map import map_moments

COLUMNS = (
    "residual_map",
    "residual_unit",
    "theorem_1_moment_share",
    "activation_mean",
    "activation_variance",
    "input_mean",
    "input_variance",
    "residual_pooled",
    "empirical_slope",
    "normalized_wasserstein",
)
REPLICATIONS, SAMPLES, UNITS, FAN_IN = 200, 400, 48, 32


def measured(reading):
    return (
        contraction(reading)
        | empirical_slope(reading)
        | theorem_shares(reading)
        | moments(reading)
        | inputs(reading)
        | pooled_gaussianity(reading)
    )


def pooled_selu(factor: float = 1.0) -> tuple[float, float]:
    """Pooled mean and variance of SELU units whose z has variance factor chi-square(FAN_IN) / FAN_IN, by its quantiles."""
    mean, variance = map_moments(0.0, factor * tau(), 0.0, 1.0)
    return mean.mean(), variance.mean() + mean.var()


def tau() -> np.ndarray:
    return stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, FAN_IN) / FAN_IN


def truth() -> dict[str, float]:
    """Of Gaussian weights on independent standard normal inputs, for endless samples and units."""
    mean, variance = pooled_selu()
    by_map = map_moments(0.0, 1.0, 0.0, 1.0)
    inside = inside_theorem_1(*(torch.tensor(part) for part in map_moments(0.0, tau(), 0.0, 1.0)))
    slope = np.log(pooled_selu(1.21)[1] / pooled_selu(0.81)[1]) / np.log(1.21 / 0.81)
    return {
        "input_mean": 0.0,
        "input_variance": 1.0,
        "activation_mean": mean,
        "activation_variance": variance,
        "residual_pooled": np.hypot(mean - by_map[0], variance - by_map[1]),
        "residual_unit": 0.0,
        "residual_map": 0.0,
        "normalized_wasserstein": 0.0,
        "theorem_1_moment_share": float(inside.double().mean()),
        "empirical_slope": slope,
    }


def test_intervals_hold_the_truth_and_are_not_much_wider_than_need_be(dense, normal):
    found = []
    for seed in range(REPLICATIONS):
        reading = dense(
            normal(1, SAMPLES, FAN_IN, seed=2 * seed),
            normal(1, UNITS, FAN_IN, seed=2 * seed + 1) / FAN_IN**0.5,
            nn.SELU(),
        )
        columns = measured(reading) | bands(reading)
        found.append(
            [[float(columns[name + end]) for end in ("", "_low", "_high")] for name in COLUMNS]
        )
    value, low, high = np.array(found).transpose(2, 1, 0)
    # An interval of 99 % that is right misses so often at most, but for one time in a thousand.
    most = stats.binom.ppf(0.999, REPLICATIONS, 0.01)
    for index, (name, exact) in enumerate((name, truth()[name]) for name in COLUMNS):
        misses = int(((low[index] > exact) | (high[index] < exact)).sum())
        assert misses <= most, f"{name}: {misses} of {REPLICATIONS} intervals miss {exact:.4g}"
    for name in (
        "input_mean",
        "input_variance",
        "activation_mean",
        "activation_variance",
        "empirical_slope",
    ):
        index = COLUMNS.index(name)
        ratio = (high[index] - low[index]).mean() / (2 * 2.5758 * value[index].std(ddof=1))
        assert 0.9 < ratio < np.sqrt(3), (
            f"{name}: the interval is {ratio:.2f} times as wide as the numbers spread"
        )


@pytest.mark.parametrize("shape, expected", [(0.0, False), (1.0, True)])
def test_a_distance_is_told_from_none(dense, normal, shape, expected):
    # Samples of two lengths make every unit a mixture of two Gaussians, which its own Gaussian cannot describe.
    lengths = 1 + shape * torch.where(torch.arange(512) % 2 == 0, 0.6, -0.6).view(1, -1, 1)
    reading = dense(lengths * normal(1, 512, 64), normal(1, 64, 64, seed=1) / 8, nn.ReLU())
    columns = measured(reading) | bands(reading)
    assert (float(columns["residual_unit_low"]) > 0) == expected
    assert columns["residual_unit_low"] <= columns["residual_unit"] <= columns["residual_unit_high"]


def test_replicates_are_those_of_samples_drawn_with_replacement(normal):
    values = 3 + 2 * normal(2, 40, 9)
    table, chosen = (
        _Table.of(values, unit_moments(values)),
        _draws(40, "samples", torch.device("cpu")).chosen,
    )
    drawn = values.double()[:, chosen]  # (trials, replicates, samples, units)
    torch.testing.assert_close(table.by_unit().mean.double(), drawn.mean(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        table.by_unit().variance.double(), drawn.var(2, correction=0), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(table.of_samples.mean, drawn.mean((2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        table.of_samples.variance, drawn.var((2, 3), correction=0), rtol=1e-5, atol=1e-5
    )


def test_neighbours_that_are_one_sample_count_once(dense, normal):
    x, weight = normal(1, 256, 20), normal(1, 16, 20, seed=1) / 20**0.5
    once, twice = (
        bands(dense(x, weight, nn.SELU())),
        bands(dense(x.repeat_interleave(2, 1), weight, nn.SELU())),
    )
    for name in once.keys() - {
        "empirical_slope_low",
        "empirical_slope_high",
    }:  # read on the first rows only
        torch.testing.assert_close(
            twice[name],
            once[name],
            rtol=1e-4,
            atol=1e-4,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_the_positions_of_an_image_are_no_samples(convolution, dense, normal):
    # Where all positions of an image are alike, there are as many draws as images.
    x, layer = normal(1, 200, 12), nn.Conv2d(12, 10, 1, bias=False)
    everywhere = bands(
        convolution(x[..., None, None].expand(-1, -1, -1, 6, 6).contiguous(), layer, nn.SELU())
    )
    alone = bands(dense(x, layer.weight.detach().flatten(1)[None], nn.SELU()))
    assert (
        everywhere.keys()
        == alone.keys()
        == {f"{name}_{end}" for name in COLUMNS for end in ("low", "high")}
    )
    for name, values in alone.items():
        torch.testing.assert_close(
            everywhere[name],
            values,
            rtol=1e-4,
            atol=1e-4,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_a_layer_has_one_interval_in_any_company(dense, normal):
    x, weight = normal(3, 300, 24), normal(3, 32, 24, seed=1) / 24**0.5
    together = bands(dense(x, weight, nn.SELU()))
    again = bands(dense(x, weight, nn.SELU()))
    for index in range(3):
        alone = bands(dense(x[index : index + 1], weight[index : index + 1], nn.SELU()))
        for name, values in together.items():
            torch.testing.assert_close(values[index : index + 1], alone[name], rtol=1e-5, atol=1e-6)
            assert torch.equal(values, again[name])


def test_too_few_to_draw_from_is_absent_and_said(dense, convolution, normal):
    images, layer = normal(1, 64, 3, 8, 8), nn.Conv2d(3, 16, 3, padding=1)
    few_channels = convolution(images, layer, nn.SELU())
    columns = bands(few_channels)
    assert {name for name, values in columns.items() if values.isnan().all()} == {
        f"input_{moment}_{end}" for moment in ("mean", "variance") for end in ("low", "high")
    }
    assert "no interval from 3 input channels" in why_absent(few_channels)
    one_unit = dense(normal(1, 64, 20), normal(1, 1, 20, seed=1), nn.SELU())
    assert {
        name.rpartition("_")[0]
        for name, values in bands(one_unit).items()
        if values.isfinite().all()
    } == {"input_mean", "input_variance"}
    assert "no interval from 1 units" in why_absent(one_unit)
    few_samples = dense(normal(1, 20, 20), normal(1, 16, 20, seed=1), nn.SELU())
    assert all(values.isnan().all() for values in bands(few_samples).values())
    assert "20 samples are fewer than" in why_absent(few_samples)


def test_kinds_of_layers(dense, convolution, normal):
    assert all(
        values.isfinite().all()
        for values in bands(
            convolution(normal(1, 64, 16, 6, 6), nn.Conv2d(16, 32, 3, groups=4), nn.SELU())
        ).values()
    )
    plain = dense(normal(1, 100, 20), normal(1, 16, 20, seed=1) / 20**0.5, nn.SELU())
    between = dataclasses.replace(plain, weights_output=2 * plain.pre_activation)
    assert {
        name.rpartition("_")[0] for name, values in bands(between).items() if values.isnan().all()
    } == {"residual_map", "residual_pooled", "empirical_slope"}


def test_constant_and_broken_units(dense, normal):
    weight = normal(1, 16, 20, seed=1) / 20**0.5
    weight[:, :2] = 0.0
    columns = bands(dense(normal(1, 100, 20), weight, nn.SELU()))
    assert all(values.isfinite().all() for values in columns.values())
    silent = bands(dense(normal(1, 100, 20), torch.zeros(1, 16, 20), nn.SELU()))
    assert all(
        silent[f"{name}_{end}"].isnan().all()
        for name in ("residual_unit", "normalized_wasserstein", "empirical_slope")
        for end in ("low", "high")
    )
    broken = dense(normal(1, 100, 20), weight, nn.SELU(), bias=torch.full((1, 16), torch.inf))
    told = bands(broken)
    assert all(
        told[f"{name}_{end}"].isnan().all()
        for name in COLUMNS
        if not name.startswith("input")
        for end in ("low", "high")
    )


def test_shares_at_their_ends(dense, normal):
    # No unit of a layer with hundredfold weights lies in Theorem 1's box: at 99 %, up to z^2 / (units + z^2) of endless units still may (Wilson 1927).
    columns = bands(dense(normal(1, 100, 20), 100 * normal(1, 16, 20, seed=1), nn.SELU()))
    assert float(columns["theorem_1_moment_share_low"]) == 0.0
    assert float(columns["theorem_1_moment_share_high"]) == pytest.approx(
        2.5758**2 / (16 + 2.5758**2)
    )
