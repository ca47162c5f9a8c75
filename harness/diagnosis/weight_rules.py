"""Rules of the lint on weights and biases of SELU layers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
from scipy import special

from harness.diagnosis.findings import Finding, layer_labels
from harness.diagnosis.selu_depth import (
    DIVERGING_TAU,
    MEAN_SLOPE,
    VANISHING_TAU,
    after_layers,
    in_theorem_1_domain,
    selu_moments,
    variance_text,
)
from harness.diagnosis.structure import Layer
from harness.networks.initializers import TRUNCATED_VARIANCE

# Deviations of tau from 1 that do not matter (Theorems 2 and 3 of Klambauer et al. 2017).
_TAU = (0.8, 1.25)
# Probability below which a deviation is no chance.
_CHANCE = 1e-6
# The root mean square bias that moves units by half of Theorem 1's interval of means.
_BIAS = 0.05
# Torch's default law: weights uniform in +-1 / sqrt(fan_in), so that tau = 1 / 3.
_DEFAULT_TAU = (0.25, 0.45)
# Share of a Gaussian within one standard deviation.
_WITHIN_ONE_DEVIATION = 0.6827
_FIXED_POINT_STEPS = 200


def weight_scales(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for each kind of wrong weights: by their law, else by their scale."""
    by_law: dict[str, list[tuple[Layer, float]]] = {}
    for layer in layers:
        if layer.normalizations:
            # The normalization undoes the scale of the weights.
            continue
        law, tau = weight_law(layer)
        if law is not None:
            by_law.setdefault(law, []).append((layer, tau))
    for law, members in by_law.items():
        tau = float(numpy.median([tau for _, tau in members]))
        yield Finding(
            law,
            layer_labels(layer for layer, _ in members),
            f"mean sum of squared weights {tau:.4g}",
            _consequence_of_tau(tau, len(members)),
            "LeCun normal weights: torch.nn.init.kaiming_normal_(weight, nonlinearity='linear')",
        )


def weight_law(layer: Layer) -> tuple[str | None, float]:
    """Returns what is wrong with the scale of a layer's weights, or None, and its mean tau."""
    count = layer.weight.numel()
    tau = float(layer.scale.tau.mean())
    if not math.isfinite(tau):
        return None, tau
    largest = layer.scale.largest * math.sqrt(layer.fan_in)
    # So many Gaussian weights do not all lie within one standard deviation.
    too_many_for_chance = count * math.log(_WITHIN_ONE_DEVIATION) < math.log(_CHANCE)
    if largest <= 1 + 1e-5 and _DEFAULT_TAU[0] < tau < _DEFAULT_TAU[1] and too_many_for_chance:
        return "default initialisation", tau
    if _TAU[0] <= tau <= _TAU[1]:
        return None, tau
    # For Gaussian weights of the right scale, count * tau is chi-square with `count` degrees.
    probability = min(special.chdtr(count, tau * count), special.chdtrc(count, tau * count))
    if probability > _CHANCE:
        return None, tau
    if largest <= 2 + 1e-5 and abs(tau - TRUNCATED_VARIANCE) < 5 * math.sqrt(1.6 / count):
        return "raw truncated normal", tau
    if abs(tau - 2) < max(0.1, 5 * 2 * math.sqrt(2 / count)):
        return "He initialisation on SELU", tau
    return "weights of another scale than 1 / fan_in", tau


def biases(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for biases that move units out of Theorem 1's domain."""
    moved = [layer for layer in layers if not layer.normalizations and _bias_size(layer) > _BIAS]
    if not moved:
        return
    layer = max(moved, key=_mean_square_bias)
    assert layer.bias is not None  # its size is above 0
    bias = layer.bias.double()
    mean = float(bias.mean())
    spread = float(bias.var(correction=0))
    mu, nu = 0.0, 1.0
    for _ in range(_FIXED_POINT_STEPS):
        mu, nu = selu_moments(mean, nu + spread)
    outside = "" if in_theorem_1_domain(mu, nu) else ", outside Theorem 1's domain"
    yield Finding(
        "non-zero bias",
        layer_labels(moved),
        f"biases up to a root mean square of {_bias_size(layer):.3g} (mean {mean:.3g}) in "
        f"{layer.label}",
        f"each unit's mean moves by about {MEAN_SLOPE:.3f} times its bias; with tau = 1 the fixed "
        f"point of mean and variance moves from (0, 1) to ({mu:.4g}, {nu:.4g}){outside}",
        "begin with biases of 0: torch.nn.init.zeros_(bias)",
    )


def _consequence_of_tau(tau: float, layers: int) -> str:
    mean, variance, gain = after_layers(tau, layers)
    which = "one such layer" if layers == 1 else f"{layers} such layers"
    parts = [
        f"each layer has tau = {tau:.3g} where SELU needs 1: from variance 1 the activations of "
        f"{which} reach {variance_text(variance)} (mean {mean:.3g}), squared gradients change by "
        f"{gain**layers:.3g} on the way back"
    ]
    if tau >= DIVERGING_TAU:
        parts.append("no theorem covers this, and the variance has no fixed point")
    if tau < VANISHING_TAU:
        parts.append(f"below tau = {VANISHING_TAU:.4f} the signal dies out with depth")
    return "; ".join(parts)


def _mean_square_bias(layer: Layer) -> float:
    return 0.0 if layer.bias is None else float(layer.bias.double().square().mean())


def _bias_size(layer: Layer) -> float:
    """Returns the root mean square of a layer's biases."""
    return 0.0 if layer.bias is None else float(layer.bias.double().square().mean().sqrt())
