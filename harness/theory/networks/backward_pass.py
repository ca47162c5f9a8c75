"""Backward pass of a prediction: squared gradients, with bands."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.theory.networks.bands import positive_band
from harness.theory.networks.forward_pass import ActivatedLayer, Step, Trace
from harness.theory.networks.signals import Signal

Array = NDArray[np.float64]

# Draws of the logits of two samples for the similarity of their residuals.
_LOGIT_DRAWS = 600
_SEED = 20170608
_TINY = 1e-300


def predict_gradients(steps: list[Step], trace: Trace) -> None:
    """Adds gradient_product and gradient_gain to the predictions of a complete forward pass.

    gradient_product is a layer's mean squared gradient over that of the last layer, gradient_gain
    the ratio to that of the layer after it. Nothing is added where theory could not follow the
    whole network, or where no gradient comes through.

    Two effects are not followed; the band holds both. The deviation of a unit divides its gradient,
    with E 1 / s^2 = (1 + 2 / PR) / E s^2. And batch normalization takes the gradient's projection
    on the unit out, which is as much where classes cluster.
    """
    layers = trace.layers
    if not layers or trace.reason is not None:
        return
    squares: dict[int, Array] = {}
    samples = len(layers[-1].gain)
    _pass_back(steps, np.ones((samples, 1, 1)), squares)
    level = np.array([float(squares[index].sum((1, 2)).mean()) for index in range(len(layers))])
    if level[-1] <= 0:
        return
    cosine_squares = (0.0, 0.0)
    strength = 0.0
    if trace.readout is not None:
        cosine_squares, strength = _logit_residuals(*trace.readout)
    product = level / level[-1]
    variance = _log_variances(layers, trace.sources, cosine_squares)
    uncertain = [layer.uncertain for layer in layers]
    uncertain_product = _sums_towards_end(np.array(uncertain[:-1]))
    uncertain_product = uncertain_product + np.log(_shared_weights_factor(level, strength, layers))
    for index, prediction in enumerate(trace.predictions):
        values = prediction.values
        if not values:
            continue
        values["gradient_product"] = positive_band(
            float(product[index]), float(variance[index]), float(uncertain_product[index])
        )
        if index and product[index] > 0:
            values["gradient_gain"] = positive_band(
                float(product[index - 1] / product[index]),
                max(float(variance[index - 1] - variance[index]), 0.0),
                uncertain[index - 1],
            )


def _pass_back(steps: list[Step], gradient: Array, squares: dict[int, Array]) -> Array:
    """Takes squared gradients back through steps, and keeps those of activated layers."""
    for step in reversed(steps):
        if step.branch is not None:
            branch = step.branch
            of_branch = _pass_back(branch.steps, branch.branch_scale**2 * gradient, squares)
            gradient = branch.skip_scale**2 * gradient + of_branch
            first = branch.steps[0].activated if branch.steps else None
            if first is not None:
                # This activation's input is what enters the block, so both paths lead to it.
                squares[first] = gradient
            continue
        gradient = step.backward(gradient)
        if step.activated is not None:
            squares[step.activated] = gradient
    return gradient


def _sums_towards_end(values: Array) -> Array:
    """Returns each value's sum with all after it, and a final 0."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)


def _shared_weights_factor(level: Array, strength: float, layers: list[ActivatedLayer]) -> Array:
    """Returns the factor that bands allow for because both passes use the same weights.

    To first order in 1 / width, the gradient d after weights W depends on W through z = W x. By
    Stein's lemma E |W'd|^2 exceeds the independent value by the share
    q / width ((tr H)^2 + |H|^2 + ..) / |d|^2, where H, the second derivative of the loss by z, is G
    times that by the logits, and G is the gain of the squared gradient from the logits to z. It
    matters where q G is large against the width. Measured excesses lie between none and all of it
    (terms of the activation's curvature are left out), so that the prediction itself stays that of
    independent passes.

    Args:
        level: (layers,) mean squared gradient.
        strength: see `_logit_residuals`.
        layers: the activated layers.
    """
    shares = []
    for index in range(1, len(layers)):
        entering = layers[index].entering
        shares.append(entering * level[index] * strength / layers[index - 1].units)
    share = np.array(shares)
    return np.append(np.cumprod((1.0 + share / (1.0 + share))[::-1])[::-1], 1.0)


def _log_variances(
    layers: list[ActivatedLayer], sources: list[float], cosine_squares: tuple[float, float]
) -> Array:
    """Returns the variance over networks of the log of each layer's gradient product, (layers,).

    A layer adds (E phi1'^2 phi2'^2 / (E phi1'^2 E phi2'^2) (1 + 2 cosine^2) - 1) / width for two
    samples whose gradients have that cosine. Lengths that differ from their mean change the gains
    as well.

    Args:
        layers: the activated layers.
        sources: relative variance of the mean length that each source adds.
        cosine_squares: mean square cosine at the logits, see `_logit_residuals`. On the way back
            the part of equal labels falls like that of the nearest samples.
    """
    different, equal = cosine_squares
    noise = np.zeros(len(layers))
    for index in reversed(range(len(layers))):
        layer = layers[index]
        positions = layer.gain.shape[1] * layer.gain.shape[2]
        square = layer.square * (1.0 + 2.0 * (different + equal) / positions)
        noise[index] = max(square - 1.0, 0.0) / float(layer.units)
        different = different * layer.cosine_kept[0]
        equal = equal * layer.cosine_kept[1]
    responses = np.zeros((len(layers), len(sources)))
    for index, layer in enumerate(layers):
        responses[index, : len(layer.responses)] = layer.responses
    response_of_product = np.cumsum(responses[:-1][::-1], 0)[::-1]
    of_lengths = np.append(np.square(response_of_product) @ np.array(sources), 0.0)
    return _sums_towards_end(noise[:-1]) + of_lengths


def _logit_residuals(logits: Signal, classes: int) -> tuple[tuple[float, float], float]:
    """Returns statistics of the residual p - y, softmax minus label, over random labels.

    Returns:
        Two samples' mean square cosine weighted by size, as the sum of what pairs of different
        labels and pairs of equal labels add; and the strength of the weights that both passes
        share, E[(tr A)^2 + |A|^2 - 4 p'A(p - y)] / E |p - y|^2 with A = diag(p) - pp'.
    """
    if classes < 2 or not math.isfinite(logits.level):
        return (0.0, 1.0), 0.0
    generator = np.random.Generator(np.random.PCG64(_SEED))
    cosine = min(max(logits.mean_cosine, 0.0), 1.0)
    common = generator.standard_normal((_LOGIT_DRAWS, 1, classes))
    own = generator.standard_normal((_LOGIT_DRAWS, 2, classes))
    unit_logits = math.sqrt(cosine) * common + math.sqrt(1 - cosine) * own
    z = math.sqrt(logits.level) * unit_logits
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    labels = generator.integers(classes, size=(_LOGIT_DRAWS, 2))
    residual = p - np.eye(classes)[labels]
    sizes = np.square(residual).sum(-1)
    products = (residual[:, 0] * residual[:, 1]).sum(-1)
    squares = np.square(products) / max(sizes.prod(1).mean(), _TINY)
    same_label = labels[:, 0] == labels[:, 1]
    different = float(np.where(same_label, 0.0, squares).mean())
    equal = float(np.where(same_label, squares, 0.0).mean())
    return (different, equal), _shared_weights_strength(p, residual, sizes)


def _shared_weights_strength(p: Array, residual: Array, sizes: Array) -> float:
    """Returns the strength of the weights that both passes share.

    E[(tr A)^2 + |A|^2 - 4 p'A(p - y)] / E |p - y|^2 with A = diag(p) - pp'.

    Args:
        p: (draws, 2, classes) softmax.
        residual: p - y, of the same shape.
        sizes: (draws, 2) squared length of the residual.
    """
    second_moment = np.square(p).sum(-1)
    trace = 1 - second_moment
    square_norm = np.square(p * (1 - p)).sum(-1) + second_moment**2 - (p**4).sum(-1)
    along_residual = (p * (p - second_moment[..., None]) * residual).sum(-1)
    mean = (trace**2 + square_norm - 4 * along_residual).mean()
    return max(float(mean / max(sizes.mean(), _TINY)), 0.0)
