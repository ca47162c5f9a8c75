"""Theory's predictions for a model's layers, given the scale of their weights.

The model is described as a network of independent random weights with each layer's own mean
square, so for a trained model the prediction is the line to compare with, not a claim.
"""

from __future__ import annotations

import math

from torch import Tensor

from harness.errors import RequestError
from harness.networks.tracing.described_structure import network_of
from harness.networks.tracing.structure import Structure
from harness.theory.networks import predictions

_FEWEST_SAMPLES = 4
# Ranks of inputs that theory describes: vectors and images, the samples included.
_RANKS = (2, 4)


def predicted_columns(
    structure: Structure, inputs: Tensor
) -> tuple[list[dict[str, float]], str | None]:
    """Predicts the layers of a model from its inputs.

    Args:
        structure: the model's structure.
        inputs: (samples, ...).

    Returns:
        The `predicted_*` columns of each activated layer, with their bands; and the reason why
        theory predicts nothing from some layer on, or None.
    """
    nothing: list[dict[str, float]] = [{} for _ in structure.activated]
    described = inputs.is_floating_point() and inputs.dim() in _RANKS
    if not described or len(inputs) < _FEWEST_SAMPLES:
        return nothing, "the inputs are neither vectors nor images, or fewer than 4"
    images = inputs.detach().cpu().double().numpy()
    if images.ndim == 2:
        images = images[:, :, None, None]
    try:
        network, own_activations = network_of(structure)
        layers = predictions.predict(
            network,
            predictions.Inputs(predictions.representatives(images)),
            len(inputs),
            activations=own_activations,
        )
    except RequestError as error:
        return nothing, str(error)
    ends = [f"layer {layer.layer}: {layer.reason}" for layer in layers if layer.reason is not None]
    return [_columns(layer) for layer in layers], ends[0] if ends else None


def _columns(layer: predictions.LayerPrediction) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, value in layer.values.items():
        columns[f"predicted_{name}"] = float(value.value)
        if math.isfinite(value.low):
            columns[f"predicted_{name}_low"] = float(value.low)
            columns[f"predicted_{name}_high"] = float(value.high)
    return columns
