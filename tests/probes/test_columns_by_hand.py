"""Every column against a plain NumPy or SciPy computation in float64, one trial at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad
from torch import nn

from harness.probes.measurement import FULL, measure
from harness.probes.statistics.contraction import contraction
from harness.probes.statistics.dependence import correlations, variance_law
from harness.probes.statistics.gaussianity import measures, pooled_gaussianity, unit_gaussianity
from harness.probes.statistics.gradients import gradients, learning, saturation
from harness.probes.statistics.moments import between_unit_share, inputs, lengths, moments
from harness.probes.statistics.weights import mean_drive, theorem, theorem_shares, weights

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
OFF_DIAGONAL_OF_SAMPLES = ~np.eye(300, dtype=bool)
OFF_DIAGONAL_OF_UNITS = ~np.eye(40, dtype=bool)


@pytest.fixture
def reading(dense, normal):
    """Two trials of 40 units on 300 samples of 24 dependent inputs with a mean.

    Some samples are much longer than others.
    """
    mixing = normal(24, 24, seed=1) * torch.logspace(0, -1.5, 24)
    lengths = torch.linspace(0.5, 2.0, 300).view(1, -1, 1)
    x = (normal(2, 300, 24, seed=2) @ mixing.T + 0.3) * lengths
    return dense(
        x,
        normal(2, 40, 24, seed=3) / 24**0.5,
        nn.SELU(),
        bias=0.1 * normal(2, 40, seed=4),
        update=0.01 * normal(2, 40, 24, seed=5),
    )


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The tensors of one trial of a reading as float64 arrays."""

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    w: np.ndarray
    b: np.ndarray
    gradient: np.ndarray


def arrays(reading, trial: int) -> Arrays:
    parts = (
        reading.inputs,
        reading.pre_activation,
        reading.activation,
        reading.weight,
        reading.bias,
        reading.gradient,
    )
    return Arrays(*(part[trial].double().numpy() for part in parts))


def covariance(x: np.ndarray) -> np.ndarray:
    """Population covariance over rows."""
    return np.cov(x.T, bias=True)


def output_variances(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """w_i' Sigma w_i of every unit."""
    return np.einsum("ij,jk,ik->i", w, covariance(x), w)


def assert_columns(columns, trial: int, expected: dict[str, float], rel: float = 1e-5) -> None:
    for name, value in expected.items():
        assert float(columns[name][trial]) == pytest.approx(value, rel=rel, abs=1e-6), name


@pytest.mark.parametrize("trial", [0, 1])
def test_moments_by_hand(reading, trial):
    data = arrays(reading, trial)
    expected = {}
    for name, values in (("pre_activation", data.z), ("activation", data.y)):
        expected[f"{name}_mean"] = values.mean()
        expected[f"{name}_variance"] = values.var()
        for level in (5, 50, 95):
            expected[f"{name}_unit_mean_q{level:02d}"] = np.percentile(values.mean(0), level)
            expected[f"{name}_unit_variance_q{level:02d}"] = np.percentile(values.var(0), level)
    assert_columns(moments(reading), trial, expected)
    expected = {"input_mean": data.x.mean(), "input_variance": data.x.var()}
    assert_columns(inputs(reading), trial, expected)
    share = (data.z.mean(0) ** 2).mean() / (data.z**2).mean()
    assert_columns(between_unit_share(reading), trial, {"between_unit_share": share})


@pytest.mark.parametrize("trial", [0, 1])
def test_lengths_and_directions_by_hand(reading, trial):
    data = arrays(reading, trial)
    for prefix, values, statistic in (("input_", data.x, inputs), ("", data.z, lengths)):
        q = (values**2).mean(1)
        directions = values / np.linalg.norm(values, axis=1, keepdims=True)
        cosines = directions @ directions.T
        expected = {
            f"{prefix}q": q.mean(),
            f"{prefix}q_cv": q.std() / q.mean(),
            f"{prefix}cosine": cosines[OFF_DIAGONAL_OF_SAMPLES].mean(),
            f"{prefix}zero_norm_samples": 0,
        }
        assert_columns(statistic(reading), trial, expected)


@pytest.mark.parametrize("trial", [0, 1])
def test_weights_and_theorem_boxes_by_hand(reading, trial):
    data = arrays(reading, trial)
    omega = data.w.sum(1)
    tau = (data.w**2).sum(1)
    mean = data.y.mean(0)
    variance = data.y.var(0)
    by_weights = (abs(omega) <= 0.1) & (tau >= 0.95) & (tau <= 1.1)
    by_moments = (abs(mean) <= 0.1) & (variance >= 0.8) & (variance <= 1.5)
    expected = {
        "omega_mean": omega.mean(),
        "omega_sd": omega.std(),
        "tau_mean": tau.mean(),
        "tau_sd": tau.std(),
        "tau_q05": np.percentile(tau, 5),
    }
    assert_columns(weights(reading), trial, expected)
    expected = {
        "theorem_1_weight_share": by_weights.mean(),
        "theorem_1_moment_share": by_moments.mean(),
        "theorem_1_share": (by_weights & by_moments).mean(),
    }
    assert_columns(theorem_shares(reading), trial, expected)


@pytest.mark.parametrize("trial", [0, 1])
def test_mean_drive_by_hand(reading, trial):
    data = arrays(reading, trial)
    unit_means = data.w @ data.x.mean(0)
    tau = (data.w**2).sum(1)
    spread = data.x.mean() ** 2 * data.w.sum(1).var()
    common = spread / (data.x.var() * tau.mean())
    expected = {
        "mean_drive": unit_means.var() / output_variances(data.w, data.x).mean(),
        "common_mean_drive": common,
    }
    assert_columns(mean_drive(reading), trial, expected)


def test_drives_of_constant_inputs_are_missing(dense, normal):
    """Their divisor, the variance over samples, is 0."""
    inputs = torch.ones(1, 40, 8)
    reading = dense(inputs, normal(1, 5, 8), nn.SELU())
    columns = mean_drive(reading) | variance_law(reading)
    for name in ("mean_drive", "common_mean_drive", "predicted_mean_drive"):
        assert torch.isnan(columns[name]).all(), name


@pytest.mark.parametrize(
    "nu, scale, expected",
    [(1.0, 1.0, 1), (4.0, 1.0, 2), (0.1, 1.0, 3), (0.5, 1.0, 0), (1.0, 2.0, 0)],
)
def test_theorem_follows_from_inputs_and_mean_weights(dense, normal, nu, scale, expected):
    w = normal(1, 64, 32)
    w = w - w.mean(2, keepdim=True)
    w = scale * w / w.norm(dim=2, keepdim=True)
    reading = dense(nu**0.5 * normal(1, 4000, 32, seed=1), w, nn.SELU())
    assert theorem(reading)["theorem"].tolist() == [expected]
    assert theorem(dense(reading.inputs, reading.weight, nn.ReLU()))["theorem"].tolist() == [0]


@pytest.mark.parametrize("trial", [0, 1])
def test_gaussianity_of_units_agrees_with_scipy(reading, trial):
    by_unit = [scipy_measures(unit) for unit in arrays(reading, trial).z.T]
    expected = {"constant_units": 0}
    for name in by_unit[0]:
        sizes = [abs(unit[name]) for unit in by_unit]
        for level in (50, 90):
            expected[f"unit_{name}_q{level}"] = np.percentile(sizes, level)
    assert_columns(unit_gaussianity(reading), trial, expected)


@pytest.mark.parametrize("trial", [0, 1])
def test_pooled_gaussianity_agrees_with_scipy(reading, trial):
    data = arrays(reading, trial)
    q = (data.x**2).mean(1)
    expected = {"predicted_pooled_excess_kurtosis": 3 * q.var() / q.mean() ** 2}
    normalized = data.z / np.sqrt(q)[:, None]
    for prefix, values in (("pooled", data.z), ("normalized", normalized)):
        # 12,000 entries are more than 4,096: every third is taken, 3 being the first number from 3
        # on that shares no factor with 40 units.
        standard = ((values - values.mean()) / values.std()).ravel()[::3]
        grid = normal_cells(len(standard))
        expected |= {
            f"{prefix}_skewness": scipy.stats.skew(values.ravel()),
            f"{prefix}_excess_kurtosis": scipy.stats.kurtosis(values.ravel()),
            f"{prefix}_wasserstein": scipy.stats.wasserstein_distance(standard, grid),
            f"{prefix}_kolmogorov": scipy.stats.kstest(standard, "norm").statistic,
        }
    assert_columns(pooled_gaussianity(reading), trial, expected)


def scipy_measures(values: np.ndarray) -> dict[str, float]:
    """Returns the four measures by SciPy.

    The Wasserstein distance is that from the means of equally likely cells.
    """
    standard = (values - values.mean()) / values.std()
    return {
        "skewness": scipy.stats.skew(values),
        "excess_kurtosis": scipy.stats.kurtosis(values),
        "wasserstein": scipy.stats.wasserstein_distance(standard, normal_cells(len(values))),
        "kolmogorov": scipy.stats.kstest(standard, "norm").statistic,
    }


def normal_cells(count: int) -> np.ndarray:
    """Returns the means of equally likely cells of the standard normal distribution."""
    edges = scipy.stats.norm.ppf(np.linspace(0, 1, count + 1))
    return -count * np.diff(scipy.stats.norm.pdf(edges))


def test_wasserstein_distance_is_that_from_the_normal_distribution(normal):
    """A shifted normal sample is as far as its shift; a uniform one as far as integration says."""
    grid = scipy.stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    uniform = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * 12**0.5 - 3**0.5
    exact = scipy.stats.wasserstein_distance(uniform.numpy(), grid)
    assert float(measures(uniform.float())["wasserstein"]) == pytest.approx(exact, rel=2e-3)
    assert float(measures(normal(5000) + 1.0)["wasserstein"]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("trial", [0, 1])
def test_correlations_by_hand(reading, trial):
    z = arrays(reading, trial).z
    rho = np.corrcoef(z.T)
    eigenvalues = np.linalg.eigvalsh(covariance(z))
    shares = eigenvalues / eigenvalues.sum()
    expected = {
        "mean_abs_correlation": abs(rho[OFF_DIAGONAL_OF_UNITS]).mean(),
        "participation_ratio": debiased_participation_ratio(z),
        "entropy_rank": np.exp(scipy.stats.entropy(shares[shares > 1e-9])),
    }
    assert_columns(correlations(reading), trial, expected, rel=1e-4)


@pytest.mark.parametrize("trial", [0, 1])
def test_variance_law_by_hand(reading, trial):
    data = arrays(reading, trial)
    s = covariance(data.x)
    trace = np.trace(s)
    kurtosis = scipy.stats.kurtosis(data.w.ravel())
    of_gaussian_weights = 2 * (s**2).sum() / trace**2
    of_kurtosis = kurtosis * (np.diag(s) ** 2).sum() / trace**2
    measured = data.z.var(0)
    expected = {
        "unit_variance_cv": measured.std() / measured.mean(),
        "weight_excess_kurtosis": kurtosis,
        "predicted_unit_variance_cv": np.sqrt(of_gaussian_weights + of_kurtosis),
        "input_participation_ratio": debiased_participation_ratio(data.x),
        "predicted_mean_drive": (data.x.mean(0) ** 2).sum() / trace,
    }
    assert_columns(variance_law(reading), trial, expected, rel=1e-4)


def debiased_participation_ratio(x: np.ndarray) -> float:
    """(tr Sigma)^2 / tr Sigma^2 with tr Sigma^2 from pairs of distinct rows alone."""
    centred = x - x.mean(0)
    gram = centred @ centred.T
    square = (gram[~np.eye(len(x), dtype=bool)] ** 2).mean()
    return (np.trace(gram) / len(x)) ** 2 / square


@pytest.mark.parametrize("trial", [0, 1])
def test_gradients_and_updates_by_hand(reading, trial):
    gradient = arrays(reading, trial).gradient
    expected = {"gradient_square": (gradient**2).sum(1).mean()}
    assert_columns(gradients(reading), trial, expected)

    def norm(tensor):
        return float(tensor[trial].double().norm())

    expected = {
        "weight_gradient_norm": norm(reading.weight_gradient),
        "update_ratio": norm(reading.update) / norm(reading.weight),
    }
    assert_columns(learning(reading), trial, expected)


@pytest.mark.parametrize("trial", [0, 1])
def test_saturation_of_selu_by_hand(reading, trial):
    # The slope of SELU falls below a tenth of its steepest at z = -log 10.
    share = float((reading.pre_activation[trial] < -2.302585).double().mean())
    assert_columns(saturation(reading), trial, {"saturated_share": share, "dead_share": 0})


def selu(t: float) -> float:
    return SELU_SCALE * (t if t > 0 else SELU_ALPHA * np.expm1(t))


def selu_moments(mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of selu(z) for Gaussian z, by adaptive integration."""
    sd = variance**0.5

    def moment(power: int) -> float:
        def integrand(t):
            return selu(t) ** power * scipy.stats.norm.pdf(t, mean, sd)

        return quad(integrand, mean - 12 * sd, mean + 12 * sd, points=[0.0], limit=200)[0]

    first = moment(1)
    return first, moment(2) - first**2


def test_the_ladder_agrees_with_scipy_integration(reading):
    """The predictions of every rung by adaptive integration, unit by unit."""
    data = arrays(reading, 0)
    mu, nu = data.x.mean(), data.x.var()
    omega, tau = data.w.sum(1), (data.w**2).sum(1)
    means = data.w @ data.x.mean(0) + data.b
    variances = output_variances(data.w, data.x)
    rungs = {
        "map": [(0.0, nu * tau.mean())] * 40,
        "weights": zip(mu * omega + data.b, nu * tau, strict=True),
        "moments": zip(means, variances, strict=True),
    }
    residuals = {"weights": "residual_map", "moments": "residual_unit"}
    columns = contraction(reading)
    unit_means = data.y.mean(0)
    unit_variances = data.y.var(0)
    for rung, arguments in rungs.items():
        mean, variance = np.array([selu_moments(m, v) for m, v in arguments]).T
        mean_error = (unit_means - mean) ** 2
        variance_error = (unit_variances - variance) ** 2
        expected = {
            f"ladder_mean_{rung}": np.sqrt(mean_error.mean()),
            f"ladder_variance_{rung}": np.sqrt(variance_error.mean()),
            f"ladder_{rung}": np.sqrt((mean_error + variance_error).mean()),
        }
        assert_columns(columns, 0, expected)
        if rung in residuals:
            relative = np.sort(abs(unit_variances - variance) / variance)
            # torch's median of 40 values is the lower of the middle two.
            assert_columns(columns, 0, {residuals[rung]: relative[19]}, rel=1e-4)
    q = tau.mean() * (nu + mu**2) + (data.b**2).mean()
    mean, variance = selu_moments(0.0, q)
    distance = np.hypot(data.y.mean() - mean, data.y.var() - variance)
    assert_columns(columns, 0, {"residual_pooled": distance})


def test_columns_in_float32_agree_with_the_same_reading_in_float64(reading):
    """Multiplying and sorting in float32 loses nothing that shows."""
    names = (
        "inputs",
        "pre_activation",
        "activation",
        "gradient",
        "weight",
        "weight_gradient",
        "update",
        "bias",
    )
    wide = dataclasses.replace(reading, **{name: getattr(reading, name).double() for name in names})
    single = measure([reading], FULL)[0]
    double = measure([wide], FULL)[0]
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


def test_a_spread_over_a_single_unit_is_not_a_number(dense, normal):
    x, w = normal(2, 50, 6, seed=1), normal(2, 1, 6, seed=2)
    reading = dense(x, w, nn.SELU(), bias=0.1 * normal(2, 1, seed=3))
    columns = weights(reading) | variance_law(reading) | mean_drive(reading)
    for name in ("omega_sd", "tau_sd", "unit_variance_cv", "mean_drive", "common_mean_drive"):
        assert columns[name].isnan().all(), name
    for name in ("omega_mean", "tau_mean", "tau_q50"):
        assert columns[name].isfinite().all(), name
