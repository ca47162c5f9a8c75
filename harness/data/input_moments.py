"""The moments of a network's inputs that its theory starts from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Samples that are held in float64 at a time.
_CHUNK = 4096


@dataclass(frozen=True)
class InputMoments:
    """Moments of inputs x with n entries.

    Attributes:
        mean: pooled over all samples and entries.
        variance: pooled over all samples and entries.
        q: mean over samples of |x|^2 / n.
        cv_q: coefficient of variation over samples of |x|^2 / n.
        c: mean cosine between different samples.
        participation_ratio: (tr S)^2 / tr(S^2) of the covariance S over inputs.
    """

    mean: float
    variance: float
    q: float
    cv_q: float
    c: float
    participation_ratio: float


def input_moments(images: Tensor) -> InputMoments:
    """Returns the moments of images (samples, ...), accumulated in float64.

    All are those of the given samples, without correction for their number: for Gaussian weights
    the variance over these samples of a unit's pre-activation then has, over units, the
    coefficient of variation sqrt(2 / participation_ratio) exactly. Samples of norm 0 have no
    direction and are left out of `c`. NaN where a value is undefined: `c` with fewer than two such
    samples, `participation_ratio` and `cv_q` where the divisor is 0.
    """
    flat = images.flatten(1)
    count, size = flat.shape
    centre = sum(part.sum(0) for part in _chunks(flat)) / count
    mean = centre.mean()
    squares = sum((part - mean).square().sum() for part in _chunks(flat))
    lengths = torch.cat([part.square().mean(1) for part in _chunks(flat)])
    q = lengths.mean()
    return InputMoments(
        mean=float(mean),
        variance=float(squares / (count * size)),
        q=float(q),
        cv_q=float(lengths.std(correction=0) / q),
        c=_mean_cosine(flat),
        participation_ratio=_participation_ratio(flat, centre),
    )


def _mean_cosine(flat: Tensor) -> float:
    """Mean over ordered pairs of different samples: (|sum of directions|^2 - N) / (N (N - 1))."""
    total = torch.zeros(flat.shape[1], dtype=torch.float64, device=flat.device)
    count = 0
    for part in _chunks(flat):
        norms = part.norm(dim=1)
        directed = norms > 0
        total += (part[directed] / norms[directed, None]).sum(0)
        count += int(directed.sum())
    if count < 2:
        return math.nan
    return float((total.square().sum() - count) / (count * (count - 1)))


def _participation_ratio(flat: Tensor, centre: Tensor) -> float:
    # The covariance and the Gram matrix of the centred samples have the same eigenvalues up to
    # zeros; the smaller one is used.
    count, size = flat.shape
    if size <= count:
        product = torch.zeros(size, size, dtype=torch.float64, device=flat.device)
        for part in _chunks(flat):
            product.addmm_((part - centre).T, part - centre)
    else:
        centred = flat.double() - centre
        product = centred @ centred.T
    return float(product.trace().square() / product.square().sum())


def _chunks(flat: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK].double()
