"""The weights against SELU's assumption omega = 0 and tau = 1, unit by unit (Klambauer et al. 2017, section "Normalization and SNNs")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.probes.columns import Columns, quantiles
from harness.probes.readings import LayerReading, entry_moments, pooled
from harness.theory.selu.theorems import THEOREM_1, THEOREMS


def weights(reading: LayerReading) -> Columns:
    """Over units: omega (the sum of a unit's weights) and tau (the sum of their squares)."""
    columns = quantiles({"omega": reading.omega, "tau": reading.tau})
    for name, values in (("omega", reading.omega), ("tau", reading.tau)):
        columns |= {f"{name}_mean": values.mean(1), f"{name}_sd": values.std(1, correction=0)}
    return columns


def theorem_shares(reading: LayerReading) -> Columns:
    """Shares of units in Theorem 1's domain: by (omega, tau), by the unit's own activation mean and variance, and by all four."""
    box = THEOREM_1.boxes[0]
    mean, variance = reading.activation_moments
    of_weights = _within(reading.omega, box.omega) & _within(reading.tau, box.tau)
    of_moments = inside_theorem_1(mean, variance)
    known_weights, known_moments = (
        torch.where(torch.isfinite(a.sum(1) + b.sum(1)), 1.0, torch.nan)
        for a, b in ((reading.omega, reading.tau), (mean, variance))
    )
    return {
        "theorem_1_weight_share": of_weights.double().mean(1) * known_weights,
        "theorem_1_moment_share": of_moments.double().mean(1) * known_moments,
        "theorem_1_share": (of_weights & of_moments).double().mean(1)
        * known_weights
        * known_moments,
    }


def inside_theorem_1(mean: Tensor, variance: Tensor) -> Tensor:
    """Which (mean, variance) of activations lie in Theorem 1's domain, elementwise."""
    box = THEOREM_1.boxes[0]
    return _within(mean, box.mu) & _within(variance, box.nu)


def theorem(reading: LayerReading) -> Columns:
    """Which theorem covers the layer by its inputs' pooled (mu, nu) and its mean (omega, tau): 1, 2, 3, or 0 for none.

    The theorems are about SELU fed by W x: any other activation, and a normalization in between, has none.
    """
    mu, nu = reading.input_moments
    omega, tau = reading.omega.mean(1), reading.tau.mean(1)
    number = torch.zeros_like(mu)
    if isinstance(reading.activation_module, nn.SELU) and reading.direct:
        for one in THEOREMS:
            for box in one.boxes:
                inside = (
                    _within(mu, box.mu)
                    & _within(nu, box.nu)
                    & _within(omega, box.omega)
                    & _within(tau, box.tau)
                )
                number = torch.where(inside, float(one.number), number)
    return {"theorem": torch.where(torch.isfinite(mu + nu + omega + tau), number, torch.nan)}


def mean_drive(reading: LayerReading) -> Columns:
    """What unequal means do to units: Var_i(m_i) / mean_i v_i with m_i = w_i . m and v_i = w_i' Sigma w_i, measured.

    `common_mean_drive` is what it would be if all inputs had one mean and variance: mu^2 Var(omega) / (nu mean tau).
    """
    mean, variance = (
        reading.pre_activation_moments
        if reading.direct
        else pooled(entry_moments(reading.weights_output))
    )
    mu, nu = reading.input_moments
    return {
        "mean_drive": (mean - reading.biases).var(1, correction=0) / variance.mean(1),
        "common_mean_drive": mu.square()
        * reading.omega.var(1, correction=0)
        / (nu * reading.tau.mean(1)),
    }


def _within(values: Tensor, interval: tuple[float, float]) -> Tensor:
    return (values >= interval[0]) & (values <= interval[1])
