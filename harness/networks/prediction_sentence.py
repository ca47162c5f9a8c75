"""The prediction of a network in words: activations, gradients, and cosines between samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.theory.networks.predictions import LayerPrediction
from harness.theory.selu.theorems import THEOREM_1

# A variance that changes by less than this a layer counts as steady, at the end of a network.
_STEADY_RATE = 0.02
# The rate at the end of a network is that of its last three steps.
_LAST_STEPS = 3
# Squared gradients that change by less than this factor count as unchanged.
_STEADY_GRADIENT = 1.1
# Samples whose mean cosine exceeds this look alike.
_ALIKE_COSINE = 0.9
# A variance within this share of the first layer's counts as kept.
_KEPT_CHANGE = 0.1


def prediction_sentence(
    layers: Sequence[LayerPrediction],
    training: Sequence[LayerPrediction] | None,
    input_cosine: float,
) -> str:
    """Returns what to expect of a network, or why theory cannot follow it.

    Args:
        layers: predictions without dropout acting.
        training: predictions with dropout acting, or None where there is no dropout.
        input_cosine: mean cosine between two input samples.
    """
    for layer in layers:
        if layer.reason is not None:
            return f"Theory cannot follow layer {layer.layer}: {layer.reason}."
    if not layers[-1].values:
        return "Theory predicts that nothing passes: the inputs are 0."
    clauses = "; ".join(
        [
            _activation_clause(layers),
            _gradient_clause(layers),
            _cosine_clause(layers, input_cosine),
        ]
    )
    depth = f"{len(layers)} layer" if len(layers) == 1 else f"{len(layers)} layers"
    sentence = f"Theory predicts, over {depth}: {clauses}."
    if training is not None and training[0].values:
        change = _change_of_gradients(training[0]["gradient_product"])
        sentence += f" With dropout acting, squared gradients {change} towards the first layer."
    return sentence


def _activation_clause(layers: Sequence[LayerPrediction]) -> str:
    variances = np.array([layer["activation_variance"] for layer in layers])
    last = variances[-1]
    mean = layers[-1]["activation_mean"]
    if len(layers) > _LAST_STEPS + 1:
        earlier = variances[-1 - _LAST_STEPS]
        rate = (last / earlier) ** (1 / _LAST_STEPS) if min(last, earlier) > 0 else 1.0
        if abs(rate - 1) > _STEADY_RATE:
            verb = "shrinks" if rate < 1 else "grows"
            return (
                f"the variance of activations {verb}, at the end by a factor of {rate:.3g} a "
                f"layer, to {last:.3g}, with mean {mean:.2g}"
            )
    change = last / variances[0] - 1
    verb = "keep" if abs(change) < _KEPT_CHANGE else "reach"
    (box,) = THEOREM_1.boxes
    inside = box.nu[0] <= last <= box.nu[1] and box.mu[0] <= mean <= box.mu[1]
    place = "inside" if inside else "outside"
    shown_mean = round(mean, 2) + 0.0  # Adding 0 turns -0.0 into 0.0.
    return (
        f"activations {verb} mean {shown_mean:.2f} and variance {last:.2f}, "
        f"{place} Theorem 1's range"
    )


def _gradient_clause(layers: Sequence[LayerPrediction]) -> str:
    if len(layers) == 1:
        return "with one layer there is no gradient to follow"
    product = layers[0]["gradient_product"]
    if math.isnan(product):
        return "no gradient comes through the readout at first"
    rate = product ** (1 / (len(layers) - 1)) if product > 0 else 0.0
    return (
        f"squared gradients {_change_of_gradients(product)} from the last layer to the first "
        f"({rate:.3g} a layer)"
    )


def _cosine_clause(layers: Sequence[LayerPrediction], input_cosine: float) -> str:
    last = layers[-1]["cosine"]
    clause = (
        f"the mean cosine between samples goes from {input_cosine:.2f} at the input to {last:.2f}"
    )
    return f"{clause} (samples look alike)" if last > _ALIKE_COSINE else clause


def _change_of_gradients(product: float) -> str:
    """Returns a verb with the factor by which squared gradients change over the whole network."""
    if product >= _STEADY_GRADIENT:
        return f"grow by a factor of {product:.3g}"
    if 0 < product < 1 / _STEADY_GRADIENT:
        return f"shrink by a factor of {1 / product:.3g}"
    if product <= 0:
        return "vanish"
    return f"stay the same (factor {product:.3g})"
