"""Predicted values with bands that hold one network's value with probability 0.99."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.theory.networks.identities import log_band

# Half-width of a two-sided 99 % band in standard deviations.
BAND_DEVIATIONS = 2.5758293035489004
# Measurements are in float32: even what a normalization holds still is off by this much.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Value:
    """A predicted number and the ends of its band; NaN where theory says nothing."""

    value: float
    low: float = math.nan
    high: float = math.nan


def normal_band(value: float, variance: float, uncertain: float = 0.0) -> Value:
    """Returns a value with a normal band.

    Args:
        value: predicted value.
        variance: its variance over networks and samples.
        uncertain: what theory may be off by besides, absolute.
    """
    reach = BAND_DEVIATIONS * math.sqrt(max(variance, 0.0)) + uncertain + _ROUNDING
    return Value(value, value - reach, value + reach)


def share_band(value: float, variance: float) -> Value:
    """Returns a share with a normal band, cut off at 0 and 1."""
    band = normal_band(value, variance)
    return Value(value, max(band.low, 0.0), min(band.high, 1.0))


def positive_band(value: float, relative_variance: float, uncertain: float = 0.0) -> Value:
    """Returns a positive value with a log-normal band.

    Args:
        value: predicted value.
        relative_variance: variance of its logarithm over networks and samples.
        uncertain: what theory may be off by besides, as a logarithm.
    """
    low, high = log_band(max(relative_variance, 0.0), BAND_DEVIATIONS)
    return Value(
        value,
        value * (float(low) * math.exp(-uncertain) - _ROUNDING),
        value * (float(high) * math.exp(uncertain) + _ROUNDING),
    )
