"""Forward pass of a prediction: a signal through all layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.theory.activations import hermite
from harness.theory.activations.functions import ActivationFunction, activation
from harness.theory.networks import pooled_signals, propagation
from harness.theory.networks.activated_signals import Activated, activate
from harness.theory.networks.bands import BAND_DEVIATIONS, Value
from harness.theory.networks.description import (
    Activation,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Normalization,
    Opaque,
    Pool,
    Residual,
)
from harness.theory.networks.forward_statistics import layer_values, weighted_variance_cv
from harness.theory.networks.layer_prediction import LayerPrediction
from harness.theory.networks.signals import Backward, Signal

Array = NDArray[np.float64]
# A normal signal and the activation applied to it.
ActivatedInput = tuple[Signal, ActivationFunction]

# Bands of lengths are those of a log-linear response; beyond this error of a logarithm they mean
# nothing.
_MOST_BEND = 0.1
_TINY = 1e-300
# Layers that predictions share are kept, a few kilobytes each.
_KEPT_LAYERS = 1024


@dataclass
class Branch:
    """The steps of a residual branch and the two scales of the sum."""

    steps: list[Step]
    skip_scale: float
    branch_scale: float


@dataclass
class Step:
    """One layer on the way.

    Attributes:
        backward: its way back.
        activated: index of an activated layer.
        branch: the branch of a residual block.
    """

    backward: Backward
    activated: int | None = None
    branch: Branch | None = None


@dataclass
class ActivatedLayer:
    """Numbers of one activated layer that the backward pass needs.

    Attributes:
        units: its width.
        entering: mean square of the pre-activations times the similarity of its positions.
        gain: (samples, height, width) E phi'^2.
        square: E phi1'^2 phi2'^2 / (E phi1'^2 E phi2'^2), averaged over pairs of samples.
        cosine_kept: see `Activated`.
        responses: relative change of `gain` per relative change of the mean length at each source
            of fluctuation.
        uncertain: logarithm of the factor by which the gain towards this layer may be off beyond
            the fluctuations.
    """

    units: int
    entering: float
    gain: Array
    square: float
    cosine_kept: tuple[float, float]
    responses: list[float]
    uncertain: float = 0.0


@dataclass
class Trace:
    """Records of one forward pass.

    Attributes:
        measured: number of samples that measurements use.
        training: dropout acts.
        functions: activations by name that are not built in.
        predictions: one per activated layer.
        layers: one per activated layer that theory could follow.
        sources: relative variance of the mean length that each source of fluctuation adds.
        responses: relative change of the current mean length per change at each source.
        unit_variance_cv: CV over units of the variance of the last weights' output.
        readout: signal after the last weights, and its number of units.
        reason: why theory cannot follow from here on, or None.
    """

    measured: float
    training: bool
    functions: dict[str, ActivationFunction]
    predictions: list[LayerPrediction] = field(default_factory=list)
    layers: list[ActivatedLayer] = field(default_factory=list)
    sources: list[float] = field(default_factory=list)
    responses: list[float] = field(default_factory=list)
    unit_variance_cv: float = math.nan
    readout: tuple[Signal, int] | None = None
    reason: str | None = None

    def function(self, layer: Activation) -> ActivationFunction:
        """Returns the activation of a layer."""
        if layer.name in self.functions:
            return self.functions[layer.name]
        return _built_in(layer.name, layer.options)


def follow(
    layers: Sequence[Layer], signal: Signal, trace: Trace, units: int = 1
) -> tuple[list[Step], Signal]:
    """Takes a signal through layers as far as theory can follow.

    Args:
        layers: a network or a residual branch.
        signal: the signal in front of the first layer.
        trace: records of the pass, extended in place.
        units: width of the layer in front.

    Returns:
        The steps for the way back, and the signal after the last layer that could be followed.
    """
    steps: list[Step] = []
    activated_input = None
    for layer in layers:
        if isinstance(layer, (Dense, Convolution)):
            units = layer.units
        if trace.reason is None:
            trace.reason = _obstacle(layer, signal, activated_input)
        if trace.reason is None:
            trace.reason = _reason_without_band(layer, signal, trace)
        if trace.reason is not None:
            for _ in range(_count_activations(layer)):
                number = len(trace.predictions) + 1
                trace.predictions.append(LayerPrediction(number, units, reason=trace.reason))
            continue
        step, signal, activated_input = _advance(layer, signal, activated_input, units, trace)
        steps.append(step)
    return steps, signal


def _count_activations(layer: Layer) -> int:
    if isinstance(layer, Residual):
        return sum(_count_activations(part) for part in layer.branch)
    return int(isinstance(layer, Activation))


def _obstacle(layer: Layer, signal: Signal, activated_input: ActivatedInput | None) -> str | None:
    """Returns why theory cannot follow a layer, None where it can."""
    if isinstance(layer, Opaque):
        return f"{layer.name}: {layer.reason}"
    if isinstance(layer, Activation) and not signal.normal:
        return (
            f"activation {layer.name} of something that is not normal over units "
            "(no weights in front of it)"
        )
    if isinstance(layer, Pool) and layer.kind == "max" and activated_input is None:
        return "maximum pooling that does not directly follow an activation of a normal signal"
    if isinstance(layer, (Dense, Convolution)) and layer.omega:
        return "weights whose mean is not 0, so that units are not independent"
    if isinstance(layer, Convolution) and layer.groups > 1:
        return "a grouped convolution, whose units see different inputs"
    if not math.isfinite(signal.level):
        return "the signal overflows"
    return None


def _reason_without_band(layer: Layer, signal: Signal, trace: Trace) -> str | None:
    """Returns why an activation allows no band, None where it does.

    There is no band where the length map is so curved over the band of lengths that some networks
    vanish and others do not.
    """
    if not isinstance(layer, Activation) or signal.level_noise <= 0 or signal.level <= 0:
        return None
    reach = BAND_DEVIATIONS * math.sqrt(signal.level_noise)
    lengths = signal.level * np.exp([-reach, 0.0, reach])
    expansion = hermite.expand(trace.function(layer), lengths)
    low, middle, high = np.log(np.maximum(expansion.second_moment, _TINY))
    middle_square = max(float(expansion.second_moment[1]), _TINY)
    slope = float(expansion.square[2][1]) / math.sqrt(2.0) / middle_square
    bend = max(abs(low - middle + slope * reach), abs(high - middle - slope * reach))
    if bend <= _MOST_BEND:
        return None
    return (
        f"at this width lengths scatter over a factor of {math.exp(2 * reach):.0f}, which "
        f"{layer.name} maps to different fates: some networks vanish here while others do not"
    )


def _advance(
    layer: Layer,
    signal: Signal,
    activated_input: ActivatedInput | None,
    units: int,
    trace: Trace,
) -> tuple[Step, Signal, ActivatedInput | None]:
    """Takes the signal through one layer that theory can follow.

    Returns:
        The layer's step, the signal after it, and the activation that a maximum directly after it
        would see.
    """
    if isinstance(layer, Activation):
        return _through_activation(layer, signal, units, trace)
    if isinstance(layer, Dropout) and not trace.training:
        return Step(lambda gradient: gradient), signal, activated_input
    if isinstance(layer, Residual):
        step, after = _through_residual(layer, signal, units, trace)
        return step, after, None
    if isinstance(layer, Dropout):
        after, backward = propagation.dropout(signal, layer)
    elif isinstance(layer, Pool):
        after, backward = pooled_signals.pool(signal, layer, activated_input)
    elif isinstance(layer, Flatten):
        after, backward = propagation.flatten(signal)
    elif isinstance(layer, Normalization):
        _forget_fluctuations(layer, signal, units, trace)
        after, backward = _through_weights_or_normalization(signal, layer)
    elif isinstance(layer, (Dense, Convolution)):
        after, backward = _through_weights_or_normalization(signal, layer)
        _record_weights(layer, signal, after, trace)
    else:
        raise TypeError(f"{type(layer).__name__} is no layer that theory can follow")
    return Step(backward), after, None


def _through_activation(
    layer: Activation, signal: Signal, units: int, trace: Trace
) -> tuple[Step, Signal, ActivatedInput]:
    phi = trace.function(layer)
    compute = _kept_activation if signal.positions == 1 else _activation
    activated, values = compute(signal, phi, units, trace.measured)
    # The kept values serve other networks too: they are copied before anything is added.
    values = dict(values)
    if values:
        values["unit_variance_cv"] = Value(trace.unit_variance_cv)
    number = len(trace.predictions)
    trace.predictions.append(LayerPrediction(number + 1, units, values))
    _record_activation(activated, signal, units, trace)
    gain = activated.expansion.gain
    return Step(lambda gradient: gradient * gain, number), activated.after, (signal, phi)


def _record_activation(activated: Activated, signal: Signal, units: int, trace: Trace) -> None:
    """Records the layer for the backward pass and as a source of fluctuation."""
    expansion = activated.expansion
    mean_gain = max(float(expansion.gain.mean()), _TINY)
    sensitivity = float(expansion.slope_square[2].mean()) / math.sqrt(2.0) / mean_gain
    entering = signal.level if signal.positions == 1 else max(signal.mean_product(), 0.0)
    square = 1.0 + activated.noise["slope_square slope_square"] / activated.gain_products
    trace.layers.append(
        ActivatedLayer(
            units=units,
            entering=entering,
            gain=expansion.gain,
            square=square,
            cosine_kept=activated.cosine_kept,
            responses=[sensitivity * response for response in trace.responses],
        )
    )
    trace.responses = [activated.elasticity * response for response in trace.responses]
    trace.responses.append(1.0)
    level = activated.after.level
    source = activated.noise["square square"] / level**2 / units if level > 0 else 0.0
    trace.sources.append(source)


def _record_weights(
    layer: Dense | Convolution, signal: Signal, after: Signal, trace: Trace
) -> None:
    """Keeps the readout and the CV of units, and lets biases dilute the fluctuations."""
    trace.readout = (after, layer.units)
    trace.unit_variance_cv = weighted_variance_cv(signal, layer, trace.measured)
    level = layer.sigma_w2 * signal.level
    if level:
        total = level + layer.sigma_b2
        trace.responses = [response * level / total for response in trace.responses]


def _forget_fluctuations(layer: Normalization, signal: Signal, units: int, trace: Trace) -> None:
    """Records that a normalization divides by a fluctuating deviation, which later layers forget.

    The gradient is divided by that deviation too. It scatters with the lengths in front, and by
    itself: the mean of z^2 over units scatters by 2 c^2 / width.
    """
    if signal.normal:
        if layer.kind == "batch":
            square = 1.0 / signal.participation_ratio()
        else:
            square = float(np.square(signal.cosine[signal.pairs.scattered]).mean())
        trace.sources.append(2.0 * square / units)
        trace.responses.append(1.0)
    if trace.layers:
        last = trace.layers[-1]
        missing = [0.0] * (len(trace.responses) - len(last.responses))
        last.responses = [
            gain_response - response
            for gain_response, response in zip(
                last.responses + missing, trace.responses, strict=True
            )
        ]
        if layer.kind == "batch":
            last.uncertain += math.log1p(2.0 / signal.participation_ratio())
    trace.responses = [0.0] * len(trace.responses)


def _through_residual(
    layer: Residual, signal: Signal, units: int, trace: Trace
) -> tuple[Step, Signal]:
    skip_responses = list(trace.responses)
    steps, branch = follow(layer.branch, signal, trace, units)
    if trace.reason is None:
        skip = layer.skip_scale**2 * signal.level
        added = layer.branch_scale**2 * branch.level
        share = skip / (skip + added) if skip + added > 0 else 0.0
        skip_responses += [0.0] * (len(trace.responses) - len(skip_responses))
        trace.responses = [
            share * of_skip + (1 - share) * of_branch
            for of_skip, of_branch in zip(skip_responses, trace.responses, strict=True)
        ]
        weighted = any(isinstance(part, (Dense, Convolution)) for part in layer.branch)
        elementwise = None
        if len(layer.branch) == 1 and isinstance(layer.branch[0], Activation):
            elementwise = trace.function(layer.branch[0])
        signal = propagation.residual(signal, branch, layer, weighted, elementwise)
    step = Step(
        lambda gradient: gradient, branch=Branch(steps, layer.skip_scale, layer.branch_scale)
    )
    return step, signal


def _activation(
    signal: Signal, phi: ActivationFunction, units: int, measured: float
) -> tuple[Activated, dict[str, Value]]:
    """Activates a signal and predicts its columns; of the expansion two degrees are kept."""
    activated = activate(signal, phi, units)
    values = layer_values(activated, signal, units, measured)
    return replace(activated, expansion=activated.expansion.take((...,), 2)), values


def _through_weights_or_normalization(
    signal: Signal, layer: Dense | Convolution | Normalization
) -> tuple[Signal, Backward]:
    compute = _kept_weights_or_normalization if signal.positions == 1 else _weights_or_normalization
    return compute(signal, layer)


def _weights_or_normalization(
    signal: Signal, layer: Dense | Convolution | Normalization
) -> tuple[Signal, Backward]:
    if isinstance(layer, Normalization):
        return propagation.normalization(signal, layer)
    if isinstance(layer, Dense):
        return propagation.dense(signal, layer)
    return propagation.convolution(signal, layer)


@cache
def _built_in(name: str, options: tuple[tuple[str, float], ...]) -> ActivationFunction:
    return activation(name, **dict(options))


# Networks of a sweep that differ in depth share their first layers, which are followed only once.
_kept_activation = lru_cache(maxsize=_KEPT_LAYERS)(_activation)
_kept_weights_or_normalization = lru_cache(maxsize=_KEPT_LAYERS)(_weights_or_normalization)
