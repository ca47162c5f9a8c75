"""Preprocessing by name, fitted on the training split alone.

Standardising keeps what varies and never divides by zero: a channel or pixel that is constant over
the training split, and a sample of one value, become 0 and are counted.
"""

from __future__ import annotations

import math
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

# The inverse of this deviation, times a pixel, is still a float32.
_SMALLEST_DEVIATION = 1e-30
# Samples that are held in float64, or as an intermediate, at a time.
_CHUNK = 4096
_FULL_BRIGHTNESS = 255.0


@dataclass(frozen=True)
class Fitted:
    """A fitted preprocessing.

    Attributes:
        transform: maps float32 images to float32 images.
        shift: added after scaling.
        scale: factor after the transform.
        report: `constant_pixels` and `zero_variance_samples` of the training split.
    """

    transform: Transform
    shift: float
    scale: float
    report: dict[str, int]

    def apply(self, images: Tensor) -> Tensor:
        """Returns the transform of images, then `* scale + shift`.

        float32, (samples, channels, height, width).
        """
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        for start in range(0, len(images), _CHUNK):
            part = self.transform(images[start : start + _CHUNK].to(torch.float32))
            if (self.scale, self.shift) != (1.0, 0.0):
                part = part * self.scale + self.shift
            result[start : start + _CHUNK] = part
        return result


def fit(config: PreprocessingConfig, training_images: Tensor, full_scale: float | None) -> Fitted:
    """Fits a preprocessing on training images.

    Args:
        config: the preprocessing and its options.
        training_images: (samples, channels, height, width), any real dtype.
        full_scale: the value of full brightness (`ImageSet.full_scale`), by which `none` divides
            and which `raw` stretches to 255. None where inputs are no brightnesses (the gaussian
            set): then `none` and `raw` leave them as they are.

    Raises:
        RequestError: unknown name, a value that is not finite, or zca with an epsilon that is not a
            finite number above 0.
    """
    make_transform = preprocessings[config.name]
    if training_images.is_floating_point() and not bool(torch.isfinite(training_images).all()):
        raise RequestError(
            "the training images hold a value that is not a finite number (NaN or infinite); "
            "mend the data set"
        )
    transform = make_transform(config, training_images, full_scale)
    return Fitted(transform, config.shift, config.scale, report(training_images))


def report(images: Tensor) -> dict[str, int]:
    """Counts pixels of one value in all samples, and samples of one value in all pixels."""
    flat = images.flatten(1)
    constant_pixels = flat.amin(0) == flat.amax(0)
    constant_samples = flat.amin(1) == flat.amax(1)
    return {
        "constant_pixels": int(constant_pixels.sum()),
        "zero_variance_samples": int(constant_samples.sum()),
    }


@preprocessings.register("none")
def _none(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    if full_scale is None:
        return _unchanged
    return lambda x: x / full_scale


@preprocessings.register("raw")
def _raw(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    if full_scale is None:
        return _unchanged
    return lambda x: x * (_FULL_BRIGHTNESS / full_scale)


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
        deviation = centred.square().mean(1, keepdim=True).sqrt()
        return (centred * _inverse(deviation, constant)).float().view_as(x)

    return transform


@preprocessings.register("zca")
def _zca(config: PreprocessingConfig, images: Tensor, full_scale: float | None) -> Transform:
    """Fits X -> U (S + epsilon s)^(-1/2) U' (x - m), covariance U S U', mean eigenvalue s.

    Bell and Sejnowski 1997. In units of s, epsilon means the same for every data set and
    brightness scale; the result's covariance has the eigenvalues S / (S + epsilon s).
    """
    if config.epsilon is None or not 0 < config.epsilon < math.inf:
        raise RequestError(
            f"preprocessing.epsilon={config.epsilon}: expected a number above 0 for "
            "preprocessing=zca"
        )
    mean, _ = _moments(images, (0,))
    varying = (images.amin(0) != images.amax(0)).flatten().to(torch.float64)
    size = varying.numel()
    covariance = torch.zeros(size, size, dtype=torch.float64, device=images.device)
    for part in _chunks(images):
        centred = (part - mean).flatten(1) * varying
        covariance.addmm_(centred.T, centred)
    eigenvalues, vectors = torch.linalg.eigh(covariance / len(images))
    eigenvalues = eigenvalues.clamp_min(0.0)
    raised = eigenvalues + config.epsilon * eigenvalues.mean()
    gains = _inverse(raised.sqrt(), raised == 0)
    # A constant pixel is an eigenvector of its own; without its row it stays 0 whatever it is in
    # other splits.
    whitening = ((vectors * gains) @ vectors.T * varying[:, None]).float()
    offset = mean.float().flatten()
    return lambda x: ((x.flatten(1) - offset) @ whitening.T).view_as(x)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _standardize_over(images: Tensor, dims: tuple[int, ...]) -> Transform:
    mean, variance = _moments(images, dims)
    constant = images.amin(dims, keepdim=True) == images.amax(dims, keepdim=True)
    gain = _inverse(variance.sqrt(), constant).float()
    offset = mean.float()
    return lambda x: (x - offset) * gain


def _inverse(deviation: Tensor, constant: Tensor) -> Tensor:
    """1 / deviation, and 0 where the values are constant."""
    return torch.where(constant, 0.0, 1.0 / deviation.clamp_min(_SMALLEST_DEVIATION))


def _moments(images: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and population variance over `dims` (0 among them), dims kept.

    Two passes in float64.
    """
    total = sum(part.sum(dims, keepdim=True) for part in _chunks(images))
    count = images.numel() / total.numel()
    mean = total / count
    squares = sum((part - mean).square().sum(dims, keepdim=True) for part in _chunks(images))
    return mean, squares / count


def _chunks(images: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK].double()
