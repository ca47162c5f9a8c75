"""SELU's map g of mean and variance, its fixed points and its theorems.

Everything that callers need is importable from here:

- `selu_function`: the activation itself and its constants alpha and lambda.
- `exponential_linear`: Gaussian moments of the family to which SELU, ELU and ReLU belong.
- `moment_map`: g with its Jacobian, spectral norm and fixed points.
- `fixed_point_search`: the solver behind `fixed_points`.
- `theorems`: the domains and claims of the three theorems.

Source: Klambauer, Unterthiner, Mayr and Hochreiter 2017, "Self-Normalizing Neural Networks"
(arXiv:1706.02515); equation numbers are those of the arXiv version.
"""

from __future__ import annotations

from harness.theory.selu.fixed_point_search import FixedPoint
from harness.theory.selu.moment_map import (
    fixed_points,
    gaussian_moments,
    jacobian,
    map_moments,
    slopes,
    spectral_norm,
)
from harness.theory.selu.selu_function import ALPHA, FLOOR, LAMBDA, selu, selu_slope
from harness.theory.selu.theorems import (
    THEOREM_1,
    THEOREM_1_BOX,
    THEOREM_2,
    THEOREM_3,
    THEOREMS,
    Box,
    Theorem,
    theorem,
)

__all__ = [
    "ALPHA",
    "FLOOR",
    "LAMBDA",
    "THEOREMS",
    "THEOREM_1",
    "THEOREM_1_BOX",
    "THEOREM_2",
    "THEOREM_3",
    "Box",
    "FixedPoint",
    "Theorem",
    "fixed_points",
    "gaussian_moments",
    "jacobian",
    "map_moments",
    "selu",
    "selu_slope",
    "slopes",
    "spectral_norm",
    "theorem",
]
