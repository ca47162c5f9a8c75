"""Rules of the lint on inputs and on what stands around SELU layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy
from torch import Tensor

from harness.diagnosis.dropout_pass import DropoutMeasurement
from harness.diagnosis.findings import Finding, layer_labels
from harness.diagnosis.selu_depth import (
    DIVERGING_TAU,
    MEAN_SLOPE,
    MEAN_SQUARED_SLOPE,
    SELU,
    VARIANCES,
    after_layers,
    layers_to_recover,
    moments_after,
    selu_moments,
    variance_text,
)
from harness.networks.tracing.input_statistics import InputStatistics
from harness.networks.tracing.recognition import Recognised, is_meant_as_selu
from harness.networks.tracing.structure import Dropout, Layer, Pool, Structure
from harness.probes.positions import Geometry
from harness.theory.activations.functions import activation
from harness.theory.networks.pooling import maximum_moments
from harness.theory.selu.moment_map import ALPHA, LAMBDA

# Pooled mean and variance of standardised inputs. Images standardised pixel by pixel have a
# variance below 1: the share of pixels that vary.
_LARGEST_INPUT_MEAN = 0.25
_INPUT_VARIANCES = (0.5, 2.0)
# The mean cosine of two inputs from which on it is worth a sentence.
_NOTABLE_COSINE = 0.1
# The share of a kernel's taps that is left on average where zeros surround a small map: 10 x 10 for
# a 3 x 3 kernel.
_LIVE_TAPS = 0.87
# A sum of skip and branch may have this many times the skip's mean square.
_RESIDUAL_GROWTH = 1.5
# Most positions of a pooling window whose maximum is computed.
_MOST_POOL_ENTRIES = 256
# A variance that quadrature takes for none.
_NO_VARIANCE = 1e-12
# As many layers as a fixed point takes.
_MANY_LAYERS = 100


def model_inputs(
    structure: Structure, inputs: InputStatistics | None, any_selu: bool
) -> Iterator[Finding]:
    """Yields a finding for inputs that are not standardised."""
    if inputs is not None and structure.entering is not None:
        # The model changes its inputs first: what enters the weights counts.
        inputs = structure.entering
    if inputs is None or _is_standardised(inputs):
        return
    first = next(
        (layer for layer in structure.layers if layer.reads_model_input), structure.layers[0]
    )
    what = "the model's inputs have"
    if first.input_function is not None:
        what = f"what enters the first weights (after {first.input_function}) has"
    yield Finding(
        "inputs not standardised",
        (first.label,),
        f"{what} mean {inputs.mean:.3g} and variance {inputs.variance:.3g}",
        _consequence_of_inputs(inputs, any_selu),
        "x = (x - training_inputs.mean()) / training_inputs.std()",
    )


def _is_standardised(inputs: InputStatistics) -> bool:
    low, high = _INPUT_VARIANCES
    return abs(inputs.mean) <= _LARGEST_INPUT_MEAN and low <= inputs.variance <= high


def _consequence_of_inputs(inputs: InputStatistics, any_selu: bool) -> str:
    entering = f"the variance enters at {inputs.variance:.3g}"
    if not any_selu:
        return f"{entering} instead of 1"
    layers = layers_to_recover(inputs.mean, inputs.variance)
    domain = f"[{VARIANCES[0]:g}, {VARIANCES[1]:g}]"
    if layers is None:
        text = f"{entering} and is not back in {domain} within 100 SELU layers"
    else:
        text = f"{entering} and is back in {domain} after {layers} SELU layers"
    if inputs.cosine > _NOTABLE_COSINE:
        # A layer multiplies the correlation of two samples by (E selu')^2 at most.
        halving = math.log(0.5) / math.log(MEAN_SLOPE**2)
        text += (
            f"; samples enter with mean cosine {inputs.cosine:.2f}, which SELU layers halve in no "
            f"less than {halving:.0f} layers: units keep means of their own for that long"
        )
    return text


def normalizations(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for normalizations between weights and SELU."""
    normalized = [layer for layer in layers if layer.normalizations]
    if not normalized:
        return
    kinds: set[str] = set()
    for layer in normalized:
        kinds.update(layer.normalizations)
    over_all = ""
    if len(normalized) > 1:
        growth = MEAN_SQUARED_SLOPE ** len(normalized)
        over_all = f" and {growth:.3g} over these {len(normalized)}"
    yield Finding(
        "normalization before SELU",
        layer_labels(normalized),
        f"{', '.join(sorted(kinds))} normalization between weights and SELU",
        "the activation's input has variance 1 whatever the weights, so that SELU's own fixed "
        f"point does nothing; gradients still grow, squared by {MEAN_SQUARED_SLOPE:.4f} a layer"
        f"{over_all}",
        "nn.Sequential(nn.Linear(n, m), nn.SELU()) without the normalization, or keep it with "
        "nn.ReLU()",
        "nn.Sequential(nn.Linear(n, m), nn.BatchNorm1d(m), nn.SELU())",
    )


def dropouts(
    layers: list[Layer], measured: Mapping[Layer, DropoutMeasurement]
) -> Iterator[Finding]:
    """Yields a finding for standard dropout after SELU.

    `measured`: what each layer was measured to do with dropout acting, as far as it was.
    """
    affected: list[Layer] = []
    rates: list[float] = []
    for layer in layers:
        for dropout in layer.dropouts:
            if dropout.kind == "standard" and not dropout.before_activation:
                affected.append(layer)
                rates.append(dropout.rate)
    if not affected:
        return
    rate = max(rates)
    growth = 1 / (1 - rate)
    yield Finding(
        "Dropout where AlphaDropout belongs",
        layer_labels(affected),
        f"Dropout with rate {rate:g} after SELU",
        f"in training the mean square of what the next layer gets is {growth:.3g} times as large; "
        f"where every layer does so, {_limit_with_dropout(growth)}"
        f"{_measured_with_dropout(affected, measured)}",
        f"nn.AlphaDropout({rate:g}), which keeps mean 0 and variance 1",
        f"nn.Dropout({rate:g})",
    )


def dropouts_before_selu(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for dropout between the weights and SELU."""
    affected: list[Layer] = []
    dropouts: list[Dropout] = []
    for layer in layers:
        for dropout in layer.dropouts:
            if dropout.before_activation:
                affected.append(layer)
                dropouts.append(dropout)
    if not affected:
        return
    dropout = max(dropouts, key=lambda candidate: candidate.rate)
    mean, variance = _after_dropped(dropout)
    name = "AlphaDropout" if dropout.kind == "alpha" else "Dropout"
    yield Finding(
        "dropout before SELU",
        layer_labels(affected),
        f"{name} with rate {dropout.rate:g} between the weights and SELU",
        f"in training SELU gets no Gaussian: of a standard normal z it makes mean {mean:.3g} and "
        f"variance {variance:.3g} instead of 0 and 1",
        f"nn.Sequential(nn.Linear(n, m), nn.SELU(), nn.AlphaDropout({dropout.rate:g}))",
        f"nn.Sequential(nn.Linear(n, m), nn.{name}({dropout.rate:g}), nn.SELU())",
    )


def _after_dropped(dropout: Dropout) -> tuple[float, float]:
    """Returns mean and variance of SELU of a standard normal that a dropout acted on."""
    keep = 1.0 - dropout.rate
    if dropout.kind == "alpha":
        floor = -ALPHA * LAMBDA
        factor = (keep * (1.0 + dropout.rate * floor**2)) ** -0.5
        shift = -factor * dropout.rate * floor
        kept = (shift, factor**2)
        dropped = selu_moments(factor * floor + shift, _NO_VARIANCE)[0]
    else:
        kept = (0.0, 1.0 / keep**2)
        dropped = 0.0
    mean_kept, variance_kept = selu_moments(*kept)
    mean = keep * mean_kept + dropout.rate * dropped
    square = keep * (variance_kept + mean_kept**2) + dropout.rate * dropped**2
    return mean, square - mean**2


def other_constants(structure: Structure) -> Iterator[Finding]:
    """Yields a finding for activations that are meant as SELU and have other constants."""
    by_constants: dict[tuple[float, float], list[Layer]] = {}
    for layer in structure.activated:
        recognised = Recognised(layer.activation or "", layer.options)
        if layer.activation in ("elu", "scaled_elu") and is_meant_as_selu(recognised):
            alpha = round(layer.options.get("alpha", 1.0), 4)
            scale = round(layer.options.get("scale", 1.0), 4)
            by_constants.setdefault((alpha, scale), []).append(layer)
    for (alpha, scale), layers in by_constants.items():
        function = activation("selu", alpha=alpha, lam=scale)
        mean, variance = moments_after(function, _MANY_LAYERS)
        yield Finding(
            "SELU with other constants",
            layer_labels(layers),
            f"scale {scale:g} and alpha {alpha:g} where SELU has {LAMBDA:.4f} and {ALPHA:.4f}",
            f"with tau = 1 activations settle at mean {mean:.3g} and {variance_text(variance)} "
            "instead of 0 and 1",
            "torch.nn.SELU()",
            f"{scale:g} * torch.nn.functional.elu(x, {alpha:g})",
        )


def _limit_with_dropout(growth: float) -> str:
    if growth >= DIVERGING_TAU:
        return "there is no fixed point: the variance grows with every layer"
    mean, variance, _ = after_layers(growth, _MANY_LAYERS)
    return (
        f"at the fixed point activations have mean {mean:.3g} and variance {variance:.3g} instead "
        "of 0 and 1"
    )


def _measured_with_dropout(
    layers: list[Layer], measured: Mapping[Layer, DropoutMeasurement]
) -> str:
    """Returns the measurement at the last of these layers whose dropout acted, or ""."""
    for layer in reversed(layers):
        measurement = measured.get(layer)
        if measurement is not None and measurement.growth is not None:
            return (
                f"; measured with dropout acting: {measurement.growth:.3g} times as large after "
                f"{layer.label}, with mean {measurement.mean:.3g} and variance "
                f"{measurement.variance:.3g}"
            )
    return ""


def max_pools(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for max-pooling, which gives activations a common mean."""
    pooled: list[Layer] = []
    pools: list[Pool] = []
    for layer in layers:
        for pool in layer.pools:
            if pool.kind == "max":
                pooled.append(layer)
                pools.append(pool)
    if not pooled:
        return
    largest = max(pools, key=lambda pool: pool.entries)
    entries = min(largest.entries, _MOST_POOL_ENTRIES)
    mean, square, _ = (float(part) for part in maximum_moments(SELU, 1.0, 0.0, entries))
    variance = square - mean**2
    windows = "whole maps" if largest.whole else " x ".join(map(str, largest.window))
    common_share = mean**2 / (mean**2 + variance)
    yield Finding(
        "max-pooling",
        layer_labels(pooled),
        f"max-pooling over {windows} at SELU",
        f"the largest of {entries} independent activations has mean {mean:.3f} and variance "
        f"{variance:.3f} instead of 0 and 1 (less for similar neighbours): "
        f"{common_share:.0%} of what enters the next layer is a common mean",
        "nn.AvgPool2d(n), or a convolution with stride=n",
        "nn.MaxPool2d(n)",
    )


def zero_padding(layers: list[Layer]) -> Iterator[Finding]:
    """Yields a finding for zeros around maps so small that many windows see them."""
    affected: list[tuple[Layer, tuple[int, int], Tensor]] = []
    for layer in layers:
        if layer.convolution is not None and layer.map_size is not None and layer.padded:
            geometry = Geometry(layer.convolution, *layer.map_size)
            live = geometry.live[0].double().mean(0)
            if float(live.mean()) < _LIVE_TAPS:
                affected.append((layer, layer.map_size, live))
    if not affected:
        return
    layer, map_size, live = min(affected, key=lambda entry: float(entry[-1].mean()))
    share = float(live.mean())
    corner = float(live.min())
    _, variance, _ = after_layers(share, _MANY_LAYERS)
    yield Finding(
        "zero padding on small maps",
        layer_labels(layer for layer, *_ in affected),
        f"zeros around maps of {' x '.join(map(str, map_size))} in {layer.label}",
        f"{share:.1%} of the taps see an image on average and {corner:.1%} in the corners, so that "
        f"tau acts as {share:.3g} and {corner:.3g} of itself; at tau = {share:.3g} the variance "
        f"settles at {variance_text(variance)}",
        "nn.Conv2d(n, m, 3, padding=1, padding_mode='reflect'), or fewer padded layers on small "
        "maps",
    )


def residual_sums(structure: Structure) -> Iterator[Finding]:
    """Yields a finding for residual sums whose mean square grows from block to block."""
    growing: list[Layer] = []
    growths: list[float] = []
    for residual in structure.sums:
        if residual.skip > 0 and residual.total / residual.skip > _RESIDUAL_GROWTH:
            growing.append(residual.layer)
            growths.append(residual.total / residual.skip)
    if not growing:
        return
    typical = float(numpy.median(growths))
    over_all = ""
    if len(growing) > 1:
        over_all = f" and by {typical ** len(growing):.3g} over these {len(growing)}"
    yield Finding(
        "unscaled residual",
        layer_labels(growing),
        f"{len(growing)} sums whose mean square is {typical:.3g} times that of the skip",
        f"the mean square grows by {typical:.3g} a block{over_all}, away from 1",
        "x = 0.7071 * x + 0.7071 * branch(x): factors whose squares sum to 1",
        "x = x + branch(x)",
    )
