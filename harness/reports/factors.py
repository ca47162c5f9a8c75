"""Factors of the score: shares of its variance, by least squares.

Factors are coded so that their levels sum to zero: a main effect is a deviation from the grand
mean. statsmodels fits; this file builds the design, whose terms are blocks of columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import pandas
from numpy.typing import NDArray
from scipy import stats

from harness.reports import statistics
from harness.reports.axis_values import ordered, plain_value
from harness.reports.evidence import Evidence

if TYPE_CHECKING:
    from statsmodels.regression.linear_model import RegressionResults

Array = NDArray[numpy.float64]
# The blocks of columns of a design by term: a factor, or a pair of factors that interact.
Terms = Mapping[tuple[str, ...], Array]

# Least squares with more columns costs more than the table tells.
_MOST_COLUMNS = 400
# An axis with more levels is a number that was searched over, not a factor.
_MOST_LEVELS = 20


@dataclass(frozen=True)
class Effects:
    """Least squares on per-trial scores.

    Attributes:
        shares: one row per term: its share of the score's variance, degrees of freedom, F, p-value.
        levels: one row per level of each factor: its deviation from the grand mean, with interval.
        note: which terms were left out and why; empty when none were.
    """

    shares: pandas.DataFrame
    levels: pandas.DataFrame
    note: str


def effects(evidence: Evidence) -> Effects | None:
    """Returns the effects of the varied axes on the score, or None with fewer than two factors.

    The model has main effects and all interactions of two factors, or main effects alone where the
    trials are not a full grid.
    """
    trials = evidence.finished[evidence.finished["score"].notna()]
    factors = [axis for axis in evidence.varied if 2 <= len(evidence.levels(axis)) <= _MOST_LEVELS]
    if len(factors) < 2 or len(trials) < 4 or trials["score"].std() == 0:
        return None
    levels = {axis: ordered(trials[axis].map(plain_value).unique()) for axis in factors}
    main_effects: dict[tuple[str, ...], Array] = {}
    for axis in factors:
        main_effects[(axis,)] = _coded(trials[axis].map(plain_value), levels[axis])
    interactions: dict[tuple[str, ...], Array] = {}
    for first, second in itertools.combinations(factors, 2):
        interactions[first, second] = _product(main_effects[(first,)], main_effects[(second,)])
    scores = trials["score"].to_numpy(float)
    full = main_effects | interactions
    if _estimable(full, len(scores)):
        return Effects(_shares(full, scores), _level_effects(levels, full, scores), "")
    if _estimable(main_effects, len(scores)):
        return Effects(
            _shares(main_effects, scores),
            _level_effects(levels, main_effects, scores),
            "Only main effects: the trials are not a full grid, so interactions cannot be"
            " separated.",
        )
    return Effects(
        pandas.DataFrame(),
        pandas.DataFrame(),
        f"The effects of {', '.join(factors)} cannot be separated:"
        " they vary together in these trials.",
    )


def _contrasts(levels: int) -> Array:
    """Returns sum-to-zero coding (levels, levels - 1): the last level is -1 in every column."""
    return numpy.vstack([numpy.eye(levels - 1), -numpy.ones(levels - 1)])


def _coded(values: pandas.Series, levels: list) -> Array:
    """Returns the sum-to-zero columns of a factor (trials, levels - 1)."""
    places = {level: place for place, level in enumerate(levels)}
    return _contrasts(len(levels))[values.map(places).to_numpy()]


def _product(left: Array, right: Array) -> Array:
    """Returns the columns of an interaction: all products of a left and a right column."""
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _design(blocks: Iterable[Array], trials: int) -> Array:
    """Returns the design (trials, columns): a constant, then the columns of all blocks."""
    return numpy.hstack([numpy.ones((trials, 1)), *blocks])


def _estimable(terms: Terms, trials: int) -> bool:
    design = _design(terms.values(), trials)
    columns = design.shape[1]
    if columns > _MOST_COLUMNS or columns >= trials:
        return False
    return numpy.linalg.matrix_rank(design) == columns


def _fit(blocks: Iterable[Array], scores: Array) -> RegressionResults:
    # statsmodels takes about a second to import, which only a report with two factors needs.
    from statsmodels.regression.linear_model import OLS

    return OLS(scores, _design(blocks, len(scores))).fit()


def _shares(terms: Terms, scores: Array) -> pandas.DataFrame:
    """Returns the share of variance of each term (type II).

    The sum of squares of a term is the drop of the residual sum of squares when the term joins all
    terms that do not contain it; F compares it with the residual of the full model.
    """
    total = float(numpy.sum((scores - scores.mean()) ** 2))
    full = _fit(terms.values(), scores)
    residual = float(full.ssr)
    freedom = int(full.df_resid)
    rows = []
    for term, block in terms.items():
        degrees = block.shape[1]
        others = [columns for name, columns in terms.items() if not set(term) <= set(name)]
        gained = float(_fit(others, scores).ssr - _fit([*others, block], scores).ssr)
        f = (gained / degrees) / (residual / freedom) if residual > 0 else numpy.inf
        rows.append(
            {
                "term": " x ".join(term),
                "share": gained / total,
                "degrees": degrees,
                "f": f,
                "p_value": float(stats.f.sf(f, degrees, freedom)),
            }
        )
    rows.append(
        {
            "term": "unexplained (seeds and higher interactions)",
            "share": residual / total,
            "degrees": freedom,
            "f": numpy.nan,
            "p_value": numpy.nan,
        }
    )
    return pandas.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True)


def _level_effects(levels: dict[str, list], terms: Terms, scores: Array) -> pandas.DataFrame:
    """Returns each level's deviation from the grand mean with its 95 % t interval."""
    fit = _fit(terms.values(), scores)
    rows = []
    start = 1  # the constant is the first column, the main effects follow in the order of `levels`
    for axis, names in levels.items():
        stop = start + len(names) - 1
        contrasts = numpy.zeros((len(names), len(fit.params)))
        contrasts[:, start:stop] = _contrasts(len(names))
        test = fit.t_test(contrasts)
        bounds = test.conf_int(alpha=1 - statistics.LEVEL)
        for name, effect, (low, high) in zip(names, test.effect, bounds, strict=True):
            rows.append(
                {"factor": axis, "level": str(name), "effect": effect, "low": low, "high": high}
            )
        start = stop
    return pandas.DataFrame(rows)
