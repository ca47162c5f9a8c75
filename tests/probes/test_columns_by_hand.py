"""Every column against a plain NumPy or SciPy computation in float64, one trial at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad
from torch import nn

from harness.probes.contraction import contraction
from harness.probes.dependence import correlations, variance_law
from harness.probes.gaussianity import measures, pooled_gaussianity, unit_gaussianity
from harness.probes.gradients import gradients, learning, saturation
from harness.probes.measurement import FULL, measure
from harness.probes.moments import between_unit_share, inputs, lengths, moments
from harness.probes.readings import norms, unit_moments
from harness.probes.weights import mean_drive, theorem, theorem_shares, weights


@pytest.fixture
def reading(dense, normal):
    """Two trials of 40 units on 300 samples of 24 dependent inputs with a mean; some samples much longer than others."""
    mixing = normal(24, 24, seed=1) * torch.logspace(0, -1.5, 24)
    x = (normal(2, 300, 24, seed=2) @ mixing.T + 0.3) * torch.linspace(0.5, 2.0, 300).view(1, -1, 1)
    return dense(
        x,
        normal(2, 40, 24, seed=3) / 24**0.5,
        nn.SELU(),
        bias=0.1 * normal(2, 40, seed=4),
        update=0.01 * normal(2, 40, 24, seed=5),
    )


def arrays(reading, trial: int):
    parts = (
        reading.inputs,
        reading.pre_activation,
        reading.activation,
        reading.weight,
        reading.bias,
        reading.gradient,
    )
    return [part[trial].double().numpy() for part in parts]


def assert_columns(
    columns, trial: int, expected: dict[str, float], rel: float = 1e-5, absolute: float = 1e-6
) -> None:
    for name, value in expected.items():
        assert float(columns[name][trial]) == pytest.approx(value, rel=rel, abs=absolute), name


@pytest.mark.parametrize("trial", [0, 1])
def test_moments_lengths_and_directions(reading, trial):
    x, z, y, *_ = arrays(reading, trial)
    expected = {}
    for name, values in (("pre_activation", z), ("activation", y)):
        expected |= {f"{name}_mean": values.mean(), f"{name}_variance": values.var()}
        for level in (5, 50, 95):
            expected[f"{name}_unit_mean_q{level:02d}"] = np.percentile(values.mean(0), level)
            expected[f"{name}_unit_variance_q{level:02d}"] = np.percentile(values.var(0), level)
    assert_columns(moments(reading), trial, expected)
    for prefix, values, statistic in (("input_", x, inputs), ("", z, lengths)):
        q = (values**2).mean(1)
        directions = values / np.linalg.norm(values, axis=1, keepdims=True)
        cosines = directions @ directions.T
        off_diagonal = cosines[~np.eye(300, dtype=bool)].mean()
        assert_columns(
            statistic(reading),
            trial,
            {
                f"{prefix}q": q.mean(),
                f"{prefix}q_cv": q.std() / q.mean(),
                f"{prefix}cosine": off_diagonal,
                f"{prefix}zero_norm_samples": 0,
            },
        )
    assert_columns(inputs(reading), trial, {"input_mean": x.mean(), "input_variance": x.var()})
    assert_columns(
        between_unit_share(reading),
        trial,
        {"between_unit_share": (z.mean(0) ** 2).mean() / (z**2).mean()},
    )


@pytest.mark.parametrize("trial", [0, 1])
def test_weights_and_theorem_boxes(reading, trial):
    x, z, y, w, b, _ = arrays(reading, trial)
    omega, tau, mean, variance = w.sum(1), (w**2).sum(1), y.mean(0), y.var(0)
    of_weights = (abs(omega) <= 0.1) & (tau >= 0.95) & (tau <= 1.1)
    of_moments = (abs(mean) <= 0.1) & (variance >= 0.8) & (variance <= 1.5)
    assert_columns(
        weights(reading),
        trial,
        {
            "omega_mean": omega.mean(),
            "omega_sd": omega.std(),
            "tau_mean": tau.mean(),
            "tau_sd": tau.std(),
            "tau_q05": np.percentile(tau, 5),
        },
    )
    shares = {
        "theorem_1_weight_share": of_weights.mean(),
        "theorem_1_moment_share": of_moments.mean(),
        "theorem_1_share": (of_weights & of_moments).mean(),
    }
    assert_columns(theorem_shares(reading), trial, shares)
    m, v = w @ x.mean(0), np.einsum("ij,jk,ik->i", w, np.cov(x.T, bias=True), w)
    assert_columns(
        mean_drive(reading),
        trial,
        {
            "mean_drive": m.var() / v.mean(),
            "common_mean_drive": x.mean() ** 2 * omega.var() / (x.var() * tau.mean()),
        },
    )


@pytest.mark.parametrize(
    "nu, scale, expected",
    [(1.0, 1.0, 1), (4.0, 1.0, 2), (0.1, 1.0, 3), (0.5, 1.0, 0), (1.0, 2.0, 0)],
)
def test_theorem_of_a_layer_by_its_inputs_and_mean_weights(dense, normal, nu, scale, expected):
    w = normal(1, 64, 32)
    w = w - w.mean(2, keepdim=True)
    reading = dense(
        nu**0.5 * normal(1, 4000, 32, seed=1), scale * w / w.norm(dim=2, keepdim=True), nn.SELU()
    )
    assert theorem(reading)["theorem"].tolist() == [expected]
    assert theorem(dense(reading.inputs, reading.weight, nn.ReLU()))["theorem"].tolist() == [0]


@pytest.mark.parametrize("trial", [0, 1])
def test_gaussianity_against_scipy(reading, trial):
    x, z, *_ = arrays(reading, trial)
    found = [scipy_measures(unit) for unit in z.T]
    expected = {
        f"unit_{name}_q{level}": np.percentile([abs(one[name]) for one in found], level)
        for name in found[0]
        for level in (50, 90)
    }
    assert_columns(unit_gaussianity(reading), trial, expected | {"constant_units": 0})
    columns = pooled_gaussianity(reading)
    q = (x**2).mean(1)
    for prefix, values in (("pooled", z), ("normalized", z / np.sqrt(q)[:, None])):
        assert_columns(
            columns,
            trial,
            {
                f"{prefix}_skewness": scipy.stats.skew(values.ravel()),
                f"{prefix}_excess_kurtosis": scipy.stats.kurtosis(values.ravel()),
            },
        )
        # 12,000 entries are more than 4,096: every third is taken, 3 being the first number from 3 on that shares no factor with 40 units.
        standard = ((values - values.mean()) / values.std()).ravel()[::3]
        grid = normal_cells(len(standard))
        assert_columns(
            columns,
            trial,
            {
                f"{prefix}_wasserstein": scipy.stats.wasserstein_distance(standard, grid),
                f"{prefix}_kolmogorov": scipy.stats.kstest(standard, "norm").statistic,
            },
        )
    assert_columns(
        columns, trial, {"predicted_pooled_excess_kurtosis": 3 * q.var() / q.mean() ** 2}
    )


def scipy_measures(values: np.ndarray) -> dict[str, float]:
    """The four measures by SciPy; the Wasserstein distance is that from the means of equally likely cells."""
    standard = (values - values.mean()) / values.std()
    return {
        "skewness": scipy.stats.skew(values),
        "excess_kurtosis": scipy.stats.kurtosis(values),
        "wasserstein": scipy.stats.wasserstein_distance(standard, normal_cells(len(values))),
        "kolmogorov": scipy.stats.kstest(standard, "norm").statistic,
    }


def normal_cells(count: int) -> np.ndarray:
    """Means of equally likely cells of the standard normal distribution."""
    return -count * np.diff(
        scipy.stats.norm.pdf(scipy.stats.norm.ppf(np.linspace(0, 1, count + 1)))
    )


def test_wasserstein_distance_from_the_normal_distribution_itself(normal):
    """A shifted normal sample is as far as its shift; a uniform one has the distance that integration gives."""
    grid = scipy.stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    uniform = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * 12**0.5 - 3**0.5
    exact = scipy.stats.wasserstein_distance(uniform.numpy(), grid)
    assert float(measures(uniform.float())["wasserstein"]) == pytest.approx(exact, rel=2e-3)
    assert float(measures(normal(5000) + 1.0)["wasserstein"]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("trial", [0, 1])
def test_dependence(reading, trial):
    x, z, _, w, *_ = arrays(reading, trial)
    rho = np.corrcoef(z.T)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.T, bias=True))
    shares = eigenvalues / eigenvalues.sum()
    assert_columns(
        correlations(reading),
        trial,
        {
            "mean_abs_correlation": abs(rho[~np.eye(40, dtype=bool)]).mean(),
            "participation_ratio": debiased_participation_ratio(z),
            "entropy_rank": np.exp(scipy.stats.entropy(shares[shares > 1e-9])),
        },
        rel=1e-4,
    )
    s = np.cov(x.T, bias=True)
    kurtosis = scipy.stats.kurtosis(w.ravel())
    predicted = np.sqrt(
        2 * (s**2).sum() / np.trace(s) ** 2 + kurtosis * (np.diag(s) ** 2).sum() / np.trace(s) ** 2
    )
    measured = z.var(0)
    assert_columns(
        variance_law(reading),
        trial,
        {
            "unit_variance_cv": measured.std() / measured.mean(),
            "predicted_unit_variance_cv": predicted,
            "input_participation_ratio": debiased_participation_ratio(x),
            "predicted_mean_drive": (x.mean(0) ** 2).sum() / np.trace(s),
        },
        rel=1e-4,
    )


def debiased_participation_ratio(x: np.ndarray) -> float:
    """(tr Sigma)^2 / tr Sigma^2 with tr Sigma^2 from pairs of distinct rows alone."""
    centred = x - x.mean(0)
    gram = centred @ centred.T
    square = (gram[~np.eye(len(x), dtype=bool)] ** 2).mean()
    return (np.trace(gram) / len(x)) ** 2 / square


@pytest.mark.parametrize("trial", [0, 1])
def test_gradients_and_saturation(reading, trial):
    *_, gradient = arrays(reading, trial)
    z = reading.pre_activation[trial]
    assert_columns(gradients(reading), trial, {"gradient_square": (gradient**2).sum(1).mean()})
    norm = lambda tensor: float(tensor[trial].double().norm())
    assert_columns(
        learning(reading),
        trial,
        {
            "weight_gradient_norm": norm(reading.weight_gradient),
            "update_ratio": norm(reading.update) / norm(reading.weight),
        },
    )
    assert_columns(
        saturation(reading),
        trial,
        {"saturated_share": float((z < -2.302585).double().mean()), "dead_share": 0},
    )


def test_ladder_against_scipy_integration(reading):
    """The predictions of every rung by adaptive integration, unit by unit."""
    x, z, y, w, b, _ = arrays(reading, 0)
    selu = lambda t: 1.0507009873554805 * (t if t > 0 else 1.6732632423543772 * np.expm1(t))

    def predicted(mean, variance):
        moment = lambda power: quad(
            lambda t: selu(t) ** power * scipy.stats.norm.pdf(t, mean, variance**0.5),
            mean - 12 * variance**0.5,
            mean + 12 * variance**0.5,
            points=[0.0],
            limit=200,
        )[0]
        first = moment(1)
        return first, moment(2) - first**2

    mu, nu, omega, tau = x.mean(), x.var(), w.sum(1), (w**2).sum(1)
    sigma = np.cov(x.T, bias=True)
    rungs = {
        "map": [(0.0, nu * tau.mean())] * 40,
        "weights": list(zip(mu * omega + b, nu * tau)),
        "moments": list(zip(w @ x.mean(0) + b, np.einsum("ij,jk,ik->i", w, sigma, w))),
    }
    columns = contraction(reading)
    for rung, arguments in rungs.items():
        mean, variance = np.array([predicted(m, v) for m, v in arguments]).T
        errors = (y.mean(0) - mean) ** 2, (y.var(0) - variance) ** 2
        assert_columns(
            columns,
            0,
            {
                f"ladder_mean_{rung}": np.sqrt(errors[0].mean()),
                f"ladder_variance_{rung}": np.sqrt(errors[1].mean()),
                f"ladder_{rung}": np.sqrt((errors[0] + errors[1]).mean()),
            },
        )
        if rung in ("weights", "moments"):
            name = {"weights": "residual_map", "moments": "residual_unit"}[rung]
            assert_columns(
                columns, 0, {name: np.sort(abs(y.var(0) - variance) / variance)[19]}, rel=1e-4
            )
    q = tau.mean() * (nu + mu**2) + (b**2).mean()
    mean, variance = predicted(0.0, q)
    assert_columns(columns, 0, {"residual_pooled": np.hypot(y.mean() - mean, y.var() - variance)})


@pytest.mark.parametrize(
    "shift, scale", [(0.0, 1.0), (1e4, 1.0), (0.0, 1e25), (0.0, 1e-25), (-30.0, 0.01)]
)
def test_moments_of_float32_entries_are_as_good_as_float64(normal, shift, scale):
    rows = shift + scale * normal(2, 3000, 8)
    mean, variance = unit_moments(rows)
    torch.testing.assert_close(mean, rows.double().mean(1), rtol=1e-12, atol=1e-12 * scale)
    torch.testing.assert_close(variance, rows.double().var(1, correction=0), rtol=1e-11, atol=0.0)


@pytest.mark.parametrize("head", [1.0, 1e3, 1e6])
def test_moments_do_not_suffer_from_first_rows_that_are_unlike_the_others(normal, head):
    """The variance's origin is the mean of the first 64 rows, wherever that lies; constant units have variance 0 to the bit."""
    rows = normal(2, 3000, 8)
    rows[:, :64] += head
    rows[:, :, 7] = head / 3
    mean, variance = unit_moments(rows)
    torch.testing.assert_close(mean, rows.double().mean(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        variance[:, :7], rows[:, :, :7].double().var(1, correction=0), rtol=1e-11, atol=0.0
    )
    assert (variance[:, 7] == 0).all()


def test_columns_in_float32_agree_with_the_same_reading_in_float64(reading):
    """What is multiplied or sorted in float32 loses nothing that shows."""
    wide = {
        name: getattr(reading, name).double()
        for name in (
            "inputs",
            "pre_activation",
            "activation",
            "gradient",
            "weight",
            "weight_gradient",
            "update",
            "bias",
        )
    }
    single, double = (
        measure([one], FULL)[0] for one in (reading, dataclasses.replace(reading, **wide))
    )
    assert single.keys() == double.keys()
    for name, values in single.items():
        torch.testing.assert_close(
            values.double(),
            double[name].double(),
            rtol=2e-5,
            atol=5e-7,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25, 0.0])
@pytest.mark.parametrize("length", [64, 5000])
def test_norms_at_any_scale(normal, scale, length):
    """Squares of 1e-25 and 1e25 are no float32 numbers, and long vectors are summed in float64."""
    vectors = scale * normal(2, 30, length)
    vectors[0, 3] = 0.0
    found = norms(vectors)
    torch.testing.assert_close(
        found, vectors.double().norm(dim=2), rtol=5e-7 if length == 64 else 1e-12, atol=0.0
    )
    assert found.dtype == torch.float64
    assert found[0, 3] == 0


def test_no_vectors_have_no_norms():
    assert norms(torch.empty(2, 0, 5)).shape == (2, 0)
