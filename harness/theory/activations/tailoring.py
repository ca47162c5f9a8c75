"""Activations scaled and shifted so that their maps at length 1 have prescribed numbers.

A tailored activation is phi^(x) = g (phi(a x + b) + d). Under x ~ N(0, 1), with Q the map of the
length and C that of the cosine (for Q(1) = 1, as everywhere here):

    Q(1) = E phi^^2         Q'(1) = E x phi^ phi^'
    C(0) = (E phi^)^2       C'(1) = E phi^'^2         C''(1) = E phi^''^2

In a network of L such layers C'(1) becomes C'(1)^L, and where C'(1) = 1, C''(1) becomes L C''(1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize

from harness.errors import RequestError
from harness.theory.activations import quadrature
from harness.theory.activations.specifications import ActivationFunction, Array

# Starting points of the search, and the largest residual of a solution.
_INPUT_SCALES = (1.0, 0.3, 0.1, 0.03)
_INPUT_SHIFTS = (0.0, 1.0, -1.0, 0.3)
_RESIDUAL = 1e-8


@dataclass(frozen=True)
class Tailoring:
    """The constants of x -> output_scale * (phi(input_scale * x + input_shift) + output_shift)."""

    input_scale: float = 1.0
    input_shift: float = 0.0
    output_scale: float = 1.0
    output_shift: float = 0.0

    def apply(self, phi: ActivationFunction, name: str) -> ActivationFunction:
        """Returns the tailored activation."""

        def value(x: Array) -> Array:
            inner = phi.value(self.input_scale * x + self.input_shift)
            return self.output_scale * (inner + self.output_shift)

        def slope(x: Array) -> Array:
            inner = phi.slope(self.input_scale * x + self.input_shift)
            return self.output_scale * self.input_scale * inner

        def moved(points: tuple[float, ...]) -> tuple[float, ...]:
            return tuple((point - self.input_shift) / self.input_scale for point in points)

        return ActivationFunction(name, value, slope, moved(phi.kinks), moved(phi.breaks))


@cache
def gaussian_poincare(base: str, build: Callable[[], ActivationFunction]) -> Tailoring:
    """Returns the Gaussian-Poincare normalization of an activation, a phi(x) + b.

    E phi^^2 = E phi^'^2 = 1 (Lu, Gould and Ajanthan 2020, "Bidirectionally self-normalizing neural
    networks", Definition 2). Of the two b the greater one is taken. They exist for every phi, as
    Var phi is at most E phi'^2 (the Gaussian Poincare inequality).
    """
    phi = build()
    scale = float(quadrature.slope_square(phi, 0.0, 1.0)) ** -0.5
    mean, variance = (float(moment) for moment in quadrature.moments(phi, 0.0, 1.0))
    shift = -scale * mean + math.sqrt(max(1.0 - scale**2 * variance, 0.0))
    return Tailoring(output_scale=scale, output_shift=shift / scale)


@cache
def deep_kernel_shaping(
    base: str, build: Callable[[], ActivationFunction], slope: float
) -> Tailoring:
    """Returns the tailoring with Q(1) = 1, Q'(1) = 1, C(0) = 0 and C'(1) = slope.

    Martens et al. 2021, "Rapid training of deep neural networks without skip connections or
    normalization layers using deep kernel shaping", section 4.4.

    Raises:
        RequestError: there is none.
    """
    phi = build()

    def tailored(parameters: Sequence[float]) -> Tailoring:
        input_scale, input_shift = parameters
        moved = Tailoring(input_scale, input_shift).apply(phi, base)
        mean, variance = quadrature.moments(moved, 0.0, 1.0)
        return Tailoring(input_scale, input_shift, float(variance) ** -0.5, -float(mean))

    def residuals(candidate: ActivationFunction) -> list[float]:
        return [_length_slope(candidate) - 1.0, _cosine_slope(candidate) - slope]

    starts = list(itertools.product(_INPUT_SCALES, _INPUT_SHIFTS))
    wanted = f"Q'(1) = 1, C(0) = 0 and C'(1) = {slope:.6g}"
    return _solution(phi, base, tailored, residuals, starts, wanted)


@cache
def tailored_transformation(
    base: str, build: Callable[[], ActivationFunction], curvature: float
) -> Tailoring:
    """Returns the tailoring with Q(1) = 1, Q'(1) = 1, C'(1) = 1 and C''(1) = curvature.

    Zhang, Botev and Martens 2022, "Deep learning without shortcuts: shaping the kernel with
    tailored rectifiers", section 4.2.

    Raises:
        RequestError: there is none, as for an activation with a kink, whose C''(1) is infinite.
    """
    phi = build()
    if not math.isfinite(quadrature.curvature_square(phi, 1.0)):
        raise RequestError(
            f"activation.base={base}: its slope jumps, so that its C map has no curvature at 1; "
            "give a smooth activation, or leaky_relu"
        )

    def tailored(parameters: Sequence[float]) -> Tailoring:
        input_scale, input_shift, output_shift = parameters
        shifted = Tailoring(input_scale, input_shift, 1.0, output_shift).apply(phi, base)
        mean, variance = quadrature.moments(shifted, 0.0, 1.0)
        length = float(variance) + float(mean) ** 2
        return Tailoring(input_scale, input_shift, length**-0.5, output_shift)

    def residuals(candidate: ActivationFunction) -> list[float]:
        return [
            _length_slope(candidate) - 1.0,
            _cosine_slope(candidate) - 1.0,
            quadrature.curvature_square(candidate, 1.0) - curvature,
        ]

    starts = list(itertools.product(_INPUT_SCALES, _INPUT_SHIFTS, (0.0, 1.0, -1.0)))
    wanted = f"Q'(1) = 1, C'(1) = 1 and C''(1) = {curvature:.6g}"
    return _solution(phi, base, tailored, residuals, starts, wanted)


@cache
def tailored_rectifier(cosine: float, layers: int) -> float:
    """Returns the negative slope of the leaky ReLUs with which L layers take cosine 0 to `cosine`.

    Zhang, Botev and Martens 2022, section 4.1. The slope falls from 1 (a linear network, which
    keeps 0) to 0 as the cosine rises.

    Raises:
        RequestError: `layers` ReLUs do not reach the cosine.
    """

    def reached(negative_slope: float) -> float:
        c = 0.0
        for _ in range(layers):
            c = leaky_relu_cosine(c, negative_slope)
        return c - cosine

    if reached(0.0) < 0:
        raise RequestError(
            f"activation.cosine={cosine}: {layers} layers of ReLU take two orthogonal inputs to a "
            f"cosine of {reached(0.0) + cosine:.4g}; give less"
        )
    return float(optimize.brentq(reached, 0.0, 1.0, xtol=1e-14))


def leaky_relu_cosine(c: float, negative_slope: float) -> float:
    """Returns the C map of leaky ReLU (Zhang et al. 2022, Eq. 7; Cho and Saul 2009 at slope 0)."""
    bend = (1.0 - negative_slope) ** 2 / (math.pi * (1.0 + negative_slope**2))
    c = min(max(c, -1.0), 1.0)
    return c + bend * (math.sqrt(1.0 - c * c) - c * math.acos(c))


def _length_slope(phi: ActivationFunction) -> float:
    """Returns Q'(1) of an activation."""
    return float(quadrature.expectation(phi, lambda x: x * phi.value(x) * phi.slope(x), 0.0, 1.0))


def _cosine_slope(phi: ActivationFunction) -> float:
    """Returns C'(1) of an activation with Q(1) = 1."""
    return float(quadrature.slope_square(phi, 0.0, 1.0))


def _solution(
    phi: ActivationFunction,
    base: str,
    tailored: Callable[[Sequence[float]], Tailoring],
    residuals: Callable[[ActivationFunction], list[float]],
    starts: Sequence[tuple[float, ...]],
    wanted: str,
) -> Tailoring:
    """Returns the first tailoring without residuals that a search from the starts finds."""

    def objective(parameters: Sequence[float]) -> list[float]:
        if parameters[0] <= 0:
            return [1e3 * (1.0 - parameters[0])] * len(starts[0])
        return residuals(tailored(parameters).apply(phi, base))

    for start in starts:
        with np.errstate(all="ignore"):
            try:
                found = optimize.root(objective, start)
            except (RequestError, ZeroDivisionError, OverflowError):
                continue
        if found.success and max(map(abs, objective(found.x))) < _RESIDUAL:
            return tailored([float(parameter) for parameter in found.x])
    raise RequestError(f"activation.base={base}: no scales and shifts have {wanted}")
