"""How dependent units are over samples, and what dependence does: per-unit variances that differ.

For W with independent entries of variance s^2 and inputs of covariance Sigma, the variance of unit i over samples is w_i' Sigma w_i.
Over units it has mean s^2 tr Sigma and, with PR = (tr Sigma)^2 / tr Sigma^2 the participation ratio of the inputs,
CV = sqrt(2 / PR) for Gaussian weights; independent inputs of one variance have PR = fan_in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.probes.columns import Columns, absent
from harness.probes.readings import LayerReading, Moments, blocks, norms, unit_moments

# Units whose correlations are taken pair by pair, evenly spread over the layer.
_MOST_UNITS = 512


def correlations(reading: LayerReading) -> Columns:
    """Mean |rho| over pairs of units of z, with its value for independent Gaussian units; constant units are left out.

    Also the participation ratio of z, corrected for the number of rows, and the entropy rank exp(-sum p log p), p its covariance's
    eigenvalues as shares, which cannot exceed the number of rows. Of a layer wider than 512 units they are those of 512.
    """
    standard = reading.standard_rows
    rows, count = standard.shape[1:]
    units = (
        torch.linspace(0, count - 1, min(count, _MOST_UNITS), device=standard.device).round().long()
    )
    chosen = standard if len(units) == count else standard[:, :, units]
    correlation = chosen.transpose(1, 2) @ chosen / rows
    live = (~reading.constant[:, units]).sum(1).double()
    pairs = live * (live - 1)
    variance = torch.where(reading.constant, 0.0, reading.row_moments.variance)[:, units]
    scale = (variance / variance.mean(1, keepdim=True)).sqrt().to(chosen.dtype)
    fourth = (chosen.square() @ scale.square().unsqueeze(2)).double().square().sum((1, 2))
    gram = _Gram(correlation * scale.unsqueeze(1) * scale.unsqueeze(2), fourth, rows)
    return {
        "mean_abs_correlation": torch.where(
            pairs > 0,
            (correlation.abs().sum((1, 2), dtype=torch.float64) - live) / pairs,
            torch.nan,
        ),
        "mean_abs_correlation_null": torch.full_like(live, _mean_abs_correlation(rows)),
        "participation_ratio": gram.participation_ratio(),
        "entropy_rank": gram.entropy_rank(),
    }


def variance_law(reading: LayerReading) -> Columns:
    """CV over units of the variance of W x over samples, measured and predicted from the inputs' covariance over the same rows.

    The prediction is for independent weights: CV^2 = 2 tr S^2 / (tr S)^2 + kappa sum_j S_jj^2 / (tr S)^2, S the rows' own
    covariance and kappa the excess kurtosis of the weights. `input_participation_ratio` is corrected for the number of rows.
    `predicted_mean_drive`: Var_i(w_i . m) / mean_i v_i for independent weights, |m|^2 / tr S.
    """
    variance = (
        reading.row_moments.variance
        if reading.direct
        else unit_moments(reading.rows.outputs).variance
    )
    kurtosis = _excess_kurtosis(reading.weight, reading.omega)
    columns = {
        "unit_variance_cv": variance.std(1, correction=0) / variance.mean(1),
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
    diagonal = moments.variance.square().sum(1) / moments.variance.sum(1).square()
    squared = 2 * gram.square / gram.trace.square() + kurtosis * diagonal
    drive = moments.mean.square().sum(1) / moments.variance.sum(1)
    return columns | {
        "predicted_unit_variance_cv": squared.clamp(min=0).sqrt(),
        "input_participation_ratio": gram.participation_ratio(),
        "predicted_mean_drive": drive,
    }


@dataclass(frozen=True)
class _Gram:
    """Of `rows` centred vectors x: their covariance S or X X' / rows, whichever is smaller, and the sum of |x|^4."""

    matrix: Tensor
    fourth: Tensor
    rows: int

    @cached_property
    def trace(self) -> Tensor:
        """Tr S."""
        return torch.diagonal(self.matrix, dim1=1, dim2=2).sum(1, dtype=torch.float64)

    @cached_property
    def square(self) -> Tensor:
        """Tr S^2."""
        return norms(self.matrix).square().sum(1)

    def participation_ratio(self) -> Tensor:
        """(tr Sigma)^2 / tr Sigma^2, from pairs of distinct rows: tr S^2 alone would count each row's own |x|^4."""
        square = (self.rows * self.square - self.fourth / self.rows) / (self.rows - 1)
        return torch.where((square > 0) & (self.trace > 0), self.trace.square() / square, torch.nan)

    def entropy_rank(self) -> Tensor:
        """Exp of the entropy of the eigenvalues' shares."""
        good = torch.isfinite(self.trace) & (self.trace > 0)
        # The solver refuses what is no number, and one bad trial must not cost the others.
        matrix = torch.where(
            good.view(-1, 1, 1),
            self.matrix,
            torch.eye(self.matrix.shape[1], device=self.matrix.device),
        )
        shares = torch.linalg.eigvalsh(matrix).double().clamp(min=0)
        shares = shares / shares.sum(1, keepdim=True)
        return torch.where(good, torch.special.entr(shares).sum(1).exp(), torch.nan)


def _gram(vectors: Tensor, moments: Moments) -> _Gram:
    """(trials, rows, dimensions) with their moments; scaled to unit variance on average, products in float32."""
    rows, dimensions = vectors.shape[1:]
    scale = moments.variance.mean(1).rsqrt().to(vectors.dtype)
    centred = (vectors - moments.mean.to(vectors.dtype).unsqueeze(1)).mul_(scale.view(-1, 1, 1))
    matrix = (
        centred.transpose(1, 2) @ centred / rows
        if dimensions <= rows
        else centred @ centred.transpose(1, 2) / rows
    )
    return _Gram(matrix, norms(centred).pow(4).sum(1), rows)


def _excess_kurtosis(weight: Tensor, omega: Tensor) -> Tensor:
    """Of all weights (trials, units, fan_in) of a layer, whose units sum to `omega`."""
    flat = weight.flatten(1)
    mean = omega.sum(1, keepdim=True) / flat.shape[1]
    second, fourth = torch.zeros(2, len(flat), dtype=torch.float64, device=flat.device)
    for part in blocks(flat, 1):
        square = part.to(torch.float64, copy=True).sub_(mean).square_()
        second += square.sum(1)
        fourth += square.square_().sum(1)
    return fourth * flat.shape[1] / second.square() - 3.0


def _mean_abs_correlation(samples: int) -> float:
    """E|r| of independent Gaussian samples: Gamma((n - 1) / 2) / (sqrt(pi) Gamma(n / 2)), about sqrt(2 / (pi n)); NaN below 3."""
    if samples < 3:
        return math.nan
    return math.exp(math.lgamma((samples - 1) / 2) - math.lgamma(samples / 2)) / math.sqrt(math.pi)
