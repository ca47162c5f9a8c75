"""What theory predicts for a whole network before it trains, layer by layer, with bands for its finite width.

The signal is followed on its actual trajectory, for representative samples of the actual inputs: not at the fixed point, and not for one
norm. A band holds the value of one network with probability 0.99 if theory holds: unit after unit is independent given the layer in
front, so every pooled mean scatters like 1 / width (the fluctuations of `harness.theory.networks.identities`, summed over the depth),
and the measured samples are some of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError
from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction, activation
from harness.theory.networks import propagation
from harness.theory.networks.description import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Network,
    Normalization,
    Opaque,
    Pool,
    Residual,
)
from harness.theory.networks.identities import log_band, unit_variance_cv
from harness.theory.networks.signals import Activated, Pairs, Signal, activate

Array = NDArray[np.float64]

# A 99 % band, two-sided.
BAND_DEVIATIONS = 2.5758293035489004
# Representative samples: all pairs of so many vectors; of maps as many as keep pairs x positions near _MAP_ENTRIES.
_VECTORS, _MAP_ENTRIES = 48, 40_000
# Bands of lengths are those of a log-linear response: beyond this error of a logarithm they mean nothing.
_MOST_BEND = 0.1
# Measurements are in float32: what a normalization holds still is off by this much.
_ROUNDING = 1e-5
# Draws of a pair's logits for the alikeness of their residuals.
_LOGIT_DRAWS = 600
_SEED = 20170608


@dataclass(frozen=True)
class Value:
    """A predicted number and the ends of its band; NaN where theory says nothing."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class LayerPrediction:
    """One activated layer, counted from 1. `values` by the names of the measured columns; `reason` says why there are none.

    Names: pre_activation_mean, pre_activation_variance, activation_mean, activation_variance, q, q_cv, cosine, between_unit_share,
    participation_ratio, unit_variance_cv, gradient_gain, gradient_product.
    """

    layer: int
    units: int
    values: dict[str, Value] = field(default_factory=dict)
    reason: str | None = None

    def __getitem__(self, name: str) -> float:
        return self.values[name].value if name in self.values else math.nan


@dataclass(frozen=True, eq=False)
class Inputs:
    """Representative inputs, see `representatives`: `images` (samples, channels, height, width).

    A vector network sees them flattened, a convolution as maps.
    """

    images: Array

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) < 4:
            raise RequestError(
                f"inputs: expected at least 4 samples (samples, channels, height, width), not shape {self.images.shape}"
            )
        if not np.isfinite(self.images).all():
            raise RequestError("inputs: a value is not a finite number")

    def signal(self, network: Network) -> Signal:
        """The signal in front of a network's first layer."""
        first = next(
            (layer for layer in network if isinstance(layer, (Dense, Convolution, Residual))), None
        )
        maps = isinstance(first, Convolution) or (
            isinstance(first, Residual)
            and any(isinstance(layer, Convolution) for layer in first.branch)
        )
        return _map_signal(self.images, network) if maps else self._vectors

    @cached_property
    def _vectors(self) -> Signal:
        flat = self.images.reshape(len(self.images), -1)[:_VECTORS]
        pairs, gram = Pairs.of_vectors(len(flat)), flat @ flat.T / flat.shape[1]
        length, product = (
            np.diagonal(gram)[:, None, None].copy(),
            gram[pairs.first, pairs.second][:, None, None],
        )
        return Signal(
            pairs,
            length,
            flat.mean(1)[:, None, None],
            product,
            diagonal_share=_diagonal_share(flat),
        )


def normal_inputs(q: float = 1.0, cosine: float = 0.0, samples: int = 16) -> Signal:
    """A signal of samples with equal norm and equal cosines, for networks without data: Poole et al.'s setting."""
    pairs = Pairs.of_vectors(samples)
    return Signal(
        pairs,
        np.full((samples, 1, 1), float(q)),
        np.zeros((samples, 1, 1)),
        np.full((len(pairs.first), 1, 1), float(q) * cosine),
        normal=True,
    )


def _diagonal_share(flat: Array) -> float:
    variances = flat.var(0)
    return float(np.square(variances).sum() / max(variances.sum() ** 2, 1e-300))


def _map_signal(images: Array, network: Network) -> Signal:
    height, width = images.shape[2:]
    count = int(np.clip(0.5 + math.sqrt(_MAP_ENTRIES / (height * width)), 8, _VECTORS))
    level, few = float(np.square(images).mean()), float(np.square(images[:count]).mean())
    images = images[:count] * (math.sqrt(level / few) if few > 0 else 1.0)
    first, second = np.triu_indices(len(images), 1)
    # Shifts stay whole under every later pooling.
    step = 2 ** sum(isinstance(layer, Pool) and layer.size == 2 for layer in network)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    scattered = np.stack(
        [
            generator.integers(0, max(1, size // step), len(first)) * step
            for size in (height, width)
        ],
        1,
    )
    parts = [(first, second, np.zeros_like(scattered), False), (first, second, scattered, True)]
    if any(isinstance(layer, Pool) for layer in network):
        own = np.repeat(np.arange(len(images)), 4)
        parts.append((own, own, np.tile(propagation.neighbour_shifts(), (len(images), 1)), False))
    pairs = Pairs(
        *(np.concatenate([part[index] for part in parts]) for index in range(3)),
        np.concatenate([np.full(len(part[0]), part[3]) for part in parts]),
    )
    # (channels, samples, height, width), so that partners are picked along samples.
    by_channel = images.transpose(1, 0, 2, 3)
    product = (pairs.of_first(by_channel) * pairs.of_second(by_channel)).mean(0)
    share = _diagonal_share(images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1]))
    return Signal(
        pairs, np.square(by_channel).mean(0), by_channel.mean(0), product, diagonal_share=share
    )


def representatives(images: Array, count: int = _VECTORS, candidates: int = 64) -> Array:
    """`count` of `images` (samples, ...) that stand for all: spread over the norms, and nearest to all in what theory reads off them.

    Among `candidates` random choices of one sample from each of `count` classes of equal size by norm, the one whose mean norm,
    its scatter, mean product of different samples and participation ratio are nearest to those of all; scaled to their mean norm.
    """
    flat = np.asarray(images, dtype=float).reshape(len(images), -1)
    if len(flat) <= count:
        return np.asarray(images, dtype=float)
    lengths = np.square(flat).mean(1)
    order = np.argsort(lengths, kind="stable")
    classes = np.array_split(order, count)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    centred = flat - flat.mean(0)
    gram = centred.T @ centred if centred.shape[1] < len(flat) else centred @ centred.T
    mean, rows = lengths.mean(), len(flat)
    spread = (
        (np.square(gram).sum() - np.square(np.square(centred).sum(1)).sum())
        / (rows * (rows - 1))
        / flat.shape[1] ** 2
    )
    product = (np.square(flat.sum(0)).mean() - lengths.sum()) / (rows * (rows - 1))
    wanted = np.array([mean, lengths.std(), product, math.sqrt(max(spread, 0.0))])
    best, chosen = np.inf, classes[0]
    for _ in range(candidates):
        candidate = np.array([members[generator.integers(len(members))] for members in classes])
        distance = float(np.square(_summary(flat[candidate]) - wanted).sum())
        if distance < best:
            best, chosen = distance, candidate
    # The order is random, so that the first few of them stand for all as well.
    found = np.asarray(images, dtype=float)[generator.permutation(chosen)]
    return (
        found * math.sqrt(lengths.mean() / lengths[chosen].mean())
        if lengths[chosen].any()
        else found
    )


def _summary(flat: Array) -> Array:
    """What representatives must share with all: mean length, its deviation, mean product, root mean square of the centred products."""
    gram, count = flat @ flat.T / flat.shape[1], len(flat)
    pairs = Pairs.of_vectors(count)
    signal = Signal(
        pairs,
        np.diagonal(gram)[:, None, None],
        np.zeros((count, 1, 1)),
        gram[pairs.first, pairs.second][:, None, None],
    )
    return np.array(
        [signal.level, signal.length.std(), signal.mean_product(), math.sqrt(signal.centred_square)]
    )


@dataclass
class _Step:
    """One layer on the way: its backward map, and for an activation what the way back needs."""

    backward: propagation.Backward
    activated: int | None = None
    branch: tuple[list[_Step], float, float] | None = None


@dataclass
class _Trace:
    """What is collected on the way forward, one entry an activated layer (`noise` one a source of fluctuation)."""

    measured: float
    training: bool
    predictions: list[LayerPrediction] = field(default_factory=list)
    gains: list[Array] = field(default_factory=list)
    gradient_noise: list[tuple[float, tuple[float, float], float]] = field(default_factory=list)
    # Relative fluctuations of the mean length: each source's variance, how far the current length follows each source, and
    # how far the gain towards each activated layer does.
    sources: list[float] = field(default_factory=list)
    follows: list[float] = field(default_factory=list)
    gain_follows: list[list[float]] = field(default_factory=list)
    # Of the last weights' output, and whether a normalization stands between it and the activation.
    unit_variance_cv: float = math.nan
    direct: bool = True
    readout: tuple[Signal, int] | None = None
    # Of each activated layer: mean square of what enters it times how alike its positions are, and its width.
    lengths: list[float] = field(default_factory=list)
    # Log of what the gain towards each activated layer may be off by beyond the fluctuations.
    uncertain: list[float] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    reason: str | None = None


def predict(
    network: Network,
    inputs: Inputs | Signal,
    samples: float = math.inf,
    training: bool = False,
    activations: dict[str, ActivationFunction] | None = None,
) -> tuple[LayerPrediction, ...]:
    """The prediction of every activated layer of a network at initialisation.

    Args:
        network: see `harness.theory.networks.description`.
        inputs: representative inputs, or a signal such as `normal_inputs`.
        samples: how many samples measurements use: bands allow for which ones they are.
        training: with dropout acting. Measurements at initialisation are taken without it.
        activations: functions for names that are no built-in activation.

    Raises:
        RequestError: an activation whose moments do not exist, or an unknown name.
    """
    signal = inputs.signal(network) if isinstance(inputs, Inputs) else inputs
    trace = _Trace(samples, training)
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        steps, _ = _forward(network, signal, trace, activations or {}, 1)
        _backward_pass(steps, trace)
    return tuple(trace.predictions)


def _forward(
    network: Sequence[Layer],
    signal: Signal,
    trace: _Trace,
    known: dict[str, ActivationFunction],
    units: int,
) -> tuple[list[_Step], Signal]:
    steps: list[_Step] = []
    ahead = None
    for layer in network:
        units = layer.units if isinstance(layer, (Dense, Convolution)) else units
        if trace.reason is None:
            trace.reason = _obstacle(layer, signal, ahead) or _apart(layer, signal, known)
        if trace.reason is not None:
            for _ in range(_activations_in(layer)):
                trace.predictions.append(
                    LayerPrediction(len(trace.predictions) + 1, units, reason=trace.reason)
                )
            continue
        step, signal, ahead = _advance(layer, signal, ahead, units, trace, known)
        steps.append(step)
    return steps, signal


def _activations_in(layer: Layer) -> int:
    return (
        sum(map(_activations_in, layer.branch))
        if isinstance(layer, Residual)
        else int(isinstance(layer, Activation))
    )


def _obstacle(
    layer: Layer, signal: Signal, ahead: tuple[Signal, ActivationFunction] | None
) -> str | None:
    """Why theory cannot follow a layer, None where it can."""
    if isinstance(layer, Opaque):
        return f"{layer.name}: {layer.reason}"
    if isinstance(layer, Activation) and not signal.normal:
        return f"activation {layer.name} of something that is not normal over units (no weights in front of it)"
    if isinstance(layer, Pool) and layer.kind == "max" and ahead is None:
        return "maximum pooling that does not directly follow an activation of a normal signal"
    if not math.isfinite(signal.level):
        return "the signal overflows"
    return None


def _apart(layer: Layer, signal: Signal, known: dict[str, ActivationFunction]) -> str | None:
    """Why no band can be given where the length map is so curved over the band of lengths that networks part ways."""
    if not isinstance(layer, Activation) or signal.shared <= 0 or signal.level <= 0:
        return None
    reach = BAND_DEVIATIONS * math.sqrt(signal.shared)
    ends = hermite.expand(_function(layer, known), signal.level * np.exp([-reach, 0.0, reach]))
    logs = np.log(np.maximum(ends.second_moment, 1e-300))
    slope = float(ends.square[2][1]) / math.sqrt(2.0) / max(float(ends.second_moment[1]), 1e-300)
    bend = max(abs(logs[0] - logs[1] + slope * reach), abs(logs[2] - logs[1] - slope * reach))
    if bend <= _MOST_BEND:
        return None
    return f"at this width lengths scatter over a factor of {math.exp(2 * reach):.0f}, which {layer.name} maps to different fates: some networks vanish here while others do not"


def _function(layer: Activation, known: dict[str, ActivationFunction]) -> ActivationFunction:
    return known[layer.name] if layer.name in known else _built_in(layer.name, layer.options)


def _advance(
    layer: Layer,
    signal: Signal,
    ahead: tuple[Signal, ActivationFunction] | None,
    units: int,
    trace: _Trace,
    known: dict[str, ActivationFunction],
) -> tuple[_Step, Signal, tuple[Signal, ActivationFunction] | None]:
    """One layer: its step, the signal behind it, and the activation that a maximum right behind it would see."""
    if isinstance(layer, Activation):
        phi = _function(layer, known)
        activated, values = (_activated_once if signal.positions == 1 else _activated)(
            signal, phi, units, trace.measured
        )
        trace.lengths.append(
            signal.level if signal.positions == 1 else max(signal.mean_product(), 0.0)
        )
        trace.widths.append(units)
        trace.uncertain.append(0.0)
        values = values | ({"unit_variance_cv": Value(trace.unit_variance_cv)} if values else {})
        number = _record(activated, values, units, trace)
        gain = activated.expansion.gain
        return _Step(lambda gradient: gradient * gain, number), activated.behind, (signal, phi)
    if isinstance(layer, Residual):
        step, behind = _residual(layer, signal, trace, known, units)
        return step, behind, None
    if isinstance(layer, Dropout):
        if not trace.training:
            return _Step(lambda gradient: gradient), signal, ahead
        behind, backward = propagation.dropout(signal, layer)
        return _Step(backward), behind, None
    if isinstance(layer, Pool):
        behind, backward = propagation.pool(signal, layer, ahead)
        return _Step(backward), behind, None
    if isinstance(layer, Normalization):
        _normalized(layer, signal, units, trace)
        if layer.kind == "batch" and trace.uncertain:
            trace.uncertain[-1] += math.log1p(2.0 / signal.participation_ratio())
        behind, backward = _through(signal, layer)
        return _Step(backward), behind, None
    if isinstance(layer, Flatten):
        behind, backward = propagation.flatten(signal)
        return _Step(backward), behind, None
    behind, backward = _through(signal, layer)
    trace.readout = (behind, layer.units)
    trace.unit_variance_cv = _unit_variance_cv(signal, layer, trace.measured)
    level = layer.sigma_w2 * signal.level
    trace.follows = [
        one * level / (level + layer.sigma_b2) if level else one for one in trace.follows
    ]
    return _Step(backward), behind, None


def _normalized(layer: Normalization, signal: Signal, units: int, trace: _Trace) -> None:
    """What a normalization does to fluctuations: the gradient is divided by the deviation, and what follows forgets it.

    The deviation scatters with the lengths in front, and by itself: the mean of z^2 over units by 2 c^2 / width.
    """
    if signal.normal:
        square = (
            1.0 / signal.participation_ratio()
            if layer.kind == "batch"
            else float(np.square(signal.cosine[signal.pairs.scattered]).mean())
        )
        trace.sources.append(2.0 * square / units)
        trace.follows.append(1.0)
    if trace.gain_follows:
        before = trace.gain_follows[-1] + [0.0] * (len(trace.follows) - len(trace.gain_follows[-1]))
        trace.gain_follows[-1] = [have - one for have, one in zip(before, trace.follows)]
    trace.follows = [0.0] * len(trace.follows)


def _through(
    signal: Signal, layer: Dense | Convolution | Normalization
) -> tuple[Signal, propagation.Backward]:
    return (
        _weights_or_normalization_once(signal, layer)
        if signal.positions == 1
        else _weights_or_normalization(signal, layer)
    )


def _weights_or_normalization(
    signal: Signal, layer: Dense | Convolution | Normalization
) -> tuple[Signal, propagation.Backward]:
    if isinstance(layer, Normalization):
        return propagation.normalization(signal, layer)
    return (
        propagation.dense(signal, layer)
        if isinstance(layer, Dense)
        else propagation.convolution(signal, layer)
    )


def _activated(
    signal: Signal, phi: ActivationFunction, units: int, measured: float
) -> tuple[Activated, dict[str, Value]]:
    activated = activate(signal, phi, units)
    values = _forward_values(activated, signal, units, measured)
    return replace(activated, expansion=activated.expansion.take((...,), 2)), values


# Networks of a sweep that differ in depth share their first layers: what was followed once is kept, a few kilobytes a layer.
_built_in = lru_cache(maxsize=None)(lambda name, options: activation(name, **dict(options)))
_activated_once = lru_cache(maxsize=1024)(_activated)
_weights_or_normalization_once = lru_cache(maxsize=1024)(_weights_or_normalization)


def _residual(
    layer: Residual, signal: Signal, trace: _Trace, known: dict[str, ActivationFunction], units: int
) -> tuple[_Step, Signal]:
    follows = list(trace.follows)
    inner, branch = _forward(layer.branch, signal, trace, known, units)
    weighted = any(isinstance(part, (Dense, Convolution)) for part in layer.branch)
    alone = [part for part in layer.branch if isinstance(part, Activation)]
    elementwise = None
    if not weighted and len(alone) == 1 and len(layer.branch) == 1:
        elementwise = _function(alone[0], known)
    if trace.reason is None:
        skip, added = layer.skip_scale**2 * signal.level, layer.branch_scale**2 * branch.level
        share = skip / (skip + added) if skip + added > 0 else 0.0
        follows += [0.0] * (len(trace.follows) - len(follows))
        trace.follows = [
            share * one + (1 - share) * other for one, other in zip(follows, trace.follows)
        ]
        signal = propagation.residual(
            signal, branch, layer.skip_scale, layer.branch_scale, weighted, elementwise
        )
    return _Step(
        lambda gradient: gradient, branch=(inner, layer.skip_scale, layer.branch_scale)
    ), signal


def _record(activated: Activated, values: dict[str, Value], units: int, trace: _Trace) -> int:
    """Keep the layer's forward statistics and note what the way back will need; returns the layer's index."""
    index = len(trace.predictions)
    trace.predictions.append(LayerPrediction(index + 1, units, dict(values)))
    expansion = activated.expansion
    trace.gains.append(expansion.gain)
    gain = max(float(expansion.gain.mean()), 1e-300)
    square = 1.0 + activated.noise["slope_square slope_square"] / activated.gain_products
    trace.gradient_noise.append((square, activated.alike, float(units)))
    sensitivity = float(expansion.slope_square[2].mean()) / math.sqrt(2.0) / gain
    trace.gain_follows.append([sensitivity * one for one in trace.follows])
    trace.follows = [activated.elasticity * one for one in trace.follows] + [1.0]
    level = activated.behind.level
    trace.sources.append(activated.noise["square square"] / level**2 / units if level > 0 else 0.0)
    return index


def _forward_values(
    activated: Activated, signal: Signal, units: int, measured: float
) -> dict[str, Value]:
    expansion = activated.expansion
    q = signal.level
    if q <= 0:
        return {}
    product = signal.mean_product(measured)
    pairs = signal.pairs.scattered
    alike = (
        0.0 if 2 in signal.fixed else 2.0 * float(np.square(signal.product[pairs]).mean()) / q**2
    )
    of_samples = (
        0.0 if 2 in signal.fixed else float(signal.length.mean((1, 2)).var()) / q**2 / measured
    )
    length_noise = signal.shared + alike / units + of_samples
    mean, second = (
        expansion.mean.mean(),
        activated.behind.level,
    )  # NumPy numbers: they overflow to infinity, which the next layer reports
    noise = activated.noise
    mean_noise = _spread(noise["value value"], expansion.value, signal, units, measured)
    about_noise = (
        noise["square square"]
        - 4 * mean * noise["square value"]
        + 4 * mean**2 * noise["value value"]
    )
    about = expansion.square - 2 * mean * expansion.value
    variance = max(second - mean**2 - mean_noise, 0.0)
    variance_noise = _spread(about_noise, about, signal, units, measured)
    cosine, share, sampling = signal.mean_cosine, product / q, _pair_sampling(signal, measured)
    cosine_noise = signal.mean_cosine_noise + 2 * (cosine * (1 - cosine)) ** 2 / units + sampling
    # Behind batch normalization, what a unit's tails add, its own and those of samples of different lengths, is known to first
    # order only: as much again is allowed for.
    tails = (
        (abs(signal.kurtosis) + 3.0 * float(signal.length.var()) / q**2) / math.sqrt(24.0)
        if signal.kurtosis
        else 0.0
    )
    about_zero = 0.0 if 1 in signal.fixed else max(product, 0.0) / units
    own_alike = 0.0 if 2 in signal.fixed else 2.0 * float(np.square(signal.length).mean()) / q**2
    q_cv = math.sqrt(
        float(signal.length.mean((1, 2)).var()) / q**2
        + max(signal.own - signal.shared, 0.0)
        + max(own_alike - alike, 0.0) / units
    )
    ratio = 1.0 / (1.0 / signal.participation_ratio() + 1.0 / units)
    return {
        # Where lengths scatter by orders of magnitude, the mean of z scatters with the longest of them.
        "pre_activation_mean": _normal(
            0.0, about_zero * float(log_band(length_noise, BAND_DEVIATIONS)[1])
        ),
        "pre_activation_variance": _positive(
            max(q - about_zero, 0.0),
            length_noise + 2.0 * (about_zero / q) ** 2,
            abs(1.0 - q) if 2 in signal.fixed else 0.0,
        ),
        "activation_mean": _normal(mean, mean_noise, abs(tails * float(expansion.value[4].mean()))),
        "activation_variance": _positive(
            variance,
            variance_noise / max(variance, 1e-300) ** 2,
            abs(tails * float(about[4].mean())) / max(variance, 1e-300),
        ),
        "q": _positive(q, length_noise),
        "q_cv": Value(q_cv),
        "cosine": _normal(cosine, cosine_noise),
        "between_unit_share": _share(share, cosine_noise),
        "participation_ratio": Value(ratio),
        # Without `mean_noise` above and below, which scales with the rest: a ReLU's slope is 1.
        "empirical_slope": Value(
            float(about[2].mean()) / math.sqrt(2.0) / (second - mean**2)
            if variance > 0
            else math.nan
        ),
    }


def _unit_variance_cv(signal: Signal, layer: Dense | Convolution, measured: float) -> float:
    """CV over units of the variance of W x over samples and positions."""
    # A convolution's units see windows: positions of one window scatter less than independent inputs would.
    return float(
        unit_variance_cv(
            signal.participation_ratio(measured),
            layer.kurtosis,
            signal.diagonal_share,
            layer.fan_in if layer.exact else None,
        )
    )


def _spread(
    noise: float, coefficients: Array, signal: Signal, units: int, measured: float
) -> float:
    """Variance over networks of the pooled mean of f(u): of the units, of the length they share, and of the samples measured.

    `noise` is the covariance of f at different samples, `coefficients` f's Hermite coefficients for every sample: the first is E f(u),
    and the second gives q dE f/dq = f_2 / sqrt(2). Of all pairs of measured samples and positions, some are of one with itself.
    """
    degrees = np.array(
        [degree for degree in range(1, len(coefficients)) if degree not in signal.fixed]
    )
    own = float(np.square(coefficients[degrees]).sum(0).mean()) / (measured * signal.positions)
    follow = float(coefficients[2].mean()) / math.sqrt(2.0)
    return (
        (max(noise, 0.0) + own) / units
        + follow**2 * signal.shared
        + float(coefficients[0].mean((1, 2)).var()) / measured
    )


def _pair_sampling(signal: Signal, measured: float) -> float:
    """Variance of the mean cosine that comes from which samples were measured: four times that of a sample's mean cosine to the others, over their number."""
    if math.isinf(measured):
        return 0.0
    return 4.0 * float(signal.over_partners(signal.cosine).mean((1, 2)).var()) / measured


def _normal(value: float, variance: float, uncertain: float = 0.0) -> Value:
    reach = BAND_DEVIATIONS * math.sqrt(max(variance, 0.0)) + uncertain + _ROUNDING
    return Value(value, value - reach, value + reach)


def _share(value: float, variance: float) -> Value:
    band = _normal(value, variance)
    return Value(value, max(band.low, 0.0), min(band.high, 1.0))


def _positive(value: float, relative_variance: float, uncertain: float = 0.0) -> Value:
    low, high = log_band(max(relative_variance, 0.0), BAND_DEVIATIONS)
    return Value(
        value,
        value * (float(low) * math.exp(-uncertain) - _ROUNDING),
        value * (float(high) * math.exp(uncertain) + _ROUNDING),
    )


def _backward_pass(steps: list[_Step], trace: _Trace) -> None:
    known = [index for index, one in enumerate(trace.predictions) if one.reason is None]
    if not known or trace.reason is not None:
        return
    shape = trace.gains[-1].shape
    squares: dict[int, Array] = {}
    _backward(steps, np.ones((shape[0], 1, 1)), squares)
    level = np.array([float(squares[index].sum((1, 2)).mean()) for index in known])
    if level[-1] <= 0:
        return
    alike, feedback = _residuals(*trace.readout) if trace.readout is not None else ((0.0, 0.0), 0.0)
    product, variance = level / level[-1], _gradient_variances(trace, alike)
    # A unit's own deviation divides its gradient, E 1 / s^2 = (1 + 2 / PR) / E s^2, and batch normalization takes the gradient's
    # projection on the unit out, which is as much where classes cluster: neither is followed, the band holds both.
    uncertain = np.append(np.cumsum(trace.uncertain[:-1][::-1])[::-1], 0.0) + np.log(
        _feedback(level, feedback, trace)
    )
    for index in known:
        values = trace.predictions[index].values
        if not values:
            continue
        values["gradient_product"] = _positive(
            float(product[index]), float(variance[index]), float(uncertain[index])
        )
        if index and product[index] > 0:
            more = max(float(variance[index - 1] - variance[index]), 0.0)
            values["gradient_gain"] = _positive(
                float(product[index - 1] / product[index]), more, trace.uncertain[index - 1]
            )


def _feedback(level: Array, strength: float, trace: _Trace) -> Array:
    """How much forward and backward pass may share, to first order in 1 / width, as a factor on each layer's product that the band allows for.

    The gradient d behind weights W depends on W through z = W x. By Stein's lemma E |W'd|^2 exceeds the independent value by the share
    q / width ((tr H)^2 + |H|^2 + ..) / |d|^2 with H the second derivative of the loss by z: G times that by the logits, where G is
    the squared gradient's gain from the logits to z. It matters where q G is large against the width. Measured excesses are from
    none to all of it (terms of the activation's curvature are left out), so the prediction itself stays that of independent passes.
    """
    share = np.array(
        [
            q * one * strength / units
            for q, one, units in zip(trace.lengths[1:], level[1:], trace.widths[:-1])
        ]
    )
    return np.append(np.cumprod((1.0 + share / (1.0 + share))[::-1])[::-1], 1.0)


def _backward(steps: list[_Step], gradient: Array, squares: dict[int, Array]) -> Array:
    for step in reversed(steps):
        if step.branch is not None:
            inner, skip, branch = step.branch
            gradient = skip**2 * gradient + _backward(inner, branch**2 * gradient, squares)
            continue
        gradient = step.backward(gradient)
        if step.activated is not None:
            squares[step.activated] = gradient
    return gradient


def _gradient_variances(trace: _Trace, alike: tuple[float, float]) -> Array:
    """Variance over networks of the log of each layer's mean squared gradient relative to the last layer's.

    A layer adds (E phi1'^2 phi2'^2 / (E phi1'^2 E phi2'^2) (1 + 2 cosine^2) - 1) / width for two samples whose gradients have that cosine.
    Lengths that differ from their mean change the gains as well. `alike` is the mean square cosine at the logits, as shares of pairs of
    different and of equal labels; on the way back the latter fall like those of the nearest samples.
    """
    layers = len(trace.gains)
    positions = [gain.shape[1] * gain.shape[2] for gain in trace.gains]
    noise = np.zeros(layers)
    others, same = alike
    for index in reversed(range(layers)):
        square, kept, units = trace.gradient_noise[index]
        noise[index] = (
            max(square * (1.0 + 2.0 * (others + same) / positions[index]) - 1.0, 0.0) / units
        )
        others, same = others * kept[0], same * kept[1]
    follows = np.zeros((layers, len(trace.sources)))
    for index, row in enumerate(trace.gain_follows):
        follows[index, : len(row)] = row
    behind = np.cumsum(follows[:-1][::-1], 0)[::-1] if layers > 1 else follows[:0]
    of_lengths = np.append(np.square(behind) @ np.array(trace.sources), 0.0)
    return np.append(np.cumsum(noise[:-1][::-1])[::-1], 0.0) + of_lengths


def _residuals(logits: Signal, classes: int) -> tuple[tuple[float, float], float]:
    """Of softmax minus label, over random labels: two samples' mean square cosine weighted by size, and the strength of `_feedback`.

    The first as the sum of what pairs of different labels and pairs of equal labels add.

    With A = diag(p) - pp' the strength is E[(tr A)^2 + |A|^2 - 4 p'A(p - y)] / E |p - y|^2.
    """
    if classes < 2 or not math.isfinite(logits.level):
        return (0.0, 1.0), 0.0
    generator = np.random.Generator(np.random.PCG64(_SEED))
    cosine = min(max(logits.mean_cosine, 0.0), 1.0)
    common = generator.standard_normal((_LOGIT_DRAWS, 1, classes))
    z = math.sqrt(logits.level) * (
        math.sqrt(cosine) * common
        + math.sqrt(1 - cosine) * generator.standard_normal((_LOGIT_DRAWS, 2, classes))
    )
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    labels = generator.integers(classes, size=(_LOGIT_DRAWS, 2))
    residual = p - np.eye(classes)[labels]
    sizes = np.square(residual).sum(-1)
    squares = np.square((residual[:, 0] * residual[:, 1]).sum(-1)) / max(
        sizes.prod(1).mean(), 1e-300
    )
    equal = labels[:, 0] == labels[:, 1]
    alike = float(np.where(equal, 0.0, squares).mean()), float(np.where(equal, squares, 0.0).mean())
    second = np.square(p).sum(-1)
    along = (p * (p - second[..., None]) * residual).sum(-1)  # p'A(p - y)
    norm = np.square(p * (1 - p)).sum(-1) + second**2 - (p**4).sum(-1)  # |A|^2
    strength = ((1 - second) ** 2 + norm - 4 * along).mean() / max(sizes.mean(), 1e-300)
    return alike, max(float(strength), 0.0)


def recovery_depths(
    predictions: Sequence[LayerPrediction], input_cosine: float
) -> tuple[int | None, int | None]:
    """The first layer whose activations' variance is in Theorem 1's [0.8, 1.5], and the first whose cosine is at most half the inputs'.

    None where no layer of the network gets there.
    """
    variance = next(
        (one.layer for one in predictions if 0.8 <= one["activation_variance"] <= 1.5), None
    )
    cosine = (
        next((one.layer for one in predictions if one["cosine"] <= 0.5 * input_cosine), None)
        if input_cosine > 0
        else None
    )
    return variance, cosine
