"""Dependence of units over samples, and its consequence: per-unit variances that differ.

For W with independent entries of variance s^2 and inputs of covariance Sigma, the variance of unit
i over samples is w_i' Sigma w_i. Over units it has mean s^2 tr Sigma and, with
PR = (tr Sigma)^2 / tr Sigma^2 the participation ratio of the inputs, CV = sqrt(2 / PR) for Gaussian
weights; independent inputs of one variance have PR = fan_in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.probes.columns import Columns, absent, unit_variance
from harness.probes.eigenvalues import eigenvalues
from harness.probes.readings import LayerReading
from harness.probes.reductions import Moments, blocks, norms, ratio, unit_moments
from harness.probes.statistic import statistic

# Units whose correlations are taken pair by pair, evenly spread over the layer.
_MOST_UNITS = 512


@statistic(
    cost="slow",
    columns={
        "mean_abs_correlation": (
            "Mean |rho| over pairs of units, rho the correlation of their z over samples; of at "
            f"most {_MOST_UNITS} units."
        ),
        "mean_abs_correlation_null": (
            "`mean_abs_correlation` for independent Gaussian units and n samples: "
            "Gamma((n - 1) / 2) / (sqrt(pi) Gamma(n / 2))."
        ),
        "participation_ratio": (
            "(tr S)^2 / tr S^2 of the covariance S of z over units, corrected for the number of "
            "samples: the number of directions in which z varies; of at most "
            f"{_MOST_UNITS} units."
        ),
        "entropy_rank": (
            "exp(-sum p log p), p the eigenvalues of the covariance of z as shares; at most the "
            f"number of samples; of at most {_MOST_UNITS} units."
        ),
    },
)
def correlations(reading: LayerReading) -> Columns:
    """Returns correlations of units of z and the effective dimensions of z.

    Constant units are left out. Of a layer wider than 512 units they are those of 512.
    """
    standard = reading.standard_rows
    rows, count = standard.shape[1:]
    most = min(count, _MOST_UNITS)
    units = torch.linspace(0, count - 1, most, device=standard.device).round().long()
    taken = standard if len(units) == count else standard[:, :, units]
    correlation = taken.transpose(1, 2) @ taken / rows
    varying = (~reading.constant[:, units]).sum(1).double()
    pairs = varying * (varying - 1)
    off_diagonal = correlation.abs().sum((1, 2), dtype=torch.float64) - varying
    variance = torch.where(reading.constant, 0.0, reading.row_moments.variance)[:, units]
    scale = (variance / variance.mean(1, keepdim=True)).sqrt().to(taken.dtype)
    lengths = taken.square() @ scale.square().unsqueeze(2)
    fourth = lengths.double().square().sum((1, 2))
    covariance = correlation * scale.unsqueeze(1) * scale.unsqueeze(2)
    gram = _Gram(covariance, fourth, rows)
    return {
        "mean_abs_correlation": torch.where(pairs > 0, off_diagonal / pairs, torch.nan),
        "mean_abs_correlation_null": torch.full_like(varying, _mean_abs_correlation(rows)),
        "participation_ratio": gram.participation_ratio(),
        "entropy_rank": gram.entropy_rank(),
    }


@statistic(
    cost="slow",
    columns={
        "unit_variance_cv": (
            "Coefficient of variation over units of the variance of W x over samples."
        ),
        "weight_excess_kurtosis": "Excess kurtosis of all weights of the layer.",
        "predicted_unit_variance_cv": (
            "`unit_variance_cv` for independent weights: CV^2 = 2 tr S^2 / (tr S)^2 + "
            "kappa sum_j S_jj^2 / (tr S)^2, S the covariance of the inputs and kappa the excess "
            "kurtosis of the weights; sqrt(2 / participation ratio of S) for Gaussian weights."
        ),
        "input_participation_ratio": (
            "(tr S)^2 / tr S^2 of the covariance S of the inputs, corrected for the number of "
            "samples; equal to fan_in for independent inputs of one variance."
        ),
        "predicted_mean_drive": (
            "`mean_drive` for independent weights: |m|^2 / tr S, m and S the mean and covariance "
            "of the inputs."
        ),
    },
)
def variance_law(reading: LayerReading) -> Columns:
    """Returns the spread over units of their variances, measured and for independent weights.

    The prediction takes S from the same rows: CV^2 = 2 tr S^2 / (tr S)^2 +
    kappa sum_j S_jj^2 / (tr S)^2. `input_participation_ratio` is corrected for the number of rows.
    """
    if reading.direct:
        variance = reading.row_moments.variance
    else:
        variance = unit_moments(reading.rows.outputs).variance
    kurtosis = _excess_kurtosis(reading.weight, reading.omega)
    columns = {
        "unit_variance_cv": unit_variance(variance).sqrt() / variance.mean(1),
        "weight_excess_kurtosis": kurtosis,
    }
    inputs = reading.rows.inputs
    if inputs is None:
        return columns | absent(
            variance,
            "predicted_unit_variance_cv",
            "input_participation_ratio",
            "predicted_mean_drive",
        )
    moments = reading.input_unit_moments if inputs is reading.inputs else unit_moments(inputs)
    gram = _gram(inputs, moments)
    trace = moments.variance.sum(1)
    diagonal = moments.variance.square().sum(1) / trace.square()
    squared_cv = 2 * gram.square / gram.trace.square() + kurtosis * diagonal
    columns["predicted_unit_variance_cv"] = squared_cv.clamp(min=0).sqrt()
    columns["input_participation_ratio"] = gram.participation_ratio()
    columns["predicted_mean_drive"] = ratio(moments.mean.square().sum(1), trace)
    return columns


@dataclass(frozen=True)
class _Gram:
    """Second moments of centred vectors x.

    Attributes:
        matrix: their covariance S, or X X' / rows where that is smaller: (trials, n, n).
        fourth: sum of |x|^4, (trials,).
        rows: number of vectors.
    """

    matrix: Tensor
    fourth: Tensor
    rows: int

    @cached_property
    def trace(self) -> Tensor:
        """The trace of S, (trials,)."""
        return torch.diagonal(self.matrix, dim1=1, dim2=2).sum(1, dtype=torch.float64)

    @cached_property
    def square(self) -> Tensor:
        """The trace of S^2, (trials,)."""
        return norms(self.matrix).square().sum(1)

    def participation_ratio(self) -> Tensor:
        """(tr Sigma)^2 / tr Sigma^2, (trials,).

        From pairs of distinct rows: tr S^2 alone would count each row's own |x|^4.
        """
        square = (self.rows * self.square - self.fourth / self.rows) / (self.rows - 1)
        defined = (square > 0) & (self.trace > 0)
        return torch.where(defined, self.trace.square() / square, torch.nan)

    def entropy_rank(self) -> Tensor:
        """Exponential of the entropy of the eigenvalues' shares, (trials,)."""
        defined = torch.isfinite(self.trace) & (self.trace > 0)
        # The solver refuses NaN, and one bad trial must not cost the others.
        identity = torch.eye(self.matrix.shape[1], device=self.matrix.device)
        matrix = torch.where(defined.view(-1, 1, 1), self.matrix, identity)
        spectrum = eigenvalues(matrix).double().clamp(min=0)
        shares = spectrum / spectrum.sum(1, keepdim=True)
        return torch.where(defined, torch.special.entr(shares).sum(1).exp(), torch.nan)


def _gram(vectors: Tensor, moments: Moments) -> _Gram:
    """Gram matrix of vectors (trials, rows, dimensions) with their moments.

    Scaled to unit variance on average, products in float32.
    """
    rows, dimensions = vectors.shape[1:]
    scale = moments.variance.mean(1).rsqrt().to(vectors.dtype)
    centred = (vectors - moments.mean.to(vectors.dtype).unsqueeze(1)).mul_(scale.view(-1, 1, 1))
    if dimensions <= rows:
        matrix = centred.transpose(1, 2) @ centred / rows
    else:
        matrix = centred @ centred.transpose(1, 2) / rows
    return _Gram(matrix, norms(centred).pow(4).sum(1), rows)


def _excess_kurtosis(weight: Tensor, omega: Tensor) -> Tensor:
    """Excess kurtosis of all weights of a layer, (trials,).

    `weight` is (trials, units, fan_in), `omega` each unit's sum, (trials, units).
    """
    flat = weight.flatten(1)
    count = flat.shape[1]
    mean = omega.sum(1, keepdim=True) / count
    second, fourth = torch.zeros(2, len(flat), dtype=torch.float64, device=flat.device)
    for part in blocks(flat, 1):
        square = part.to(torch.float64, copy=True).sub_(mean).square_()
        second += square.sum(1)
        fourth += square.square_().sum(1)
    return fourth * count / second.square() - 3.0


def _mean_abs_correlation(samples: int) -> float:
    """E|r| of n independent Gaussian samples: Gamma((n - 1) / 2) / (sqrt(pi) Gamma(n / 2)).

    About sqrt(2 / (pi n)); NaN below 3 samples.
    """
    if samples < 3:
        return math.nan
    log_ratio = math.lgamma((samples - 1) / 2) - math.lgamma(samples / 2)
    return math.exp(log_ratio) / math.sqrt(math.pi)
