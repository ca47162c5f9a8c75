"""Statistics of a model's inputs that the lint judges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of a model's inputs.

    Attributes:
        mean: pooled over samples and entries.
        variance: pooled over samples and entries.
        cosine: mean cosine of two different samples, NaN where fewer than two have a length.
    """

    mean: float
    variance: float
    cosine: float

    @classmethod
    def measured(cls, inputs: Tensor) -> InputStatistics | None:
        """Returns the statistics of inputs (samples, ...), sample by sample to bound memory.

        None where the inputs are integers, such as tokens.
        """
        if not inputs.is_floating_point():
            return None
        directions = torch.zeros(inputs[0].numel(), dtype=torch.float64, device=inputs.device)
        count = 0
        moments = numpy.zeros(2)
        for sample in inputs.flatten(1):
            values = sample.double()
            moments += [float(values.mean()), float(values.square().mean())]
            norm = float(values.norm())
            if norm > 0:
                directions += values / norm
                count += 1
        mean, square = moments / len(inputs)
        cosine = math.nan
        if count > 1:
            pairs = count * (count - 1)
            # |sum of unit vectors|^2 is the sum of the cosines of all pairs, equal ones included.
            cosine = (float(directions.square().sum()) - count) / pairs
        return cls(mean, square - mean**2, cosine)
