"""Normal inputs with the labels of a fixed random teacher: the control in which every assumption must hold."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

# The content is one fixed set for each (samples, shape, classes, participation ratio), as a file would be.
_SEED = 20170608


def draw(
    samples: int, shape: tuple[int, int, int], classes: int, participation_ratio: float | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs (samples, channels, height, width) with mean 0 and mean variance 1, and the labels of a linear teacher.

    The covariance is the identity or, with a participation ratio, a power law over a random orthonormal basis. The teacher
    is argmax over `classes` of a random linear map of the independent normal factors, so it can be learned and its classes
    are about equally likely.
    """
    pixels = prod(shape)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    teacher = generator.standard_normal((pixels, classes))
    basis = generator.standard_normal((pixels, pixels)) if participation_ratio is not None else None
    factors = generator.standard_normal((samples, pixels))
    labels = np.argmax(factors @ teacher, axis=1).astype(np.int64)
    if basis is not None:
        orthonormal, _ = np.linalg.qr(basis)
        factors = (factors * np.sqrt(spectrum(pixels, participation_ratio))) @ orthonormal.T
    return factors.reshape(samples, *shape).astype(np.float32), labels


def spectrum(size: int, participation_ratio: float) -> NDArray[np.float64]:
    """Eigenvalues j^-a, j = 1..size, scaled to mean 1, with (sum)^2 / (sum of squares) = `participation_ratio`.

    A power law is the shape that natural images have (Field 1987, "Relations between the statistics of natural images and
    the response properties of cortical cells"). The ratio falls monotonically from `size` at a = 0 towards 1, so bisection
    finds the exponent to the last bits.
    """
    low, high = 0.0, 64.0
    for _ in range(200):
        exponent = (low + high) / 2
        values = _power_law(size, exponent)
        if values.sum() ** 2 / (values**2).sum() > participation_ratio:
            low = exponent
        else:
            high = exponent
    return _power_law(size, high)


def _power_law(size: int, exponent: float) -> NDArray[np.float64]:
    values = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return values * (size / values.sum())
