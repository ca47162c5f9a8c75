"""The prediction of one activated layer, and the depth at which inputs are forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.theory.networks.bands import Value
from harness.theory.selu.theorems import THEOREM_1


@dataclass(frozen=True)
class LayerPrediction:
    """The prediction of one activated layer.

    Attributes:
        layer: number of the layer, counted from 1.
        units: its width.
        values: predictions by the names of the measured columns: pre_activation_mean,
            pre_activation_variance, activation_mean, activation_variance, q, q_cv, cosine,
            between_unit_share, participation_ratio, empirical_slope, unit_variance_cv,
            gradient_product, gradient_gain. Empty where nothing passes.
        reason: why there are no values, or None.
    """

    layer: int
    units: int
    values: dict[str, Value] = field(default_factory=dict)
    reason: str | None = None

    def __getitem__(self, name: str) -> float:
        """Returns a predicted number, NaN where there is none."""
        return self.values[name].value if name in self.values else math.nan


def recovery_depths(
    predictions: Sequence[LayerPrediction], input_cosine: float
) -> tuple[int | None, int | None]:
    """Returns the layers at which the inputs' variance and cosine are forgotten.

    The first number is that of the first layer whose activations' variance is in Theorem 1's
    [0.8, 1.5], the second that of the first layer whose cosine is at most half that of the inputs.
    Either is None where no layer of the network gets there.
    """
    (box,) = THEOREM_1.boxes
    low, high = box.nu
    variance_depth = None
    cosine_depth = None
    for prediction in predictions:
        if variance_depth is None and low <= prediction["activation_variance"] <= high:
            variance_depth = prediction.layer
        halved = prediction["cosine"] <= 0.5 * input_cosine
        if cosine_depth is None and input_cosine > 0 and halved:
            cosine_depth = prediction.layer
    return variance_depth, cosine_depth
