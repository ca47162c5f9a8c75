"""Normal inputs with the labels of a fixed random teacher. No torch.

The control: its inputs keep the premises on inputs and on independence by construction.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from harness.configuration.schema import DatasetConfig
from harness.data.dataset_spec import Composition, Content, DatasetSpec, LabelledImages
from harness.data.splits import OfficialSplits
from harness.errors import RequestError

# Each (samples, shape, classes, participation ratio) has one fixed content, as a file would have.
_SEED = 20170608


def check(config: DatasetConfig) -> None:
    """Refuses options that are missing or out of range.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    for option in ("samples", "shape", "classes"):
        if getattr(config, option) is None:
            raise RequestError(f"dataset.{option} is missing: dataset=gaussian needs it")
    shape = list(config.shape)
    if len(shape) != 3 or min(shape) < 1:
        raise RequestError(
            f"dataset.shape={shape}: expected three integers of at least 1, [channels,height,width]"
        )
    if config.classes < 2:
        raise RequestError(f"dataset.classes={config.classes}: expected an integer of at least 2")
    if config.samples < config.classes:
        raise RequestError(
            f"dataset.samples={config.samples}: expected at least as many samples as classes "
            f"({config.classes})"
        )
    ratio = config.participation_ratio
    pixels = prod(shape)
    if ratio is not None and not 1 <= ratio <= pixels:
        raise RequestError(
            f"dataset.participation_ratio={ratio}: expected a number from 1 to {pixels}, "
            f"the number of pixels of shape {shape}"
        )


def compose(config: DatasetConfig) -> Composition:
    """Returns shape, classes and samples as the request gives them."""
    splits = OfficialSplits(config.samples)
    return Composition(tuple(config.shape), config.classes, splits, f"dataset={config.name}")


def read(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Draws the inputs and labels of a request."""
    images, labels = draw(
        config.samples, tuple(config.shape), config.classes, config.participation_ratio
    )
    return Content(LabelledImages(images, labels))


def draw(
    samples: int, shape: tuple[int, int, int], classes: int, participation_ratio: float | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draws inputs with mean 0 and mean variance 1, and the labels of a linear teacher.

    The covariance is the identity or, with a participation ratio, a power law over a random
    orthonormal basis. The teacher is argmax over `classes` of a random linear map of the
    independent normal factors, so it can be learned and its classes are about equally likely.

    Returns:
        Inputs (samples, channels, height, width), and labels (samples,).
    """
    pixels = prod(shape)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    teacher = generator.standard_normal((pixels, classes))
    basis = None
    if participation_ratio is not None:
        basis = generator.standard_normal((pixels, pixels))
    factors = generator.standard_normal((samples, pixels))
    labels = np.argmax(factors @ teacher, axis=1).astype(np.int64)
    if basis is not None:
        orthonormal, _ = np.linalg.qr(basis)
        deviations = np.sqrt(spectrum(pixels, participation_ratio))
        factors = (factors * deviations) @ orthonormal.T
    return factors.reshape(samples, *shape).astype(np.float32), labels


def spectrum(size: int, participation_ratio: float) -> NDArray[np.float64]:
    """Returns eigenvalues j^-a, j = 1..size, with mean 1 and the given participation ratio.

    The ratio is (sum)^2 / (sum of squares). A power law is the shape that natural images have
    (Field 1987, "Relations between the statistics of natural images and the response properties of
    cortical cells"). The ratio falls monotonically from `size` at a = 0 towards 1, so bisection
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
