"""Preprocessing by name, fitted on the training split alone.

Standardising keeps what varies and never divides by zero: a channel or pixel that is constant over the training split, and
a sample of one value, become 0 and are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.configuration.schema import PreprocessingConfig
from harness.errors import RequestError
from harness.registry import Registry

# Maps float32 images (samples, channels, height, width) to float32 images of the same shape.
Transform = Callable[[Tensor], Tensor]

preprocessings: Registry = Registry("preprocessing")

_SMALLEST_DEVIATION = 1e-30  # its inverse, times a pixel, is still a float32
_CHUNK = 4096  # samples held in float64, or as an intermediate, at a time


@dataclass(frozen=True)
class Fitted:
    """A fitted preprocessing. `report` counts `constant_pixels` and `zero_variance_samples` of the training split."""

    transform: Transform
    shift: float
    scale: float
    report: dict[str, int]

    def apply(self, images: Tensor) -> Tensor:
        """float32 (samples, channels, height, width): the transform, then `* scale + shift`."""
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        for start in range(0, len(images), _CHUNK):
            part = self.transform(images[start : start + _CHUNK].to(torch.float32))
            result[start : start + _CHUNK] = (
                part if (self.scale, self.shift) == (1.0, 0.0) else part * self.scale + self.shift
            )
        return result


def fit(config: PreprocessingConfig, training_images: Tensor, full_scale: float | None) -> Fitted:
    """Fit on training images (samples, channels, height, width) of any real dtype.

    Args:
        full_scale: the value of full brightness (`ImageSet.full_scale`), by which `none` divides and which `raw` stretches to
            255. None where inputs are no brightnesses (the gaussian set): then `none` and `raw` leave them as they are.

    Raises:
        RequestError: unknown name, a value that is not finite, or zca with an epsilon that is not above 0.
    """
    transform = preprocessings[config.name]
    if training_images.is_floating_point() and not bool(torch.isfinite(training_images).all()):
        raise RequestError(
            "the training images hold a value that is not a finite number (NaN or infinite); mend the data set"
        )
    return Fitted(
        transform(config, training_images, full_scale),
        config.shift,
        config.scale,
        report(training_images),
    )


def report(images: Tensor) -> dict[str, int]:
    """How many pixels have one value in all samples, and how many samples have one value in all pixels."""
    flat = images.flatten(1)
    return {
        "constant_pixels": int((flat.amin(0) == flat.amax(0)).sum()),
        "zero_variance_samples": int((flat.amin(1) == flat.amax(1)).sum()),
    }


@preprocessings.register("none")
def _none(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    return (lambda x: x) if full_scale is None else (lambda x: x / full_scale)


@preprocessings.register("raw")
def _raw(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    return (lambda x: x) if full_scale is None else (lambda x: x * (255.0 / full_scale))


@preprocessings.register("global")
def _global(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    return _standardize_over(images, (0, 1, 2, 3))


@preprocessings.register("per_channel")
def _per_channel(
    config: PreprocessingConfig, images: Tensor, full_scale: float | None
) -> Transform:
    return _standardize_over(images, (0, 2, 3))


@preprocessings.register("per_pixel")
def _per_pixel(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    return _standardize_over(images, (0,))


@preprocessings.register("per_sample")
def _per_sample(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    def transform(x: Tensor) -> Tensor:
        flat = x.flatten(1).double()
        centred = flat - flat.mean(1, keepdim=True)
        constant = flat.amin(1, keepdim=True) == flat.amax(1, keepdim=True)
        gain = _inverse(centred.square().mean(1, keepdim=True).sqrt(), constant)
        return (centred * gain).float().view_as(x)

    return transform


@preprocessings.register("zca")
def _zca(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    """X -> U (S + epsilon s)^(-1/2) U' (x - m) with covariance U S U' and mean eigenvalue s (Bell and Sejnowski 1997).

    In units of s, epsilon means the same for every data set and brightness scale; the result's covariance has the
    eigenvalues S / (S + epsilon s).
    """
    if config.epsilon is None or not config.epsilon > 0:
        raise RequestError(
            f"preprocessing.epsilon={config.epsilon}: expected a number above 0 for preprocessing=zca"
        )
    mean, _ = _moments(images, (0,))
    kept = (images.amin(0) != images.amax(0)).flatten().to(torch.float64)
    covariance = torch.zeros(kept.numel(), kept.numel(), dtype=torch.float64, device=images.device)
    for part in _chunks(images):
        centred = (part - mean).flatten(1) * kept
        covariance.addmm_(centred.T, centred)
    values, vectors = torch.linalg.eigh(covariance / len(images))
    values = values.clamp_min(0.0)
    floor = config.epsilon * values.mean()
    gains = _inverse((values + floor).sqrt(), values + floor == 0)
    # A constant pixel is an eigenvector of its own; without its row it stays 0 whatever it is in other splits.
    whitening = ((vectors * gains) @ vectors.T * kept[:, None]).float()
    offset = mean.float().flatten()
    return lambda x: ((x.flatten(1) - offset) @ whitening.T).view_as(x)


def _standardize_over(images: Tensor, dims: tuple[int, ...]) -> Transform:
    mean, variance = _moments(images, dims)
    constant = images.amin(dims, keepdim=True) == images.amax(dims, keepdim=True)
    gain = _inverse(variance.sqrt(), constant).float()
    offset = mean.float()
    return lambda x: (x - offset) * gain


def _inverse(deviation: Tensor, constant: Tensor) -> Tensor:
    return torch.where(constant, 0.0, 1.0 / deviation.clamp_min(_SMALLEST_DEVIATION))


def _moments(images: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and population variance over `dims` (0 among them), dims kept, in two passes in float64."""
    total = sum(part.sum(dims, keepdim=True) for part in _chunks(images))
    count = images.numel() / total.numel()
    mean = total / count
    variance = (
        sum((part - mean).square().sum(dims, keepdim=True) for part in _chunks(images)) / count
    )
    return mean, variance


def _chunks(images: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK].double()
