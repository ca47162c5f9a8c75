"""The lint: names what in a network's structure and weights breaks SELU's conditions, what follows in numbers, and the fix.

A rule speaks only where the deviation is large enough to matter and, for weights, too large for chance: the mean of tau over a
layer is chi-square distributed for Gaussian weights, and a narrow layer of a clean network may miss 1 by much. Thresholds stand
below; consequences are computed from theory for the very layers that are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy
import torch
from scipy import special
from torch import Tensor

from harness.diagnosis.dropping import Dropped
from harness.diagnosis.structure import Layer, Structure
from harness.networks.initializers import TRUNCATED_VARIANCE
from harness.probes.positions import Geometry
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.networks.pooling import maximum_moments
from harness.theory.selu.moment_map import ALPHA, LAMBDA

# tau may differ from 1 by so much (Theorems 2 and 3 of Klambauer et al. 2017), and by what chance explains.
TAU = (0.8, 1.25)
CHANCE = 1e-6
# The root mean square bias that moves units by half of Theorem 1's interval of means.
BIAS = 0.05
# The share of a kernel's taps that is left on average where zeros surround a small map: 10 x 10 for a 3 x 3 kernel.
LIVE_TAPS = 0.87
# A sum of skip and branch may have so many times the skip's mean square.
RESIDUAL_GROWTH = 1.5
# Pooled mean and variance of standardised inputs; per-pixel standardised images have a variance below 1, the share of pixels that vary.
INPUT_MEAN, INPUT_VARIANCE = 0.25, (0.5, 2.0)

_SELU = activation("selu")
# Below the first tau the variance dies out with depth, above the second it has no fixed point.
_VANISHES, _DIVERGES = 2 / (LAMBDA**2 * (1 + ALPHA**2)), 2 / LAMBDA**2
# Per layer, the correlation of two samples decays by (E selu')^2 at the fixed point.
_CORRELATION_SLOPE = float(quadrature.slope_mean(_SELU, 0.0, 1.0)) ** 2


@dataclass(frozen=True)
class Finding:
    """One violated rule: which layers, what was found, what follows, and what to do."""

    rule: str
    layers: tuple[str, ...]
    found: str
    consequence: str
    fix: str


@dataclass(frozen=True)
class InputFacts:
    """Pooled mean and variance of the model's inputs, and the mean cosine of different samples."""

    mean: float
    variance: float
    cosine: float

    @classmethod
    def of(cls, inputs: Tensor) -> InputFacts | None:
        """The facts of inputs (samples, ...); None where they are whole numbers, such as tokens."""
        if not inputs.is_floating_point():
            return None
        total, norms = torch.zeros(inputs[0].numel(), dtype=torch.float64, device=inputs.device), 0
        moments = numpy.zeros(2)
        for sample in inputs.flatten(1):
            values = sample.double()
            moments += [float(values.mean()), float(values.square().mean())]
            norm = float(values.norm())
            if norm > 0:
                total += values / norm
                norms += 1
        mean, square = moments / len(inputs)
        cosine = (
            (float(total.square().sum()) - norms) / (norms * (norms - 1)) if norms > 1 else math.nan
        )
        return cls(mean, square - mean**2, cosine)


def lint(
    structure: Structure, inputs: InputFacts | None, dropped: Sequence[Dropped] | None = None
) -> list[Finding]:
    """All findings, those on inputs first, then in the order of the rules. The rules on layers speak of SELU layers only.

    `dropped`: each activated layer as measured with dropout acting, to be said beside what theory expects.
    """
    selus = [layer for layer in structure.activated if layer.activation == "selu"]
    found = list(_inputs(structure, inputs, bool(selus)))
    found += _normalizations(selus)
    found += _dropouts(selus, dict(zip(structure.activated, dropped or ())))
    for rule in _RULES:
        found += rule(selus)
    if selus:
        found += _residuals(structure)
    return found


def _inputs(structure: Structure, facts: InputFacts | None, any_selu: bool) -> Iterator[Finding]:
    if facts is None or (
        abs(facts.mean) <= INPUT_MEAN and INPUT_VARIANCE[0] <= facts.variance <= INPUT_VARIANCE[1]
    ):
        return
    first = next((layer for layer in structure.layers if layer.first), structure.layers[0])
    said = [f"the variance enters at {facts.variance:.3g} instead of 1"]
    if any_selu:
        depth = _recovery(facts)
        said = [
            f"the variance enters at {facts.variance:.3g} and is back in [0.8, 1.5] after {depth} SELU layers"
            if depth is not None
            else f"the variance enters at {facts.variance:.3g} and is not back in [0.8, 1.5] within 100 SELU layers"
        ]
        if facts.cosine > 0.1:
            half = math.log(0.5) / math.log(_CORRELATION_SLOPE)
            said.append(
                f"samples enter with mean cosine {facts.cosine:.2f}, which SELU layers halve in no less than {half:.0f} layers: units keep means of their own for that long"
            )
    yield Finding(
        "inputs not standardised",
        (first.label,),
        f"the model's inputs have mean {facts.mean:.3g} and variance {facts.variance:.3g}",
        "; ".join(said),
        "standardise the inputs to mean 0 and variance 1 with the statistics of the training data",
    )


def _recovery(facts: InputFacts) -> int | None:
    """Layers with tau = 1 until the pooled variance lies in Theorem 1's interval."""
    q = facts.variance + facts.mean**2
    for depth in range(1, 101):
        mean, variance = quadrature.moments(_SELU, 0.0, q)
        if 0.8 <= variance <= 1.5:
            return depth
        q = float(variance + mean**2)
    return None


def _normalizations(selus: list[Layer]) -> Iterator[Finding]:
    bad = [layer for layer in selus if layer.normalizations]
    if bad:
        kinds = ", ".join(sorted({kind for layer in bad for kind in layer.normalizations}))
        gain = float(quadrature.slope_square(_SELU, 0.0, 1.0))
        yield Finding(
            "normalization before SELU",
            _names(bad),
            f"{kinds} normalization between weights and SELU",
            f"the activation's input has variance 1 whatever the weights, so that SELU's own fixed point does nothing; gradients still grow, squared by {gain:.4f} a layer"
            + (f" and {gain ** len(bad):.3g} over these {len(bad)}" if len(bad) > 1 else ""),
            "drop the normalization, or keep it and use ReLU",
        )


def _dropouts(selus: list[Layer], dropped: dict[Layer, Dropped]) -> Iterator[Finding]:
    bad = [
        (layer, dropout.rate)
        for layer in selus
        for dropout in layer.dropouts
        if dropout.kind == "standard"
    ]
    if bad:
        rate = max(rate for _, rate in bad)
        mean, variance, _ = _followed(1 / (1 - rate), 100)
        now = (
            f"at the fixed point activations have mean {mean:.3g} and variance {variance:.3g} instead of 0 and 1"
            if 1 / (1 - rate) < _DIVERGES
            else "there is no fixed point: the variance grows with every layer"
        )
        yield Finding(
            "Dropout where AlphaDropout belongs",
            _names([layer for layer, _ in bad]),
            f"Dropout with rate {rate:g} behind SELU",
            f"in training the mean square of what the next layer gets is {1 / (1 - rate):.3g} times as large; where every layer does so, {now}{_with_dropout([layer for layer, _ in bad], dropped)}",
            f"AlphaDropout({rate:g}), which keeps mean 0 and variance 1",
        )


def _with_dropout(bad: list[Layer], dropped: dict[Layer, Dropped]) -> str:
    """What was measured with dropout acting, at the last of these layers whose dropout did act."""
    layer, one = next(
        (
            (layer, dropped[layer])
            for layer in reversed(bad)
            if layer in dropped and dropped[layer].growth is not None
        ),
        (None, None),
    )
    if one is None:
        return ""
    return f"; measured with dropout acting: {one.growth:.3g} times as large behind {layer.label}, with mean {one.mean:.3g} and variance {one.variance:.3g}"


def _scales(selus: list[Layer]) -> Iterator[Finding]:
    """One finding for each kind of wrong weights: by the law that they show, else by their scale."""
    by_law: dict[str, list[tuple[Layer, float]]] = {}
    for layer in selus:
        if layer.normalizations:
            continue  # what the weights' scale does is undone
        law, tau = weight_law(layer)
        if law is not None:
            by_law.setdefault(law, []).append((layer, tau))
    for law, members in by_law.items():
        layers, taus = [layer for layer, _ in members], [tau for _, tau in members]
        tau = float(numpy.median(taus))
        mean, variance, gain = _followed(tau, len(layers))
        words = f"each layer has tau = {tau:.3g} where SELU needs 1: from variance 1 the activations of {'one such layer' if len(layers) == 1 else f'{len(layers)} such layers'} reach {_sized(variance)} (mean {mean:.3g})"
        words += f", squared gradients change by {gain ** len(layers):.3g} on the way back" + (
            "; no theorem covers this, and the variance has no fixed point"
            if tau >= _DIVERGES
            else ""
        )
        words += (
            f"; below tau = {_VANISHES:.4f} the signal dies out with depth"
            if tau < _VANISHES
            else ""
        )
        yield Finding(
            law,
            _names(layers),
            f"mean sum of squared weights {tau:.4g}",
            words,
            "LeCun normal weights: torch.nn.init.kaiming_normal_(weight, nonlinearity='linear')",
        )


def weight_law(layer: Layer) -> tuple[str | None, float]:
    """What is wrong with the scale of a layer's weights, None where nothing is, and its mean tau."""
    numbers, tau = layer.weight.numel(), float(layer.scale.tau.mean())
    if not math.isfinite(tau):
        return None, tau
    largest = layer.scale.largest * math.sqrt(layer.fan_in)
    if largest <= 1 + 1e-5 and 0.25 < tau < 0.45 and numbers * math.log(0.6827) < math.log(CHANCE):
        return "default initialisation", tau
    if (
        TAU[0] <= tau <= TAU[1]
        or min(special.chdtr(numbers, tau * numbers), special.chdtrc(numbers, tau * numbers))
        > CHANCE
    ):
        return None, tau
    if largest <= 2 + 1e-5 and abs(tau - TRUNCATED_VARIANCE) < 5 * math.sqrt(1.6 / numbers):
        return "raw truncated normal", tau
    if abs(tau - 2) < max(0.1, 5 * 2 * math.sqrt(2 / numbers)):
        return "He initialisation on SELU", tau
    return "weights of another scale than 1 / fan_in", tau


def _biases(selus: list[Layer]) -> Iterator[Finding]:
    moved = [
        (layer, layer.bias.double())
        for layer in selus
        if layer.bias is not None
        and not layer.normalizations
        and float(layer.bias.double().square().mean().sqrt()) > BIAS
    ]
    if moved:
        layer, bias = max(moved, key=lambda pair: float(pair[1].square().mean()))
        mean, spread = float(bias.mean()), float(bias.var(correction=0))
        mu, nu = 0.0, 1.0
        for _ in range(200):
            mu, nu = (float(part) for part in quadrature.moments(_SELU, mean, nu + spread))
        yield Finding(
            "non-zero bias",
            _names([layer for layer, _ in moved]),
            f"biases up to a root mean square of {float(bias.square().mean().sqrt()):.3g} (mean {mean:.3g}) in {layer.label}",
            f"each unit's mean moves by about {float(quadrature.slope_mean(_SELU, 0.0, 1.0)):.3f} times its bias; with tau = 1 the fixed point of mean and variance moves from (0, 1) to ({mu:.4g}, {nu:.4g})"
            + ("" if abs(mu) <= 0.1 and 0.8 <= nu <= 1.5 else ", outside Theorem 1's domain"),
            "begin with biases of 0: torch.nn.init.zeros_(bias)",
        )


def _max_pools(selus: list[Layer]) -> Iterator[Finding]:
    bad = [(layer, pool) for layer in selus for pool in layer.pools if pool.kind == "max"]
    if bad:
        size = max(pool.size for _, pool in bad)
        entries = min(size, 16) ** 2 if size else 256
        mean, square, _ = (float(part) for part in maximum_moments(_SELU, 1.0, 0.0, entries))
        variance = square - mean**2
        rank = "whole maps" if size == 0 else f"{size} x {size}"
        yield Finding(
            "max-pooling",
            _names([layer for layer, _ in bad]),
            f"max-pooling over {rank} at SELU",
            f"the largest of {entries} independent activations has mean {mean:.3f} and variance {variance:.3f} instead of 0 and 1 (less for neighbours that are alike): "
            f"{mean**2 / (mean**2 + variance):.0%} of what enters the next layer is a common mean",
            "average-pooling or a strided convolution",
        )


def _paddings(selus: list[Layer]) -> Iterator[Finding]:
    bad = []
    for layer in selus:
        if layer.kind in ("conv1d", "conv2d") and layer.padded:
            live = Geometry(layer.convolution, *layer.map_size).live[0].double().mean(0)
            if float(live.mean()) < LIVE_TAPS:
                bad.append((layer, live))
    if bad:
        layer, live = min(bad, key=lambda pair: float(pair[1].mean()))
        share, corner = float(live.mean()), float(live.min())
        _, variance, _ = _followed(share, 100)
        yield Finding(
            "zero padding on small maps",
            _names([layer for layer, _ in bad]),
            f"zeros around maps of {' x '.join(map(str, layer.map_size))} in {layer.label}",
            f"{share:.1%} of the taps see an image on average and {corner:.1%} in the corners, so that tau acts as {share:.3g} and {corner:.3g} of itself; at tau = {share:.3g} the variance settles at {_sized(variance)}",
            "padding_mode='circular' or 'reflect', or fewer padded layers on small maps",
        )


def _residuals(structure: Structure) -> Iterator[Finding]:
    bad = [
        (one, one.total / one.skip)
        for one in structure.sums
        if one.skip > 0 and one.total / one.skip > RESIDUAL_GROWTH
    ]
    if bad:
        typical = float(numpy.median([growth for _, growth in bad]))
        yield Finding(
            "unscaled residual",
            _names([one.layer for one, _ in bad]),
            f"{len(bad)} sums whose mean square is {typical:.3g} times that of the skip",
            f"the mean square grows by {typical:.3g} a block"
            + (f" and by {typical ** len(bad):.3g} over these {len(bad)}" if len(bad) > 1 else "")
            + ", away from 1",
            "weight skip and branch with factors whose squares sum to 1, for example both with 0.7071",
        )


_RULES: tuple[Callable[[list[Layer]], Iterator[Finding]], ...] = (
    _scales,
    _biases,
    _max_pools,
    _paddings,
)


def _followed(tau: float, layers: int) -> tuple[float, float, float]:
    """Mean and variance behind so many SELU layers of weights of this tau from inputs of mean square 1, and the mean gain a layer of squared gradients."""
    q, log_gain, mean, variance = tau, 0.0, 0.0, 1.0
    for done in range(1, layers + 1):
        log_gain += math.log(tau * float(quadrature.slope_square(_SELU, 0.0, q)))
        mean, variance = (float(part) for part in quadrature.moments(_SELU, 0.0, q))
        q = tau * (variance + mean**2)
        if not 1e-30 < q < 1e30:
            return mean, 0.0 if q < 1 else math.inf, math.exp(log_gain / done)
    return mean, variance, math.exp(log_gain / layers)


def _sized(variance: float) -> str:
    return f"variance {variance:.3g}" if math.isfinite(variance) else "no finite variance"


def _names(layers: list[Layer]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.label for layer in layers))
