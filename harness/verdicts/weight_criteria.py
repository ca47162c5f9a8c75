"""Criteria on a unit's weights: their sum omega is 0 and their sum of squares tau is 1."""

from __future__ import annotations

import numpy
from scipy.special import ndtr

from harness.verdicts.criterion import Z_99, Array, Criterion, column, constant, formula, interval
from harness.verdicts.thresholds import (
    CONSEQUENCE,
    SHARE_HOLDS,
    SHARE_STRAINED,
    SHIFT_CONSEQUENCE,
    SHIFT_HOLDS,
    SHIFT_STRAINED,
    SPREAD_CONSEQUENCE,
    SPREAD_HOLDS,
    SPREAD_STRAINED,
    TAU_HOLDS,
    TAU_STRAINED,
    THEOREM,
)

NAME = "weights"
CLAIM = "each unit's weights sum to 0 and their squares sum to 1"


@interval
def _mean_tau_band(fan_in: Array, units: Array) -> tuple[Array, Array]:
    # tau averaged over units is chi-square over fan_in x units Gaussian weights.
    spread = Z_99 * numpy.sqrt(2 / (fan_in * units))
    return 1 - spread, 1 + spread


@formula("tau_mean * sqrt((2 + weight_excess_kurtosis) / fan_in)")
def _tau_deviation(tau_mean: Array, weight_excess_kurtosis: Array, fan_in: Array) -> Array:
    return tau_mean * numpy.sqrt((2 + weight_excess_kurtosis) / fan_in)


@formula("tau_mean * sqrt(2 / fan_in)")
def _tau_deviation_of_gaussians(tau_mean: Array, fan_in: Array) -> Array:
    return tau_mean * numpy.sqrt(2 / fan_in)


@interval
def _deviation_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # Standard error of a standard deviation from as many draws as there are units.
    spread = Z_99 / numpy.sqrt(2 * numpy.maximum(units - 1, 1))
    return prediction * (1 - spread), prediction * (1 + spread)


@formula("tau_sd / tau_mean")
def _relative_tau_deviation(tau_sd: Array, tau_mean: Array) -> Array:
    return tau_sd / tau_mean


@formula("sqrt(tau_mean)")
def _omega_deviation(tau_mean: Array) -> Array:
    return numpy.sqrt(tau_mean)


@formula("abs(input_mean) * sqrt((omega_mean ** 2 + omega_sd ** 2) / (input_variance * tau_mean))")
def _shift_in_deviations(
    input_mean: Array, omega_mean: Array, omega_sd: Array, input_variance: Array, tau_mean: Array
) -> Array:
    mean_square = omega_mean**2 + omega_sd**2
    return numpy.abs(input_mean) * numpy.sqrt(mean_square / (input_variance * tau_mean))


def _share_in_box(tau_mean: Array, relative_deviation: Array) -> Array:
    """Returns the share of units in Theorem 1's box |omega| <= 0.1, 0.95 <= tau <= 1.1.

    omega ~ N(0, tau_mean) and tau / tau_mean ~ N(1, relative_deviation^2), independent.
    """
    omega_inside = 2 * ndtr(0.1 / numpy.sqrt(tau_mean)) - 1
    below_high = ndtr((1.1 / tau_mean - 1) / relative_deviation)
    below_low = ndtr((0.95 / tau_mean - 1) / relative_deviation)
    return omega_inside * (below_high - below_low)


@formula(
    "(2 * normal_cdf(0.1 / sqrt(tau_mean)) - 1) * "
    "(normal_cdf((1.1 / tau_mean - 1) / sqrt((2 + weight_excess_kurtosis) / fan_in))"
    " - normal_cdf((0.95 / tau_mean - 1) / sqrt((2 + weight_excess_kurtosis) / fan_in)))"
)
def _box_share(tau_mean: Array, weight_excess_kurtosis: Array, fan_in: Array) -> Array:
    return _share_in_box(tau_mean, numpy.sqrt((2 + weight_excess_kurtosis) / fan_in))


@formula(
    "(2 * normal_cdf(0.1 / sqrt(tau_mean)) - 1) * "
    "(normal_cdf((1.1 / tau_mean - 1) / sqrt(2 / fan_in))"
    " - normal_cdf((0.95 / tau_mean - 1) / sqrt(2 / fan_in)))"
)
def _box_share_of_gaussians(tau_mean: Array, fan_in: Array) -> Array:
    return _share_in_box(tau_mean, numpy.sqrt(2 / fan_in))


@interval
def _share_band(prediction: Array, units: Array) -> tuple[Array, Array]:
    # Binomial over units, with a margin of one unit.
    spread = Z_99 * numpy.sqrt(prediction * (1 - prediction) / units)
    return prediction - spread - 1 / units, prediction + spread + 1 / units


CRITERIA = (
    Criterion(
        condition=NAME,
        name="mean sum of squared weights",
        column="tau_mean",
        by_theory=False,
        prediction=(constant(1),),
        band=_mean_tau_band,
        effect=(column("tau_mean"),),
        target=1,
        holds=TAU_HOLDS,
        strained=TAU_STRAINED,
        basis=THEOREM,
        consequence="Theorem 1's domain of tau, and that of Theorems 2 and 3",
        source=(
            "Klambauer et al. 2017: tau in the domains of Theorem 1 and of Theorems 2 and 3; "
            "band: chi-square over fan_in x units Gaussian weights"
        ),
    ),
    Criterion(
        condition=NAME,
        name="share of units in Theorem 1's (omega, tau) box",
        column="theorem_1_weight_share",
        by_theory=True,
        prediction=(
            _box_share,
            _box_share_of_gaussians,
        ),
        band=_share_band,
        effect=(column("theorem_1_weight_share"),),
        target=1,
        holds=SHARE_HOLDS,
        strained=SHARE_STRAINED,
        basis=THEOREM,
        consequence=(
            "Theorem 1 speaks of the units inside alone: nine of ten of them, or half of them"
        ),
        source="omega ~ N(0, tau) and tau ~ N(1, 2 / n) for Gaussian weights: 0.058 at fan-in 512",
    ),
    Criterion(
        condition=NAME,
        name="spread of the sum of squared weights over units",
        column="tau_sd",
        by_theory=True,
        prediction=(
            _tau_deviation,
            _tau_deviation_of_gaussians,
        ),
        band=_deviation_band,
        effect=(_relative_tau_deviation,),
        target=0,
        holds=SPREAD_HOLDS,
        strained=SPREAD_STRAINED,
        basis=CONSEQUENCE,
        consequence=SPREAD_CONSEQUENCE,
        source=(
            "tau ~ chi-square(n) / n for Gaussian weights, variance (kurtosis - 1) / n for any "
            "independent ones; Gaussian weights reach a spread of 0.19 at fan-in 56"
        ),
    ),
    Criterion(
        condition=NAME,
        name="sums of weights times the common mean (shift of the units s, in standard deviations)",
        column="omega_sd",
        by_theory=True,
        prediction=(_omega_deviation,),
        band=_deviation_band,
        effect=(_shift_in_deviations,),
        target=0,
        holds=SHIFT_HOLDS,
        strained=SHIFT_STRAINED,
        basis=CONSEQUENCE,
        consequence=SHIFT_CONSEQUENCE,
        source=(
            "m = mu omega in Klambauer et al. 2017, Eq. 3; omega ~ N(0, tau) for i.i.d. weights, "
            "so that omega = 0 holds in expectation only"
        ),
    ),
)
