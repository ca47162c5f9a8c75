"""The weights against SELU's premise omega = 0 and tau = 1, unit by unit.

Klambauer et al. 2017, section "Normalization and SNNs".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, quantiles, unit_variance
from harness.probes.readings import LayerReading
from harness.probes.reductions import entry_moments, pooled, ratio
from harness.probes.statistic import statistic
from harness.theory.selu.theorems import THEOREM_1, THEOREMS


@statistic(
    cost="quick",
    columns={
        "omega_{mean,sd}": (
            "Mean and standard deviation over units of omega, the sum of a unit's weights; SELU's "
            "fixed point (0, 1) assumes 0 for every unit."
        ),
        "omega_{q05,q50,q95}": "5, 50 and 95 % quantiles over units of omega.",
        "tau_{mean,sd}": (
            "Mean and standard deviation over units of tau, the sum of a unit's squared weights; "
            "SELU's fixed point (0, 1) assumes 1 for every unit."
        ),
        "tau_{q05,q50,q95}": "5, 50 and 95 % quantiles over units of tau.",
    },
)
def weights(reading: LayerReading) -> Columns:
    """Returns the distribution over units of omega and tau."""
    columns = quantiles({"omega": reading.omega, "tau": reading.tau})
    for name, values in (("omega", reading.omega), ("tau", reading.tau)):
        columns[f"{name}_mean"] = values.mean(1)
        columns[f"{name}_sd"] = unit_variance(values).sqrt()
    return columns


@statistic(
    cost="quick",
    columns={
        "theorem_1_weight_share": (
            "Share of units whose omega and tau lie in the domain of Theorem 1: |omega| <= 0.1 and "
            "0.95 <= tau <= 1.1 (Klambauer et al. 2017)."
        ),
        "theorem_1_moment_share": (
            "Share of units whose activation has a mean and variance in the domain of Theorem 1: "
            "|mean| <= 0.1 and 0.8 <= variance <= 1.5."
        ),
        "theorem_1_share": "Share of units that meet all four conditions of Theorem 1.",
    },
)
def theorem_shares(reading: LayerReading) -> Columns:
    """Returns shares of units in Theorem 1's domain: by weights, by moments, and by both."""
    box = THEOREM_1.boxes[0]
    mean, variance = reading.activation_moments
    by_weights = _within(reading.omega, box.omega) & _within(reading.tau, box.tau)
    by_moments = inside_theorem_1(mean, variance)
    weights_finite = _nan_unless_finite(reading.omega, reading.tau)
    moments_finite = _nan_unless_finite(mean, variance)
    by_both = (by_weights & by_moments).double().mean(1)
    return {
        "theorem_1_weight_share": by_weights.double().mean(1) * weights_finite,
        "theorem_1_moment_share": by_moments.double().mean(1) * moments_finite,
        "theorem_1_share": by_both * weights_finite * moments_finite,
    }


def inside_theorem_1(mean: Tensor, variance: Tensor) -> Tensor:
    """True where (mean, variance) of an activation lie in Theorem 1's domain, elementwise."""
    box = THEOREM_1.boxes[0]
    return _within(mean, box.mu) & _within(variance, box.nu)


@statistic(
    cost="quick",
    columns={
        "theorem": (
            "The theorem of Klambauer et al. (2017) that covers the layer's (input_mean, "
            "input_variance, omega_mean, tau_mean): 1, 2, 3, or 0 for none."
        ),
    },
)
def theorem(reading: LayerReading) -> Columns:
    """Returns the number of the theorem that covers the layer, 0 for none.

    The theorems are about SELU fed by W x: any other activation, and a normalization in between,
    has none.
    """
    mu, nu = reading.input_moments
    omega = reading.omega.mean(1)
    tau = reading.tau.mean(1)
    number = torch.zeros_like(mu)
    if isinstance(reading.activation_module, nn.SELU) and reading.direct:
        for candidate in THEOREMS:
            for box in candidate.boxes:
                inside = _within(mu, box.mu) & _within(nu, box.nu)
                inside &= _within(omega, box.omega) & _within(tau, box.tau)
                number = torch.where(inside, float(candidate.number), number)
    finite = torch.isfinite(mu + nu + omega + tau)
    return {"theorem": torch.where(finite, number, torch.nan)}


@statistic(
    cost="quick",
    columns={
        "mean_drive": (
            "Effect of unequal means, measured: Var_i(m_i) / mean_i v_i with m_i = w_i . m and "
            "v_i = w_i' Sigma w_i, m and Sigma the mean and covariance of the inputs."
        ),
        "common_mean_drive": (
            "`mean_drive` if all inputs had one mean and variance: mu^2 Var(omega) / (nu mean tau)."
        ),
    },
)
def mean_drive(reading: LayerReading) -> Columns:
    """Returns the variance of units' means of W x, relative to their variance over samples."""
    if reading.direct:
        mean, variance = reading.pre_activation_moments
    else:
        mean, variance = pooled(entry_moments(reading.weights_output))
    mu, nu = reading.input_moments
    spread = mu.square() * unit_variance(reading.omega)
    return {
        "mean_drive": ratio(unit_variance(mean - reading.biases), variance.mean(1)),
        "common_mean_drive": ratio(spread, nu * reading.tau.mean(1)),
    }


def _nan_unless_finite(first: Tensor, second: Tensor) -> Tensor:
    """1 for trials in which all entries of both tensors (trials, units) are finite, else NaN."""
    return torch.where(torch.isfinite(first.sum(1) + second.sum(1)), 1.0, torch.nan)


def _within(values: Tensor, interval: tuple[float, float]) -> Tensor:
    return (values >= interval[0]) & (values <= interval[1])
