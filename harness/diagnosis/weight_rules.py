"""Rules of the lint on weights and biases of SELU layers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
import torch
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
from harness.networks.initializers import TRUNCATED_VARIANCE
from harness.networks.tracing.structure import Layer

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
# Layers after which mean and variance have settled.
_MANY_LAYERS = 200
# torch.nn.init.calculate_gain("selu") is 3/4 (pytorch #50664, #54055).
_TORCH_GAIN = 0.75
_LECUN = "torch.nn.init.kaiming_normal_(weight, nonlinearity='linear')"
DEFAULT_WEIGHTS = "default initialisation"
ZERO_WEIGHTS = "weights of zero"
TORCH_GAIN_WEIGHTS = "torch's gain 3/4 for SELU"
_OTHER_SCALE = "weights of another scale than 1 / fan_in"
# Laws of weights by name, with their tau and an upper bound of E w^4 / (E w^2)^2.
_LAWS = (
    ("raw truncated normal", TRUNCATED_VARIANCE, 2.6),
    (TORCH_GAIN_WEIGHTS, _TORCH_GAIN**2, 3.0),
    ("He initialisation on SELU", 2.0, 3.0),
)
_WRONG_LINES = {
    DEFAULT_WEIGHTS: "nn.Linear(n, m) as torch makes it",
    "raw truncated normal": "nn.init.trunc_normal_(weight, std=s, a=-2*s, b=2*s) with s = n**-0.5",
    TORCH_GAIN_WEIGHTS: "torch.nn.init.kaiming_normal_(weight, nonlinearity='selu')",
    "He initialisation on SELU": "torch.nn.init.kaiming_normal_(weight)",
    ZERO_WEIGHTS: "torch.nn.init.zeros_(weight)",
}
# A law is named where tau is that near to its own, in standard deviations and as a share.
_MOST_DEVIATIONS = 5.0
_NEAR = 0.2


def weight_scales(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for each kind of wrong weights: by their law, else by their scale."""
    by_law: dict[str, list[tuple[Layer, float]]] = {}
    for layer in layers:
        if layer.normalizations or not math.isfinite(float(layer.scale.tau.sum())):
            # A normalization undoes the scale of the weights.
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
            _consequence_of_law(law, tau, len(members)),
            _LECUN,
            _WRONG_LINES.get(law, ""),
        )


def weights_not_finite(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for weights or biases that are NaN or infinite."""
    affected: list[Layer] = []
    counts: list[int] = []
    for layer in layers:
        tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        count = sum(int((~torch.isfinite(tensor)).sum()) for tensor in tensors)
        if count:
            affected.append(layer)
            counts.append(count)
    if affected:
        yield Finding(
            "weights that are not finite",
            layer_labels(affected),
            f"{sum(counts)} weights or biases are no finite numbers, {counts[0]} of them in "
            f"{affected[0].label}",
            f"no output behind {affected[0].label} is a number, and nothing can be measured there",
            "go back to the last checkpoint before the divergence, with a lower learning rate: "
            "model.load_state_dict(torch.load(path))",
        )


def weight_law(layer: Layer) -> tuple[str | None, float]:
    """Returns what is wrong with the scale of a layer's weights, or None, and its mean tau."""
    count = layer.weight.numel()
    tau = float(layer.scale.tau.mean())
    if not math.isfinite(tau):
        return None, tau
    if layer.scale.largest == 0:
        return ZERO_WEIGHTS, tau
    largest = layer.scale.largest * math.sqrt(layer.columns)
    # So many Gaussian weights do not all lie within one standard deviation.
    too_many_for_chance = count * math.log(_WITHIN_ONE_DEVIATION) < math.log(_CHANCE)
    if largest <= 1 + 1e-5 and _DEFAULT_TAU[0] < tau < _DEFAULT_TAU[1] and too_many_for_chance:
        return DEFAULT_WEIGHTS, tau
    if _TAU[0] <= tau <= _TAU[1]:
        return None, tau
    # For Gaussian weights of the right scale, count * tau is chi-square with `count` degrees.
    probability = min(special.chdtr(count, tau * count), special.chdtrc(count, tau * count))
    if probability > _CHANCE:
        return None, tau
    return _nearest_law(tau, count, largest), tau


def _nearest_law(tau: float, count: int, largest: float) -> str:
    """Returns the name of the law whose tau is nearest, in standard deviations of a sample."""
    distances: dict[str, float] = {}
    for name, expected, kurtosis in _LAWS:
        deviation = expected * math.sqrt((kurtosis - 1) / count)
        distance = abs(tau - expected) / deviation
        near = abs(tau - expected) < _NEAR * expected
        if distance < _MOST_DEVIATIONS and near:
            distances[name] = distance
    if largest > 2 + 1e-5:
        distances.pop("raw truncated normal", None)
    return min(distances, key=distances.__getitem__, default=_OTHER_SCALE)


def biases(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for biases that move units out of Theorem 1's domain."""
    moved = [layer for layer in layers if _bias_matters(layer)]
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
        "torch.nn.init.zeros_(bias)",
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


def _consequence_of_law(law: str, tau: float, layers: int) -> str:
    if law == ZERO_WEIGHTS:
        return (
            "every sample leaves these layers with the same values, and no gradient reaches the "
            "layers before them"
        )
    text = _consequence_of_tau(tau, layers)
    if law == TORCH_GAIN_WEIGHTS:
        _, variance, _ = after_layers(_TORCH_GAIN**2, _MANY_LAYERS)
        text += (
            "; nonlinearity='selu' scales weights by 3/4, so that activations settle at a pooled "
            f"standard deviation of {math.sqrt(variance):.4f}"
        )
    return text


def _bias_matters(layer: Layer) -> bool:
    """Returns True for biases that move units, unless the weights' own finding is their cause."""
    if layer.normalizations or not math.isfinite(_bias_size(layer)):
        return False
    if _bias_size(layer) <= _BIAS:
        return False
    assert layer.bias is not None  # its size is above 0
    largest = float(layer.bias.abs().max()) * math.sqrt(layer.columns)
    return weight_law(layer)[0] != DEFAULT_WEIGHTS or largest > 1 + 1e-5


def _mean_square_bias(layer: Layer) -> float:
    return 0.0 if layer.bias is None else float(layer.bias.double().square().mean())


def _bias_size(layer: Layer) -> float:
    """Returns the root mean square of a layer's biases."""
    return 0.0 if layer.bias is None else float(layer.bias.double().square().mean().sqrt())
